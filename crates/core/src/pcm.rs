//! PCM as callers have it, and its way to and from the samples that the audio path works on.
//!
//! Inside, samples are `f32` with full scale at -1.0 to 1.0, interleaved, left first. What comes from outside is
//! [sanitised](read) on its way in, once, so that nothing after it has to ask again.

use crate::error::{BufferError, ConfigError};
use crate::units::{Channels, SampleRate};

/// Samples louder than this are clamped to it on their way in: +24 dB over full scale. Overshoot of a filter or a
/// mix passes, and nothing after can overflow.
pub const CEILING: f32 = 16.0;

/// Samples quieter than this become zero on their way in: -300 dB, far under any noise. Arithmetic on the subnormal
/// numbers that a fade-out ends in is a hundred times slower on some processors.
pub const FLOOR: f32 = 1e-15;

/// How one sample is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleFormat {
    /// 32-bit float, full scale at -1.0 to 1.0.
    F32,
    /// 16-bit signed integer.
    I16,
}

/// What a buffer of samples means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Samples per channel and second.
    pub rate: SampleRate,
    /// How many channels are interleaved.
    pub channels: Channels,
    /// How one sample is written.
    pub sample: SampleFormat,
}

/// Borrowed samples, interleaved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Samples<'a> {
    /// 32-bit float, full scale at -1.0 to 1.0.
    F32(&'a [f32]),
    /// 16-bit signed integers.
    I16(&'a [i16]),
}

impl<'a> Samples<'a> {
    /// How many samples there are, all channels together.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::F32(samples) => samples.len(),
            Self::I16(samples) => samples.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// How they are written.
    #[must_use]
    pub const fn format(self) -> SampleFormat {
        match self {
            Self::F32(_) => SampleFormat::F32,
            Self::I16(_) => SampleFormat::I16,
        }
    }

    /// The first `count` samples (or all, if there are fewer) and the rest.
    #[must_use]
    pub fn split_at(self, count: usize) -> (Samples<'a>, Samples<'a>) {
        let count = count.min(self.len());
        match self {
            Self::F32(samples) => {
                let (head, tail) = samples.split_at(count);
                (Self::F32(head), Self::F32(tail))
            }
            Self::I16(samples) => {
                let (head, tail) = samples.split_at(count);
                (Self::I16(head), Self::I16(tail))
            }
        }
    }
}

impl<'a> From<&'a [f32]> for Samples<'a> {
    fn from(samples: &'a [f32]) -> Self {
        Self::F32(samples)
    }
}

impl<'a> From<&'a [i16]> for Samples<'a> {
    fn from(samples: &'a [i16]) -> Self {
        Self::I16(samples)
    }
}

/// What [`read`] and [`append`] did.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Samples per channel written.
    pub samples: usize,
    /// Samples of the input, all channels together, that were NaN or infinite and became silence.
    pub silenced: usize,
}

/// Takes outside samples in: to `f32`, to the wanted channels, sanitised, in one pass. Writes the start of `out`.
///
/// Sanitised means: NaN and infinities become silence and are counted, magnitudes over [`CEILING`] are clamped,
/// magnitudes under [`FLOOR`] become zero. Stereo becomes mono as the mean of both, mono becomes stereo as a copy.
///
/// # Errors
/// [`BufferError::PartialFrame`] if stereo input has an odd number of samples, [`BufferError::TooSmall`] if `out`
/// cannot hold the result. Nothing is written then.
pub fn read(input: Samples<'_>, from: Channels, to: Channels, out: &mut [f32]) -> Result<Read, BufferError> {
    let samples = input.len() / from.count();
    if samples * from.count() != input.len() {
        return Err(BufferError::PartialFrame { samples: input.len() });
    }
    let out = front(out, samples * to.count())?;
    let silenced = match (input, from, to) {
        (Samples::F32(x), Channels::Mono, Channels::Mono)
        | (Samples::F32(x), Channels::Stereo, Channels::Stereo) => sanitize_each(x, out),
        (Samples::F32(x), Channels::Stereo, Channels::Mono) => sanitize_downmix(x, out),
        (Samples::F32(x), Channels::Mono, Channels::Stereo) => sanitize_upmix(x, out),
        (Samples::I16(x), Channels::Mono, Channels::Mono)
        | (Samples::I16(x), Channels::Stereo, Channels::Stereo) => {
            x.iter().zip(out).for_each(|(x, out)| *out = from_i16(*x));
            0
        }
        (Samples::I16(x), Channels::Stereo, Channels::Mono) => {
            let mean = |x: &[i16]| (i32::from(x[0]) + i32::from(x[1])) as f32 * (0.5 * FROM_I16);
            x.chunks_exact(2).zip(out).for_each(|(x, out)| *out = mean(x));
            0
        }
        (Samples::I16(x), Channels::Mono, Channels::Stereo) => {
            x.iter().zip(out.chunks_exact_mut(2)).for_each(|(x, out)| out.fill(from_i16(*x)));
            0
        }
    };
    Ok(Read { samples, silenced: silenced as usize })
}

