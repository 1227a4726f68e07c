//! The corners of MQTT that firmware does not use and others do, and TLS that does not come about.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use evenkeel_gateway::control::{HubConfig, RoomMaker};
use evenkeel_gateway::device::credentials::sign;
use evenkeel_gateway::device::mqtt::EndpointConfig;
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_gateway::run;
use serde_json::json;
use support::bystander::Bystander;
use support::metrics::{counted, counted_at_least};
use support::tls::Certificate;
use support::{Device, Gateway, KEY, client_id, packet, resident, until, whole};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HELLO: &[u8] = br#"{"type":"hello","version":3}"#;

fn publish(first: u8, topic: &[u8], packet_id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic);
    body.extend(packet_id.into_iter().flat_map(u16::to_be_bytes));
    body.extend_from_slice(payload);
    packet(first, &body)
}

/// CONNECT with these flags, and these fields after the client id.
fn connect(flags: u8, keep_alive: u16, fields: &[&[u8]]) -> Vec<u8> {
    let id = client_id(1);
    let mut body = [&b"\0\x04MQTT\x04"[..], &[flags], &keep_alive.to_be_bytes()].concat();
    for field in [&[id.as_bytes()], fields].concat() {
        body.extend_from_slice(&(field.len() as u16).to_be_bytes());
        body.extend_from_slice(field);
    }
    packet(0x10, &body)
}

async fn answered(device: &mut Device<TcpStream>) {
    assert_eq!(device.hear().await["type"], "hello");
}

