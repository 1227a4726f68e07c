//! What an operator sees of a whole gateway.

use evenkeel_gateway::run::Gateway;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::eventually;

/// A page of the operations port.
pub async fn page(gateway: &Gateway, path: &str) -> String {
    let mut stream = TcpStream::connect(gateway.started().operations[0]).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A figure of `/metrics`, over all of its labels that contain `label`.
pub async fn metric(gateway: &Gateway, name: &str, label: &str) -> u64 {
    let text = page(gateway, "/metrics").await;
    let of_name = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values = of_name.filter(|line| line.contains(label)).filter_map(|line| line.rsplit(' ').next());
    let values: Vec<f64> = values.map(|value| value.parse().unwrap()).collect();
    assert!(!values.is_empty(), "there is no {name} with {label:?}");
    values.iter().sum::<f64>() as u64
}

/// Waits until a figure has reached a value; it must not go beyond.
pub async fn counted(gateway: &Gateway, name: &str, label: &str, value: u64) {
    counted_at_least(gateway, name, label, value).await;
    assert_eq!(metric(gateway, name, label).await, value, "{name} {label}");
}

/// Waits until a figure has reached a value.
pub async fn counted_at_least(gateway: &Gateway, name: &str, label: &str, value: u64) {
    let reached = async || metric(gateway, name, label).await >= value;
    assert!(
        eventually(reached).await,
        "{name} {label} is {}, not {value}",
        metric(gateway, name, label).await
    );
}
