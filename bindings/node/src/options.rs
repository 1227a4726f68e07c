//! What constructors are told: an object of JavaScript's, read field by field, with errors that name the field.

use std::time::Duration;

use evenkeel_core::framing::Bandwidth;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{Application, EncoderConfig, RateControl, Signal};
use napi::bindgen_prelude::{JsObjectValue, Object, Unknown};
use napi::{Env, JsValue, ValueType};

use crate::fault::{Fault, Outcome};
use crate::js;

/// An object of options, none of which must be there.
pub(crate) struct Options<'a> {
    env: Env,
    object: Option<Object<'a>>,
}

impl<'a> Options<'a> {
    /// Reads `value` as options; `undefined` has none.
    pub(crate) fn of(env: Env, value: Option<Unknown<'a>>) -> Outcome<Self> {
        let Some(value) = value else { return Ok(Self { env, object: None }) };
        match value.get_type()? {
            ValueType::Undefined | ValueType::Null => Ok(Self { env, object: None }),
            ValueType::Object => Ok(Self { env, object: Some(value.coerce_to_object()?) }),
            _ => Err(Fault::wrong_type("options must be an object")),
        }
    }

    fn get(&self, name: &str) -> Outcome<Option<Unknown<'a>>> {
        let Some(object) = &self.object else { return Ok(None) };
        let value: Unknown<'a> = object.get_named_property(name)?;
        Ok((value.get_type()? != ValueType::Undefined).then_some(value))
    }

    /// The object in a field, as options.
    pub(crate) fn within(&self, name: &str) -> Outcome<Self> {
        Self::of(self.env, self.get(name)?)
    }

    pub(crate) fn boolean(&self, name: &str, default: bool) -> Outcome<bool> {
        match self.get(name)? {
            None => Ok(default),
            Some(value) if value.get_type()? == ValueType::Boolean => Ok(value.coerce_to_bool()?),
            Some(_) => Err(Fault::wrong_type(format!("{name} must be true or false"))),
        }
    }

    /// A number from `min` to `max`.
    pub(crate) fn number(&self, name: &str, default: f64, min: f64, max: f64) -> Outcome<f64> {
        match self.get(name)? {
            None => Ok(default),
            Some(value) => ranged(number(value, name)?, name, min, max),
        }
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn integer(&self, name: &str, default: u32, min: u32, max: u32) -> Outcome<u32> {
        match self.get(name)? {
            None => Ok(default),
            Some(value) => integer(value, name, min.into(), max.into()).map(|value| value as u32),
        }
    }

    /// A duration in milliseconds, up to `max`.
    pub(crate) fn millis(&self, name: &str, default: Duration, max: f64) -> Outcome<Duration> {
        let default = default.as_secs_f64() * 1e3;
        Ok(Duration::from_secs_f64(self.number(name, default, 0.0, max)? / 1e3))
    }

    /// One of some words, and what each means.
    pub(crate) fn choice<T: Copy>(&self, name: &str, default: T, choices: &[(&str, T)]) -> Outcome<T> {
        let Some(value) = self.get(name)? else { return Ok(default) };
        let words = || choices.iter().map(|(word, _)| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        if value.get_type()? != ValueType::String {
            return Err(Fault::wrong_type(format!("{name} must be one of {}", words())));
        }
        let given = text(value)?;
        let chosen = choices.iter().find(|(word, _)| *word == given);
        chosen
            .map(|&(_, choice)| choice)
            .ok_or_else(|| Fault::range(format!("{name} must be one of {}", words())))
    }

    /// Text, if it is there.
    pub(crate) fn text(&self, name: &str) -> Outcome<Option<String>> {
        match self.get(name)? {
            None => Ok(None),
            Some(value) if value.get_type()? == ValueType::String => text(value).map(Some),
            Some(_) => Err(Fault::wrong_type(format!("{name} must be a string"))),
        }
    }

    /// A Buffer's bytes, if it is there.
    pub(crate) fn bytes(&self, name: &str) -> Outcome<Option<Vec<u8>>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        js::bytes(&self.env, &value, name).map(|bytes| Some(bytes.into_owned()))
    }

    pub(crate) fn rate(&self, name: &str, default: SampleRate) -> Outcome<SampleRate> {
        Ok(SampleRate::from_hz(self.integer(name, default.hz(), 0, u32::MAX)?)?)
    }

    pub(crate) fn channels(&self) -> Outcome<Channels> {
        Ok(Channels::from_count(self.integer("channels", 1, 0, u32::MAX)? as usize)?)
    }

    pub(crate) fn frame(&self) -> Outcome<FrameDuration> {
        Ok(FrameDuration::from_millis(self.number("frameMs", 20.0, f64::MIN, f64::MAX)?)?)
    }

    /// What an encoder at `rate` is told.
    pub(crate) fn encoder(&self, sample_rate: SampleRate, channels: Channels) -> Outcome<EncoderConfig> {
        let default = EncoderConfig { sample_rate, channels, ..EncoderConfig::default() };
        let config = EncoderConfig {
            application: self.choice("application", default.application, &APPLICATIONS)?,
            bitrate: self.integer("bitrate", default.bitrate, 0, u32::MAX)?,
            complexity: self.integer("complexity", default.complexity.into(), 0, 10)? as u8,
            rate_control: self.choice("rateControl", default.rate_control, &RATE_CONTROLS)?,
            inband_fec: self.boolean("fec", default.inband_fec)?,
            expected_loss: self.integer("expectedLoss", default.expected_loss.into(), 0, 100)? as u8,
            dtx: self.boolean("dtx", default.dtx)?,
            max_bandwidth: self.choice("maxBandwidth", default.max_bandwidth, &BANDWIDTHS)?,
            signal: self.choice("signal", default.signal, &SIGNALS)?,
            ..default
        };
        config.check()?;
        Ok(config)
    }

    /// Whether samples that are no numbers are refused, instead of becoming silence.
    pub(crate) fn refuses_non_finite(&self) -> Outcome<bool> {
        self.choice("nonFinite", true, &[("throw", true), ("silence", false)])
    }
}