#[tokio::test]
async fn qos_1_is_acknowledged_by_its_number_and_a_copy_is_a_message_again() {
    let gateway = Gateway::start().await;
    let mut device = gateway.device(1).await;
    for (first, id) in [(0x32, 1u16), (0x32, 0xffff), (0x3a, 0xffff), (0x33, 7), (0x3b, 7)] {
        device.send(&publish(first, b"device-server", Some(id), br#"{"type":"abort"}"#)).await;
        assert_eq!(device.read().await, Some((0x40, id.to_be_bytes().to_vec())), "{first:#x}");
    }
    // The acknowledgement of what we never asked for is nothing to us.
    device.send(&packet(0x40, &[0, 9])).await;
    device.send(&publish(0x32, b"t", Some(2), HELLO)).await;
    assert_eq!(device.read().await, Some((0x40, vec![0, 2])));
    answered(&mut device).await;
    assert_eq!(gateway.hub.registry.counters.get(Counter::Messages), 6);
    for bad in [
        publish(0x32, b"t", Some(0), b"{}"),
        publish(0x34, b"t", Some(1), b"{}"),
        publish(0x36, b"t", Some(1), b"{}"),
        packet(0x32, b"\0\x01t\0"),
        packet(0x40, &[1]),
        packet(0x50, &[0, 1]),
        packet(0x62, &[0, 1]),
    ] {
        let mut device = gateway.device(2).await;
        device.send(&bad).await;
        assert!(device.is_closed().await, "{bad:?}");
    }
    until(|| gateway.hub.registry.counters.get(Counter::Malformed) == 7).await;
}

#[tokio::test]
async fn what_is_to_be_retained_is_heard_once_and_kept_for_nobody() {
    let gateway = Gateway::start().await;
    let mut device = gateway.device(1).await;
    device.send(&publish(0x31, b"devices/p2p/aa_bb_cc_dd_ee_02", None, HELLO)).await;
    answered(&mut device).await;
    let mut other = gateway.device(2).await;
    other.send(&packet(0x82, b"\0\x07\0\x01#\x01\0\x1ddevices/p2p/aa_bb_cc_dd_ee_02\x02")).await;
    assert_eq!(other.read().await, Some((0x90, vec![0, 7, 0, 0])), "QoS 0 is granted");
    other.send(&[0xc0, 0]).await;
    assert_eq!(other.read().await, Some((0xd0, vec![])), "nothing was kept for it");
}

#[tokio::test]
async fn a_will_is_let_in_and_never_published() {
    let gateway = Gateway::start().await;
    let mut other = gateway.device(2).await;
    let user = b"e30=";
    let password = sign(KEY, &client_id(1), "e30=");
    for flags in [0xc6, 0xce, 0xe6, 0xee] {
        let mut device = Device { stream: gateway.tcp().await, session: None };
        let will: [&[u8]; 4] = [b"devices/p2p/aa_bb_cc_dd_ee_02", &[0xff; 1000], user, password.as_bytes()];
        device.send(&connect(flags, 240, &will)).await;
        assert_eq!(device.read().await, Some((0x20, vec![0, 0])), "{flags:#x}");
        device.send(&publish(0x30, b"t", None, HELLO)).await;
        answered(&mut device).await;
    }
    until(|| gateway.hub.connected() == 1).await;
    other.send(&[0xc0, 0]).await;
    assert_eq!(other.read().await, Some((0xd0, vec![])));
    // A will of QoS 3, QoS or retain without a will, a will that is not there, a reserved flag.
    for (flags, fields) in [
        (0xde, &[&b"t"[..], b"m", b"u", b"p"][..]),
        (0xca, &[b"u", b"p"]),
        (0xe2, &[b"u", b"p"]),
        (0xc6, &[b"u"]),
        (0xc3, &[b"u", b"p"]),
        (0x42, &[b"p"]),
    ] {
        let mut device = Device { stream: gateway.tcp().await, session: None };
        device.send(&connect(flags, 240, fields)).await;
        assert!(device.is_closed().await, "{flags:#x}");
    }
    until(|| gateway.hub.registry.counters.get(Counter::Malformed) == 6).await;
    assert_eq!(gateway.hub.registry.counters.get(Counter::Refused), 0);
}

#[tokio::test]
async fn topics_may_be_as_long_as_a_packet_and_must_be_text() {
    let gateway = Gateway::start().await;
    let mut device = gateway.device(1).await;
    for topic in [&[b'x'; 8192 - 2 - HELLO.len()][..], "主题/🎙".as_bytes(), b"$SYS/x", b"/"] {
        device.send(&publish(0x30, topic, None, HELLO)).await;
        answered(&mut device).await;
    }
    let bad: [&[u8]; 9] =
        [b"", b"a/#", b"+", b"a\0b", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8"];
    for topic in bad {
        let mut device = gateway.device(2).await;
        device.send(&publish(0x30, topic, None, HELLO)).await;
        assert!(device.is_closed().await, "{topic:?}");
    }
    let mut too_long = gateway.device(2).await;
    too_long.send(&publish(0x30, &[b'x'; 8193 - 2], None, b"")[..5]).await;
    assert!(too_long.is_closed().await);
    // A topic that says it is longer than its packet, and filters that are no text.
    for packet in
        [packet(0x30, b"\0\x09t"), packet(0x82, b"\0\x01\0\x01\xff\0"), packet(0xa2, b"\0\x01\0\x05a")]
    {
        let mut device = gateway.device(2).await;
        device.send(&packet).await;
        assert!(device.is_closed().await, "{packet:?}");
    }
    let bad = u64::try_from(bad.len()).unwrap();
    until(|| gateway.hub.registry.counters.get(Counter::Malformed) == bad + 4).await;
    assert_eq!(gateway.hub.connected(), 1);
}

#[tokio::test]
async fn words_that_are_no_text_let_nobody_in() {
    let gateway = Gateway::start().await;
    let password = sign(KEY, &client_id(1), "e30=");
    let password = password.as_bytes();
    // Whatever of it is no UTF-8 ends the connection; a password is no text to MQTT, so that one is merely wrong.
    for (fields, code) in [
        ([&b"\xff\xfe"[..], password], None),
        ([b"e3\x000=", password], None),
        ([b"e30=", b"\xff\xfe"], Some(4)),
        ([b"", b""], Some(4)),
        ([b"e30=", &[b'A'; 6000][..]], Some(4)),
        ([&[b'A'; 6000][..], password], Some(4)),
    ] {
        let mut device = Device { stream: gateway.tcp().await, session: None };
        device.send(&connect(0xc2, 240, &fields)).await;
        assert_eq!(device.read().await, code.map(|code| (0x20, vec![0, code])), "{fields:?}");
    }
    assert_eq!(gateway.hub.registry.counters.get(Counter::Refused), 4);
    assert_eq!(gateway.hub.registry.counters.get(Counter::Malformed), 2);
    // JSON that is no UTF-8 is a message that is not as it should be, and no more.
    let mut device = gateway.device(1).await;
    device.send(&publish(0x30, b"t", None, b"{\"type\":\"\xff\"}")).await;
    assert!(device.hear().await["message"].as_str().unwrap().contains("UTF-8"));
    device.send(&publish(0x30, b"t", None, HELLO)).await;
    answered(&mut device).await;
}

#[tokio::test]
async fn all_at_once_and_byte_by_byte_are_the_same() {
    let config = HubConfig { hellos_per_device: support::often(), ..HubConfig::default() };
    let gateway = Gateway::with(RoomMaker::Echo, config, EndpointConfig::default(), None).await;
    let all = [
        connect(0xc2, 0, &[b"e30=", sign(KEY, &client_id(1), "e30=").as_bytes()]),
        publish(0x30, b"t", None, HELLO),
        publish(0x32, b"t", Some(5), HELLO),
        vec![0xc0, 0],
        vec![0xe0, 0],
    ]
    .concat();
    for step in [all.len(), 1, 7] {
        let mut device = Device { stream: gateway.tcp().await, session: None };
        for part in all.chunks(step) {
            // It closes at DISCONNECT, which is the last byte but one.
            let _ = device.stream.write_all(part).await;
        }
        let mut kinds = Vec::new();
        while let Some((first, _)) = device.read().await {
            kinds.push(first);
        }
        // Messages of the call come when it has them, or not any more.
        kinds.retain(|kind| *kind != 0x30);
        assert_eq!(kinds, [0x20, 0x40, 0xd0], "by {step}");
    }
}

/// A gateway with TLS in the middle of a call, and its TLS port.
async fn with_tls(certificate: &Certificate) -> (run::Gateway, Bystander) {
    let (chain, key) = (certificate.file.to_str().unwrap(), certificate.key_file.to_str().unwrap());
    let gateway = whole(&[
        ("room.loopback", "true"),
        ("media.lanes", "1"),
        ("mqtt.tls_listen", "127.0.0.1:0"),
        ("mqtt.tls_certificate", chain),
        ("mqtt.tls_key", key),
        ("mqtt.connect_limit", "1s"),
    ])
    .await;
    let bystander = Bystander::call(&gateway, json!({})).await;
    (gateway, bystander)
}

/// The first bytes that a client of TLS sends.
async fn client_hello(certificate: &Certificate) -> Vec<u8> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let connector = certificate.connector();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let connecting = tokio::spawn(async move { connector.connect(name, stream).await.err() });
    let (mut accepted, _) = listener.accept().await.unwrap();
    let mut hello = vec![0; 4096];
    let count = accepted.read(&mut hello).await.unwrap();
    drop(accepted);
    connecting.await.unwrap();
    hello.truncate(count);
    hello
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tls_is_closed_and_counted() {
    let certificate = Certificate::new("edges-garbage");
    let (gateway, bystander) = with_tls(&certificate).await;
    let hello = client_hello(&certificate).await;
    let mut truncated_length = hello.clone();
    truncated_length[3..5].copy_from_slice(&[0xff, 0xff]);
    let mut wrong_inside = hello.clone();
    wrong_inside[6..12].fill(0xff);
    let plain = connect(0xc2, 240, &[b"e30=", b"x"]);
    let garbage: [&[u8]; 6] =
        [&plain, b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64 * 1024], &[0; 64], &truncated_length, &wrong_inside];
    let mut memory = 0;
    const ROUNDS: usize = 100;
    for round in 0..ROUNDS {
        for bytes in garbage {
            let mut stream = TcpStream::connect(gateway.started().mqtt_tls[0]).await.unwrap();
            let _ = stream.write_all(bytes).await;
            // An alert may come before it is closed.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        if round == ROUNDS / 4 {
            memory = resident();
        }
    }
    let grown = resident().saturating_sub(memory);
    assert!(grown < 4 << 20, "grew by {grown} bytes");
    counted(&gateway, "evenkeel_mqtt_tls_failed_total", "", (ROUNDS * garbage.len()) as u64).await;
    bystander.felt_nothing(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_stalls_is_not_waited_for() {
    let certificate = Certificate::new("edges-stall");
    let (gateway, bystander) = with_tls(&certificate).await;
    let hello = client_hello(&certificate).await;
    let mut open = Vec::new();
    // Nothing, a part, and all of the first message; the last has an answer, and then says nothing more.
    for part in [0, 1, 5, hello.len() / 2, hello.len() - 1, hello.len()] {
        let mut stream = TcpStream::connect(gateway.started().mqtt_tls[0]).await.unwrap();
        stream.write_all(&hello[..part]).await.unwrap();
        open.push(stream);
    }
    // One whose handshake is done, and that never says CONNECT.
    let stream = TcpStream::connect(gateway.started().mqtt_tls[0]).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let mut silent = certificate.connector().connect(name, stream).await.unwrap();
    let stalled = open.len() as u64 + 1;
    for mut stream in open {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let _ = silent.read_to_end(&mut Vec::new()).await;
    counted(&gateway, "evenkeel_mqtt_connect_timeout_total", "", stalled).await;
    counted(&gateway, "evenkeel_mqtt_tls_failed_total", "", 0).await;

    // A client that does not trust the certificate says so and goes.
    let stranger = Certificate::new("edges-stranger");
    let stream = TcpStream::connect(gateway.started().mqtt_tls[0]).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    assert!(stranger.connector().connect(name, stream).await.is_err());
    counted_at_least(&gateway, "evenkeel_mqtt_tls_failed_total", "", 1).await;
    bystander.felt_nothing(&gateway).await;
}
