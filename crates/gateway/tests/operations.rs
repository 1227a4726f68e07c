//! The operations port and the management API over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::Router;
use evenkeel_gateway::media::{MediaEvent, MediaId, MediaStats};
use evenkeel_gateway::ops::management::{self, token};
use evenkeel_gateway::ops::server::Operations;
use serde_json::{Value, json};
use support::{Gateway, KEY, client_id, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

/// Status, headers and body.
async fn http(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let host =
        if headers.contains("Host:") { String::new() } else { format!("Host: 127.0.0.1:{}\r\n", to.port()) };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body =
        if head.to_lowercase().contains("chunked") { body.split_once("\r\n").unwrap().1 } else { body };
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

async fn operations(gateway: &Gateway) -> SocketAddr {
    serve(Operations::new(gateway.hub.clone(), "secret-token".into()).router()).await
}

#[tokio::test]
async fn health_metrics_calls_and_traces() {
    let gateway = Gateway::start().await;
    let at = operations(&gateway).await;
    assert_eq!(http(at, "GET", "/healthz", "", "").await.0, 200);
    assert_eq!(http(at, "GET", "/readyz", "", "").await.0, 200);
    let mut device = gateway.device(1).await;
    device.hello().await;
    gateway.report(0, MediaEvent::Stats(MediaStats { received: 50, ..MediaStats::default() }));
    until(|| gateway.hub.registry.totals().received == 50).await;
    let (_, _, metrics) = http(at, "GET", "/metrics", "", "").await;
    for line in ["evenkeel_calls 1", "evenkeel_devices_connected 1", "evenkeel_lane_sessions{lane=\"0\"} 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let (_, _, calls) = http(at, "GET", "/api/calls", "", "").await;
    let calls: Value = serde_json::from_str(&calls).unwrap();
    assert_eq!(calls["calls"][0]["device"], "aa:bb:cc:dd:ee:01");
    assert_eq!(calls["calls"][0]["samples"][0]["loss"], 0.0);
    let (code, head, trace) = http(at, "GET", "/api/calls/0-0/trace", "", "").await;
    assert!(code == 200 && head.contains("attachment"));
    let trace: Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["events"][0]["event"], "SessionBegan");
    assert_eq!(http(at, "POST", "/api/calls/0-0/hang_up", "", "").await.0, 204);
    assert_eq!(device.hear().await["reason"], "operator");
    for path in ["/api/calls/0-0/hang_up", "/api/calls/x/hang_up"] {
        assert_eq!(http(at, "POST", path, "", "").await.0, 404);
    }
    assert_eq!(http(at, "GET", "/api/calls/none/trace", "", "").await.0, 404);
    gateway.hub.drain(gateway.hub.clock.now()).await;
    assert_eq!(http(at, "GET", "/readyz", "", "").await.0, 503);
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let gateway = Gateway::start().await;
    let at = operations(&gateway).await;
    let (code, head, page) = http(at, "GET", "/", "", "").await;
    assert_eq!(code, 200);
    assert!(head.contains("default-src 'none'"));
    let page = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
}

#[tokio::test]
async fn strangers_need_the_token() {
    let gateway = Gateway::start().await;
    let at = operations(&gateway).await;
    for (headers, code) in [
        ("", 200),
        ("Host: localhost\r\n", 200),
        ("Host: evil.example\r\n", 401),
        ("Host: evil.example:8085\r\n", 401),
        ("Host: evil.example\r\nAuthorization: Bearer secret-token\r\n", 200),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Bearer \r\n", 401),
    ] {
        assert_eq!(http(at, "GET", "/api/status", headers, "").await.0, code, "{headers}");
    }
    let without = serve(Operations::new(gateway.hub.clone(), "".into()).router()).await;
    let (code, ..) = http(without, "GET", "/metrics", "Host: h\r\nAuthorization: Bearer \r\n", "").await;
    assert_eq!(code, 401, "no token opens nothing");
}

#[tokio::test]
async fn the_management_api_is_that_of_the_old_gateway() {
    let gateway = Gateway::start().await;
    let at = serve(management::router(gateway.hub.clone(), KEY.into())).await;
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let today = (unix / 86_400) as i64;
    let bearer = |day| format!("Authorization: Bearer {}\r\n", token(KEY, day));
    let status = json!({"clientIds": [client_id(1), "nobody"]}).to_string();
    for (headers, code) in [
        (bearer(today - 1), 200),
        (bearer(today), 200),
        (bearer(today + 1), 200),
        (bearer(today - 2), 401),
        (bearer(today + 2), 401),
        (String::new(), 401),
    ] {
        assert_eq!(http(at, "POST", "/api/devices/status", &headers, &status).await.0, code);
    }
    let headers = bearer(today);
    let post = async |path: &str, body: Value| {
        let (code, _, body) = http(at, "POST", path, &headers, &body.to_string()).await;
        (code, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };

    let mut one = gateway.device(1).await;
    let (_, seen) = post("/api/devices/status", json!({"clientIds": [client_id(1), "nobody"]})).await;
    assert_eq!(seen[client_id(1)], json!({"isAlive": false, "exists": true}));
    assert_eq!(seen["nobody"], json!({"isAlive": false, "exists": false}));
    one.hello().await;
    let (_, seen) = post("/api/devices/status", json!({"clientIds": [client_id(1)]})).await;
    assert_eq!(seen[client_id(1)]["isAlive"], true);

    let command = json!({"type": "mcp", "payload": {"method": "tools/list", "params": {}}});
    let path = format!("/api/commands/{}", client_id(1));
    let answer = async {
        let request = one.hear().await;
        one.say(json!({"type": "mcp", "payload": {"id": request["payload"]["id"], "result": [7]}})).await;
    };
    let (answered, ()) = tokio::join!(post(&path, command.clone()), answer);
    assert_eq!(answered, (200, json!({"success": true, "data": [7]})));
    assert_eq!(post("/api/commands/nobody", command).await.1["success"], false);
    assert_eq!(post(&path, json!({"type": "reboot"})).await.0, 400);

    let macs = json!({"caller_mac": "AA:BB:CC:DD:EE:01", "target_mac": "aa:bb:cc:dd:ee:02", "caller_nickname": "Ada"});
    assert_eq!(post("/api/call/request", macs.clone()).await.1["status"], "offline");
    let mut two = gateway.device(2).await;
    two.hello().await;
    assert_eq!(post("/api/call/request", macs).await.1["status"], "pending");
    assert!(two.hear().await["payload"]["params"]["arguments"]["reason"].as_str().unwrap().contains("Ada"));
    let accepted = post("/api/call/accept", json!({"mac": "aa:bb:cc:dd:ee:02"})).await.1;
    assert_eq!(accepted, json!({"status": "bridged", "peerMac": "aa:bb:cc:dd:ee:01"}));
    assert_eq!(post("/api/call/accept", json!({"mac": "aa:bb:cc:dd:ee:02"})).await.1["status"], "no_pending");
    assert_eq!(post("/api/call/accept", json!({"mac": 3})).await.0, 400);
    assert_eq!(post("/api/call/request", json!([])).await.0, 400);
    let big = format!("{{\"clientIds\":[\"{}\"]}}", "x".repeat(100_000));
    assert_eq!(http(at, "POST", "/api/devices/status", &headers, &big).await.0, 400);
    assert_eq!(gateway.hub.registry.live(), 2);
    assert!(!gateway.hub.hang_up(MediaId { lane: 9, serial: 9 }));
}
