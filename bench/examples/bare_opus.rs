//! A recording through bare libopus and nothing else of ours: what `make quality` compares the audio path with.
//!
//! Its receiver is ideal: it waits for whatever is still to come, recovers a lost frame from the packet after it where
//! there is one, and conceals it otherwise. Prints how many packets were lost before the first that arrived; what is
//! written begins with that one.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use clap::Parser;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_files::{Recording, WavFormat, WavWriter};
use evenkeel_opus::EncoderConfig;
use evenkeel_opus::bare::{BareDecoder, BareEncoder};
use evenkeel_testkit::network::{Fate, Loss, Network, NetworkConfig};

/// The options are those of `evenkeel process`, as far as they go.
#[derive(Parser)]
struct Args {
    /// A mono recording at a rate that Opus codes
    input: PathBuf,
    #[arg(long)]
    to: PathBuf,
    #[arg(long, default_value_t = 24_000)]
    bitrate: u32,
    #[arg(long, default_value_t = 5)]
    complexity: u8,
    #[arg(long, default_value_t = 20.0)]
    frame: f64,
    #[arg(long)]
    fec: bool,
    #[arg(long, default_value_t = 0)]
    expected_loss: u8,
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    #[arg(long)]
    burst: Option<f64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    fn network(&self) -> Result<Network, Box<dyn Error>> {
        let p = self.loss / 100.0;
        let loss = self.burst.map_or(Loss::Random(p), |mean_burst| Loss::Bursty { p, mean_burst });
        Ok(Network::new(self.seed, NetworkConfig { loss, ..NetworkConfig::default() })?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let (rate, mut pcm) = read(&args.input)?;
    let length = pcm.len();
    let config = EncoderConfig {
        sample_rate: rate,
        bitrate: args.bitrate,
        complexity: args.complexity,
        inband_fec: args.fec,
        expected_loss: args.expected_loss,
        ..EncoderConfig::default()
    };
    let duration = FrameDuration::from_millis(args.frame)?;
    let frame = duration.samples_at(rate);
    let mut encoder = BareEncoder::new(&config, duration)?;
    let delay = encoder.lookahead()?;
    pcm.resize((length + delay).next_multiple_of(frame), 0.0);

    let mut network = args.network()?;
    let mut arrived = Vec::new();
    for frame in pcm.chunks_exact(frame) {
        let mut packet = vec![0; 4_000];
        let len = usize::try_from(encoder.encode(frame, &mut packet))?;
        packet.truncate(len);
        arrived.push((network.send(Time::ZERO, &[]) != Fate::Lost).then_some(packet));
    }

    let lost_at_first = arrived.iter().take_while(|packet| packet.is_none()).count();
    let heard = play(&arrived[lost_at_first..], rate, frame)?;
    let end = heard.len().min(delay + length - lost_at_first * frame);
    let out = BufWriter::new(File::create(&args.to)?);
    let mut writer = WavWriter::new(out, rate, Channels::Mono, WavFormat::Int16)?;
    writer.write(&heard[delay..end])?;
    writer.finish()?;
    println!("{lost_at_first}");
    Ok(())
}

fn read(path: &PathBuf) -> Result<(SampleRate, Vec<f32>), Box<dyn Error>> {
    let mut recording = Recording::open(path)?;
    if recording.channels() != Channels::Mono || !recording.sample_rate().is_opus() {
        return Err("give a mono recording at a rate that Opus codes".into());
    }
    let (mut pcm, mut chunk) = (Vec::new(), vec![0.0; 4_800]);
    loop {
        match recording.read(&mut chunk)? {
            0 => return Ok((recording.sample_rate(), pcm)),
            samples => pcm.extend_from_slice(&chunk[..samples]),
        }
    }
}

fn play(arrived: &[Option<Vec<u8>>], rate: SampleRate, frame: usize) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut decoder = BareDecoder::new(rate, Channels::Mono)?;
    let mut heard = vec![0.0; arrived.len() * frame];
    for (i, out) in heard.chunks_exact_mut(frame).enumerate() {
        let next = arrived.get(i + 1).and_then(Option::as_deref);
        let samples = match (&arrived[i], next) {
            (Some(packet), _) => decoder.decode(packet, out)?,
            (None, Some(next)) => decoder.decode_fec(next, out)?,
            (None, None) => decoder.conceal(out)?,
        };
        assert_eq!(samples, frame, "a packet lasts as long as what was coded");
    }
    Ok(heard)
}
