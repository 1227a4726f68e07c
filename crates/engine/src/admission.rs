//! Whether one more stream fits, and on which lane.

use std::time::Duration;

use thiserror::Error;

/// A stream was refused so that those that run are not harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "no room for another stream: {running} run, {fit} like this one fit on {lanes} lanes; \
     add cores, lower the complexity, or switch admission off and let the ladder make room"
)]
pub struct Refused {
    /// Streams that run.
    pub running: usize,
    /// Streams of this kind that fit, those that run included.
    pub fit: usize,
    /// Lanes there are.
    pub lanes: usize,
}

/// What lanes carry, as far as opening streams is concerned. Pure: told by whoever opens and closes.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    budget: f64,
    limit: usize,
    lanes: Vec<Carried>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    streams: usize,
    load: f64,
}

/// The place of an admitted stream; to be given back to [`Admission::release`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) lane: usize,
    pub(crate) load: f64,
}

impl Admission {
    pub(crate) fn new(lanes: usize, budget: f64, limit: usize) -> Self {
        Self { budget, limit, lanes: vec![Carried::default(); lanes] }
    }

    /// Tells what a lane was measured to carry, all its streams on their best rung.
    pub(crate) fn measured(&mut self, lane: usize, streams: usize, load: f64) {
        if let Some(carried) = self.lanes.get_mut(lane)
            && carried.streams == streams
        {
            carried.load = load;
        }
    }

    /// Places a stream that costs `cost` a frame of `frame` on the least loaded lane. `force` places it there even
    /// if it does not fit, as long as the lane may have another stream at all.
    pub(crate) fn admit(&mut self, cost: Duration, frame: Duration, force: bool) -> Result<Place, Refused> {
        let load = cost.as_secs_f64() / frame.as_secs_f64();
        let least = (0..self.lanes.len())
            .filter(|&lane| self.lanes[lane].streams < self.limit)
            .min_by(|&a, &b| self.lanes[a].load.total_cmp(&self.lanes[b].load));
        match least {
            Some(lane) if force || self.lanes[lane].load + load <= self.budget => {
                self.lanes[lane].streams += 1;
                self.lanes[lane].load += load;
                Ok(Place { lane, load })
            }
            _ => Err(self.refusal(load)),
        }
    }

    /// A stream was closed.
    pub(crate) fn release(&mut self, place: Place) {
        if let Some(carried) = self.lanes.get_mut(place.lane) {
            carried.streams = carried.streams.saturating_sub(1);
            carried.load = if carried.streams == 0 { 0.0 } else { (carried.load - place.load).max(0.0) };
        }
    }

    /// A stream moved. Returns its new place.
    pub(crate) fn moved(&mut self, place: Place, to: usize) -> Place {
        self.release(place);
        let place = Place { lane: to, ..place };
        if let Some(carried) = self.lanes.get_mut(to) {
            carried.streams += 1;
            carried.load += place.load;
        }
        place
    }

    fn refusal(&self, load: f64) -> Refused {
        let running = self.lanes.iter().map(|lane| lane.streams).sum();
        let more = |lane: &Carried| {
            let by_load = ((self.budget - lane.load) / load.max(1e-9)).max(0.0) as usize;
            by_load.min(self.limit.saturating_sub(lane.streams))
        };
        let fit = running + self.lanes.iter().map(more).sum::<usize>();
        Refused { running, fit, lanes: self.lanes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn streams_spread_over_the_lanes_until_both_are_full() {
        let mut admission = Admission::new(2, 0.9, 100);
        let lanes: Vec<_> =
            (0..8).map(|_| admission.admit(4 * MS, 20 * MS, false).map(|place| place.lane)).collect();
        assert_eq!(lanes, [0, 1, 0, 1, 0, 1, 0, 1].map(Ok));
        let refused = admission.admit(4 * MS, 20 * MS, false).unwrap_err();
        assert_eq!(refused, Refused { running: 8, fit: 8, lanes: 2 });
        assert!(admission.admit(4 * MS, 20 * MS, true).is_ok(), "forced");
    }

    #[test]
    fn what_was_measured_counts_more_than_what_was_expected() {
        let mut admission = Admission::new(1, 0.9, 100);
        admission.admit(4 * MS, 20 * MS, false).unwrap();
        admission.measured(0, 1, 0.05);
        let admitted = (0..10).take_while(|_| admission.admit(4 * MS, 20 * MS, false).is_ok()).count();
        assert_eq!(admitted, 4);
        admission.measured(0, 99, 0.0);
        assert!(admission.admit(4 * MS, 20 * MS, false).is_err(), "a measure of another time is void");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_lane_is_ever_over_budget_and_what_is_released_can_be_had_again(
            steps in proptest::collection::vec((any::<bool>(), 1u32..200), 1..300),
        ) {
            let mut admission = Admission::new(3, 0.8, 40);
            let mut places = Vec::new();
            for (opens, cost) in steps {
                if opens {
                    match admission.admit(Duration::from_micros(cost.into()), MS, false) {
                        Ok(place) => places.push(place),
                        Err(refused) => prop_assert_eq!(refused.running, places.len()),
                    }
                } else if !places.is_empty() {
                    let place = places.swap_remove(cost as usize % places.len());
                    let place = admission.moved(place, cost as usize % 3);
                    admission.release(place);
                }
                for lane in &admission.lanes {
                    prop_assert!(lane.load <= 0.8 + 1e-9 && lane.streams <= 40);
                }
            }
            places.into_iter().for_each(|place| admission.release(place));
            prop_assert!(admission.lanes.iter().all(|lane| lane.streams == 0 && lane.load == 0.0));
        }
    }
}
