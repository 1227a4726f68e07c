//! The MQTT endpoint against clients that nobody here wrote: mosquitto's own and npm's `mqtt`, with TLS and without.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_gateway::control::{HubConfig, RoomMaker};
use evenkeel_gateway::device::credentials::sign;
use evenkeel_gateway::device::mqtt::EndpointConfig;
use evenkeel_gateway::device::tls::Tls;
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_testkit::tools;
use serde_json::{Value, json};
use support::tls::Certificate;
use support::{Gateway, KEY, client_id, until};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const USER: &str = "e30=";

async fn with_tls(certificate: &Certificate) -> Gateway {
    let tls = Tls::open(&certificate.file, &certificate.key_file).unwrap().server_config().unwrap();
    Gateway::with(RoomMaker::Echo, HubConfig::default(), EndpointConfig::default(), Some(tls)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_own_clients() {
    let certificate = Certificate::new("mosquitto");
    mosquitto(&Gateway::start().await, None).await;
    mosquitto(&with_tls(&certificate).await, Some(&certificate.file)).await;
}

async fn mosquitto(gateway: &Gateway, ca: Option<&Path>) {
    let (Some(publish), Some(subscribe)) = (tools::find("mosquitto_pub"), tools::find("mosquitto_sub"))
    else {
        return;
    };
    let (id, port) = (client_id(1), gateway.address.port().to_string());
    let password = sign(KEY, &id, USER);
    let login = |password: &str| {
        let mut login: Vec<String> =
            ["-h", "127.0.0.1", "-p", &port, "-i", &id, "-u", USER, "-P", password, "-V", "311"]
                .map(str::to_owned)
                .to_vec();
        if let Some(ca) = ca {
            login.extend(["--cafile".to_owned(), ca.to_str().unwrap().to_owned()]);
        }
        login
    };
    let mut listener = tokio::process::Command::new(subscribe)
        .args(login(&password))
        .args(["-t", "devices/p2p/aa_bb_cc_dd_ee_01", "-C", "1", "-W", "10"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
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
        let mut command = Command::new(&publish);
        command.args(login(password));
        command.args(["-t", "device-server", "-q", qos, "-m", r#"{"type":"hello","version":3}"#]);
        command.stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(!say("0", "bm8="), "a wrong password");
    let (qos0, qos1) = (say("0", &password), say("1", &password));
    assert!(qos0 && qos1);
    until(|| gateway.hub.registry.live() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npms_mqtt() {
    let certificate = Certificate::new("npm");
    npm(&Gateway::start().await, None).await;
    npm(&with_tls(&certificate).await, Some(&certificate.file)).await;
}

async fn npm(gateway: &Gateway, ca: Option<&Path>) {
    let (Some(node), Some(packages)) = (tools::find("node"), tools::npm_packages("gateway")) else { return };
    let (id, scheme) = (client_id(1), if ca.is_some() { "mqtts" } else { "mqtt" });
    let url = format!("{scheme}://127.0.0.1:{}", gateway.address.port());
    let run = async |password: &str| {
        let output = tokio::process::Command::new(&node)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mqtt_client.js"))
            .args([&url, &id, USER, password])
            .args(ca)
            .env("NODE_PATH", &packages)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), output).await.unwrap().unwrap();
        let lines: Vec<Value> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lines
    };
    assert_eq!(run("bm8=").await[0], json!({"refused": 4}));
    let lines = run(&sign(KEY, &id, USER)).await;
    assert_eq!(lines[..2], [json!({"connected": true}), json!({"granted": 0})]);
    let answers: Vec<_> = lines.iter().filter_map(|line| line.get("message")).collect();
    assert_eq!(answers.len(), 2, "{lines:?}");
    for answer in answers {
        assert_eq!(
            (&answer["topic"], &answer["type"]),
            (&json!("devices/p2p/aa_bb_cc_dd_ee_01"), &json!("hello"))
        );
    }
    assert_eq!(lines.last(), Some(&json!({"closed": true})));
    let counters = &gateway.hub.registry.counters;
    assert_eq!((counters.get(Counter::KeepAliveExpired), counters.get(Counter::Malformed)), (0, 0));
}
