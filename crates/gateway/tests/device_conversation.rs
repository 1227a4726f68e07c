//! A device and the gateway, over real sockets.

mod support;

use std::time::Duration;

use evenkeel_gateway::control::{HubConfig, RoomMaker};
use evenkeel_gateway::device::mqtt::EndpointConfig;
use evenkeel_gateway::device::tls::Tls;
use evenkeel_gateway::media::{MediaEvent, ReplyId};
use serde_json::json;
use support::tls::Certificate;
use support::{Device, Gateway, client_id, packet, until};

#[tokio::test]
async fn hello_reply_and_goodbye_through_echo() {
    let gateway = Gateway::start().await;
    let mut device = gateway.device(1).await;
    let answer = device.hello().await;
    assert_eq!(answer["udp"]["encryption"], "aes-128-ctr");
    assert_eq!(answer["udp"]["nonce"], "01000000000000010000000000000000");
    assert_eq!(answer["audio_params"]["sample_rate"], 24_000);
    gateway.report(0, MediaEvent::FirstDatagram { from: ([127, 0, 0, 1], 9).into() });
    gateway.report(0, MediaEvent::DownlinkWaiting);
    let start = device.hear().await;
    assert_eq!((start["type"].as_str(), start["state"].as_str()), (Some("tts"), Some("start")));
    assert_eq!(start["session_id"], answer["session_id"]);
    gateway.report(0, MediaEvent::DownlinkEnded);
    until(|| gateway.lanes.names().ends_with(&["Gate".into(), "Mark".into()])).await;
    gateway.report(0, MediaEvent::PlayedOut(ReplyId(1)));
    assert_eq!(device.hear().await["state"], "stop");
    device.say(json!({"type": "goodbye", "session_id": answer["session_id"]})).await;
    until(|| gateway.hub.registry.live() == 0).await;
    assert_eq!(gateway.lanes.names().last().unwrap(), "Close");
}

#[tokio::test]
async fn the_rest_of_mqtt_is_answered() {
    let gateway = Gateway::start().await;
    let mut device = gateway.device(1).await;
    device.send(&[0xc0, 0]).await;
    assert_eq!(device.read().await, Some((0xd0, vec![])));
    device.send(&packet(0x82, b"\0\x07\0\x01a\0")).await;
    assert_eq!(device.read().await, Some((0x90, vec![0, 7, 0])));
    device.send(&packet(0xa2, b"\0\x08\0\x01a")).await;
    assert_eq!(device.read().await, Some((0xb0, vec![0, 8])));
    let mut qos1 = b"\0\x01t\x12\x34".to_vec();
    qos1.extend_from_slice(br#"{"type":"hello","version":3}"#);
    device.send(&packet(0x32, &qos1)).await;
    assert_eq!(device.read().await, Some((0x40, vec![0x12, 0x34])));
    assert_eq!(device.hear().await["type"], "hello");
    device.send(&[0xe0, 0]).await;
    assert!(device.is_closed().await);
    until(|| gateway.hub.connected() == 0).await;
}

#[tokio::test]
async fn a_second_connect_of_a_device_closes_the_first_and_keeps_the_call() {
    let gateway = Gateway::start().await;
    let mut first = gateway.device(1).await;
    first.hello().await;
    let mut second = gateway.device(1).await;
    assert!(first.is_closed().await);
    assert_eq!(gateway.hub.status(&client_id(1)), (true, true));
    gateway.report(0, MediaEvent::DownlinkWaiting);
    assert_eq!(second.hear().await["state"], "start");
    drop(second);
    until(|| gateway.hub.connected() == 0).await;
    assert_eq!(gateway.hub.registry.live(), 1, "the call waits for its device");
    let mut third = gateway.device(1).await;
    assert_eq!(third.hear().await["state"], "start", "said again, as it may not have arrived");
}

#[tokio::test]
async fn over_tls_as_over_tcp() {
    let certificate = Certificate::new("device");
    let (file, key) = (&certificate.file, &certificate.key_file);
    let tls = Tls::open(file, key).unwrap().server_config().unwrap();
    assert!(Tls::open(key, key).is_err() && Tls::open(&file.with_file_name("none"), key).is_err());

    let gateway =
        Gateway::with(RoomMaker::Echo, HubConfig::default(), EndpointConfig::default(), Some(tls)).await;
    let stream =
        certificate.connector().connect("localhost".try_into().unwrap(), gateway.tcp().await).await.unwrap();
    let mut device = Device::connect(stream, 1).await;
    assert_eq!(device.hello().await["type"], "hello");
}

#[tokio::test]
async fn an_operator_asks_a_device_and_two_devices_are_connected() {
    let gateway = Gateway::start().await;
    let (mut one, mut two) = (gateway.device(1).await, gateway.device(2).await);
    let hub = gateway.hub.clone();
    let asked = tokio::spawn(async move {
        hub.command(&client_id(1), "tools/call".into(), Some(json!({"name": "x"})), Duration::from_secs(5))
            .await
    });
    let request = one.hear().await;
    assert_eq!(request["payload"]["params"]["name"], "x");
    one.say(json!({"type": "mcp", "payload": {"id": request["payload"]["id"], "result": {"ok": true}}}))
        .await;
    assert_eq!(asked.await.unwrap(), Ok(json!({"ok": true})));

    one.hello().await;
    two.hello().await;
    let mac = |number: u8| format!("aabbccddee{number:02x}").parse().unwrap();
    gateway.hub.request_call(mac(1), mac(2), "Ada").unwrap();
    let ringing = two.hear().await;
    assert_eq!(ringing["payload"]["params"]["name"], "self.remote_wakeup");
    gateway.hub.accept_call(mac(2));
    assert_eq!(two.hear().await["state"], "start");
    let heard = [one.hear().await, one.hear().await];
    assert!(
        heard.iter().any(|m| m["type"] == "call_accepted") && heard.iter().any(|m| m["state"] == "start")
    );
    two.say(json!({"type": "goodbye", "session_id": two.session})).await;
    assert_eq!(one.hear().await["reason"], "peer_gone");
}

#[tokio::test]
async fn draining_says_goodbye_and_refuses() {
    let gateway = Gateway::start().await;
    let mut device = gateway.device(1).await;
    device.hello().await;
    let deadline = gateway.hub.clock.now() + Duration::from_secs(5);
    gateway.hub.drain(deadline).await;
    assert_eq!(device.hear().await["reason"], "draining");
    assert_eq!(device.hello().await["type"], "error");
    assert_eq!(gateway.hub.registry.live(), 0);
}
