//! Newtypes for every unit the audio path counts in: rates, channels, durations, media time.

use core::fmt;
use core::time::Duration;

use crate::error::ConfigError;

/// A sample rate the audio path supports: 8, 12, 16, 22.05, 24, 32, 44.1 or 48 kHz.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleRate(u32);

impl SampleRate {
    /// 8 kHz, narrowband.
    pub const HZ_8000: Self = Self(8_000);
    /// 12 kHz, medium band.
    pub const HZ_12000: Self = Self(12_000);
    /// 16 kHz, wideband.
    pub const HZ_16000: Self = Self(16_000);
    /// 22.05 kHz.
    pub const HZ_22050: Self = Self(22_050);
    /// 24 kHz, superwideband.
    pub const HZ_24000: Self = Self(24_000);
    /// 32 kHz.
    pub const HZ_32000: Self = Self(32_000);
    /// 44.1 kHz.
    pub const HZ_44100: Self = Self(44_100);
    /// 48 kHz, fullband.
    pub const HZ_48000: Self = Self(48_000);

    /// Every supported rate, lowest first.
    pub const ALL: [Self; 8] = [
        Self::HZ_8000,
        Self::HZ_12000,
        Self::HZ_16000,
        Self::HZ_22050,
        Self::HZ_24000,
        Self::HZ_32000,
        Self::HZ_44100,
        Self::HZ_48000,
    ];

    /// A rate given in hertz.
    ///
    /// # Errors
    /// [`ConfigError::SampleRate`] for a rate that is not in [`SampleRate::ALL`].
    pub fn from_hz(hz: u32) -> Result<Self, ConfigError> {
        Self::ALL.into_iter().find(|rate| rate.0 == hz).ok_or(ConfigError::SampleRate { hz })
    }

    /// The rate in hertz.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// Whether Opus codes this rate without a resampler: 8, 12, 16, 24 and 48 kHz.
    #[must_use]
    pub const fn is_opus(self) -> bool {
        matches!(self.0, 8_000 | 12_000 | 16_000 | 24_000 | 48_000)
    }
}

impl fmt::Debug for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// How many channels are interleaved in a PCM buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One channel.
    Mono,
    /// Two channels, left first.
    Stereo,
}

impl Channels {
    /// A channel count.
    ///
    /// # Errors
    /// [`ConfigError::Channels`] unless `count` is 1 or 2.
    pub fn from_count(count: usize) -> Result<Self, ConfigError> {
        match count {
            1 => Ok(Self::Mono),
            2 => Ok(Self::Stereo),
            _ => Err(ConfigError::Channels { count }),
        }
    }

    /// 1 or 2.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// The duration of one Opus packet: 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms (RFC 6716, section 2.1.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameDuration {
    micros: u32,
}

impl FrameDuration {
    /// 2.5 ms.
    pub const MS_2_5: Self = Self { micros: 2_500 };
    /// 5 ms.
    pub const MS_5: Self = Self { micros: 5_000 };
    /// 10 ms.
    pub const MS_10: Self = Self { micros: 10_000 };
    /// 20 ms.
    pub const MS_20: Self = Self { micros: 20_000 };
    /// 40 ms.
    pub const MS_40: Self = Self { micros: 40_000 };
    /// 60 ms.
    pub const MS_60: Self = Self { micros: 60_000 };
    /// 80 ms.
    pub const MS_80: Self = Self { micros: 80_000 };
    /// 100 ms.
    pub const MS_100: Self = Self { micros: 100_000 };
    /// 120 ms, the longest an Opus packet may last.
    pub const MS_120: Self = Self { micros: 120_000 };

    /// Every duration, shortest first.
    pub const ALL: [Self; 9] = [
        Self::MS_2_5,
        Self::MS_5,
        Self::MS_10,
        Self::MS_20,
        Self::MS_40,
        Self::MS_60,
        Self::MS_80,
        Self::MS_100,
        Self::MS_120,
    ];

    /// A duration given in milliseconds.
    ///
    /// # Errors
    /// [`ConfigError::FrameDuration`] for a duration that Opus packets cannot have.
    pub fn from_millis(ms: f64) -> Result<Self, ConfigError> {
        Self::ALL.into_iter().find(|d| d.as_millis_f64() == ms).ok_or(ConfigError::FrameDuration { ms })
    }

    /// In microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u32 {
        self.micros
    }

    /// In milliseconds; 2.5 ms is why this is not an integer.
    #[must_use]
    pub fn as_millis_f64(self) -> f64 {
        f64::from(self.micros) / 1_000.0
    }

    /// As a [`Duration`].
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_micros(self.micros as u64)
    }

    /// Samples per channel at `rate`; exact for every rate that Opus codes, rounded down for the others.
    #[must_use]
    pub const fn samples_at(self, rate: SampleRate) -> usize {
        (self.micros as u64 * rate.hz() as u64 / 1_000_000) as usize
    }
}

impl fmt::Debug for FrameDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for FrameDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.as_millis_f64())
    }
}

/// A point in time, in nanoseconds since an epoch that the caller chose.
///
/// The core has no clock: whoever drives it says what time it is, a monotonic clock in production and a counter in
/// tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time elapsed since `earlier`, zero if `earlier` is later than `self`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds from `other` to `self`, negative if `self` is the earlier one.
    #[must_use]
    pub const fn signed_nanos_since(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }
}

impl core::ops::Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl core::ops::Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_durations_outside_the_list_are_refused() {
        assert_eq!(SampleRate::from_hz(11_025), Err(ConfigError::SampleRate { hz: 11_025 }));
        assert!(FrameDuration::from_millis(30.0).is_err());
        assert!(FrameDuration::from_millis(f64::NAN).is_err());
        assert_eq!(FrameDuration::from_millis(2.5), Ok(FrameDuration::MS_2_5));
        assert!(Channels::from_count(0).is_err());
        assert!(Channels::from_count(3).is_err());
    }

    #[test]
    fn samples_per_frame_are_exact_at_opus_rates() {
        for rate in SampleRate::ALL.into_iter().filter(|r| r.is_opus()) {
            for duration in FrameDuration::ALL {
                let samples = duration.samples_at(rate) as u64;
                assert_eq!(samples * 1_000_000, u64::from(duration.as_micros()) * u64::from(rate.hz()));
            }
        }
    }

    #[test]
    fn time_saturates_instead_of_wrapping() {
        let t = Time::from_millis(5);
        assert_eq!(t - Duration::from_secs(1), Time::ZERO);
        assert_eq!(t.since(Time::from_millis(9)), Duration::ZERO);
        assert_eq!(Time::from_millis(u64::MAX), Time::from_nanos(u64::MAX));
        assert_eq!(t.signed_nanos_since(Time::from_millis(6)), -1_000_000);
    }
}
