//! A whole conversation of a simulated device, by every way a device may come: the embedded endpoint, the same with TLS,
//! and an external broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use evenkeel_device::mqtt;
use evenkeel_gateway::device::mqtt::codec::{self, Packet};
use serde_json::{Value, json};
use support::mosquitto::Mosquitto;
use support::parrot::converse;
use support::tls::Certificate;
use support::{packet, until, whole};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional, split};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_embedded_endpoint() {
    let gateway = whole(&[]).await;
    converse(&gateway, gateway.started().mqtt[0]).await;
    until(|| gateway.hub().registry.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_embedded_endpoint_with_tls() {
    let certificate = Certificate::new("conversation");
    let gateway = whole(&[
        ("mqtt.tls_listen", "127.0.0.1:0"),
        ("mqtt.tls_certificate", certificate.file.to_str().unwrap()),
        ("mqtt.tls_key", certificate.key_file.to_str().unwrap()),
    ])
    .await;
    let (server, connector) = (gateway.started().mqtt_tls[0], certificate.connector());
    // The simulated device speaks no TLS itself: a tunnel does it for it, as stunnel would.
    let tunnel = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let entrance = tunnel.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut device, _) = tunnel.accept().await.unwrap();
        let stream = TcpStream::connect(server).await.unwrap();
        let mut tls = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let _ = copy_bidirectional(&mut device, &mut tls).await;
    });
    converse(&gateway, entrance).await;
    until(|| gateway.hub().registry.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_an_external_broker() {
    let Some(broker) = Mosquitto::start() else { return };
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let gateway = whole(&[("broker.url", &url), ("broker.client_id", "evenkeel-conversation")]).await;
    broker.subscribed("evenkeel-conversation", 2).await;
    let entrance = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = entrance.local_addr().unwrap();
    let port = broker.port;
    tokio::spawn(async move {
        let (device, _) = entrance.accept().await.unwrap();
        rule(device, TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await;
    });
    converse(&gateway, address).await;
    until(|| gateway.hub().registry.live() == 0).await;
}

/// What the brokers of the field are set up to do, and mosquitto cannot be: subscribe the device to its own topic as it
/// connects, and say in an envelope who sent what it publishes.
async fn rule(device: TcpStream, broker: TcpStream) {
    let (mut from_device, mut to_device) = split(device);
    let (mut from_broker, mut to_broker) = split(broker);
    tokio::spawn(async move { copy(&mut from_broker, &mut to_device).await });
    let (mut pending, mut client) = (Vec::new(), String::new());
    while from_device.read_buf(&mut pending).await.unwrap() > 0 {
        while let Some((said, taken)) = codec::decode(&pending, 8192).unwrap() {
            let mut passed = pending[..taken].to_vec();
            match said {
                Packet::Connect(connect) => {
                    client = connect.client_id.to_owned();
                    let topic = format!("devices/p2p/{}", client.split("@@@").nth(1).unwrap());
                    let subscribe = [&[0, 1, 0, topic.len() as u8], topic.as_bytes(), &[0]].concat();
                    passed.extend(packet(0x82, &subscribe));
                }
                Packet::Publish { payload, .. } => {
                    let said: Value = serde_json::from_slice(payload).unwrap();
                    let envelope = json!({"sender_client_id": client, "orginal_payload": said});
                    passed = mqtt::publish("internal/server-ingest", envelope.to_string().as_bytes());
                }
                _ => {}
            }
            to_broker.write_all(&passed).await.unwrap();
            pending.drain(..taken);
        }
    }
}