/// As [`read`], at the end of `out`. Allocates only if the capacity of `out` does not suffice.
///
/// # Errors
/// [`BufferError::PartialFrame`] if stereo input has an odd number of samples; `out` is unchanged then.
pub fn append(
    input: Samples<'_>,
    from: Channels,
    to: Channels,
    out: &mut Vec<f32>,
) -> Result<Read, BufferError> {
    let start = out.len();
    out.resize(start + input.len() / from.count() * to.count(), 0.0);
    let read = read(input, from, to, &mut out[start..]);
    if read.is_err() {
        out.truncate(start);
    }
    read
}

/// Writes samples as 16-bit integers: scaled by 32768, rounded to nearest with halves to even (as libopus does), and
/// clamped. NaN and infinities become silence; returns how many there were.
///
/// # Errors
/// [`BufferError::TooSmall`] if `out` is shorter than `input`; nothing is written then.
pub fn to_i16(input: &[f32], out: &mut [i16]) -> Result<usize, BufferError> {
    let out = front(out, input.len())?;
    let mut silenced = 0;
    for (x, out) in input.iter().zip(out) {
        let x = silence_non_finite(*x, &mut silenced) * 32_768.0;
        *out = round_half_even(clamp(x, -32_768.0, 32_767.0)) as i16;
    }
    Ok(silenced as usize)
}

/// Stereo to mono, as the mean of both channels, so that it cannot clip.
///
/// # Errors
/// [`BufferError::PartialFrame`] if `stereo` has an odd number of samples, [`BufferError::TooSmall`] if `mono` has
/// less than half of them. Nothing is written then.
pub fn downmix(stereo: &[f32], mono: &mut [f32]) -> Result<(), BufferError> {
    if !stereo.len().is_multiple_of(2) {
        return Err(BufferError::PartialFrame { samples: stereo.len() });
    }
    let mono = front(mono, stereo.len() / 2)?;
    stereo.chunks_exact(2).zip(mono).for_each(|(x, out)| *out = 0.5 * (x[0] + x[1]));
    Ok(())
}

/// Mono to stereo, both channels the same.
///
/// # Errors
/// [`BufferError::TooSmall`] if `stereo` has less than twice the samples of `mono`; nothing is written then.
pub fn upmix(mono: &[f32], stereo: &mut [f32]) -> Result<(), BufferError> {
    let stereo = front(stereo, mono.len() * 2)?;
    mono.iter().zip(stereo.chunks_exact_mut(2)).for_each(|(x, out)| out.fill(*x));
    Ok(())
}

/// A factor on the amplitude.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Gain(f32);

impl Gain {
    /// No change.
    pub const UNITY: Self = Self(1.0);
    /// Silence.
    pub const MUTE: Self = Self(0.0);

    /// A gain in decibels, -120 to +40.
    ///
    /// # Errors
    /// [`ConfigError::Range`] outside of these; NaN is reported as 0.
    pub fn from_db(db: f32) -> Result<Self, ConfigError> {
        if (-120.0..=40.0).contains(&db) {
            return Ok(Self(10f32.powf(db / 20.0)));
        }
        Err(ConfigError::Range { what: "gain in dB", min: -120, max: 40, actual: db as i64 })
    }

    /// The factor, 0.0 to 100.0.
    #[must_use]
    pub const fn factor(self) -> f32 {
        self.0
    }

    /// Multiplies every sample. Does not clamp: [`to_i16`] does where it must.
    pub fn apply(self, samples: &mut [f32]) {
        if self != Self::UNITY {
            samples.iter_mut().for_each(|x| *x *= self.0);
        }
    }
}

const FROM_I16: f32 = 1.0 / 32_768.0;

#[inline(always)]
fn from_i16(x: i16) -> f32 {
    f32::from(x) * FROM_I16
}

