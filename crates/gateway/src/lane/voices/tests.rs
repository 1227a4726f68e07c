//! Speakers on virtual time: what passes, what is mixed, and where replies begin and end.

use std::collections::BTreeMap;
use std::f32::consts::TAU;
use std::time::Instant;

use evenkeel_core::codec::{Decoder as _, Encoder as _};
use evenkeel_core::units::Channels;
use evenkeel_livekit::participant::AudioLevel;
use evenkeel_opus::{EncoderConfig, OpusDecoder, OpusEncoder};
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const LOUD: Option<AudioLevel> = Some(AudioLevel { dbov: -20, voice: true });
const SILENT: Option<AudioLevel> = Some(AudioLevel { dbov: -127, voice: false });

/// A room, whose packets arrive when they are due, and what came of it.
struct Room {
    voices: Voices,
    now: Time,
    due: BTreeMap<(Time, u64), OpusIn>,
    count: u64,
    opus: Vec<(Time, Vec<u8>)>,
    /// When replies began (`true`) and ended.
    turns: Vec<(u64, bool)>,
}

/// A track and the encoder behind it.
struct Speaker {
    track: TrackId,
    encoder: OpusEncoder,
    hz: f32,
    channels: usize,
    phase: f32,
    gain: f32,
    sequence: u64,
    time: u64,
}

impl Speaker {
    fn new(room: &mut Room, number: u32, hz: f32, channels: Channels) -> Self {
        let track = TrackId::from_number(number);
        room.voices.add(track);
        let config = EncoderConfig { channels, bitrate: 32_000, ..EncoderConfig::default() };
        let encoder = OpusEncoder::new(config).unwrap();
        Self {
            track,
            encoder,
            hz,
            channels: channels.count(),
            phase: 0.0,
            gain: 0.0,
            sequence: 1000,
            time: 77,
        }
    }

    /// The next 20 ms of a tone, which swells and fades rather than click.
    fn packet(&mut self, level: Option<AudioLevel>) -> OpusIn {
        let wanted = if level == SILENT { 0.0 } else { 0.3 };
        let mut samples = Vec::new();
        for _ in 0..960 {
            self.phase = (self.phase + self.hz / 48_000.0).fract();
            self.gain += (wanted - self.gain).clamp(-0.0005, 0.0005);
            samples.extend(std::iter::repeat_n(self.gain * (TAU * self.phase).sin(), self.channels));
        }
        let mut out = [0; 1275];
        let len = self.encoder.encode(&samples, &mut out).unwrap();
        (self.sequence, self.time) = (self.sequence + 1, self.time + 960);
        OpusIn {
            track: self.track,
            sequence: self.sequence,
            time: self.time,
            level,
            received: Instant::now(),
            payload: out[..len].into(),
        }
    }

    /// 20 ms in which nothing is sent.
    fn pause(&mut self) {
        self.time += 960;
    }
}

impl Room {
    fn new() -> Self {
        Self {
            voices: Voices::new(SampleRate::HZ_24000),
            now: Time::from_millis(1000),
            due: BTreeMap::new(),
            count: 0,
            opus: Vec::new(),
            turns: Vec::new(),
        }
    }

    fn bring(&mut self, after: Duration, packet: OpusIn) {
        self.count += 1;
        self.due.insert((self.now + after, self.count), packet);
    }

    /// Lets time pass.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let arrival = self.due.first_key_value().map(|entry| entry.0.0);
            let next = [arrival, self.voices.next_due()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let packet = entry.remove();
                self.voices.hear(self.now, &packet);
            }
            let (now, opus, turns) = (self.now, &mut self.opus, &mut self.turns);
            self.voices.poll(now, |said| match said {
                Said::Began => turns.push((now.as_nanos() / 1_000_000 - 1000, true)),
                Said::Opus(packet) => opus.push((now, packet.to_vec())),
                Said::Ended => turns.push((now.as_nanos() / 1_000_000 - 1000, false)),
            });
        }
        self.now = end;
    }

    /// All speakers say this for so many packets of 20 ms.
    fn say(&mut self, packets: usize, speakers: &mut [(&mut Speaker, Option<AudioLevel>)]) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        for _ in 0..packets {
            for (speaker, level) in &mut *speakers {
                let packet = speaker.packet(*level);
                said.push(packet.payload.to_vec());
                self.bring(Duration::ZERO, packet);
            }
            self.pass(20 * MS);
        }
        said
    }

    fn payloads(&self) -> Vec<Vec<u8>> {
        self.opus.iter().map(|packet| packet.1.clone()).collect()
    }

    /// How much audio came out.
    fn duration(&self) -> Duration {
        let micros = |packet: &(Time, Vec<u8>)| u64::from(Frames::parse(&packet.1).unwrap().duration_us());
        Duration::from_micros(self.opus.iter().map(micros).sum())
    }

    /// What a device plays.
    fn decoded(&self) -> Vec<f32> {
        let mut decoder = OpusDecoder::new(SampleRate::HZ_24000, Channels::Mono).unwrap();
        let (mut out, mut samples) = ([0.0; 2880], Vec::new());
        for (_, packet) in &self.opus {
            let len = decoder.decode(packet, &mut out).unwrap();
            samples.extend_from_slice(&out[..len]);
        }
        samples
    }
}

