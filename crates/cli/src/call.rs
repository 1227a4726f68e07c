//! `evenkeel call`: one simulated device that says a recording and listens to the answer.

mod listener;
mod report;
mod speech;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::seal::Direction;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_device::call::{self, CallConfig, Held};
use evenkeel_device::identity::Identity;
use serde_json::json;

use self::report::Report;
use crate::endpoint::{endpoint, unreached};
use crate::failure::Failure;
use crate::far_end::{DOCUMENTATION, FarEnd, Kind, Link, Patience};
use crate::terminal;
use crate::weather::Weather;

const EXAMPLES: &str = "\
Examples:
  evenkeel call --wav talk.wav --out reply.wav
      to a gateway on this machine (`evenkeel serve`): with its echo room, reply.wav is talk.wav

  evenkeel call --wav talk.flac --server gateway.example:1883 --key SIGNATURE_KEY
      to another, as a device that its key was used to make credentials for

  evenkeel call --wav talk.wav --out bad.wav --loss 5 --burst 2 --jitter 30 --seed 7
      over a network that loses and delays, each way

Exit codes: 0 a reply was heard, 1 none was, or the gateway could not be reached, 2 the input or an option is wrong.";

/// Call a gateway as a device does: say a recording, hear the answer, and tell how it went
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to say: WAV, FLAC, MP3, Ogg
    #[arg(long, value_name = "IN")]
    wav: PathBuf,

    /// Write what was heard, as a listener hears it: .wav, .opus, or the datagrams: .pcap
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,

    /// The gateway's MQTT endpoint, without TLS
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = endpoint)]
    server: String,

    /// How to listen: auto (pause while spoken to), manual, or realtime (go on talking)
    #[arg(long, value_enum, default_value = "auto")]
    mode: Mode,

    /// Ask an echo room for each packet straight back (it needs `room.loopback`)
    #[arg(long)]
    loopback: bool,

    /// How long after the last word to wait for an answer, and in an answer for more of it, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=600))]
    answer_limit: u64,

    #[command(flatten)]
    credentials: Credentials,

    #[command(flatten)]
    weather: Weather,

    /// Print one JSON object instead of the summary
    #[arg(long, help_heading = "Report")]
    json: bool,
}

/// Who calls.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Credentials")]
struct Credentials {
    /// The gateway's signature key, to make credentials with
    #[arg(long, env = "MQTT_SIGNATURE_KEY", hide_env_values = true)]
    key: Option<String>,

    /// The device's MAC address [default: a random one]
    #[arg(long, value_parser = mac)]
    mac: Option<[u8; 6]>,

    /// The client id that a provisioning server gave: GROUP@@@MAC@@@UUID
    #[arg(long, value_name = "ID", requires_all = ["username", "password"], conflicts_with_all = ["key", "mac"])]
    client_id: Option<String>,

    /// The user name that came with it
    #[arg(long, requires = "client_id")]
    username: Option<String>,

