//! The resampler as its callers see it: lengths, delay, quality, and that chunks leave no trace.

use std::f64::consts::TAU;

use evenkeel_core::error::BufferError;
use evenkeel_core::resample::Resampler;
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_testkit::alloc::{CountingAllocator, count_allocations};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn pairs() -> impl Iterator<Item = (SampleRate, SampleRate)> {
    SampleRate::ALL.into_iter().flat_map(|from| SampleRate::ALL.map(|to| (from, to)))
}

/// Everything in, cut into chunks of `chunks` samples per channel in turn, and the flush.
fn convert(resampler: &mut Resampler, input: &[f32], chunks: &[usize]) -> Vec<f32> {
    let channels = resampler.channels().count();
    let mut output = Vec::new();
    let mut rest = input;
    let mut chunks = chunks.iter().cycle();
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at((chunks.next().expect("chunks") * channels).min(rest.len()));
        let expected = resampler.next_output(chunk.len() / channels);
        assert!(expected <= resampler.max_output(chunk.len() / channels));
        let mut out = vec![f32::NAN; expected * channels];
        assert_eq!(resampler.process(chunk, &mut out), Ok(expected));
        output.extend(out);
        rest = tail;
    }
    let mut out = vec![f32::NAN; resampler.flush_output() * channels];
    assert_eq!(resampler.flush(&mut out), Ok(out.len() / channels));
    output.extend(out);
    output
}

fn aligned(from: SampleRate, to: SampleRate, input: &[f32]) -> Vec<f32> {
    convert(&mut Resampler::aligned(from, to, Channels::Mono), input, &[input.len()])
}

fn tone(rate: SampleRate, hz: f64, samples: usize) -> Vec<f32> {
    let step = TAU * hz / f64::from(rate.hz());
    (0..samples).map(|n| (0.5 * (step * n as f64).sin()) as f32).collect()
}

fn noise(seed: u64, samples: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..samples).map(|_| next()).collect()
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|x| x.to_bits()).collect()
}

/// Without what is near enough to the ends for the filter to reach past them.
fn middle(samples: &[f32], rate: SampleRate) -> (usize, &[f32]) {
    let margin = rate.hz() as usize / 200;
    (margin, &samples[margin..samples.len() - margin])
}

fn signal_to_error_db(signal: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (power, error) = signal.fold((0.0, 0.0), |(power, error), (want, got)| {
        (power + want * want, error + (want - got) * (want - got))
    });
    10.0 * (power / error.max(1e-30)).log10()
}

#[test]
fn twenty_ms_in_are_twenty_ms_out_at_once() {
    for (from, to) in pairs() {
        let mut resampler = Resampler::new(from, to, Channels::Mono);
        let (input, output) = ((from.hz() / 50) as usize, (to.hz() / 50) as usize);
        let mut out = vec![0.0; resampler.max_output(input)];
        for _ in 0..5 {
            assert_eq!(resampler.process(&vec![0.0; input], &mut out), Ok(output), "{from} to {to}");
        }
    }
}

#[test]
fn flushed_streams_have_the_length_that_is_promised() {
    for (from, to) in pairs() {
        for samples in [0usize, 1, 2, 3, 7, 50, 239, 240, 241, 999] {
            let (up, down) = (u64::from(to.hz()), u64::from(from.hz()));
            let ideal = ((samples as u64 * up * 2 + down) / (down * 2)) as usize;
            let input = noise(1, samples);
            assert_eq!(aligned(from, to, &input).len(), ideal, "{from} to {to}, {samples}");
            let mut live = Resampler::new(from, to, Channels::Mono);
            let whole = ideal + live.delay();
            assert_eq!(convert(&mut live, &input, &[100]).len(), whole, "{from} to {to}, {samples}");
        }
    }
}

#[test]
fn a_live_stream_is_the_aligned_one_after_the_delay() {
    for (from, to) in pairs() {
        let input = noise(2, 700);
        let mut live = Resampler::new(from, to, Channels::Mono);
        let output = convert(&mut live, &input, &[700]);
        assert_eq!(bits(&output[live.delay()..]), bits(&aligned(from, to, &input)), "{from} to {to}");
    }
}

#[test]
fn the_delay_is_at_most_two_ms() {
    for (from, to) in pairs() {
        let delay = Resampler::new(from, to, Channels::Mono).delay();
        assert!(delay * 500 <= to.hz() as usize, "{from} to {to}: {delay}");
        assert_eq!(delay == 0, from == to);
    }
}

