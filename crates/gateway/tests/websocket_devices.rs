//! Devices on WebSocket, by a client that nobody here wrote: in each version, with TLS and without, and misbehaving.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_gateway::device::credentials::sign_token;
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_gateway::run::Gateway;
use evenkeel_testkit::tools;
use serde_json::{Value, json};
use support::parrot::missed;
use support::tls::Certificate;
use support::{KEY, until, whole};

fn token() -> String {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    sign_token(KEY, "uuid-1|AA:bb:cc:dd:ee:01", unix)
}

async fn device(arguments: &[&str]) -> Option<Value> {
    let output = tokio::process::Command::new(tools::python("gateway")?)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/websocket_device.py"))
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), output).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

async fn converse(gateway: &Gateway, url: &str, version: &str, ca: Option<&str>) {
    let missed_before = missed(gateway);
    let token = token();
    let arguments = ["talk", url, version, &token].into_iter().chain(ca).collect::<Vec<_>>();
    let Some(seen) = device(&arguments).await else { return };
    let hello = &seen["hello"];
    assert_eq!((&hello["type"], &hello["transport"]), (&json!("hello"), &json!("websocket")));
    assert!(hello["audio_params"]["sample_rate"].is_u64() && hello.get("udp").is_none(), "{seen}");
    assert_eq!(seen["pong"], json!({"type": "pong", "id": 7}));
    let numbers: Vec<_> = seen["numbers"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "in order, none twice: {seen}");
    assert_eq!((&seen["strange"], &seen["closed"]), (&json!(0), &json!(1000)), "{seen}");
    until(|| gateway.hub().registry.live() == 0).await;
    // A device that stood still for long has paused in the parrot's ears, whose pause is 700 ms.
    if seen["late_ms"].as_f64().unwrap() < 300.0 {
        assert_eq!(seen["states"], json!(["start", "stop"]), "{seen}");
        until(|| missed(gateway) - missed_before + numbers.len() as u64 >= 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_in_each_version() {
    let gateway = whole(&[]).await;
    let url = format!("ws://{}/", gateway.started().web[0]);
    for version in ["1", "2", "3"] {
        converse(&gateway, &url, version, None).await;
    }
    assert_eq!(gateway.hub().registry.counters.get(Counter::WebSocketBadFrames), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_with_tls() {
    let certificate = Certificate::new("websocket");
    let file = certificate.file.to_str().unwrap();
    let settings = [
        ("web.tls_listen", "127.0.0.1:0"),
        ("web.tls_certificate", file),
        ("web.tls_key", certificate.key_file.to_str().unwrap()),
    ];
    let gateway = whole(&settings).await;
    let url = format!("wss://{}/", gateway.started().web_tls[0]);
    converse(&gateway, &url, "1", Some(file)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_misbehaves_is_told_and_harms_nobody() {
    let gateway = whole(&[]).await;
    let url = format!("ws://{}/", gateway.started().web[0]);
    let Some(seen) = device(&["misbehave", &url, &token()]).await else { return };
    let expected = json!({
        "no token": "401 the token is missing or wrong",
        "wrong token": "401 the token is missing or wrong",
        "no device": "400 `device-id` is missing: give it as a header or in the query string",
        "no MAC": seen["no MAC"],
        "version": "400 `protocol-version` must be 1, 2 or 3",
        "no JSON": "error",
        "transport": "`transport` must be \"websocket\" on this connection",
        "still there": "hello",
        "after no Opus": "pong",
        "replaced": 1000,
        "newer": "hello",
        "too long": 1008,
    });
    assert_eq!(seen, expected);
    assert!(seen["no MAC"].as_str().unwrap().starts_with("400 `device-id` must be a MAC address"));
    let counters = &gateway.hub().registry.counters;
    until(|| gateway.hub().registry.live() == 0).await;
    assert_eq!(counters.get(Counter::WebSocketRefused), 2);
    assert_eq!(
        (counters.get(Counter::WebSocketBadFrames), counters.get(Counter::WebSocketMalformed)),
        (1, 1)
    );
    let answer = http_get(&gateway).await;
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
}

async fn http_get(gateway: &Gateway) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(gateway.started().web[0]).await.unwrap();
    stream.write_all(b"GET /xiaozhi/v1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_only_pages_of_our_own_may_call() {
    let gateway = whole(&[("devices.signature_key", "")]).await;
    let url = format!("ws://{}/", gateway.started().web[0]);
    let Some(seen) = device(&["stranger", &url]).await else { return };
    let not_theirs = "403 pages of other sites may not call while no signature key is set";
    let expected = json!({
        "no page": "let in",
        "our page": "let in",
        "their page": not_theirs,
        "their name": not_theirs,
    });
    assert_eq!(seen, expected);
}
