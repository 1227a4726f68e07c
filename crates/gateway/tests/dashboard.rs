//! The dashboard in a real browser, with live calls on it. `SCREENSHOTS=FOLDER` keeps what it looked like.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use evenkeel_device::call::{self, CallConfig, Speech};
use evenkeel_device::identity::Identity;
use evenkeel_testkit::network::{Jitter, Loss, NetworkConfig};
use evenkeel_testkit::tools;
use serde_json::Value;
use support::whole;

const TOKEN: &str = "secret-token";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_calls_are_shown_and_fit_every_screen() {
    let (Some(chromium), Some(node), Some(packages)) =
        (tools::find("chromium"), tools::find("node"), tools::npm_packages("gateway"))
    else {
        return;
    };
    let gateway = whole(&[("media.lanes", "2"), ("operations.token", TOKEN)]).await;
    let server = gateway.started().mqtt[0].to_string();
    for number in 1..=3 {
        let up = NetworkConfig {
            loss: Loss::Random(0.04 * f64::from(number)),
            jitter: Jitter::Exponential(Duration::from_millis(10)),
            ..NetworkConfig::default()
        };
        let config = CallConfig {
            server: server.clone(),
            identity: Identity::numbered(number, 9, Some(support::KEY)),
            mode: "realtime".to_owned(),
            features: None,
            up,
            down: NetworkConfig::default(),
            seed: 1,
            reply_limit: Duration::from_secs(60),
        };
        // Speaks for a second, listens to the parrot, and so on, for longer than the browser looks.
        let voice = [&[0x58, 0xe0][..], &[7; 90]].concat();
        let silence = vec![0x58, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let turn = [vec![voice; 17], vec![silence.clone(); 30]].concat();
        let packets = turn.iter().cycle().take(3000).cloned().collect();
        // It ends with the gateway.
        std::thread::spawn(move || call::run(&config, Speech { packets, silence: None }));
    }
    let output = tokio::process::Command::new(node)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboard.js"))
        .arg(chromium)
        .args([&gateway.started().operations[0].port().to_string(), TOKEN])
        .args(std::env::var_os("SCREENSHOTS"))
        .env("NODE_PATH", packages)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), output).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let empty = Value::Array(Vec::new());
    assert_eq!((&seen["errors"], &seen["elsewhere"]), (&empty, &empty));
    assert_eq!((&seen["sizes"]["desktop"], &seen["sizes"]["phone"]), (&true.into(), &true.into()));
    assert!(seen["state"].as_str().unwrap().starts_with("up 0:"), "{seen}");
    assert_eq!(seen["page"].as_str(), gateway.started().pages.first().map(String::as_str));
    assert!(seen["tiles"].as_array().unwrap().contains(&"3devices".into()), "{seen}");
    assert_eq!((&seen["lanes"], &seen["plots"]), (&2.into(), &3.into()));
    let calls = seen["calls"].as_array().unwrap();
    for number in 1..=3 {
        let device = format!("02:09:00:00:00:0{number}");
        let shown = calls.iter().any(|call| call.as_str().unwrap().contains(&device));
        assert!(shown, "{device} is not in {calls:?}");
    }
    assert_eq!(seen["stays"], true);
    assert!(seen["traceName"].as_str().unwrap().ends_with(".json"));
    assert!(seen["trace"]["events"].as_array().unwrap().iter().any(|event| event["event"] == "SessionBegan"));
    assert!(seen["trace"]["call"]["received"].as_u64().unwrap() > 0);
    assert_eq!((&seen["strangerCalls"], &seen["wrongToken"]), (&0.into(), &true.into()));
    assert_eq!(seen["loginLeft"], false);
}
