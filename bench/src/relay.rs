//! What passing Opus on costs: opened, inspected, repacketized, sealed, never decoded.

use std::hint::black_box;

use evenkeel_core::error::CodecError;
use evenkeel_core::relay::{DownRelay, UpRelay};
use evenkeel_core::seal::PayloadKind;
use evenkeel_core::units::FrameDuration;
use serde::Serialize;

use crate::race::Stopwatch;
use crate::setup::{self, CODING, SUITE};
use crate::speech::Speech;

/// What relaying costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RelayFigures {
    /// From datagram to datagram, in microseconds: a datagram of 60 ms is opened, inspected and cut into three packets
    /// of 20 ms, which are inspected, joined to one of 60 ms and sealed.
    pub us_per_packet: f64,
    /// The first half of that: a datagram to three packets.
    pub up_us: f64,
    /// A third of the second half: what one packet of 20 ms costs on its way into a datagram of 60 ms.
    pub down_us: f64,
}

/// Packets a round.
const ROUND: usize = 120;

/// Relays for `rounds` rounds, both ways in turn.
///
/// # Errors
/// [`CodecError`] if the codec cannot be built.
pub fn measure(speech: &Speech, rounds: usize) -> Result<RelayFigures, CodecError> {
    let packets = alike(speech)?;
    let mut timed = DownRelay::new(FrameDuration::MS_60, setup::sealer(SUITE));
    let mut filling = DownRelay::new(FrameDuration::MS_60, setup::sealer(SUITE));
    let opener = setup::opener(SUITE, PayloadKind::Opus);
    let mut up = UpRelay::new(opener, FrameDuration::MS_20);
    let (mut ups, mut downs) = (Stopwatch::default(), Stopwatch::default());
    let mut datagrams: Vec<Vec<u8>> = (0..ROUND / 3).map(|_| Vec::with_capacity(1_500)).collect();
    for _ in 0..rounds {
        downs.time(|| {
            for packet in &packets {
                let pushed = timed.push(packet, |sealed| {
                    black_box(sealed.datagram);
                });
                pushed.expect("a packet of ours");
            }
        });
        let mut empty = datagrams.iter_mut();
        for packet in &packets {
            let pushed = filling.push(packet, |sealed| {
                let datagram = empty.next().expect("three packets a datagram");
                datagram.clear();
                datagram.extend_from_slice(sealed.datagram);
            });
            pushed.expect("a packet of ours");
        }
        ups.time(|| {
            for datagram in &mut datagrams {
                let pushed = up.push(datagram, |packet, _| {
                    black_box(packet);
                });
                pushed.expect("just sealed");
            }
        });
    }
    let (up_us, down_us) = (ups.cost(ROUND / 3).ns / 1e3, downs.cost(ROUND).ns / 1e3);
    Ok(RelayFigures { us_per_packet: up_us + 3.0 * down_us, up_us, down_us })
}

/// A round of packets of speech with one configuration, so that any three can be joined.
fn alike(speech: &Speech) -> Result<Vec<Vec<u8>>, CodecError> {
    let mut packets = setup::packets(speech, CODING, 20 * ROUND)?;
    let most_common = (0..=u8::MAX).max_by_key(|&toc| packets.iter().filter(|p| p[0] == toc).count());
    packets.retain(|packet| Some(packet[0]) == most_common);
    Ok(packets.into_iter().cycle().take(ROUND).collect())
}
