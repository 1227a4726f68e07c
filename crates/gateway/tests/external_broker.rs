//! Devices behind Debian's mosquitto, which nobody here wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evenkeel_gateway::device::broker::{BrokerClient, BrokerConfig};
use evenkeel_gateway::media::MediaEvent;
use evenkeel_testkit::tools;
use serde_json::{Value, json};
use support::{Gateway, client_id, until};
use tokio::io::{AsyncBufReadExt as _, BufReader};

struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    fn start(port: u16) -> Self {
        let config = std::env::temp_dir().join(format!("evenkeel-mosquitto-{port}.conf"));
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
        let child = Command::new(tools::find("mosquitto").unwrap())
            .arg("-c")
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    fn publish(&self, topic: &str, message: &Value, property: Option<&str>) {
        let mut command = Command::new("mosquitto_pub");
        command.args([
            "-V",
            "5",
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-t",
            topic,
            "-m",
            &message.to_string(),
        ]);
        if let Some(sender) = property {
            command.args(["-D", "publish", "user-property", "sender_client_id", sender]);
        }
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_through_a_broker_that_restarts() {
    if ["mosquitto", "mosquitto_pub", "mosquitto_sub"].iter().any(|program| tools::find(program).is_none()) {
        return;
    }
    let port = free_port();
    let broker = Mosquitto::start(port);
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
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "devices/p2p/#", "-v"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    // Both sides are subscribed once a stray message of an old session is answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_child, mut lines) = subscribe(port);
    tokio::time::sleep(Duration::from_millis(500)).await;
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
    let broker = Mosquitto::start(port);
    until(|| gateway.hub.connected() == 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_child, mut lines) = subscribe(port);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let goodbye = json!({"type": "goodbye", "session_id": answer["session_id"]});
    broker.publish("device-server", &goodbye, Some(&client_id(1)));
    until(|| gateway.hub.registry.live() == 1).await;
    broker.publish("device-server", &json!({"type": "abort", "session_id": "old"}), Some(&client_id(1)));
    assert_eq!(heard(&mut lines).await.1, json!({"type": "goodbye", "session_id": "old"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_own_clients_speak_with_the_endpoint() {
    if tools::find("mosquitto_pub").is_none() || tools::find("mosquitto_sub").is_none() {
        return;
    }
    let gateway = Gateway::start().await;
    let (id, user) = (client_id(1), "e30=");
    let password = evenkeel_gateway::device::credentials::sign(support::KEY, &id, user);
    let port = gateway.address.port().to_string();
    let login = ["-h", "127.0.0.1", "-p", &port, "-i", &id, "-u", user, "-P", &password, "-V", "311"];
    let mut listener = tokio::process::Command::new("mosquitto_sub")
        .args(login)
        .args(["-t", "devices/p2p/aa_bb_cc_dd_ee_01", "-C", "1", "-W", "10"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| gateway.hub.connected() == 1).await;
    let hub = gateway.hub.clone();
    tokio::spawn(
        async move { hub.command(&client_id(1), "ping".into(), None, Duration::from_secs(5)).await },
    );
    let mut line = String::new();
    BufReader::new(listener.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["payload"]["method"], "ping");
    assert!(listener.wait().await.unwrap().success());

    let say = |qos: &str, password: &str| {
        let mut command = Command::new("mosquitto_pub");
        let login = ["-h", "127.0.0.1", "-p", &port, "-i", &id, "-u", user, "-P", password, "-V", "311"];
        command.args(login).args(["-t", "device-server", "-q", qos, "-m", r#"{"type":"hello","version":3}"#]);
        command.stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(!say("0", "bm8="), "a wrong password");
    let (qos0, qos1) = (say("0", &password), say("1", &password));
    assert!(qos0 && qos1);
    until(|| gateway.hub.registry.live() == 1).await;
}
