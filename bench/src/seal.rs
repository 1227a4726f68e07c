//! What sealing and opening a packet costs, suite by suite.

use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::{PayloadKind, Suite};
use serde::Serialize;

use crate::race::{Cost, Stopwatch};
use crate::setup;

/// Bytes of payload in each packet.
pub const BYTES: usize = 120;

/// One suite's costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SuiteFigures {
    /// [`Suite::name`].
    pub suite: &'static str,
    /// Header, encryption, tag.
    pub seal: Cost,
    /// Checks of the header, replay window, decryption, tag, check of the payload as an Opus packet.
    pub open: Cost,
}

/// Packets a round.
const ROUND: usize = 128;

/// Every suite, in [`Suite::ALL`]'s order; they take turns, for `rounds` rounds.
#[must_use]
pub fn measure(rounds: usize) -> [SuiteFigures; 5] {
    let mut benches = Suite::ALL.map(Bench::new);
    for _ in 0..rounds {
        benches.iter_mut().for_each(Bench::round);
    }
    benches.map(|bench| SuiteFigures {
        suite: bench.suite.name(),
        seal: bench.seals.cost(ROUND),
        open: bench.opens.cost(ROUND),
    })
}

struct Bench {
    suite: Suite,
    sealer: evenkeel_core::seal::Sealer,
    opener: evenkeel_core::seal::Opener,
    datagrams: Vec<[u8; HEADER_LEN + BYTES + 16]>,
    media_ms: u64,
    seals: Stopwatch,
    opens: Stopwatch,
}

impl Bench {
    fn new(suite: Suite) -> Self {
        let mut datagram = [0x5a; HEADER_LEN + BYTES + 16];
        // A SILK packet of one frame of 20 ms.
        datagram[HEADER_LEN] = 0x48;
        Self {
            suite,
            sealer: setup::sealer(suite),
            opener: setup::opener(suite, PayloadKind::Opus),
            datagrams: vec![datagram; ROUND],
            media_ms: 0,
            seals: Stopwatch::default(),
            opens: Stopwatch::default(),
        }
    }

    /// Seals a round of packets and opens them, which leaves their payloads as they were.
    fn round(&mut self) {
        let Self { sealer, opener, datagrams, media_ms, .. } = self;
        self.seals.time(|| {
            for datagram in &mut *datagrams {
                *media_ms += 1;
                sealer.seal(datagram, BYTES, *media_ms).expect("far from every limit");
            }
        });
        let len = BYTES + sealer.overhead();
        self.opens.time(|| {
            for datagram in &mut *datagrams {
                opener.open(&mut datagram[..len]).expect("just sealed");
            }
        });
    }
}
