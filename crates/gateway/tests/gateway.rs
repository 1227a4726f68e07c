//! A whole gateway and simulated devices, over real sockets.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use evenkeel_device::load::{self, LoadConfig, LoadReport};
use evenkeel_gateway::config::{Config, Reload, Sources};
use evenkeel_gateway::run::{Gateway, RunError};
use evenkeel_testkit::network::{Jitter, Loss, NetworkConfig};
use support::parrot::{converse, missed, stood_still, talk};
use support::tls::Certificate;
use support::until;
use tokio::net::TcpStream;

fn config(flags: &[(&str, &str)]) -> Config {
    let ours = [
        ("mqtt.listen", "127.0.0.1:0"),
        ("media.udp_address", "127.0.0.1"),
        ("media.udp_port", "0"),
        ("operations.listen", "127.0.0.1:0"),
        ("web.listen", "127.0.0.1:0"),
        ("management.listen", "127.0.0.1:0"),
    ];
    let flags = ours.iter().chain(flags).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&Sources { flags: flags.collect(), ..Sources::default() }).unwrap()
}

async fn load(gateway: &Gateway, config: LoadConfig) -> LoadReport {
    let server = gateway.started().mqtt[0].to_string();
    let run = move || load::run(&LoadConfig { server, ..config }, |_| {}).unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parrot_says_back_what_it_heard_once_the_speaker_pauses() {
    let gateway = Gateway::start(config(&[])).await.unwrap();
    converse(&gateway, gateway.started().mqtt[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bad_network_loses_is_what_the_device_misses() {
    let gateway = Gateway::start(config(&[])).await.unwrap();
    let network = NetworkConfig {
        loss: Loss::Random(0.2),
        jitter: Jitter::Exponential(Duration::from_millis(10)),
        duplicate: 0.1,
        ..NetworkConfig::default()
    };
    let held = talk(gateway.started().mqtt[0], 40, network).await;
    let report = &held.report;
    assert!(report.lost_down > 0, "{report:?}");
    // What was too late to be sent is missed by the device too.
    until(|| report.heard.lost <= report.lost_down + missed(&gateway)).await;
    // What is lost before the first or after the last packet that comes is not missed.
    assert!(report.heard.lost + 4 >= report.lost_down, "{report:?}");
    if !stood_still(&held) {
        until(|| report.heard.packets + report.lost_down + missed(&gateway) >= 40).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_talk_and_listen_at_once_where_loopback_is_on() {
    let gateway = Gateway::start(config(&[("media.lanes", "2"), ("room.loopback", "true")])).await.unwrap();
    let wanted = LoadConfig { devices: 10, duration: Duration::from_secs(2), ..LoadConfig::default() };
    let report = load(&gateway, wanted).await;
    assert_eq!((report.failed, &report.first_failure), (0, &None));
    assert_eq!(report.not_opened, 0);
    assert!(report.sent >= 300, "{}", report.sent);
    // On a machine that stands still, some are too late to be sent.
    if missed(&gateway) == 0 && report.own_lateness_ms.max < 50.0 {
        assert_eq!((report.not_echoed, report.heard.lost), (0, 0), "{report:?}");
        assert!(report.echoed >= report.sent - 3 * 10, "{} of {}", report.echoed, report.sent);
    }
    until(|| gateway.hub().plane.lanes().iter().map(|lane| lane.received).sum::<u64>() >= 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_loopback_is_off_nobody_gets_it() {
    let gateway = Gateway::start(config(&[])).await.unwrap();
    let wanted = LoadConfig { devices: 2, duration: Duration::from_millis(500), ..LoadConfig::default() };
    let report = load(&gateway, wanted).await;
    assert_eq!((report.failed, report.echoed), (0, 0));
    assert!(report.sent > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_devices_that_can_prove_who_they_are_come_in() {
    let gateway = Gateway::start(config(&[("devices.signature_key", "k1")])).await.unwrap();
    for (key, failed) in [(Some("k1"), 0), (Some("k2"), 3), (None, 3)] {
        let wanted = LoadConfig {
            devices: 3,
            duration: Duration::from_millis(100),
            signature_key: key.map(str::to_owned),
            ..LoadConfig::default()
        };
        let report = load(&gateway, wanted).await;
        assert_eq!(report.failed, failed, "{key:?}: {:?}", report.first_failure);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_the_key_and_says_what_takes_a_restart() {
    let mut gateway = Gateway::start(config(&[("devices.signature_key", "k1")])).await.unwrap();
    let reload = gateway.reload(&config(&[("devices.signature_key", "k2"), ("media.lanes", "1")]));
    assert_eq!((reload.changed, reload.pending), (vec!["devices.signature_key"], vec!["media.lanes"]));
    for (key, failed) in [("k1", 1), ("k2", 0)] {
        let wanted = LoadConfig {
            devices: 1,
            duration: Duration::from_millis(100),
            signature_key: Some(key.to_owned()),
            ..LoadConfig::default()
        };
        assert_eq!(load(&gateway, wanted).await.failed, failed, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_reads_certificates_anew_and_keeps_those_that_were_if_it_cannot() {
    let (served, renewed) = (Certificate::new("served"), Certificate::new("renewed"));
    let (file, key) = (served.file.to_str().unwrap(), served.key_file.to_str().unwrap());
    let settings = config(&[
        ("devices.signature_key", "k1"),
        ("mqtt.tls_listen", "127.0.0.1:0"),
        ("mqtt.tls_certificate", file),
        ("mqtt.tls_key", key),
        ("web.tls_listen", "127.0.0.1:0"),
        ("web.tls_certificate", file),
        ("web.tls_key", key),
    ]);
    let mut gateway = Gateway::start(settings.clone()).await.unwrap();
    let started = gateway.started().clone();
    let trusted = async |certificate: &Certificate| {
        let mut trusted = Vec::new();
        for address in [started.mqtt_tls[0], started.web_tls[0]] {
            let tcp = TcpStream::connect(address).await.unwrap();
            let greeted = certificate.connector().connect("localhost".try_into().unwrap(), tcp).await;
            trusted.push(greeted.is_ok());
        }
        trusted
    };
    assert_eq!((trusted(&served).await, trusted(&renewed).await), (vec![true; 2], vec![false; 2]));
    assert_eq!(gateway.reload(&settings), Reload::default(), "they are as they were");

    let both = ["mqtt.tls_certificate", "web.tls_certificate"];
    std::fs::copy(&renewed.file, &served.file).unwrap();
    let reload = gateway.reload(&settings);
    assert_eq!(
        (reload.changed.len(), reload.failed.len()),
        (0, 2),
        "the key is still the other one's: {reload:?}"
    );
    assert!(both.iter().zip(&reload.failed).all(|(name, failed)| failed.contains(name)), "{reload:?}");
    assert_eq!((trusted(&served).await, trusted(&renewed).await), (vec![true; 2], vec![false; 2]));

    std::fs::copy(&renewed.key_file, &served.key_file).unwrap();
    assert_eq!(gateway.reload(&settings), Reload { changed: both.to_vec(), ..Reload::default() });
    assert_eq!((trusted(&served).await, trusted(&renewed).await), (vec![false; 2], vec![true; 2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_gateway_ends_when_its_calls_do() {
    let gateway = Gateway::start(config(&[("call.drain_limit", "5s")])).await.unwrap();
    let wanted = LoadConfig { devices: 2, duration: Duration::from_millis(500), ..LoadConfig::default() };
    assert_eq!(load(&gateway, wanted).await.failed, 0);
    tokio::time::timeout(Duration::from_secs(10), gateway.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["mqtt.listen", "operations.listen"] {
        let error = Gateway::start(config(&[(setting, &address)])).await.unwrap_err();
        assert!(matches!(error, RunError::Listen { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&address) && text.contains(setting) && text.contains("another"), "{text}");
    }
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = Gateway::start(config(&[("media.udp_port", &port), ("media.lanes", "1")])).await.unwrap_err();
    assert!(error.to_string().contains(&port) && error.to_string().contains("media.udp_port"), "{error}");
}
