//! Which device calls which: asked for by one, answered by the other, over when either leaves.

use std::collections::HashMap;
use std::time::Duration;

use evenkeel_core::units::Time;

use crate::device::credentials::Mac;

/// How long a call rings.
pub const RINGING: Duration = Duration::from_secs(60);
/// The most calls that ring at once.
const MAX_RINGING: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Pairing {
    /// Caller to target.
    ringing: HashMap<Mac, (Mac, Time)>,
    /// Both ways.
    paired: HashMap<Mac, Mac>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// The target has to be asked.
    Pending,
    /// The target had asked for the caller: they are connected.
    Bridged,
    /// The caller, or the target, is in a call of this kind already, or too many ring.
    Busy,
}

/// What became of an acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Connected with this caller.
    Bridged(Mac),
    /// Nobody called.
    NoPending,
    /// Whoever called rang for too long.
    CallerGone,
}

impl Pairing {
    /// `caller` asks for `target`.
    pub fn request(&mut self, caller: Mac, target: Mac, now: Time) -> Requested {
        self.ringing.retain(|_, (_, since)| now.since(*since) < RINGING);
        let busy = self.paired.contains_key(&caller) || self.paired.contains_key(&target);
        if busy || caller == target {
            return Requested::Busy;
        }
        if self.ringing.get(&target).is_some_and(|(wanted, _)| *wanted == caller) {
            self.pair(target, caller);
            return Requested::Bridged;
        }
        if self.ringing.len() >= MAX_RINGING {
            return Requested::Busy;
        }
        self.ringing.insert(caller, (target, now));
        Requested::Pending
    }

    /// `target` answers whoever called it last.
    pub fn accept(&mut self, target: Mac, now: Time) -> Accepted {
        let calls = self.ringing.iter().filter(|(_, (wanted, _))| *wanted == target);
        let Some((&caller, &(_, since))) = calls.max_by_key(|(_, (_, since))| *since) else {
            return Accepted::NoPending;
        };
        if now.since(since) >= RINGING {
            self.ringing.remove(&caller);
            return Accepted::CallerGone;
        }
        self.pair(caller, target);
        Accepted::Bridged(caller)
    }

    /// A session of `mac` ended. Gives whom it was connected with.
    pub fn clear(&mut self, mac: Mac) -> Option<Mac> {
        self.ringing.remove(&mac);
        let peer = self.paired.remove(&mac)?;
        self.paired.remove(&peer);
        Some(peer)
    }

    fn pair(&mut self, caller: Mac, target: Mac) {
        self.ringing.remove(&caller);
        self.ringing.remove(&target);
        self.paired.insert(caller, target);
        self.paired.insert(target, caller);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        format!("0000000000{last:02x}").parse().unwrap()
    }

    fn second(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    #[test]
    fn asked_accepted_and_over_for_both() {
        let mut pairing = Pairing::default();
        assert_eq!(pairing.request(mac(1), mac(2), second(0)), Requested::Pending);
        assert_eq!(pairing.accept(mac(3), second(1)), Accepted::NoPending);
        assert_eq!(pairing.accept(mac(2), second(59)), Accepted::Bridged(mac(1)));
        assert_eq!(pairing.request(mac(3), mac(1), second(60)), Requested::Busy);
        assert_eq!(pairing.clear(mac(2)), Some(mac(1)));
        assert_eq!(pairing.clear(mac(1)), None);
    }

    #[test]
    fn ringing_ends_and_asking_each_other_connects() {
        let mut pairing = Pairing::default();
        pairing.request(mac(1), mac(2), second(0));
        assert_eq!(pairing.accept(mac(2), second(60)), Accepted::CallerGone);
        assert_eq!(pairing.accept(mac(2), second(60)), Accepted::NoPending);
        pairing.request(mac(1), mac(2), second(61));
        assert_eq!(pairing.request(mac(2), mac(1), second(62)), Requested::Bridged);
        assert_eq!(pairing.request(mac(4), mac(4), second(62)), Requested::Busy);
        pairing.request(mac(5), mac(6), second(62));
        assert_eq!(pairing.clear(mac(5)), None);
        assert_eq!(pairing.accept(mac(6), second(63)), Accepted::NoPending);
    }
}
