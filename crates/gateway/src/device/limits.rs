//! How often something may happen: token buckets, one alone or one a key.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use evenkeel_core::units::Time;

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many at once, after a pause.
    pub burst: u32,
    /// How many a second, in the long run.
    pub per_second: f64,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    at: Time,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate, now: Time) -> Self {
        Self { tokens: f64::from(rate.burst), at: now }
    }

    /// Takes one token. `false` if there is none: once too often.
    pub fn take(&mut self, rate: Rate, now: Time) -> bool {
        self.refill(rate, now);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }

    fn refill(&mut self, rate: Rate, now: Time) {
        let gained = now.since(self.at).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + gained).min(f64::from(rate.burst));
        self.at = now;
    }
}

/// A bucket for each key, as many as `capacity`. A key that is not kept has a full bucket, so forgetting one whose
/// bucket is full changes nothing; when the map is full of others, the new key is refused.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    capacity: usize,
    buckets: HashMap<K, Bucket>,
    swept: Time,
}

/// How often full buckets are looked for when there is no place left.
const SWEEP: Duration = Duration::from_secs(1);

impl<K: Eq + Hash> Buckets<K> {
    /// Nothing taken yet.
    #[must_use]
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self { rate, capacity, buckets: HashMap::new(), swept: Time::ZERO }
    }

    /// Changes the rate from here on.
    pub const fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// Takes one token of `key`. `false` if there is none.
    pub fn take(&mut self, key: K, now: Time) -> bool {
        if !self.buckets.contains_key(&key) && self.buckets.len() >= self.capacity && !self.sweep(now) {
            return false;
        }
        let rate = self.rate;
        self.buckets.entry(key).or_insert_with(|| Bucket::new(rate, now)).take(rate, now)
    }

    /// Forgets full buckets; `true` if there is a place now. Not more than once a [`SWEEP`], as it looks at them all.
    fn sweep(&mut self, now: Time) -> bool {
        if now.since(self.swept) >= SWEEP || self.swept == Time::ZERO {
            self.swept = now;
            let (rate, full) = (self.rate, f64::from(self.rate.burst));
            self.buckets.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.tokens < full
            });
        }
        self.buckets.len() < self.capacity
    }
}

/// The address to count by: whole for IPv4, the /64 for IPv6, as one host owns all of it.
#[must_use]
pub fn network_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per_second: 2.0 };

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::new(RATE, Time::ZERO);
        let mut taken = 0;
        for ms in 0..10_000 {
            taken += u32::from(bucket.take(RATE, Time::from_millis(ms)));
        }
        assert_eq!(taken, 3 + 19);
    }

    #[test]
    fn keys_do_not_share_and_their_number_is_bounded() {
        let mut buckets = Buckets::new(RATE, 2);
        let t = Time::from_millis(5);
        assert!((0..3).all(|_| buckets.take("a", t)));
        assert!(!buckets.take("a", t));
        assert!(buckets.take("b", t));
        assert!(!buckets.take("c", t), "no place, and nobody to forget");
        let later = Time::from_millis(10_000);
        assert!(buckets.take("c", later), "both had refilled");
        assert!(buckets.buckets.len() == 1);
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