fn sanitize_each(input: &[f32], out: &mut [f32]) -> u32 {
    let mut silenced = 0;
    for (x, out) in input.iter().zip(out) {
        *out = sanitize(*x, &mut silenced);
    }
    silenced
}

fn sanitize_downmix(input: &[f32], out: &mut [f32]) -> u32 {
    let mut silenced = 0;
    for (x, out) in input.chunks_exact(2).zip(out) {
        *out = 0.5 * (sanitize(x[0], &mut silenced) + sanitize(x[1], &mut silenced));
    }
    silenced
}

fn sanitize_upmix(input: &[f32], out: &mut [f32]) -> u32 {
    let mut silenced = 0;
    for (x, out) in input.iter().zip(out.chunks_exact_mut(2)) {
        out.fill(sanitize(*x, &mut silenced));
    }
    silenced
}

#[inline(always)]
fn sanitize(x: f32, silenced: &mut u32) -> f32 {
    let x = clamp(silence_non_finite(x, silenced), -CEILING, CEILING);
    if x.abs() < FLOOR { 0.0 } else { x }
}

#[inline(always)]
fn silence_non_finite(x: f32, silenced: &mut u32) -> f32 {
    let finite = x.is_finite();
    *silenced += u32::from(!finite);
    if finite { x } else { 0.0 }
}

