//! Devices behind Debian's mosquitto, which nobody here wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::process::Stdio;
use std::time::Duration;

use evenkeel_gateway::device::broker::{BrokerClient, BrokerConfig};
use evenkeel_gateway::media::MediaEvent;
use evenkeel_testkit::tools;
use serde_json::{Value, json};
use support::mosquitto::Mosquitto;
use support::{Gateway, client_id, until};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_through_a_broker_that_restarts() {
    if tools::find("mosquitto_pub").is_none() || tools::find("mosquitto_sub").is_none() {
        return;
    }
    let Some(broker) = Mosquitto::start() else { return };
    let port = broker.port;
    let gateway = Gateway::start().await;
    let config = BrokerConfig {
        host: "127.0.0.1".into(),
        port,
        tls: None,
        client_id: "evenkeel-test".into(),
        credentials: None,
        filters: vec![
            "$share/evenkeel/device-server".into(),
            "$share/evenkeel/internal/server-ingest".into(),
        ],
        topic_by_client: false,
        forget_after: Duration::from_secs(600),
    };
    tokio::spawn(BrokerClient::run(config, gateway.hub.clone()));

    let subscribe = |port: u16| {
        let mut child = tokio::process::Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-i", "listener", "-t", "devices/p2p/#", "-v"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (_child, mut lines) = subscribe(port);
    broker.subscribed("evenkeel-test", 2).await;
    broker.subscribed("listener", 1).await;
    let heard = async |lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>| {
        let line = tokio::time::timeout(support::PATIENCE, lines.next_line()).await.expect("nothing came");
        let line = line.unwrap().unwrap();
        let (topic, message) = line.split_once(' ').unwrap();
        (topic.to_owned(), serde_json::from_str::<Value>(message).unwrap())
    };

    broker.publish("device-server", &json!({"type": "hello", "version": 3}), Some(&client_id(1)));
    let (topic, answer) = heard(&mut lines).await;
    assert_eq!((topic.as_str(), answer["type"].as_str()), ("devices/p2p/aa_bb_cc_dd_ee_01", Some("hello")));

    let envelope =
        json!({"sender_client_id": client_id(2), "orginal_payload": {"type": "hello", "version": 3}});
    broker.publish("internal/server-ingest", &envelope, None);
    let (topic, _) = heard(&mut lines).await;
    assert_eq!(topic, "devices/p2p/aa_bb_cc_dd_ee_02");
    assert_eq!(gateway.hub.registry.live(), 2);

    gateway.report(0, MediaEvent::DownlinkWaiting);
    assert_eq!(heard(&mut lines).await.1["state"], "start");
    until(|| gateway.lanes.names().iter().any(|name| name == "Gate")).await;

    drop((broker, lines));
    until(|| gateway.hub.connected() == 0).await;
    assert_eq!(gateway.hub.registry.live(), 2, "calls wait for the broker");
    let broker = Mosquitto::start_on(port).unwrap();
    until(|| gateway.hub.connected() == 2).await;
    let (_child, mut lines) = subscribe(port);
    broker.subscribed("evenkeel-test", 2).await;
    broker.subscribed("listener", 1).await;
    let goodbye = json!({"type": "goodbye", "session_id": answer["session_id"]});
    broker.publish("device-server", &goodbye, Some(&client_id(1)));
    until(|| gateway.hub.registry.live() == 1).await;
    broker.publish("device-server", &json!({"type": "abort", "session_id": "old"}), Some(&client_id(1)));
    assert_eq!(heard(&mut lines).await.1, json!({"type": "goodbye", "session_id": "old"}));
}
