//! The page in a real browser against a real gateway, and what the gateway answers a browser.
//!
//! The browser's tests run where `EVENKEEL_PAGE` is set, as `make wasm` does. `SCREENSHOTS=FOLDER` keeps what it looked like.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;

use evenkeel_gateway::device::websocket::page;
use evenkeel_gateway::ops::counters::Counter;
use serde_json::{Value, json};
use support::whole;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Status, headers and body.
async fn get(to: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_where_the_setting_says() {
    for (setting, is_there) in [("auto", true), ("on", true), ("off", false)] {
        let gateway = whole(&[("web.page", setting)]).await;
        let web = gateway.started().web[0];
        let (status, head, body) = get(web, "/", "").await;
        assert_eq!(status, if is_there { 200 } else { 426 }, "{setting}");
        let page = format!("http://{web}/");
        let pages = if is_there && page::is_built_in() { vec![page] } else { Vec::new() };
        assert_eq!(gateway.started().pages, pages);
        let (_, _, operations) = get(gateway.started().operations[0], "/api/status", "").await;
        assert_eq!(serde_json::from_str::<Value>(&operations).unwrap()["pages"], json!(pages));
        if !is_there {
            assert_eq!(get(web, page::ADMISSION, "").await.0, 426);
            continue;
        }
        assert!(head.contains("cross-origin-embedder-policy: require-corp"), "{head}");
        assert_eq!(body.contains("built without"), !page::is_built_in());
        assert_eq!(get(web, "/xiaozhi/v1/", "").await.0, 426);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_learns_whether_he_would_be_let_in() {
    let gateway = whole(&[]).await;
    let web = gateway.started().web[0];
    let ids = "Device-Id: AA:bb:cc:dd:ee:01\r\nClient-Id: uuid-1\r\n";
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token =
        evenkeel_gateway::device::credentials::sign_token(support::KEY, "uuid-1|AA:bb:cc:dd:ee:01", unix);
    let refused = || gateway.hub().registry.counters.get(Counter::WebSocketRefused);
    for (headers, status, why, counted) in [
        (String::new(), 400, "`device-id` is missing: give it as a header or in the query string", 0),
        (ids.to_owned(), 401, "the token is missing or wrong", 0),
        (format!("{ids}Authorization: Bearer a.1\r\n"), 401, "the token is missing or wrong", 1),
        (format!("{ids}Authorization: Bearer {token}\r\n"), 200, "", 1),
    ] {
        let (good, head, body) = get(web, page::ADMISSION, &headers).await;
        assert_eq!(good, 200);
        assert!(head.contains("cache-control: no-store"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, json!({"status": status, "why": why}));
        assert_eq!(refused(), counted, "who shows no token only asks");
    }
}