/// As `f32::clamp` for what is not NaN, which lets it be two instructions for four samples.
#[inline(always)]
fn clamp(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// For magnitudes under 2^22: adding 1.5 * 2^23 leaves no bits for a fraction, so that the sum is rounded to an
/// integer, which its low bits then are. `f32::round_ties_even` is a function call a sample on x86-64 before SSE4.1.
#[inline(always)]
fn round_half_even(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

/// The start of a caller's buffer, if it is long enough.
pub(crate) fn front<T>(out: &mut [T], needed: usize) -> Result<&mut [T], BufferError> {
    let actual = out.len();
    out.get_mut(..needed).ok_or(BufferError::TooSmall { needed, actual })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Channels::{Mono, Stereo};
    use proptest::prelude::*;

    fn one_i16(x: f32) -> i16 {
        let mut out = [0];
        to_i16(&[x], &mut out).unwrap();
        out[0]
    }

    #[test]
    fn every_i16_survives_the_way_in_and_out() {
        let all: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let mut float = vec![0.0; all.len()];
        let mut back = vec![0; all.len()];
        let done = read(Samples::I16(&all), Mono, Mono, &mut float).unwrap();
        assert_eq!(done, Read { samples: all.len(), silenced: 0 });
        assert_eq!(to_i16(&float, &mut back), Ok(0));
        assert_eq!(all, back);
    }

    #[test]
    fn halves_round_to_even_and_excess_is_clamped() {
        for (x, want) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (0.501, 1),
            (32_766.5, 32_766),
            (32_767.4, 32_767),
            (32_768.0, 32_767),
            (-32_768.4, -32_768),
            (-40_000.0, -32_768),
        ] {
            assert_eq!(one_i16(x / 32_768.0), want, "{x}");
        }
        assert_eq!(one_i16(f32::MAX), 32_767);
        assert_eq!(one_i16(f32::MIN), -32_768);
    }

    #[test]
    fn what_is_no_number_becomes_silence_and_is_counted() {
        let bad = [f32::NAN, 0.25, f32::INFINITY, -f32::NAN, f32::NEG_INFINITY, -0.5];
        let mut float = [9.0; 6];
        assert_eq!(read(Samples::F32(&bad), Mono, Mono, &mut float).unwrap().silenced, 4);
        assert_eq!(float, [0.0, 0.25, 0.0, 0.0, 0.0, -0.5]);
        let mut mono = [9.0; 3];
        let done = read(Samples::F32(&bad), Stereo, Mono, &mut mono).unwrap();
        assert_eq!(done, Read { samples: 3, silenced: 4 });
        assert_eq!(mono, [0.125, 0.0, -0.25]);
        let mut stereo = [9.0; 12];
        assert_eq!(read(Samples::F32(&bad), Mono, Stereo, &mut stereo).unwrap().silenced, 4);
        assert_eq!(stereo[..4], [0.0, 0.0, 0.25, 0.25]);
        let mut int = [9; 6];
        assert_eq!(to_i16(&bad, &mut int), Ok(4));
        assert_eq!(int, [0, 8192, 0, 0, 0, -16_384]);
    }

    #[test]
    fn extremes_are_bounded_and_overshoot_passes() {
        let x = [f32::MAX, f32::MIN, 1.5, -1.5, f32::MIN_POSITIVE / 2.0, -1e-20, 1e-10];
        let mut out = [9.0; 7];
        assert_eq!(read(Samples::F32(&x), Mono, Mono, &mut out).unwrap().silenced, 0);
        assert_eq!(out, [CEILING, -CEILING, 1.5, -1.5, 0.0, 0.0, 1e-10]);
    }

    #[test]
    fn buffers_that_do_not_fit_are_refused_and_left_alone() {
        let mut out = [7.0; 3];
        let odd = read(Samples::I16(&[1; 3]), Stereo, Mono, &mut out);
        assert_eq!(odd, Err(BufferError::PartialFrame { samples: 3 }));
        let small = read(Samples::F32(&[0.0; 2]), Mono, Stereo, &mut out);
        assert_eq!(small, Err(BufferError::TooSmall { needed: 4, actual: 3 }));
        assert_eq!(out, [7.0; 3]);
        let mut vec = vec![7.0];
        assert!(append(Samples::F32(&[0.0; 3]), Stereo, Mono, &mut vec).is_err());
        assert_eq!(vec, [7.0]);
        assert!(downmix(&[0.0; 3], &mut out).is_err());
        assert!(downmix(&[0.0; 8], &mut out).is_err());
        assert!(upmix(&[0.0; 2], &mut out).is_err());
        assert_eq!(to_i16(&[0.0; 2], &mut [0]), Err(BufferError::TooSmall { needed: 2, actual: 1 }));
    }

    #[test]
    fn append_keeps_what_is_there_and_stays_in_its_capacity() {
        let mut out = Vec::with_capacity(5);
        out.push(0.5);
        let before = out.as_ptr();
        let done = append(Samples::I16(&[16_384, -16_384]), Mono, Stereo, &mut out).unwrap();
        assert_eq!(done.samples, 2);
        assert_eq!(out, [0.5, 0.5, 0.5, -0.5, -0.5]);
        assert_eq!(before, out.as_ptr());
    }

    #[test]
    fn mixing_is_the_mean_and_copies() {
        let mut mono = [0.0; 2];
        downmix(&[1.0, 0.0, -0.5, -0.25], &mut mono).unwrap();
        assert_eq!(mono, [0.5, -0.375]);
        let mut stereo = [0.0; 4];
        upmix(&mono, &mut stereo).unwrap();
        assert_eq!(stereo, [0.5, 0.5, -0.375, -0.375]);
        let mut int = [0.0; 1];
        let done = read(Samples::I16(&[i16::MIN, i16::MIN]), Stereo, Mono, &mut int).unwrap();
        assert_eq!((int[0], done.samples), (-1.0, 1));
    }

    #[test]
    fn gain_is_in_decibels_of_amplitude() {
        let mut x = [1.0, -0.5];
        Gain::from_db(-20.0).unwrap().apply(&mut x);
        assert!((x[0] - 0.1).abs() < 1e-7 && (x[1] + 0.05).abs() < 1e-7);
        Gain::MUTE.apply(&mut x);
        assert_eq!(x, [0.0, -0.0]);
        for bad in [f32::NAN, f32::INFINITY, 40.1, -120.1] {
            assert!(Gain::from_db(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bits_come_in_bounded(bits in proptest::collection::vec(any::<u32>(), 0..64)) {
            let x: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
            let mut out = vec![0.0; x.len()];
            let done = read(Samples::F32(&x), Mono, Mono, &mut out).unwrap();
            prop_assert_eq!(done.silenced, x.iter().filter(|x| !x.is_finite()).count());
            prop_assert!(out.iter().all(|x| x.abs() <= CEILING && !x.is_subnormal()));
        }

        #[test]
        fn to_i16_rounds_as_the_standard_library_does(x in -1.1f32..1.1) {
            let want = (x * 32_768.0).round_ties_even().clamp(-32_768.0, 32_767.0) as i16;
            prop_assert_eq!(one_i16(x), want);
        }

        #[test]
        fn splitting_loses_nothing(len in 0usize..20, at in 0usize..30) {
            let all: Vec<i16> = (0..len as i16).collect();
            let (head, tail) = Samples::I16(&all).split_at(at);
            prop_assert_eq!(head.len() + tail.len(), len);
            prop_assert_eq!(head.len(), at.min(len));
        }
    }
}