const APPLICATIONS: [(&str, Application); 3] =
    [("voip", Application::Voip), ("audio", Application::Audio), ("lowdelay", Application::LowDelay)];

const RATE_CONTROLS: [(&str, RateControl); 3] =
    [("vbr", RateControl::Vbr), ("cvbr", RateControl::ConstrainedVbr), ("cbr", RateControl::Cbr)];

const BANDWIDTHS: [(&str, Bandwidth); 5] = [
    ("narrow", Bandwidth::Narrow),
    ("medium", Bandwidth::Medium),
    ("wide", Bandwidth::Wide),
    ("superwide", Bandwidth::SuperWide),
    ("full", Bandwidth::Full),
];

const SIGNALS: [(&str, Signal); 3] =
    [("auto", Signal::Auto), ("voice", Signal::Voice), ("music", Signal::Music)];

/// A number that is one.
pub(crate) fn number(value: Unknown<'_>, name: &str) -> Outcome<f64> {
    if value.get_type()? != ValueType::Number {
        return Err(Fault::wrong_type(format!("{name} must be a number")));
    }
    let number = value.coerce_to_number()?.get_double()?;
    if number.is_nan() { Err(Fault::range(format!("{name} must be a number, not NaN"))) } else { Ok(number) }
}

/// A whole number from `min` to `max`.
pub(crate) fn integer(value: Unknown<'_>, name: &str, min: f64, max: f64) -> Outcome<f64> {
    let number = number(value, name)?;
    if number.fract() != 0.0 {
        return Err(Fault::range(format!("{name} must be a whole number, not {number}")));
    }
    ranged(number, name, min, max)
}

fn ranged(number: f64, name: &str, min: f64, max: f64) -> Outcome<f64> {
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(Fault::range(format!("{name} must be from {min} to {max}, not {number}")))
}

fn text(value: Unknown<'_>) -> Outcome<String> {
    Ok(value.coerce_to_string()?.into_utf8()?.into_owned()?)
}