    /// The password that came with it
    #[arg(long, requires = "client_id")]
    password: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Mode {
    Auto,
    Manual,
    Realtime,
}

impl Credentials {
    fn identity(&self) -> Result<Identity, Failure> {
        if let (Some(client_id), Some(username), Some(password)) =
            (&self.client_id, &self.username, &self.password)
        {
            let (client_id, username) = (client_id.clone(), username.clone());
            return Ok(Identity { client_id, username, password: password.clone() });
        }
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(Failure::machine)?;
        // Locally administered, and of one device.
        random[0] = random[0] & 0xfc | 2;
        let mac = self.mac.unwrap_or(random);
        let [a, b, c, d, e, f] = mac;
        let uuid = format!("00000000-0000-4000-8000-{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}");
        Ok(Identity::new("GID_evenkeel", mac, &uuid, self.key.as_deref()))
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let out = args.out.as_deref().map(|path| Ok((path, Kind::of(path)?))).transpose()?;
    if let Some((path, _)) = out
        && let Some(folder) =
            path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    {
        return Err(Failure::input(format!(
            "--out {}: there is no folder {}",
            path.display(),
            folder.display()
        )));
    }
    let mut speech = speech::read(&args.wav)?;
    if args.loopback {
        // Silence would come back too, and the reply never end.
        speech.silence = None;
    }
    let network = args.weather.config()?;
    let config = CallConfig {
        server: args.server.clone(),
        identity: args.credentials.identity()?,
        mode: match args.mode {
            Mode::Auto => "auto",
            Mode::Manual => "manual",
            Mode::Realtime => "realtime",
        }
        .to_owned(),
        features: args.loopback.then(|| json!({"loopback": true})),
        up: network,
        down: network,
        seed: args.weather.seed(),
        reply_limit: Duration::from_secs(args.answer_limit),
    };
    let bar = terminal::progress(None, args.json);
    bar.enable_steady_tick(Duration::from_millis(200));
    let held = call::run(&config, speech)
        .map_err(|error| Failure::machine(unreached(&args.server, args.credentials.key.is_some(), &error)))?;
    bar.finish_and_clear();
    let listened = listener::listen(&held, jitter(args, &held)?).map_err(Failure::machine)?;
    let mut report = Report::new(&held.report, listened);
    if let Some((path, kind)) = out
        && !held.datagrams.is_empty()
    {
        report.written(path, write(args, &held, kind, path)?);
    }
    if args.json {
        terminal::say(serde_json::to_string_pretty(&report).map_err(Failure::machine)?);
    } else {
        terminal::say(&report);
    }
    if held.datagrams.is_empty() {
        return Err(Failure::machine(silence(&held)));
    }
    Ok(())
}

/// The jitter buffer of whoever listens: as deep as the network makes it, unless told otherwise.
fn jitter(args: &Args, held: &Held) -> Result<JitterConfig, Failure> {
    let patience = args.weather.wait().map_or(Patience::Adaptive, Patience::Fixed);
    Ok(patience.jitter(packet_duration(held)?, Direction::Downlink))
}

fn packet_duration(held: &Held) -> Result<FrameDuration, Failure> {
    FrameDuration::from_millis(held.session.frame_duration_ms).map_err(Failure::machine)
}

/// Writes what was heard; returns its length in seconds where that is known.
fn write(args: &Args, held: &Held, kind: Kind, path: &std::path::Path) -> Result<Option<f64>, Failure> {
    let far_end = FarEnd {
        keys: held.session.keys(),
        direction: Direction::Downlink,
        rate: SampleRate::from_hz(held.session.sample_rate).map_err(Failure::machine)?,
        channels: Channels::Mono,
        delay: Duration::ZERO,
        packet_duration: packet_duration(held)?,
        patience: args.weather.patience()?,
        ends: (held.session.server, DOCUMENTATION.1),
    };
    let mut link = Link::new(None, far_end.open(kind, path)?, path);
    for datagram in &held.datagrams {
        link.send(Time::ZERO + datagram.at, &datagram.sealed)?;
    }
    let closed = link.close(None)?;
    Ok(closed.far.map(|far| far.played_samples as f64 / 48_000.0))
}

fn silence(held: &Held) -> String {
    let server = held.session.server;
    if held.report.messages.is_empty() {
        format!(
            "no reply came: are datagrams to {server} let through, does the recording hold a voice, and did the room come \
             about? The gateway's dashboard and log say"
        )
    } else {
        format!("a reply was announced, but no audio came from {server}")
    }
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let mut mac = [0; 6];
    let parts: Vec<_> = text.split([':', '-', '_']).collect();
    let wrong = || "must be six bytes in hexadecimal, such as 02:00:00:12:34:56".to_owned();
    if parts.len() != mac.len() {
        return Err(wrong());
    }
    for (byte, part) in mac.iter_mut().zip(parts) {
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    Ok(mac)
}
