//! What attackers and broken devices send: each is counted, costs nothing lasting, and is not felt by others.

mod support;

use std::time::Duration;

use evenkeel_gateway::control::{HubConfig, RoomMaker};
use evenkeel_gateway::device::credentials::sign;
use evenkeel_gateway::device::limits::Rate;
use evenkeel_gateway::device::mqtt::EndpointConfig;
use evenkeel_gateway::ops::counters::Counter;
use serde_json::json;
use support::{Device, Gateway, KEY, client_id, connect_packet, packet, resident, until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

impl Gateway {
    fn counted(&self, counter: Counter) -> u64 {
        self.hub.registry.counters.get(counter)
    }
}

/// Another device, who must not feel any of it.
async fn is_well(gateway: &Gateway, device: &mut Device<TcpStream>) {
    assert_eq!(device.hello().await["type"], "hello");
    assert_eq!(gateway.hub.connected(), 1);
}

#[tokio::test]
async fn wrong_credentials_get_the_right_code() {
    let gateway = Gateway::start().await;
    let (id, user) = (client_id(1), "e30=");
    let good = sign(KEY, &id, user);
    let two_part = "GID@@@aa_bb_cc_dd_ee_01";
    let level5 = packet(0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01a");
    for (bytes, code) in [
        (connect_packet(&id, user, "bm8="), 4),
        (connect_packet(&id, "bm8=", &good), 4),
        (connect_packet("nobody", user, &good), 2),
        (connect_packet(two_part, user, &sign(KEY, two_part, user)), 5),
        (level5, 1),
    ] {
        let mut device = Device { stream: gateway.tcp().await, session: None };
        device.send(&bytes).await;
        assert_eq!(device.read().await, Some((0x20, vec![0, code])));
        assert!(device.is_closed().await);
    }
    assert_eq!(gateway.counted(Counter::Refused), 5);
    assert_eq!(gateway.counted(Counter::Connected), 0);
}

#[tokio::test]
async fn a_malformed_length_streamed_without_end_costs_no_memory() {
    let gateway = Gateway::start().await;
    let mut bystander = gateway.device(1).await;
    let flood = vec![0xff; 64 * 1024];
    let mut before = 0;
    for round in 0..600 {
        let mut stream = gateway.tcp().await;
        // After CONNECT or instead of it, as the first byte of all or as a length that never ends.
        if round % 2 == 0 {
            let (id, user) = (client_id(2), "e30=");
            stream.write_all(&connect_packet(&id, user, &sign(KEY, &id, user))).await.unwrap();
            let _ = stream.write_all(&[0x30]).await;
        } else {
            let _ = stream.write_all(&[0x10]).await;
        }
        while stream.write_all(&flood).await.is_ok() {}
        if round == 100 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
    until(|| gateway.counted(Counter::Malformed) == 600).await;
    until(|| gateway.hub.connected() == 1).await;
    is_well(&gateway, &mut bystander).await;
}

#[tokio::test]
async fn oversized_packets_close_the_connection_before_they_are_read() {
    let gateway = Gateway::start().await;
    for length in [8193usize, 100_000, 268_435_455] {
        let mut device = gateway.device(1).await;
        let mut header = packet(0x30, &[]);
        header.pop();
        let mut rest = length;
        while rest >= 0x80 {
            header.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        header.push(rest as u8);
        device.send(&header).await;
        assert!(device.is_closed().await);
    }
    until(|| gateway.counted(Counter::Malformed) == 3).await;
}

#[tokio::test]
async fn a_connect_that_never_comes_is_not_waited_for() {
    assert_eq!(EndpointConfig::default().connect_limit, Duration::from_secs(10));
    let config = EndpointConfig { connect_limit: Duration::from_millis(100), ..EndpointConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, HubConfig::default(), config, None).await;
    let mut silent = Device { stream: gateway.tcp().await, session: None };
    let mut slow = Device { stream: gateway.tcp().await, session: None };
    slow.send(&[0x10]).await;
    assert!(silent.is_closed().await && slow.is_closed().await);
    assert_eq!(gateway.counted(Counter::ConnectTimeout), 2);
    let mut other = Device { stream: gateway.tcp().await, session: None };
    other.send(&[0xc0, 0]).await;
    assert!(other.is_closed().await, "anything but CONNECT ends it");
}

#[tokio::test]
async fn ten_thousand_half_open_connections_close_each_other_and_let_devices_in() {
    if !support::may_open(10_500) {
        return;
    }
    let config = EndpointConfig { max_half_open: 500, ..EndpointConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, HubConfig::default(), config, None).await;
    let mut bystander = gateway.device(1).await;
    let mut open = Vec::new();
    let mut before = 0;
    for number in 0..10_000 {
        open.push(gateway.tcp().await);
        if number == 1000 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "grew by {grown} bytes");
    is_well(&gateway, &mut bystander).await;
    let mut late = gateway.device(2).await;
    assert_eq!(late.hello().await["type"], "hello");
    until(|| gateway.counted(Counter::HalfOpenEvicted) >= 9_000).await;
}

#[tokio::test]
async fn a_storm_of_connections_of_one_device_leaves_one_and_its_call() {
    let gateway = Gateway::start().await;
    let mut bystander = gateway.device(1).await;
    let mut last = gateway.device(2).await;
    let answer = last.hello().await;
    let mut before = 0;
    for round in 0..1000 {
        last = gateway.device(2).await;
        if round == 200 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown} bytes");
    until(|| gateway.counted(Counter::Replaced) == 1000).await;
    assert_eq!((gateway.hub.connected(), gateway.hub.registry.live()), (2, 1));
    last.say(json!({"type": "goodbye", "session_id": answer["session_id"]})).await;
    until(|| gateway.hub.registry.live() == 0).await;
    drop(last);
    until(|| gateway.hub.connected() == 1).await;
    is_well(&gateway, &mut bystander).await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed() {
    let config = EndpointConfig { max_connections: 3, ..EndpointConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, HubConfig::default(), config, None).await;
    let devices = [gateway.device(1).await, gateway.device(2).await, gateway.device(3).await];
    let mut fourth = Device { stream: gateway.tcp().await, session: None };
    assert!(fourth.is_closed().await);
    drop(devices);
    until(|| gateway.hub.connected() == 0).await;
    gateway.device(4).await;
}

#[tokio::test]
async fn bad_messages_are_answered_by_what_is_wrong_and_nothing_else_happens() {
    let gateway = Gateway::start().await;
    let mut device = gateway.device(1).await;
    let deep = format!("{{\"type\":\"mcp\",\"payload\":{}1{}}}", "[".repeat(2000), "]".repeat(2000));
    for (payload, wrong) in [
        ("not json".to_owned(), "not JSON"),
        (deep, "deeper than 16"),
        (r#"{"type":"hello","version":"3"}"#.to_owned(), "`version`"),
        (
            r#"{"type":"hello","version":3,"audio_params":{"sample_rate":[]}}"#.to_owned(),
            "`audio_params.sample_rate`",
        ),
        ("{}".to_owned(), "`type`"),
    ] {
        let mut body = b"\0\x01t".to_vec();
        body.extend_from_slice(payload.as_bytes());
        device.send(&packet(0x30, &body)).await;
        let answer = device.hear().await;
        assert_eq!(answer["type"], "error");
        assert!(answer["message"].as_str().unwrap().contains(wrong), "{answer}");
    }
    device.say(json!({"type": "never-heard-of", "session_id": "x"})).await;
    assert_eq!(device.hear().await["type"], "goodbye");
    assert_eq!(gateway.counted(Counter::BadMessages), 5);
    is_well(&gateway, &mut device).await;
}

#[tokio::test]
async fn hello_storms_are_limited_by_device_and_by_network() {
    let slow = Rate { burst: 5, per_second: 0.0 };
    let per_device = HubConfig { hellos_per_device: slow, ..HubConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, per_device, EndpointConfig::default(), None).await;
    let mut stormy = gateway.device(1).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(stormy.hello().await["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(answers.iter().filter(|kind| *kind == "hello").count(), 5);
    assert_eq!(gateway.counted(Counter::HelloRate), 15);
    let mut again = gateway.device(1).await;
    assert_eq!(again.hello().await["type"], "error", "a new connection is no new device");
    let mut other = gateway.device(2).await;
    assert_eq!(other.hello().await["type"], "hello");
    assert_eq!(gateway.hub.registry.live(), 2, "a storm leaves one session");

    let per_network = HubConfig { hellos_per_network: slow, ..HubConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, per_network, EndpointConfig::default(), None).await;
    let mut accepted = 0;
    for number in 0..10 {
        accepted += u8::from(gateway.device(number).await.hello().await["type"] == "hello");
    }
    assert_eq!(accepted, 5);
}

#[tokio::test]
async fn a_flood_of_messages_is_cut_to_the_rate() {
    let rate = Rate { burst: 10, per_second: 0.0 };
    let config = HubConfig { messages_per_device: rate, ..HubConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, config, EndpointConfig::default(), None).await;
    let mut device = gateway.device(1).await;
    for _ in 0..500 {
        device.say(json!({"type": "listen", "state": "start"})).await;
    }
    until(|| gateway.counted(Counter::MessageRate) == 490).await;
}

#[tokio::test]
async fn a_device_that_does_not_read_loses_its_connection_and_nothing_else() {
    let config = EndpointConfig { write_limit: Duration::from_millis(200), ..EndpointConfig::default() };
    let hub =
        HubConfig { messages_per_device: Rate { burst: 1_000_000, per_second: 1e6 }, ..HubConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, hub, config, None).await;
    let mut bystander = gateway.device(1).await;
    let mut deaf = gateway.device(2).await;
    let question =
        packet(0x30, format!("\0\x01t{}", "{\"type\":\"abort\",\"session_id\":\"0123456789\"}").as_bytes());
    let mut sent = 0;
    while deaf.stream.write_all(&question).await.is_ok() && sent < 2_000_000 {
        sent += 1;
    }
    until(|| gateway.hub.connected() == 1).await;
    assert!(gateway.counted(Counter::SlowReader) >= 1);
    is_well(&gateway, &mut bystander).await;
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_ends_a_connection() {
    let gateway = Gateway::start().await;
    let (id, user) = (client_id(1), "e30=");
    let mut connect = connect_packet(&id, user, &sign(KEY, &id, user));
    let at = connect.windows(2).position(|pair| pair == [0, 0xf0]).unwrap();
    // It may be silent for half as long again: 3 s.
    connect[at + 1] = 2;
    let mut device = Device { stream: gateway.tcp().await, session: None };
    device.send(&connect).await;
    assert!(device.read().await.is_some());
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        device.send(&[0xc0, 0]).await;
        assert_eq!(device.read().await, Some((0xd0, vec![])), "alive as long as it pings");
    }
    assert!(device.is_closed().await);
    assert_eq!(gateway.counted(Counter::KeepAliveExpired), 1);
}
