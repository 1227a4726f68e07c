//! A device that says twenty packets to the echo room, and what must come back however busy the machine is.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_device::call::{self, CallConfig, Held, Speech};
use evenkeel_device::identity::Identity;
use evenkeel_gateway::run::Gateway;
use evenkeel_testkit::network::NetworkConfig;

use super::{KEY, until};

/// SILK, 60 ms, with its flags of voice activity, or without.
const VOICE: [u8; 2] = [0x58, 0xe0];
const SILENCE: [u8; 10] = [0x58, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A device that stood still for so long has paused in the parrot's ears. Its pause is 700 ms.
const STOOD_STILL_MS: f64 = 300.0;

/// Says so many numbered packets, then is silent until the reply has ended.
pub async fn talk(server: SocketAddr, count: u8, down: NetworkConfig) -> Held {
    let config = CallConfig {
        server: server.to_string(),
        identity: Identity::numbered(1, 9, Some(KEY)),
        mode: "auto".to_owned(),
        features: None,
        up: NetworkConfig::default(),
        down,
        seed: 7,
        reply_limit: Duration::from_secs(30),
    };
    let packets = (0..count).map(|number| [&VOICE[..], &[number; 90]].concat()).collect();
    let speech = Speech { packets, silence: Some(SILENCE.to_vec()) };
    tokio::task::spawn_blocking(move || call::run(&config, speech).unwrap()).await.unwrap()
}

/// Packets that the gateway did not send because they were over 50 ms late, which happens on a machine that stands still.
pub fn missed(gateway: &Gateway) -> u64 {
    gateway.hub().plane.lanes().iter().map(|lane| lane.missed).sum()
}

/// Whether the device itself was too late for its pauses to mean anything.
pub fn stood_still(held: &Held) -> bool {
    held.report.own_lateness_ms >= STOOD_STILL_MS
}

/// Says twenty packets, pauses, and checks that they come back as they were, between `tts` messages.
pub async fn converse(gateway: &Gateway, server: SocketAddr) {
    let held = talk(server, 20, NetworkConfig::default()).await;
    let report = &held.report;
    let mut opener = held.session.opener();
    let mut open = |sealed: &[u8]| opener.open(&mut sealed.to_vec()).unwrap().payload.to_vec();
    let heard: Vec<Vec<u8>> = held.datagrams.iter().map(|datagram| open(&datagram.sealed)).collect();
    let numbers: Vec<u8> = heard.iter().filter(|opus| opus[..2] == VOICE).map(|opus| opus[91]).collect();
    let states: Vec<_> = report.messages.iter().filter_map(|m| m.message["state"].as_str()).collect();
    let all = format!("{numbers:?} {report:?}");
    assert!(numbers.is_sorted_by(|one, next| one < next), "in order, none twice: {all}");
    assert!(heard.iter().all(|opus| opus[..2] == VOICE || *opus == SILENCE), "as it was said: {all}");
    assert!(states.chunks(2).all(|pair| pair == ["start", "stop"]), "{all}");
    assert_eq!(report.not_opened, 0, "{all}");
    // What is missing must be known to the gateway.
    until(|| missed(gateway) >= report.heard.lost).await;
    if stood_still(&held) {
        return;
    }
    assert_eq!(states.len(), 2, "{all}");
    until(|| missed(gateway) + numbers.len() as u64 >= 20).await;
    let silence = heard.iter().skip_while(|opus| opus[..2] == VOICE);
    assert!(silence.into_iter().all(|opus| *opus == SILENCE), "then at most a little silence: {all}");
}
