//! `Resampler`.

use evenkeel_core::pcm::{self, Samples};
use evenkeel_core::resample;
use evenkeel_core::units::{Channels, SampleRate};
use napi::bindgen_prelude::{Either, Float32Array, Int16Array, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::fault::{Fault, Outcome};
use crate::js;
use crate::options::{Options, integer};

/// A stretch of samples on its way to JavaScript.
pub(crate) type Array = Either<Float32Array, Int16Array>;

/// Converts a stream of samples from one rate to another.
#[napi]
pub struct Resampler {
    state: Option<State>,
}

struct State {
    resampler: resample::Resampler,
    channels: Channels,
    refuses_non_finite: bool,
    /// Whether the last samples were 16-bit integers, which is what flushing gives then too.
    is_i16: bool,
    input: Vec<f32>,
    output: Vec<f32>,
}

#[napi]
impl Resampler {
    /// From one rate in Hz to another; options are `channels`, `aligned` and `nonFinite`.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, from: Unknown<'_>, to: Unknown<'_>, options: Option<Unknown<'_>>) -> Result<Self> {
        let build = || -> Outcome<State> {
            let options = Options::of(env, options)?;
            let rate = |value, name| -> Outcome<SampleRate> {
                Ok(SampleRate::from_hz(integer(value, name, 0.0, u32::MAX.into())? as u32)?)
            };
            let (from, to, channels) = (rate(from, "from")?, rate(to, "to")?, options.channels()?);
            let resampler = if options.boolean("aligned", false)? {
                resample::Resampler::aligned(from, to, channels)
            } else {
                resample::Resampler::new(from, to, channels)
            };
            let refuses_non_finite = options.refuses_non_finite()?;
            let (input, output) = (Vec::new(), Vec::new());
            Ok(State { resampler, channels, refuses_non_finite, is_i16: false, input, output })
        };
        Ok(Self { state: Some(build().map_err(|fault| fault.throw(&env))?) })
    }

    /// Takes samples in any length; gives those that they complete, of the same kind.
    #[napi(catch_unwind)]
    pub fn push(&mut self, env: Env, samples: Unknown<'_>) -> Result<Array> {
        let mut pushed = || -> Outcome<Array> {
            let state = self.state.as_mut().ok_or_else(|| Fault::closed("resampler"))?;
            let samples = js::pcm(&env, &samples, "samples")?;
            if state.refuses_non_finite {
                samples.check_finite()?;
            }
            state.push(samples.samples())
        };
        pushed().map_err(|fault| fault.throw(&env))
    }

    /// Ends the stream: what is still inside. Afterwards it is as new.
    #[napi(catch_unwind)]
    pub fn flush(&mut self, env: Env) -> Result<Array> {
        let mut flushed = || -> Outcome<Array> {
            let state = self.state.as_mut().ok_or_else(|| Fault::closed("resampler"))?;
            state.output.resize(state.resampler.flush_output() * state.channels.count(), 0.0);
            state.resampler.flush(&mut state.output)?;
            state.give()
        };
        flushed().map_err(|fault| fault.throw(&env))
    }

    /// How far the output is behind the input, in samples per channel at the output rate.
    #[napi(catch_unwind)]
    pub fn delay(&self) -> u32 {
        self.state.as_ref().map_or(0, |state| state.resampler.delay() as u32)
    }

    /// Frees its memory. Whether it was open.
    #[napi(catch_unwind)]
    pub fn close(&mut self) -> bool {
        self.state.take().is_some()
    }
}

impl State {
    fn push(&mut self, samples: Samples<'_>) -> Outcome<Array> {
        self.is_i16 = matches!(samples, Samples::I16(_));
        self.input.clear();
        let read = pcm::append(samples, self.channels, self.channels, &mut self.input)?;
        self.output.resize(self.resampler.next_output(read.samples) * self.channels.count(), 0.0);
        self.resampler.process(&self.input, &mut self.output)?;
        self.give()
    }

    fn give(&self) -> Outcome<Array> {
        to_array(&self.output, self.is_i16)
    }
}

/// Copies samples to what JavaScript gets.
pub(crate) fn to_array(samples: &[f32], is_i16: bool) -> Outcome<Array> {
    if !is_i16 {
        return Ok(Either::A(Float32Array::with_data_copied(samples)));
    }
    let mut integers = vec![0; samples.len()];
    pcm::to_i16(samples, &mut integers)?;
    Ok(Either::B(Int16Array::new(integers)))
}
