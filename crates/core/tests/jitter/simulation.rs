//! A sender, a network, a jitter buffer and someone who listens.

use std::time::Duration;

use evenkeel_core::jitter::{Inserted, JitterBuffer, JitterConfig, JitterStats, Playout};
use evenkeel_core::units::{FrameDuration, Time};
use evenkeel_testkit::network::{Fate, Network, NetworkConfig, NetworkStats};

/// A stream to simulate.
pub(crate) struct Stream {
    pub(crate) seed: u64,
    pub(crate) network: NetworkConfig,
    pub(crate) config: JitterConfig,
    pub(crate) packets: u32,
    pub(crate) duration: FrameDuration,
    pub(crate) first_sequence: u32,
    /// Whether packets carry redundancy for the one before.
    pub(crate) lbrr: bool,
    /// Whether there is voice in the packet of this number.
    pub(crate) has_voice: fn(u32) -> bool,
    /// How long the sender pauses before the packet of this number.
    pub(crate) pause: fn(u32) -> Duration,
    /// How much slower than the listener's the sender's clock runs, in parts per million.
    pub(crate) drift_ppm: i64,
    /// From the first packet sent to the first pull.
    pub(crate) phase: Duration,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            seed: 1,
            network: NetworkConfig { delay: Duration::from_millis(30), ..NetworkConfig::default() },
            config: JitterConfig::default(),
            packets: 500,
            duration: FrameDuration::MS_20,
            first_sequence: 1,
            lbrr: false,
            has_voice: |_| true,
            pause: |_| Duration::ZERO,
            drift_ppm: 0,
            phase: Duration::from_millis(7),
        }
    }
}

/// What was heard, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Packet { number: u32 },
    Recovered { number: u32 },
    Lost { number: u32 },
    Conceal,
    Silence,
}

pub(crate) struct Run {
    pub(crate) heard: Vec<(Time, Heard)>,
    /// After each pull.
    pub(crate) stats: Vec<(Time, JitterStats)>,
    pub(crate) fates: Vec<Fate>,
    pub(crate) network: NetworkStats,
    pub(crate) buffer: JitterBuffer,
}

impl Stream {
    pub(crate) fn run(&self) -> Run {
        let mut network = Network::new(self.seed, self.network).unwrap();
        let mut buffer = JitterBuffer::new(self.config).unwrap();
        let (mut heard, mut stats, mut fates) = (Vec::new(), Vec::new(), Vec::new());
        let spoken = self.spoken();
        let mut sends = spoken.iter().map(|&media| self.sent(media)).enumerate().peekable();
        let mut pull = Time::ZERO + self.phase;
        let mut end = spoken.last().map_or(Time::ZERO, |&last| self.sent(last)) + Duration::from_secs(2);
        while pull < end {
            let send = sends.peek().map(|&(_, at)| at);
            let arrival = network.next_time();
            if send.is_some_and(|at| at <= pull && arrival.is_none_or(|arrival| at <= arrival)) {
                let (number, at) = sends.next().unwrap();
                fates.push(network.send(at, &(number as u32).to_be_bytes()));
            } else if let Some((at, datagram)) = network.poll(pull) {
                end = end.max(at + Duration::from_secs(2));
                let number = u32::from_be_bytes(datagram.try_into().unwrap());
                self.insert(&mut buffer, number, spoken[number as usize], at);
            } else {
                let playout = buffer.next(pull);
                heard.push((pull, self.hear(playout)));
                pull = pull + playout.duration();
                stats.push((pull, buffer.stats()));
            }
        }
        let run = Run { heard, stats, fates, network: network.stats(), buffer };
        run.check();
        run
    }

    /// The media time of each packet.
    fn spoken(&self) -> Vec<Duration> {
        let mut next = Duration::ZERO;
        (0..self.packets)
            .map(|number| {
                let media = next + (self.pause)(number);
                next = media + self.duration.as_duration();
                media
            })
            .collect()
    }

    fn sent(&self, media: Duration) -> Time {
        let nanos = media.as_nanos() as i64;
        Time::from_nanos((nanos + nanos / 1000 * self.drift_ppm / 1000) as u64)
    }

