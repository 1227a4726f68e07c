//! The gateway and the device in the lab, as the programs that users run.

use std::io::{BufRead as _, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_files::{WavFormat, WavWriter};
use evenkeel_testkit::voice;
use serde_json::Value;

use crate::lab::{GATEWAY, Lab};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `evenkeel serve` at the gateway's host, with an echo room that gives each packet straight back.
pub(crate) struct Gateway<'a> {
    lab: &'a Lab,
    _serving: Running,
}

/// What the gateway says of its only call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) refused: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) is_over: bool,
}

impl<'a> Gateway<'a> {
    pub(crate) fn start(lab: &'a Lab, settings: &[&str]) -> Self {
        let ours = [
            &format!("mqtt.listen={GATEWAY}:1883"),
            &format!("media.public_address={GATEWAY}"),
            "devices.allow_anonymous=true",
            "room.loopback=true",
            "web.listen=127.0.0.1:8086",
        ];
        let settings = ours.into_iter().chain(settings.iter().copied()).flat_map(|set| ["--set", set]);
        let mut serve = evenkeel(lab, "gateway");
        serve.args(["serve", "--json"]).args(settings).stdout(Stdio::piped());
        let mut serving = Running(serve.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with('{'), "it did not start: {line}");
        Self { lab, _serving: serving }
    }

    pub(crate) fn call(&self) -> Call {
        let calls: Value = serde_json::from_str(&self.lab.operations("/api/calls?ended=true")).unwrap();
        let Some(call) = calls["calls"].get(0) else { return Call::default() };
        let count = |what: &str| call[what].as_u64().unwrap();
        Call {
            received: count("received"),
            lost: count("lost"),
            late: count("late"),
            refused: count("refused"),
            sent: count("sent"),
            dropped: count("dropped"),
            is_over: !call["ended"].is_null(),
        }
    }

    /// Waits until something holds of its call; gives it as it is then.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Call) -> bool) -> Call {
        let began = Instant::now();
        loop {
            let call = self.call();
            if holds(&call) {
                return call;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {call:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a figure of `/metrics`, over all of its labels that contain `label`, has reached a value.
    pub(crate) fn until_metric(&self, name: &str, label: &str, value: u64) {
        let began = Instant::now();
        loop {
            let metrics = self.lab.operations("/metrics");
            let of_name = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
            let figures = of_name.filter(|line| line.contains(label));
            let sum: u64 = figures.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
            if sum >= value {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{name} is {sum}, not {value}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// `evenkeel call` at the device's host.
pub(crate) struct Device(Running);

/// What the device says of its call.
#[derive(Debug)]
pub(crate) struct Report {
    /// Packets said.
    pub(crate) said: u64,
    /// Packets heard, and by their sequences not heard.
    pub(crate) heard: u64,
    pub(crate) lost: u64,
    /// What a listener made of them.
    pub(crate) played: u64,
    pub(crate) late: u64,
    pub(crate) concealed_ms: f64,
    /// How late the device itself was: on a machine that stands still everything is.
    pub(crate) own_lateness_ms: f64,
    pub(crate) whole: Value,
}

impl Device {
    /// Talks for so long without a pause.
    pub(crate) fn call(lab: &Lab, seconds: u32, more: &[&str]) -> Self {
        let mut call = evenkeel(lab, "device");
        let server = format!("{GATEWAY}:1883");
        call.args(["call", "--json", "--loopback", "--mode", "realtime", "--server", &server, "--wav"]);
        call.arg(speech(seconds)).args(more);
        Self(Running(call.stdout(Stdio::piped()).spawn().unwrap()))
    }

    pub(crate) fn is_calling(&mut self) -> bool {
        self.0.0.try_wait().unwrap().is_none()
    }

    pub(crate) fn report(mut self) -> Report {
        let began = Instant::now();
        while self.is_calling() {
            assert!(began.elapsed() < PATIENCE, "the call does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        let report: Value = serde_json::from_reader(self.0.0.stdout.take().unwrap()).unwrap();
        assert!(self.0.0.wait().unwrap().success(), "{report}");
        let count = |at: &str| report.pointer(at).and_then(Value::as_u64).unwrap();
        let ms = |at: &str| report.pointer(at).and_then(Value::as_f64).unwrap();
        Report {
            said: count("/said"),
            heard: count("/heard/packets"),
            lost: count("/heard/lost"),
            played: count("/listener/played"),
            late: count("/listener/late"),
            concealed_ms: ms("/listener/concealed_ms"),
            own_lateness_ms: ms("/own_lateness_ms"),
            whole: report,
        }
    }
}

fn evenkeel(lab: &Lab, host: &str) -> Command {
    let mut command = lab.command(host, env!("CARGO_BIN_EXE_evenkeel"));
    // Settings of whoever runs the tests are not those of the test.
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

/// A voice that never pauses.
fn speech(seconds: u32) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("netns-{seconds}s.wav"));
    let file = BufWriter::new(std::fs::File::create(&path).unwrap());
    let mut wav = WavWriter::new(file, SampleRate::HZ_48000, Channels::Mono, WavFormat::Int16).unwrap();
    wav.write(&voice::synthetic(seconds as f32)).unwrap();
    wav.finish().unwrap();
    path
}