/// How strong a tone is (Goertzel), as its amplitude.
fn amplitude(samples: &[f32], hz: f32) -> f32 {
    let step = TAU * hz / 24_000.0;
    let (mut re, mut im) = (0.0f32, 0.0f32);
    for (n, sample) in samples.iter().enumerate() {
        re += sample * (step * n as f32).cos();
        im += sample * (step * n as f32).sin();
    }
    2.0 * re.hypot(im) / samples.len() as f32
}

#[test]
fn one_speaker_passes_untouched_however_unevenly_it_comes() {
    let mut room = Room::new();
    let mut speaker = Speaker::new(&mut room, 1, 300.0, Channels::Mono);
    let mut said = Vec::new();
    for n in 0..100u64 {
        let packet = speaker.packet(LOUD);
        said.push(packet.payload.to_vec());
        // Up to 35 ms late, so some overtake others.
        room.bring(MS * (n * 7 % 36) as u32, packet);
        room.pass(20 * MS);
    }
    room.pass(3000 * MS);
    let passed: Vec<_> = room.payloads().into_iter().filter(|packet| packet.len() > 1).collect();
    assert_eq!(passed, said);
    assert_eq!(room.turns.iter().map(|turn| turn.1).collect::<Vec<_>>(), [true, false]);
    let (began, ended) = (room.turns[0].0, room.turns[1].0);
    assert!(began <= 100, "{began}");
    assert!((2900..3300).contains(&ended), "a second after the last word: {ended}");
}

#[test]
fn stereo_passes_untouched() {
    let mut room = Room::new();
    let mut speaker = Speaker::new(&mut room, 1, 300.0, Channels::Stereo);
    let said = room.say(50, &mut [(&mut speaker, LOUD)]);
    room.pass(200 * MS);
    assert!(Frames::parse(&said[0]).unwrap().toc().is_stereo());
    assert_eq!(room.payloads()[..said.len()], said);
    assert!(amplitude(&room.decoded()[4800..19200], 300.0) > 0.25, "a mono decoder hears it");
}

#[test]
fn what_is_lost_leaves_an_honest_gap() {
    let mut room = Room::new();
    let mut speaker = Speaker::new(&mut room, 1, 300.0, Channels::Mono);
    for n in 0..100 {
        let packet = speaker.packet(LOUD);
        if n % 10 != 5 {
            room.bring(Duration::ZERO, packet);
        }
        room.pass(20 * MS);
    }
    let empty = room.opus.iter().filter(|packet| packet.1.len() == 1).count();
    assert!((9..=12).contains(&empty), "{empty} of ten lost");
    let missing = room.now.since(room.opus[0].0).abs_diff(room.duration());
    assert!(missing <= 40 * MS, "media time is real time, but for {missing:?}");
}

#[test]
fn silence_within_speech_is_filled_and_long_silence_ends_the_reply() {
    let mut room = Room::new();
    let mut speaker = Speaker::new(&mut room, 1, 300.0, Channels::Mono);
    room.say(50, &mut [(&mut speaker, LOUD)]);
    // Discontinuous transmission: a packet, then nothing for 400 ms.
    room.say(2, &mut [(&mut speaker, SILENT)]);
    for _ in 0..20 {
        speaker.pause();
        room.pass(20 * MS);
    }
    room.say(50, &mut [(&mut speaker, LOUD)]);
    assert_eq!(room.turns.len(), 1, "still the same reply");
    let missing = room.now.since(room.opus[0].0).abs_diff(room.duration());
    assert!(missing <= 40 * MS, "media time is real time, but for {missing:?}");
    let before = room.opus.len();
    room.say(300, &mut [(&mut speaker, SILENT)]);
    assert_eq!(room.turns.len(), 2);
    assert!(room.opus.len() - before < 60, "silence is not sent for ever");
    assert!(room.voices.next_due().is_none_or(|due| due >= room.now), "nothing is owed");
}

#[test]
fn the_agent_is_believed_about_itself() {
    let mut room = Room::new();
    let mut speaker = Speaker::new(&mut room, 1, 300.0, Channels::Mono);
    room.voices.handle_cue(room.now, Cue::Speaking);
    room.say(25, &mut [(&mut speaker, LOUD)]);
    room.say(150, &mut [(&mut speaker, SILENT)]);
    room.say(25, &mut [(&mut speaker, LOUD)]);
    assert_eq!(room.turns.len(), 1, "it may think for three seconds");
    room.voices.handle_cue(room.now, Cue::Quiet);
    room.say(25, &mut [(&mut speaker, SILENT)]);
    assert_eq!(room.turns.len(), 2);
    assert!((4000..4400).contains(&room.turns[1].0), "{:?}", room.turns);
    room.voices.handle_cue(room.now, Cue::Speaking);
    room.say(500, &mut [(&mut speaker, SILENT)]);
    assert_eq!(room.turns.len(), 4, "one that says so and is silent for long is not believed for ever");
}

