//! What resampling costs and what it does to the signal: ours and rubato's, measured from outside in the same way.
//!
//! Every engine gets a mono stream in frames of 20 ms, as a live call gives it. Nothing is taken from what an engine
//! says of itself.

use std::f64::consts::{PI, TAU};
use std::hint::black_box;
use std::time::{Duration, Instant};

use evenkeel_core::resample::Resampler;
use evenkeel_core::units::{Channels, SampleRate};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, Fft, FixedAsync, FixedSync, SincInterpolationParameters, WindowFunction};
use serde::Serialize;

/// A resampler that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// [`Resampler`] of the core.
    Evenkeel,
    /// `rubato::Fft` as its documentation recommends it.
    RubatoFft,
    /// `rubato::Fft` in blocks of about 2 ms, so that its delay is near ours.
    RubatoFftShort,
    /// `rubato::Async` with a sinc as long as our filter, so that its delay is ours.
    RubatoSinc,
}

impl Engine {
    /// Every engine, ours first.
    pub const ALL: [Self; 4] = [Self::Evenkeel, Self::RubatoFft, Self::RubatoFftShort, Self::RubatoSinc];

    /// As tables name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evenkeel => "evenkeel",
            Self::RubatoFft => "rubato Fft",
            Self::RubatoFftShort => "rubato Fft, short",
            Self::RubatoSinc => "rubato Async sinc",
        }
    }
}

/// One engine at one pair of rates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResampleFigures {
    /// Rate of the input, in hertz.
    pub from: u32,
    /// Rate of the output, in hertz.
    pub to: u32,
    /// [`Engine::name`].
    pub engine: &'static str,
    /// Time that a frame of 20 ms takes, in microseconds: the mean over half a second of audio, in the fastest of 60
    /// such runs (slower ones measure what else the machine does).
    pub us_per_20ms: f64,
    /// How late a live stream is, in milliseconds: the group delay (the worst of several frequencies up to 0.8 of the
    /// lower Nyquist frequency), and what 20 ms of input at worst fall short of 20 ms of output.
    pub delay_ms: f64,
    /// Gain at 0.9 of the lower Nyquist frequency, in decibels.
    pub passband_db: f64,
    /// What a sine leaves where nothing should be, relative to the sine, in decibels. Going down, all output for a
    /// sine at 1.1 of the lower Nyquist frequency. Going up, all output but the sine for one at 0.9, whose first image
    /// is at 1.1. None if the higher rate cannot hold 1.1.
    pub alias_db: Option<f64>,
}

/// Measures our resampler.
#[must_use]
pub fn measure(from: SampleRate, to: SampleRate) -> ResampleFigures {
    let [figures] = compare(from, to, [Engine::Evenkeel]);
    figures
}

/// Measures several engines; their runs alternate, so that all see the same machine.
#[must_use]
pub fn compare<const N: usize>(
    from: SampleRate,
    to: SampleRate,
    engines: [Engine; N],
) -> [ResampleFigures; N] {
    let times = time(from, to, engines);
    let mut times = times.into_iter();
    engines.map(|engine| ResampleFigures {
        from: from.hz(),
        to: to.hz(),
        engine: engine.name(),
        us_per_20ms: times.next().unwrap_or_default().as_secs_f64() * 1e6,
        delay_ms: delay(engine, from, to) * 1e3,
        passband_db: passband(engine, from, to),
        alias_db: alias(engine, from, to),
    })
}

const AMPLITUDE: f64 = 0.5;
const FRAMES_A_RUN: u32 = 25;
const RUNS: usize = 60;

fn time<const N: usize>(from: SampleRate, to: SampleRate, engines: [Engine; N]) -> [Duration; N] {
    let input = tone(from, 440.0, FRAMES_A_RUN as usize * frame(from));
    let mut streams = engines.map(|engine| Stream::new(engine, from, to));
    let mut fastest = [Duration::MAX; N];
    for _ in 0..RUNS {
        for (stream, fastest) in streams.iter_mut().zip(&mut fastest) {
            let start = Instant::now();
            for frame in input.chunks_exact(frame(from)) {
                black_box(stream.push(black_box(frame)));
            }
            *fastest = start.elapsed().min(*fastest);
        }
    }
    fastest.map(|run| run / FRAMES_A_RUN)
}

