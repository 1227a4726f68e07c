//! Axes: from values to places, and where the ticks are.

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// Every decade as long as the next.
    Log,
}

/// One side of a panel.
#[derive(Clone, Debug)]
pub struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
    range: Option<(f64, f64)>,
}

impl Axis {
    /// Evenly spread, from zero or below.
    #[must_use]
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, range: None }
    }

    /// Logarithmic.
    #[must_use]
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log, range: None }
    }

    /// From and to where, instead of what the values need.
    #[must_use]
    pub fn between(mut self, from: f64, to: f64) -> Self {
        self.range = Some((from, to));
        self
    }

    /// Whether a value has a place on the axis.
    pub(super) fn takes(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }

    /// The axis laid over `length` units for these values, with a little room beyond them.
    pub(super) fn lay(&self, values: impl Iterator<Item = f64>, length: f64) -> Ruler {
        self.lay_with(0.04, values, length)
    }

    /// The axis laid over `length` units, from the first of these values to the last.
    pub(super) fn lay_tight(&self, values: impl Iterator<Item = f64>, length: f64) -> Ruler {
        self.lay_with(0.0, values, length)
    }

    fn lay_with(&self, room: f64, values: impl Iterator<Item = f64>, length: f64) -> Ruler {
        let own = values.filter(|&value| self.takes(value));
        let (low, high) = own.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = match (self.range, self.scale) {
            (Some(range), _) => range,
            _ if low > high => (1.0, 10.0),
            (None, Scale::Log) if low < high => (low / (1.0 + 2.0 * room), high * (1.0 + 2.0 * room)),
            (None, Scale::Log) => (low / 2.0, high * 2.0),
            (None, Scale::Linear) if high > low.min(0.0) => (low.min(0.0), high * (1.0 + room)),
            (None, Scale::Linear) => (low, low + 1.0),
        };
        Ruler { scale: self.scale, low, high, length }
    }
}

/// An axis with its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ruler {
    scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
    length: f64,
}

/// A mark on an axis, with a number or without.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) text: String,
}

impl Ruler {
    /// How far along the axis a value is; beyond its ends at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let of = |v: f64| if self.scale == Scale::Log { v.max(f64::MIN_POSITIVE).ln() } else { v };
        let share = (of(value) - of(self.low)) / (of(self.high) - of(self.low));
        share.clamp(0.0, 1.0) * self.length
    }

    /// Marks about `apart` units from each other.
    pub(super) fn ticks(&self, apart: f64) -> Vec<Tick> {
        let most = (self.length / apart).max(2.0);
        match self.scale {
            Scale::Linear => self.even_ticks(most),
            Scale::Log => self.log_ticks(most),
        }
    }

    fn even_ticks(&self, most: f64) -> Vec<Tick> {
        let raw = (self.high - self.low) / most;
        let decade = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * decade).find(|&s| s >= raw).unwrap_or(raw);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).map(|value| Tick { value, text: number(value) }).collect()
    }

    /// Numbers at 1, 2 and 5 of each decade as far as there is room, marks without numbers between them.
    fn log_ticks(&self, most: f64) -> Vec<Tick> {
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let span = (self.high / self.low).log10();
        let numbered: &[u32] = match most / span {
            5.0.. => &[1, 2, 3, 5, 7],
            2.5.. => &[1, 2, 5],
            _ => &[1],
        };
        let every = (span / most).ceil().max(1.0) as i32;
        let marks = decades.flat_map(|decade| (1..10).map(move |digit| (decade, digit)));
        marks
            .map(|(decade, digit)| (decade, digit, f64::from(digit) * 10f64.powi(decade)))
            .filter(|&(_, _, value)| (self.low..=self.high).contains(&value))
            .map(|(decade, digit, value)| {
                let has_number = numbered.contains(&digit) && decade.rem_euclid(every) == 0;
                Tick { value, text: if has_number { number(value) } else { String::new() } }
            })
            .collect()
    }
}

/// As short as it can be without loss, thousands apart.
pub(super) fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        return format!("{value:e}");
    }
    let text = format!("{:.3}", value.abs());
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let mut out = String::from(if value < 0.0 { "\u{2212}" } else { "" });
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            // A thin space, as the SI wants it.
            out.push('\u{2009}');
        }
        out.push(digit);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ruler: &Ruler, apart: f64) -> Vec<String> {
        ruler.ticks(apart).into_iter().map(|tick| tick.text).filter(|text| !text.is_empty()).collect()
    }

    #[test]
    fn numbers_are_short_and_grouped() {
        let expected = [(0.0, "0"), (2.5, "2.5"), (1e6, "1\u{2009}000\u{2009}000"), (-20.0, "\u{2212}20")];
        expected.into_iter().for_each(|(value, text)| assert_eq!(number(value), text));
        assert_eq!((number(0.001), number(1e-5)), ("0.001".into(), "1e-5".into()));
    }

    #[test]
    fn even_ticks_are_round_and_log_ticks_fit_the_room() {
        let even = Axis::linear("").lay([3.0, 47.0].into_iter(), 500.0);
        assert_eq!(texts(&even, 80.0), ["0", "10", "20", "30", "40"]);
        let log = Axis::log("").between(1.0, 1e4).lay([].into_iter(), 500.0);
        assert_eq!(texts(&log, 30.0).len(), 13, "{:?}", texts(&log, 30.0));
        assert_eq!(texts(&log, 80.0), ["1", "10", "100", "1\u{2009}000", "10\u{2009}000"]);
        let wide = Axis::log("").between(1.0, 1e9).lay([].into_iter(), 200.0);
        assert!(texts(&wide, 50.0).len() <= 5);
    }

    #[test]
    fn what_has_no_place_is_put_at_the_end_and_nothing_is_no_panic() {
        let log = Axis::log("").lay([f64::NAN, -1.0, 0.0].into_iter(), 100.0);
        assert_eq!((log.place(0.0), log.place(1e9)), (0.0, 100.0));
        assert!(!log.ticks(20.0).is_empty());
        assert!(!Axis::linear("").lay([0.0].into_iter(), 100.0).ticks(20.0).is_empty());
    }
}