#[test]
fn what_was_stopped_is_dropped_until_it_is_over() {
    let mut room = Room::new();
    let mut speaker = Speaker::new(&mut room, 1, 300.0, Channels::Mono);
    assert!(!room.voices.stop(), "nothing to stop");
    room.say(50, &mut [(&mut speaker, LOUD)]);
    assert!(room.voices.stop());
    let before = room.opus.len();
    room.say(50, &mut [(&mut speaker, LOUD)]);
    assert_eq!((room.opus.len(), room.turns.len()), (before, 1));
    room.say(70, &mut [(&mut speaker, SILENT)]);
    assert_eq!(room.turns.last().map(|turn| turn.1), Some(false));
    room.say(50, &mut [(&mut speaker, LOUD)]);
    assert_eq!(room.turns.last().map(|turn| turn.1), Some(true));
    assert!(room.opus.len() > before + 40);
}

#[test]
fn two_speakers_are_mixed_and_one_alone_passes_again_without_a_click() {
    let mut room = Room::new();
    let mut low = Speaker::new(&mut room, 1, 300.0, Channels::Mono);
    let mut high = Speaker::new(&mut room, 2, 900.0, Channels::Stereo);
    room.say(100, &mut [(&mut low, LOUD), (&mut high, SILENT)]);
    let alone = room.decoded().len();
    room.say(100, &mut [(&mut low, LOUD), (&mut high, LOUD)]);
    let both = room.decoded().len();
    room.say(60, &mut [(&mut low, LOUD), (&mut high, SILENT)]);
    room.say(15, &mut [(&mut low, SILENT), (&mut high, SILENT)]);
    assert!(room.voices.mixer.is_none(), "a pause ends the mix");
    let again = room.opus.len();
    let said: Vec<_> = room.say(100, &mut [(&mut low, LOUD), (&mut high, SILENT)]);
    let said: Vec<_> = said.into_iter().step_by(2).collect();
    let passed = room.payloads()[again..].iter().filter(|packet| said.contains(packet)).count();
    assert!(passed > 90, "{passed} of 100 packets passed as they are");

    let samples = room.decoded();
    let window = |from: usize| &samples[from..from + 12_000];
    assert!(amplitude(window(alone - 20_000), 900.0) < 0.01);
    for hz in [300.0, 900.0] {
        let heard = amplitude(window(both - 20_000), hz);
        assert!((0.2..0.4).contains(&heard), "{hz} Hz in the mix: {heard}");
    }
    let missing = room.now.since(room.opus[0].0).abs_diff(room.duration());
    assert!(missing <= 100 * MS, "media time is real time, but for {missing:?}");
    // A click is a bend sharper than any a tone has.
    let bend = |range: std::ops::Range<usize>| {
        samples[range].windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
    };
    let (usual, all) = (bend(both - 20_000..both - 2_000), bend(0..samples.len()));
    assert!(all < 1.5 * usual, "{all}; in the mix {usual}");
}

#[test]
fn a_lone_speaker_without_pauses_passes_again_before_long() {
    let mut room = Room::new();
    let mut low = Speaker::new(&mut room, 1, 300.0, Channels::Mono);
    let mut high = Speaker::new(&mut room, 2, 900.0, Channels::Mono);
    room.say(30, &mut [(&mut low, LOUD), (&mut high, SILENT)]);
    room.say(30, &mut [(&mut low, LOUD), (&mut high, LOUD)]);
    assert!(room.voices.mixer.is_some());
    room.voices.remove(high.track);
    room.say(300, &mut [(&mut low, LOUD)]);
    assert!(room.voices.mixer.is_none());
    room.voices.remove(low.track);
    room.pass(10 * MS);
    assert_eq!(room.turns.last().map(|turn| turn.1), Some(false), "with nobody there it is over at once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_packets_and_no_cues_upset_it(steps in prop::collection::vec(
        (0u32..6, any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40), 0u32..200, 0u8..16), 1..300,
    )) {
        let mut room = Room::new();
        for (number, sequence, time, payload, ms, what) in steps {
            let track = TrackId::from_number(number);
            match what {
                0 => room.voices.add(track),
                1 => room.voices.remove(track),
                2 => room.voices.handle_cue(room.now, Cue::Speaking),
                3 => room.voices.handle_cue(room.now, Cue::Quiet),
                4 => drop(room.voices.stop()),
                5 => room.voices.resume(),
                6 => room.voices.clear(),
                _ => {
                    room.voices.add(track);
                    let level = (what < 14).then_some(AudioLevel { dbov: -(ms as i8 & 0x7f), voice: true });
                    let (sequence, time) = (u64::from(sequence), u64::from(time));
                    let (received, payload) = (Instant::now(), payload.into());
                    room.bring(Duration::ZERO, OpusIn { track, sequence, time, level, received, payload });
                }
            }
            room.pass(MS * ms);
            // No more comes out than time passed, but for what was concealed twice.
            prop_assert!(room.opus.len() < 4 * (room.now.as_nanos() / 2_500_000) as usize);
        }
    }
}
