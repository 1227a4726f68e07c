//! Many values made few enough to draw.

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Its left side.
    pub from: f64,
    /// Its right side.
    pub to: f64,
    /// How high it is.
    pub height: f64,
}

/// A histogram with `per_decade` bins a decade. What is not above zero is not counted.
#[must_use]
pub fn log(values: impl IntoIterator<Item = f64>, per_decade: u32) -> Vec<Bar> {
    weighted_log(values.into_iter().map(|value| (value, 1)), per_decade)
}

/// As [`log`] for values that each came a number of times, as the histogram of `evenkeel_core::stats` gives them.
#[must_use]
pub fn weighted_log(values: impl IntoIterator<Item = (f64, u64)>, per_decade: u32) -> Vec<Bar> {
    let per_decade = f64::from(per_decade.max(1));
    let mut bins = std::collections::BTreeMap::<i32, u64>::new();
    for (value, count) in values {
        if value > 0.0 && value.is_finite() {
            *bins.entry((value.log10() * per_decade).floor() as i32).or_default() += count;
        }
    }
    let edge = |index: i32| 10f64.powf(f64::from(index) / per_decade);
    bins.into_iter()
        .map(|(index, count)| Bar { from: edge(index), to: edge(index + 1), height: count as f64 })
        .collect()
}

/// A column of a long series: the x of its first value, and what its values are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// Where it begins.
    pub x: f64,
    /// The smallest value.
    pub min: f64,
    /// The middle value.
    pub median: f64,
    /// The largest value.
    pub max: f64,
}

/// A series of values, `step` apart in x, in at most `count` columns.
#[must_use]
pub fn columns(values: &[f64], step: f64, count: usize) -> Vec<Column> {
    let width = values.len().div_ceil(count.max(1)).max(1);
    let column = |(index, chunk): (usize, &[f64])| {
        let mut sorted = chunk.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        Column {
            x: (index * width) as f64 * step,
            min: sorted[0],
            median: sorted[sorted.len() / 2],
            max: sorted[sorted.len() - 1],
        }
    };
    values.chunks(width).enumerate().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_bin_that_begins_at_or_below_it() {
        let bars = log([1.0, 1.5, 9.99, 10.0, 0.0, -3.0, f64::INFINITY], 1);
        assert_eq!(
            bars,
            [Bar { from: 1.0, to: 10.0, height: 3.0 }, Bar { from: 10.0, to: 100.0, height: 1.0 }]
        );
        assert_eq!(weighted_log([(1.0, 2), (2.0, 3)], 1)[0].height, 5.0);
    }

    #[test]
    fn columns_keep_the_extremes() {
        let columns = columns(&[1.0, 9.0, 2.0, 3.0, 4.0], 0.5, 2);
        assert_eq!(columns.len(), 2);
        assert_eq!(columns[0], Column { x: 0.0, min: 1.0, median: 2.0, max: 9.0 });
        assert_eq!((columns[1].x, columns[1].max), (1.5, 4.0));
    }
}
