//! `evenkeel process`: a recording through the whole audio path, into a file; and back from a capture.

mod capture;
mod options;
mod report;
mod send;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_core::seal::Direction;
use evenkeel_core::units::{SampleRate, Time};
use evenkeel_files::{FileError, Recording};

pub(crate) use self::options::Args;

use self::capture::Capture;
use self::report::{CodingReport, Input, Report, SessionReport};
use self::send::Live;
use crate::failure::Failure;
use crate::far_end::{self, FarEnd, Kind, Link};
use crate::terminal;

/// How long encoders of Opus delay what they code at most; what a capture was coded with is not known.
const USUAL_DELAY: Duration = Duration::from_micros(6_500);

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kind = Kind::of(&args.to)?;
    let is_capture = capture::is_capture(&args.input)?;
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    if canonical(&args.input) == canonical(&args.to) {
        return Err(Failure::wrong_file(&args.to, "it cannot be read and replaced at once"));
    }
    let report = if is_capture { replay(args, kind)? } else { send(args, kind)? };
    if args.json {
        terminal::say(report.json());
    } else if !args.quiet {
        terminal::say(report);
    }
    Ok(())
}

/// Codes and seals a recording, and sends it over the simulated network.
fn send(args: &Args, kind: Kind) -> Result<Report, Failure> {
    let wrong = |e: FileError| Failure::wrong_file(&args.input, e);
    if args.coding.is_pcm() && kind == Kind::Opus {
        return Err(Failure::input(
            "the rung minimal is PCM, which no .opus file holds: write .wav or .pcap",
        ));
    }
    let mut recording = Recording::open(&args.input).map_err(wrong)?;
    let key = args.session.key_or_random()?;
    let keys = args.session.keys(&key, u32::from_ne_bytes(random()?))?;
    let mut live = Live::new(&args.coding, &recording, &keys, u32::from_ne_bytes(random()?))?;
    let network = args.weather.network()?;
    let far_end = FarEnd {
        keys: &keys,
        direction: Direction::Downlink,
        rate: live.config().sample_rate,
        channels: live.config().channels,
        delay: live.delay(),
        packet_duration: args.coding.frame,
        patience: args.weather.patience()?,
        ends: far_end::DOCUMENTATION,
    };
    let mut link = Link::new(network, far_end.open(kind, &args.to)?, &args.to);

    let hz = u64::from(recording.sample_rate().hz());
    let bar = args.progress(recording.announced_samples().map(|samples| samples / hz));
    let start = Time::ZERO + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut chunk = vec![0.0; live.chunk_len()];
    loop {
        let samples = recording.read(&mut chunk).map_err(wrong)?;
        if samples == 0 {
            break;
        }
        let part = &chunk[..samples * recording.channels().count()];
        live.send(part, |after, datagram| link.send(start + after, datagram))?;
        bar.set_position(recording.given_samples() / hz);
    }
    live.finish(|after, datagram| link.send(start + after, datagram))?;
    bar.finish_and_clear();

    let seconds = recording.given_samples() as f64 / hz as f64;
    let closed = link.close(Some((recording.given_samples() * 48_000).div_ceil(hz)))?;
    let session = SessionReport::new(&keys, (kind == Kind::Pcap).then(|| args.session.to_open_again(&key)));
    let input = Input::recording(&args.input, &recording);
    let coding = Some(CodingReport::new(&live, seconds));
    Ok(Report { coding, ..Report::new(input, session, &args.to, kind, closed) })
}

/// Plays what was captured, over the simulated network once more if one is asked for.
fn replay(args: &Args, kind: Kind) -> Result<Report, Failure> {
    let mut capture = Capture::open(&args.input, args.session.direction)?;
    let stream = capture.stream();
    let key = match args.session.given_key() {
        Some(key) => key.to_vec(),
        // To write datagrams as they are, none has to be opened.
        None if kind == Kind::Pcap => vec![0; args.session.suite().key_len()],
        None => {
            return Err(Failure::input(
                "a capture can be opened only with the key of its session: --key HEX",
            ));
        }
    };
    let keys = args.session.keys(&key, stream.connection_id)?;
    let network = args.weather.network()?;
    let far_end = FarEnd {
        keys: &keys,
        direction: stream.direction(),
        rate: args.coding.rate.unwrap_or(SampleRate::HZ_48000),
        channels: args.coding.channels.unwrap_or(capture.channels(&keys)),
        delay: USUAL_DELAY,
        packet_duration: args.coding.frame,
        patience: args.weather.patience()?,
        ends: (stream.from, stream.to),
    };
    let mut link = Link::new(network, far_end.open(kind, &args.to)?, &args.to);
    let bar = args.progress(None);
    while let Some((time, datagram)) = capture.next()? {
        link.send(time, &datagram)?;
        bar.set_position(capture.span().as_secs());
    }
    bar.finish_and_clear();
    let closed = link.close(None)?;
    let to_open_again = args.session.given_key().filter(|_| kind == Kind::Pcap);
    let session = SessionReport::new(&keys, to_open_again.map(|key| args.session.to_open_again(key)));
    Ok(Report::new(Input::capture(&args.input, &capture), session, &args.to, kind, closed))
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Failure::Machine(format!("no random numbers: {e}")))?;
    Ok(bytes)
}
