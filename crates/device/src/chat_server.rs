//! A chat server that says back each packet as it came: the far side of a gateway whose rooms are chat servers, in a load
//! test. It knows as much of the protocol as that takes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::DeviceError;

/// How long it is deaf before it waits for more, as the devices of a load are: whoever sends to it on the same machine does
/// not pay for waking it at each packet, which a server on another machine costs nobody.
const TURN: Duration = Duration::from_millis(1);

/// Zeros, the timestamp at 8, the length at 12.
const HEADER_LEN: usize = 16;

/// Serves until the process ends. Says by `started` where it listens.
///
/// # Errors
/// If it cannot listen there.
pub fn run(listen: &str, started: impl FnOnce(SocketAddr)) -> Result<Infallible, DeviceError> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().on_thread_park(|| thread::sleep(TURN)).build();
    runtime.map_err(DeviceError::io("a runtime"))?.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(DeviceError::io("listening"))?;
        started(listener.local_addr().map_err(DeviceError::io("listening"))?);
        loop {
            let (stream, _) = listener.accept().await.map_err(DeviceError::io("accepting"))?;
            // A call that ends badly is the gateway's to tell.
            tokio::spawn(async move { serve(stream).await.ok() });
        }
    })
}

async fn serve(stream: TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    let mut sequence = 0;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) => {
                if let Some(answer) = answer(text.as_bytes()) {
                    socket.send(Message::text(answer.to_string())).await?;
                }
            }
            Message::Binary(frame) => {
                sequence += 1;
                if let Some(frame) = echo(frame, sequence) {
                    socket.send(Message::Binary(frame)).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A hello for a hello; and once the device listens, it is spoken to.
fn answer(text: &[u8]) -> Option<Value> {
    let message: Value = serde_json::from_slice(text).ok()?;
    match (message["type"].as_str()?, message["state"].as_str()) {
        ("hello", _) => Some(json!({"type": "hello", "transport": "websocket", "session_id": "echo"})),
        ("listen", Some("start")) => Some(json!({"type": "tts", "state": "start", "session_id": "echo"})),
        _ => None,
    }
}

/// The same packet with the header that servers write: type 1, the length, a sequence, the timestamp, the length again.
fn echo(frame: Bytes, sequence: u32) -> Option<Bytes> {
    let length = u32::try_from(frame.len().checked_sub(HEADER_LEN)?).ok()?;
    let mut frame = Vec::from(frame);
    frame[..4].copy_from_slice(&(0x0100_0000 | length & 0xffff).to_be_bytes());
    frame[4..8].copy_from_slice(&sequence.to_be_bytes());
    frame[12..16].copy_from_slice(&length.to_be_bytes());
    Some(frame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_comes_back_with_its_timestamp_and_a_sequence() {
        let frame = [&[0; 8][..], &[0, 0, 0, 60, 0, 0, 0, 2], b"ab"].concat();
        let back = echo(frame.into(), 7).unwrap();
        assert_eq!(back[..], [&[1, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 60, 0, 0, 0, 2], &b"ab"[..]].concat());
        assert_eq!(echo(Bytes::from_static(&[0; 15]), 1), None);
    }

    #[test]
    fn hello_and_listen_are_answered_and_nothing_else() {
        assert_eq!(answer(br#"{"type":"hello"}"#).unwrap()["type"], "hello");
        assert_eq!(answer(br#"{"type":"listen","state":"start"}"#).unwrap()["state"], "start");
        assert_eq!(answer(br#"{"type":"listen","state":"stop"}"#), None);
        assert_eq!(answer(b"{"), None);
    }
}