fn delay(engine: Engine, from: SampleRate, to: SampleRate) -> f64 {
    const APART_HZ: f64 = 10.0;
    let group_delay = |part: f64| {
        let hz = part * low_nyquist(from, to);
        let phase = |hz| fit(&sine_response(engine, from, to, hz), to, hz).phase;
        let behind = phase(hz) - phase(hz + APART_HZ);
        ((behind + PI).rem_euclid(TAU) - PI) / (TAU * APART_HZ)
    };
    let worst = [0.05, 0.25, 0.5, 0.8].map(group_delay).into_iter().fold(0.0, f64::max);
    worst + shortfall(engine, from, to)
}

/// The most output that is missing after any whole frame, in seconds.
fn shortfall(engine: Engine, from: SampleRate, to: SampleRate) -> f64 {
    let mut stream = Stream::new(engine, from, to);
    let silence = vec![0.0; frame(from)];
    let mut given = 0;
    let missing = (1..=200).map(|frames| {
        given += stream.push(&silence).len();
        (frames * frame(to)).saturating_sub(given)
    });
    missing.max().unwrap_or(0) as f64 / f64::from(to.hz())
}

fn passband(engine: Engine, from: SampleRate, to: SampleRate) -> f64 {
    let hz = 0.9 * low_nyquist(from, to);
    db(fit(&sine_response(engine, from, to, hz), to, hz).amplitude / AMPLITUDE)
}

fn alias(engine: Engine, from: SampleRate, to: SampleRate) -> Option<f64> {
    let low = low_nyquist(from, to);
    if 1.1 * low >= f64::from(from.max(to).hz()) / 2.0 {
        return None;
    }
    let stray = if from > to {
        rms(&sine_response(engine, from, to, 1.1 * low))
    } else {
        fit(&sine_response(engine, from, to, 0.9 * low), to, 0.9 * low).rest
    };
    Some(db(stray / (AMPLITUDE / 2f64.sqrt())))
}

/// The settled part of the answer to a sine: from sample `SETTLE` of the output, which is a second, on.
fn sine_response(engine: Engine, from: SampleRate, to: SampleRate, hz: f64) -> Vec<f32> {
    let mut stream = Stream::new(engine, from, to);
    let input = tone(from, hz, 2 * from.hz() as usize);
    let mut output = Vec::new();
    for frame in input.chunks_exact(frame(from)) {
        output.extend_from_slice(stream.push(frame));
    }
    output.split_off(to.hz() as usize)
}

/// The sine in a signal, and what is not it.
struct Fit {
    amplitude: f64,
    /// Of a signal that starts a second after the sine did, in radians.
    phase: f64,
    rest: f64,
}

/// Least squares over sine and cosine.
fn fit(signal: &[f32], rate: SampleRate, hz: f64) -> Fit {
    let step = TAU * hz / f64::from(rate.hz());
    let basis = |n: usize| (step * (n + rate.hz() as usize) as f64).sin_cos();
    let [mut ss, mut sc, mut cc, mut ys, mut yc] = [0.0; 5];
    for (n, y) in signal.iter().enumerate() {
        let ((s, c), y) = (basis(n), f64::from(*y));
        ss += s * s;
        sc += s * c;
        cc += c * c;
        ys += y * s;
        yc += y * c;
    }
    let determinant = ss * cc - sc * sc;
    let (a, b) = ((ys * cc - yc * sc) / determinant, (yc * ss - ys * sc) / determinant);
    let rest: Vec<f32> = signal
        .iter()
        .enumerate()
        .map(|(n, y)| {
            let (s, c) = basis(n);
            (f64::from(*y) - a * s - b * c) as f32
        })
        .collect();
    Fit { amplitude: a.hypot(b), phase: b.atan2(a), rest: rms(&rest) }
}

fn rms(signal: &[f32]) -> f64 {
    let power: f64 = signal.iter().map(|y| f64::from(*y) * f64::from(*y)).sum();
    (power / signal.len() as f64).sqrt()
}

fn db(ratio: f64) -> f64 {
    20.0 * ratio.max(1e-12).log10()
}

