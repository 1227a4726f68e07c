//! Frames through resampler, Opus and cipher, and nothing else: what `tools/node bench` holds the Node.js package against.
//! Prints what each frame took, and writes the packets, so that both can be shown to have done the same.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use evenkeel_core::codec::Encoder as _;
use evenkeel_core::packet::{HEADER_LEN, TYPE_AUDIO};
use evenkeel_core::pcm::{self, Samples};
use evenkeel_core::resample::Resampler;
use evenkeel_core::seal::PacketCipher;
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_opus::{EncoderConfig, MAX_PACKET_BYTES, OpusEncoder};

const FRAME: usize = 960;
const CODED: usize = 480;
const WARM_UP: usize = 4000;

#[derive(Parser)]
struct Args {
    /// Samples at 48 kHz, f32, little-endian
    #[arg(long)]
    material: PathBuf,
    #[arg(long)]
    frames: usize,
    /// Where to write the packets, one behind the other
    #[arg(long)]
    packets: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let samples: Vec<f32> =
        std::fs::read(&args.material)?.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let frames: Vec<&[f32]> = samples.chunks_exact(FRAME).collect();
    if frames.is_empty() {
        return Err("the material is shorter than a frame".into());
    }

    let mut before = Path::new()?;
    for frame in frames.iter().cycle().take(WARM_UP) {
        before.process(frame)?;
    }
    let mut path = Path::new()?;
    let (mut packets, mut times) = (Vec::new(), Vec::with_capacity(args.frames));
    for frame in frames.iter().cycle().take(args.frames) {
        let began = Instant::now();
        let len = path.process(frame)?;
        times.push(format!("{:.3}", began.elapsed().as_nanos() as f64 / 1e3));
        packets.extend_from_slice(&path.packet[..len]);
    }
    std::fs::write(&args.packets, packets)?;
    println!("{{\"frame_us\":[{}]}}", times.join(","));
    Ok(())
}

struct Path {
    resampler: Resampler,
    encoder: OpusEncoder,
    cipher: PacketCipher,
    sequence: u32,
    input: Vec<f32>,
    coded: Vec<f32>,
    packet: Vec<u8>,
}

impl Path {
    fn new() -> Result<Self, Box<dyn Error>> {
        let config = EncoderConfig {
            sample_rate: SampleRate::HZ_24000,
            bitrate: 24_000,
            complexity: 5,
            ..EncoderConfig::default()
        };
        Ok(Self {
            resampler: Resampler::new(SampleRate::HZ_48000, SampleRate::HZ_24000, Channels::Mono),
            encoder: OpusEncoder::new(config)?,
            cipher: PacketCipher::new(&[7; 32])?,
            sequence: 0,
            input: vec![0.0; FRAME],
            coded: vec![0.0; CODED],
            packet: vec![0; HEADER_LEN + MAX_PACKET_BYTES],
        })
    }

    fn process(&mut self, samples: &[f32]) -> Result<usize, Box<dyn Error>> {
        let _ = pcm::read(Samples::F32(samples), Channels::Mono, Channels::Mono, &mut self.input)?;
        self.resampler.process(&self.input, &mut self.coded)?;
        let (header, payload) = self.packet.split_at_mut(HEADER_LEN);
        let len = self.encoder.encode(&self.coded, payload)?;
        let timestamp = self.sequence * 20;
        self.sequence += 1;
        header[..2].copy_from_slice(&[TYPE_AUDIO, 0]);
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        header[4..8].copy_from_slice(&1u32.to_be_bytes());
        header[8..12].copy_from_slice(&timestamp.to_be_bytes());
        header[12..].copy_from_slice(&self.sequence.to_be_bytes());
        let mut counter = [0; HEADER_LEN];
        counter.copy_from_slice(header);
        self.cipher.apply(&counter, &mut payload[..len]);
        Ok(HEADER_LEN + len)
    }
}