    fn insert(&self, buffer: &mut JitterBuffer, number: u32, media: Duration, at: Time) {
        let sequence = self.first_sequence.wrapping_add(number);
        let hz = u128::from(self.config.timestamp_hz.unwrap_or(0));
        let timestamp = (media.as_nanos() * hz / 1_000_000_000) as u32;
        let inserted = buffer.insert(sequence, timestamp, &self.payload(number), at);
        assert!(!matches!(inserted, Inserted::Rejected(_)), "{inserted:?}");
    }

    /// A SILK packet with the flags that the buffer looks at, and its number.
    fn payload(&self, number: u32) -> Vec<u8> {
        let (toc, voice, lbrr) = match self.duration {
            FrameDuration::MS_20 => (0x48, 0x80, 0x40),
            FrameDuration::MS_60 => (0x58, 0xe0, 0x10),
            other => panic!("{other} is not simulated"),
        };
        let flags = if (self.has_voice)(number) { voice } else { 0 } | if self.lbrr { lbrr } else { 0 };
        [&[toc, flags], number.to_be_bytes().as_slice()].concat()
    }

    fn hear(&self, playout: Playout<'_>) -> Heard {
        let number = |sequence: u32| sequence.wrapping_sub(self.first_sequence);
        match playout {
            Playout::Packet { sequence, payload, duration, .. } => {
                assert_eq!(payload, self.payload(number(sequence)));
                assert_eq!(duration, self.duration.as_duration());
                Heard::Packet { number: number(sequence) }
            }
            Playout::Lost { sequence, fec: Some(next), duration } => {
                assert_eq!(next, self.payload(number(sequence) + 1));
                assert_eq!(duration, self.duration);
                Heard::Recovered { number: number(sequence) }
            }
            Playout::Lost { sequence, .. } => Heard::Lost { number: number(sequence) },
            Playout::Conceal { .. } => Heard::Conceal,
            Playout::Silence { .. } => Heard::Silence,
        }
    }
}

impl Run {
    pub(crate) fn last(&self) -> JitterStats {
        self.buffer.stats()
    }

    pub(crate) fn stats_at(&self, at: Duration) -> JitterStats {
        let after = self.stats.partition_point(|&(t, _)| t < Time::ZERO + at);
        self.stats[after.min(self.stats.len() - 1)].1
    }

    pub(crate) fn count(&self, is_wanted: impl Fn(Heard) -> bool) -> u64 {
        self.heard.iter().filter(|&&(_, heard)| is_wanted(heard)).count() as u64
    }

    /// The numbers of the packets that were played.
    pub(crate) fn played(&self) -> Vec<u32> {
        let number = |heard: &(Time, Heard)| match heard.1 {
            Heard::Packet { number } => Some(number),
            _ => None,
        };
        self.heard.iter().filter_map(number).collect()
    }

    /// Numbers of the packets that the network lost, leaving out those before the first and after the last that came.
    pub(crate) fn lost_within(&self) -> Vec<u32> {
        let came = |&(_, fate): &(u32, &Fate)| matches!(fate, Fate::Carried { .. });
        let fates: Vec<_> = (0u32..).zip(&self.fates).skip_while(|fate| !came(fate)).collect();
        let last = fates.iter().rposition(came).unwrap_or(0);
        fates[..last].iter().filter(|fate| !came(fate)).map(|&(number, _)| number).collect()
    }

    /// What holds whatever happens.
    fn check(&self) {
        let played = self.played();
        assert!(played.windows(2).all(|w| w[0] < w[1]), "played in order, none twice");
        check_sums(&self.buffer);
        let stats = self.last();
        assert_eq!(stats.received, self.network.delivered, "all that was delivered was inserted");
        assert_eq!(stats.played, played.len() as u64);
        let concealed = |heard| matches!(heard, Heard::Conceal | Heard::Lost { .. });
        assert_eq!(stats.concealed, self.count(concealed));
        assert_eq!(stats.recovered, self.count(|heard| matches!(heard, Heard::Recovered { .. })));
    }
}

/// Every packet that was inserted is accounted for once.
pub(crate) fn check_sums(buffer: &JitterBuffer) {
    let stats = buffer.stats();
    let known =
        stats.played + stats.dropped + stats.duplicates + stats.late + stats.suspects + stats.overflow;
    assert_eq!(stats.received, known + buffer.len() as u64, "{stats:?}");
}