fn tone(rate: SampleRate, hz: f64, samples: usize) -> Vec<f32> {
    let step = TAU * hz / f64::from(rate.hz());
    (0..samples).map(|n| (AMPLITUDE * (step * n as f64).sin()) as f32).collect()
}

fn low_nyquist(from: SampleRate, to: SampleRate) -> f64 {
    f64::from(from.min(to).hz()) / 2.0
}

fn frame(rate: SampleRate) -> usize {
    rate.hz() as usize / 50
}

/// An engine at work on one mono stream.
struct Stream {
    inner: Inner,
    out: Vec<f32>,
}

enum Inner {
    Evenkeel(Resampler),
    Rubato(Box<dyn rubato::Resampler<f32>>),
}

impl Stream {
    fn new(engine: Engine, from: SampleRate, to: SampleRate) -> Self {
        let (from_hz, to_hz) = (from.hz() as usize, to.hz() as usize);
        let inner = match engine {
            Engine::Evenkeel => Inner::Evenkeel(Resampler::new(from, to, Channels::Mono)),
            Engine::RubatoFft => {
                let fft = Fft::new(from_hz, to_hz, frame(from), 1, FixedSync::Input);
                Inner::Rubato(Box::new(fft.expect("valid rates")))
            }
            Engine::RubatoFftShort => {
                let window = WindowFunction::BlackmanHarris2;
                let fft = Fft::new_custom(from_hz, to_hz, frame(from), 10, 1, window, FixedSync::Input);
                Inner::Rubato(Box::new(fft.expect("valid rates")))
            }
            Engine::RubatoSinc => {
                let length = (32 * from_hz.max(to_hz) / to_hz).next_multiple_of(8);
                let sinc = SincInterpolationParameters::new(length, WindowFunction::BlackmanHarris2);
                let ratio = to_hz as f64 / from_hz as f64;
                let sinc = Async::new_sinc(ratio, 1.0, &sinc, frame(from), 1, FixedAsync::Input);
                Inner::Rubato(Box::new(sinc.expect("valid ratio")))
            }
        };
        let room = match &inner {
            Inner::Evenkeel(ours) => ours.max_output(frame(from)),
            Inner::Rubato(rubato) => rubato.output_frames_max(),
        };
        Self { inner, out: vec![0.0; room] }
    }

    /// One frame of 20 ms in, and what comes out for it.
    fn push(&mut self, frame: &[f32]) -> &[f32] {
        let written = match &mut self.inner {
            Inner::Evenkeel(ours) => ours.process(frame, &mut self.out).expect("sized for it"),
            Inner::Rubato(rubato) => {
                let room = self.out.len();
                let input = InterleavedSlice::new(frame, 1, frame.len()).expect("mono");
                let mut out = InterleavedSlice::new_mut(&mut self.out, 1, room).expect("mono");
                rubato.process_into_buffer(&input, &mut out, None).expect("sized for it").1
            }
        };
        &self.out[..written]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_ratios_reach_their_targets_in_all_but_time() {
        for from in SampleRate::ALL {
            for to in SampleRate::ALL {
                let (high, low) = (from.max(to).hz(), from.min(to).hz());
                if from == to || high % low != 0 {
                    continue;
                }
                let figures = measure(from, to);
                assert!(figures.delay_ms <= 2.0, "{figures:?}");
                assert!(figures.passband_db >= -1.0, "{figures:?}");
                assert!(figures.alias_db.is_some_and(|db| db <= -80.0), "{figures:?}");
            }
        }
    }

    #[test]
    fn the_instruments_read_what_is_known() {
        let rate = SampleRate::HZ_16000;
        let late = 37;
        let signal = tone(rate, 1_000.0, 2 * 16_000 - late);
        let found = fit(&signal[16_000 - late..], rate, 1_000.0);
        assert!((found.amplitude - AMPLITUDE).abs() < 1e-6);
        assert!(db(found.rest) < -120.0);
        let behind = TAU * 1_000.0 * late as f64 / 16_000.0;
        assert!(((found.phase + behind + 1.0).rem_euclid(TAU) - 1.0).abs() < 1e-6);
        assert!(delay(Engine::Evenkeel, rate, rate).abs() < 1e-6);
    }
}
