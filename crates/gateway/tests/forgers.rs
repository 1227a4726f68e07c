//! Datagrams that the device did not send, at the port and in the middle of a live call: they move neither its address nor
//! its sequence nor its audio, nobody is answered, and each is counted as what it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::UdpSocket;
use std::sync::atomic::Ordering;

use evenkeel_core::packet::Header;
use evenkeel_gateway::run::Gateway;
use serde_json::{Value, json};
use support::bystander::Bystander;
use support::metrics::{counted, counted_at_least, page};
use support::whole;

const ROUNDS: u32 = 25;
const REFUSED: &str = "evenkeel_lane_refused_total";

/// What a forger sends, and under which reason it is counted; `None` is as belonging to no session.
type Forged = (Vec<u8>, Option<&'static str>);

/// What noise turns into when it is decrypted is no Opus packet at times, and counts as malformed before all.
const FAR_OR_BROKEN: Option<&str> = Some("far");

fn forged(connection_id: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let payload_len = payload.len() as u16;
    let header = Header { flags: 0, payload_len, connection_id, timestamp: 0, sequence };
    [&header.emit()[..], payload].concat()
}

/// Sends what `make` makes, round by round, while the call goes on; then looks at what was counted.
async fn attack(
    gateway: &Gateway,
    victim: Bystander,
    from: &str,
    make: impl Fn(&Bystander, u32) -> Vec<Forged>,
) {
    let forger = UdpSocket::bind((from, 0)).unwrap();
    forger.set_nonblocking(true).unwrap();
    let mut sent: Vec<(Option<&'static str>, u64)> = Vec::new();
    for round in 0..ROUNDS {
        for (datagram, reason) in make(&victim, round) {
            forger.send_to(&datagram, victim.server).unwrap();
            match sent.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => sent.push((reason, 1)),
            }
        }
        victim.hears(1).await;
    }
    assert!(sent.iter().map(|(_, count)| count).sum::<u64>() >= u64::from(ROUNDS));
    for (reason, count) in &sent {
        match reason {
            Some(name) => {
                let least = if *reason == FAR_OR_BROKEN { 1 } else { *count };
                counted_at_least(gateway, REFUSED, &format!("\"{name}\""), least).await;
            }
            None => counted(gateway, "evenkeel_lane_unknown_total", "", *count).await,
        }
    }
    let refused: u64 = sent.iter().filter(|(reason, _)| reason.is_some()).map(|(_, count)| count).sum();
    counted(gateway, REFUSED, "", refused).await;
    assert!(forger.recv(&mut [0; 100]).is_err(), "whoever forges is told nothing");
    victim.hears(35).await;
    let calls: Value = serde_json::from_str(&page(gateway, "/api/calls").await).unwrap();
    let call = &calls["calls"][0];
    assert_eq!((&call["lost"], &call["late"]), (&json!(0), &json!(0)), "{call}");
    victim.felt_nothing(gateway).await;
}

async fn gateway(source: &str) -> Gateway {
    whole(&[("room.loopback", "true"), ("media.lanes", "1"), ("media.source", source)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_ids_finds_no_call() {
    let gateway = gateway("any").await;
    let victim = Bystander::call(&gateway, json!({})).await;
    attack(&gateway, victim, "127.0.0.2", |victim, round| {
        let next = victim.sequence.load(Ordering::Relaxed) + 1;
        let near = victim.connection_id ^ (1 << (round % 32));
        let far = victim.connection_id.wrapping_mul(0x9e37_79b9).wrapping_add(round);
        let mut datagrams: Vec<Forged> = Vec::new();
        for id in [near, far, !victim.connection_id, round] {
            datagrams.push((forged(id, next, &[round as u8; 90]), None));
        }
        // Too short to have an id, and of a type that no packet has.
        datagrams.push((vec![1; round as usize % 16], None));
        datagrams
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_moves_nothing_though_it_knows_everything_but_the_key() {
    let gateway = gateway("mqtt-ip").await;
    let victim = Bystander::call(&gateway, json!({})).await;
    attack(&gateway, victim, "127.0.0.2", |victim, round| {
        let id = victim.connection_id;
        let sequence = victim.sequence.load(Ordering::Relaxed);
        let replayed = victim.last.lock().unwrap().clone();
        let mut flipped = replayed.clone();
        flipped[12..16].copy_from_slice(&(sequence + 1).to_be_bytes());
        flipped[20] ^= round as u8;
        let mut datagrams = vec![replayed, flipped];
        for sequence in [sequence + 1, sequence + 2, 0, sequence + 1_000_000] {
            datagrams.push(forged(id, sequence, &[round as u8 ^ 0x5a; 90]));
        }
        datagrams.into_iter().map(|datagram| (datagram, Some("source"))).collect()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_device_s_own_address_is_no_way_in_for_what_is_old_copied_far_or_broken() {
    let gateway = gateway("mqtt-ip").await;
    let victim = Bystander::call(&gateway, json!({})).await;
    // From another port of the same address, to which the call may move: behind one router live many.
    attack(&gateway, victim, "127.0.0.1", |victim, round| {
        let id = victim.connection_id;
        let sequence = victim.sequence.load(Ordering::Relaxed);
        let noise = [round as u8 ^ 0x5a; 90];
        let cut_short = forged(id, sequence + 1, &noise)[..60].to_vec();
        let reflected = [&[1, 0x80][..], &forged(id, sequence + 1, &noise)[2..]].concat();
        vec![
            (forged(id, sequence.wrapping_sub(100 + round), &noise), Some("stale")),
            (victim.last.lock().unwrap().clone(), Some("replayed")),
            (forged(id, sequence, &noise), Some("replayed")),
            // No two agree, so the sender was not restarted.
            (forged(id, sequence + 0x4000_0000 + round * 10_000, &noise), FAR_OR_BROKEN),
            (forged(id, sequence + 1, &[]), Some("malformed")),
            (cut_short, Some("malformed")),
            (reflected, Some("malformed")),
        ]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_tag_nothing_gets_in_from_anywhere() {
    for from in ["127.0.0.1", "127.0.0.2"] {
        let gateway = gateway("any").await;
        let victim = Bystander::call(&gateway, json!({"sealed": ["aes-128-gcm"]})).await;
        attack(&gateway, victim, from, |victim, round| {
            let id = victim.connection_id;
            let sequence = victim.sequence.load(Ordering::Relaxed);
            let replayed = victim.last.lock().unwrap().clone();
            let mut renumbered = replayed.clone();
            renumbered[12..16].copy_from_slice(&(sequence + 1 + round).to_be_bytes());
            let noise = [round as u8 ^ 0x5a; 106];
            vec![
                (replayed, Some("replayed")),
                (renumbered, Some("forged")),
                (forged(id, sequence + 1, &noise), Some("forged")),
                (forged(id, sequence + 5_000, &noise), Some("forged")),
                (forged(id, sequence + 1, &noise[..8]), Some("malformed")),
            ]
        })
        .await;
    }
}