#[test]
fn sines_come_out_as_they_went_in() {
    for (from, to) in pairs() {
        let low = f64::from(from.min(to).hz());
        for part in [0.01, 0.1, 0.25, 0.5, 0.7, 0.8] {
            let hz = part * low / 2.0;
            let output = aligned(from, to, &tone(from, hz, from.hz() as usize / 4));
            let (start, output) = middle(&output, to);
            let step = TAU * hz / f64::from(to.hz());
            let want = |n: usize| 0.5 * (step * (start + n) as f64).sin();
            let square: f64 = (0..output.len()).map(|n| want(n) * want(n)).sum();
            let product: f64 = output.iter().enumerate().map(|(n, y)| want(n) * f64::from(*y)).sum();
            let gain = product / square;
            let gain_db = 20.0 * gain.log10();
            assert!(gain_db.abs() < 0.06, "{from} to {to} at {part}: {gain_db} dB");
            // What is not the sine: images, aliases, rounding, and any error of the delay.
            let pure = output.iter().enumerate().map(|(n, y)| (gain * want(n), f64::from(*y)));
            let ratio = signal_to_error_db(pure);
            assert!(ratio > 80.0, "{from} to {to} at {part}: {ratio} dB");
        }
    }
}

#[test]
fn a_sweep_comes_out_as_it_went_in() {
    for (from, to) in pairs() {
        let low = f64::from(from.min(to).hz());
        let seconds = 0.5;
        let rise = 0.8 * low / 2.0 / seconds;
        let sweep = |n: usize, rate: SampleRate| {
            let t = n as f64 / f64::from(rate.hz());
            0.5 * (TAU * 0.5 * rise * t * t).sin()
        };
        let input: Vec<f32> = (0..from.hz() as usize / 2).map(|n| sweep(n, from) as f32).collect();
        let output = aligned(from, to, &input);
        let (start, output) = middle(&output, to);
        let both = output.iter().enumerate().map(|(n, y)| (sweep(start + n, to), f64::from(*y)));
        let ratio = signal_to_error_db(both);
        // The ripple of the pass band is what is left.
        assert!(ratio > 46.0, "{from} to {to}: {ratio} dB");
    }
}

#[test]
fn what_the_lower_rate_cannot_hold_is_gone() {
    for (from, to) in pairs().filter(|(from, to)| from > to) {
        for part in [1.1, 1.3, 1.5, 1.9] {
            let hz = part * f64::from(to.hz()) / 2.0;
            if hz >= f64::from(from.hz()) / 2.0 {
                continue;
            }
            let output = aligned(from, to, &tone(from, hz, from.hz() as usize / 4));
            let (_, output) = middle(&output, to);
            let loudest = output.iter().fold(0.0, |most: f32, y| most.max(y.abs()));
            assert!(loudest < 0.5e-4, "{from} to {to} at {part}: {loudest}");
        }
    }
}

#[test]
fn constants_stay_and_an_impulse_keeps_its_weight() {
    for (from, to) in pairs() {
        let output = aligned(from, to, &vec![0.7; from.hz() as usize / 20]);
        for y in middle(&output, to).1 {
            assert!((y - 0.7).abs() < 1e-6, "{from} to {to}: {y}");
        }
        let mut impulse = vec![0.0; from.hz() as usize / 20];
        impulse[from.hz() as usize / 40] = 1.0;
        let weight: f32 = aligned(from, to, &impulse).iter().sum();
        let ratio = to.hz() as f32 / from.hz() as f32;
        assert!((weight / ratio - 1.0).abs() < 2e-3, "{from} to {to}: {weight}");
    }
}

#[test]
fn the_loudest_input_stays_finite_and_bounded() {
    let square: Vec<f32> = (0..2000).map(|n| if n / 7 % 2 == 0 { 16.0 } else { -16.0 }).collect();
    for (from, to) in pairs() {
        for y in aligned(from, to, &square) {
            assert!(y.abs() < 16.0 * 3.0, "{from} to {to}: {y}");
        }
    }
}

#[test]
fn a_nan_that_slips_in_does_not_stay() {
    for (from, to) in pairs() {
        let mut input = noise(3, 2000);
        input[500] = f32::NAN;
        let output = aligned(from, to, &input);
        let clean = aligned(from, to, &noise(3, 2000));
        let spoilt: Vec<usize> = (0..output.len()).filter(|n| output[*n].is_nan()).collect();
        let reach = to.hz() as usize / 200;
        assert!(spoilt.len() <= reach && spoilt[spoilt.len() - 1] - spoilt[0] < reach, "{from} to {to}");
        assert_eq!(bits(&output[spoilt[0] + reach..]), bits(&clean[spoilt[0] + reach..]));
    }
}

#[test]
fn channels_do_not_mix() {
    for (from, to) in pairs() {
        let (left, right) = (noise(4, 500), tone(from, 300.0, 500));
        let both: Vec<f32> = left.iter().zip(&right).flat_map(|(l, r)| [*l, *r]).collect();
        let output = convert(&mut Resampler::aligned(from, to, Channels::Stereo), &both, &[77]);
        let channel = |c| bits(&output.iter().skip(c).step_by(2).copied().collect::<Vec<_>>());
        assert_eq!(channel(0), bits(&aligned(from, to, &left)), "{from} to {to}");
        assert_eq!(channel(1), bits(&aligned(from, to, &right)), "{from} to {to}");
    }
}

#[test]
fn after_a_reset_or_a_flush_it_is_as_new() {
    for (from, to) in pairs() {
        let input = noise(5, 600);
        let fresh = bits(&aligned(from, to, &input));
        let mut resampler = Resampler::aligned(from, to, Channels::Mono);
        let mut out = vec![0.0; resampler.max_output(333)];
        resampler.process(&noise(6, 333), &mut out).unwrap();
        resampler.reset();
        assert_eq!(bits(&convert(&mut resampler, &input, &[600])), fresh, "reset, {from} to {to}");
        assert_eq!(bits(&convert(&mut resampler, &input, &[600])), fresh, "flush, {from} to {to}");
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused_and_the_stream_goes_on() {
    let (from, to) = (SampleRate::HZ_48000, SampleRate::HZ_16000);
    let input = noise(7, 960 * 2);
    let mut resampler = Resampler::new(from, to, Channels::Stereo);
    let mut out = vec![0.0; 640];
    let odd = resampler.process(&input[1..], &mut out);
    assert_eq!(odd, Err(BufferError::PartialFrame { samples: 1919 }));
    let small = resampler.process(&input, &mut out[1..]);
    assert_eq!(small, Err(BufferError::TooSmall { needed: 640, actual: 639 }));
    assert_eq!(resampler.process(&input, &mut out), Ok(320));
    let needed = resampler.flush_output() * 2;
    assert_eq!(needed, resampler.delay() * 2);
    assert!(resampler.flush(&mut out[..needed - 1]).is_err());
    assert_eq!(resampler.flush(&mut out), Ok(needed / 2));
}

#[test]
fn nothing_allocates_after_construction() {
    for (from, to) in pairs() {
        let mut resampler = Resampler::new(from, to, Channels::Stereo);
        let input = noise(8, 2000);
        let mut out = vec![0.0; resampler.max_output(1000) * 2 + resampler.delay() * 2 + 2];
        let count = count_allocations(|| {
            for _ in 0..3 {
                resampler.process(&input, &mut out).unwrap();
                resampler.process(&input[..6], &mut out).unwrap();
                resampler.flush(&mut out).unwrap();
                resampler.reset();
            }
        });
        assert_eq!(count, 0, "{from} to {to}");
    }
}

proptest! {
    #[test]
    fn chunks_leave_no_trace(
        from in 0usize..8, to in 0usize..8, stereo: bool, live: bool, seed: u64, samples in 0usize..1500,
        chunks in proptest::collection::vec(0usize..300, 1..8),
    ) {
        prop_assume!(chunks.iter().any(|c| *c > 0));
        let channels = if stereo { Channels::Stereo } else { Channels::Mono };
        let build = if live { Resampler::new } else { Resampler::aligned };
        let make = || build(SampleRate::ALL[from], SampleRate::ALL[to], channels);
        let input = noise(seed, samples * channels.count());
        let whole = convert(&mut make(), &input, &[samples.max(1)]);
        let parts = convert(&mut make(), &input, &chunks);
        let singles = convert(&mut make(), &input, &[1, 0]);
        prop_assert_eq!(bits(&whole), bits(&parts));
        prop_assert_eq!(bits(&whole), bits(&singles));
    }
}
