//! One device's connection, from the upgrade to its end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::endpoint::Shared;
use super::frame::{self, Frame, Version};
use crate::control::{Attachment, Content, Outgoing};
use crate::device::limits::{Bucket, Rate};
use crate::ops::counters::Counter;

/// Packets of one device: those of 2.5 ms, the shortest there are, and a burst after a stall.
const PACKETS: Rate = Rate { burst: 400, per_second: 420.0 };

/// How often a silent device is asked whether it is there; twice that without a word, and it is not.
const PING: Duration = Duration::from_secs(20);

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// It was closed or lost.
    Closed,
    /// The hub let go of it: its session is over, or a newer connection took its place.
    LetGo,
    /// The device broke the protocol.
    Protocol(Error),
    /// The device said nothing, not even that it is there.
    Silent,
    /// The device did not read in time.
    SlowReader,
}

/// Passes messages and audio both ways until the connection ends.
pub(super) async fn serve<S>(
    stream: S,
    version: Version,
    attachment: Attachment,
    outbox: mpsc::Receiver<Box<Outgoing>>,
    shared: &Shared,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limit = shared.config.max_message;
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let clock = shared.hub.clock;
    let packets = Bucket::new(PACKETS, clock.now());
    let mut conversation = Conversation { socket, version, attachment, packets, shared };
    let end = conversation.run(outbox).await;
    let counters = &shared.hub.registry.counters;
    let code = match end {
        End::Closed => None,
        End::LetGo => Some(CloseCode::Normal),
        End::Protocol(error) => {
            tracing::debug!(%error, "connection closed");
            counters.add(Counter::WebSocketMalformed);
            Some(CloseCode::Policy)
        }
        End::Silent => {
            counters.add(Counter::WebSocketSilent);
            None
        }
        End::SlowReader => {
            counters.add(Counter::SlowReader);
            None
        }
    };
    if let Some(code) = code {
        let frame = CloseFrame { code, reason: "".into() };
        let farewell = async {
            let _ = conversation.socket.close(Some(frame)).await;
            // Until the device has answered, what was said to it may still be on its way.
            while let Some(Ok(_)) = conversation.socket.next().await {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
    }
}

struct Conversation<'a, S> {
    socket: WebSocketStream<S>,
    version: Version,
    attachment: Attachment,
    packets: Bucket,
    shared: &'a Shared,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    async fn run(&mut self, mut outbox: mpsc::Receiver<Box<Outgoing>>) -> End {
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval_at(heard + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let handled = tokio::select! {
                message = self.socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(message)) => self.take(message).await,
                        Some(Err(error)) => Err(lost(error)),
                        None => Err(End::Closed),
                    }
                }
                outgoing = outbox.recv() => match outgoing {
                    Some(outgoing) => self.send(outgoing, &mut outbox).await,
                    None => Err(End::LetGo),
                },
                _ = ping.tick() => {
                    if heard.elapsed() >= 2 * PING { Err(End::Silent) } else { self.write([Message::Ping(Bytes::new())]).await }
                }
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => self.take_text(Bytes::from(text)).await,
            Message::Binary(bytes) => match frame::parse(self.version, &bytes) {
                Ok(Frame::Audio { opus, timestamp }) => {
                    let now = self.shared.hub.clock.now();
                    if self.packets.take(PACKETS, now) {
                        self.attachment.hear(opus, timestamp);
                    } else {
                        self.shared.hub.registry.counters.add(Counter::AudioDropped);
                    }
                    Ok(())
                }
                Ok(Frame::Text(text)) => self.take_text(text).await,
                Err(error) => {
                    tracing::debug!(%error, "bad frame");
                    self.shared.hub.registry.counters.add(Counter::WebSocketBadFrames);
                    Ok(())
                }
            },
            Message::Close(_) => Err(End::Closed),
            // Pings are answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    async fn take_text(&mut self, text: Bytes) -> Result<(), End> {
        if let Some(answer) = pong(&text) {
            return self.write([Message::text(answer)]).await;
        }
        self.attachment.deliver(&text).await;
        Ok(())
    }

    /// Writes what is to be said and what waits behind it in one go, then says so.
    async fn send(
        &mut self,
        first: Box<Outgoing>,
        outbox: &mut mpsc::Receiver<Box<Outgoing>>,
    ) -> Result<(), End> {
        let mut written = Vec::new();
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(mut outgoing) = next {
            let content = std::mem::replace(&mut outgoing.content, Content::Text(String::new()));
            messages.push(match content {
                Content::Text(text) => Message::text(text),
                Content::Audio { opus, timestamp } => {
                    Message::binary(frame::emit(self.version, timestamp, &opus))
                }
            });
            if outgoing.receipt.is_some() {
                written.push(outgoing);
            }
            next = outbox.try_recv().ok();
        }
        self.write(messages).await?;
        written.into_iter().for_each(|outgoing| outgoing.written());
        Ok(())
    }

    async fn write(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), End> {
        let socket = &mut self.socket;
        let written = async {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        match tokio::time::timeout(self.shared.config.write_limit, written).await {
            Ok(result) => result.map_err(lost),
            Err(_) => Err(End::SlowReader),
        }
    }
}

fn lost(error: Error) -> End {
    match error {
        Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_) => End::Protocol(error),
        _ => End::Closed,
    }
}

/// Browsers cannot ping. So `{"type":"ping","id":…}` is answered here, with `pong` and the same number.
fn pong(text: &[u8]) -> Option<String> {
    // No message of a device is as short and begins so.
    if text.len() > 64 || !text.windows(6).any(|part| part == b"\"ping\"") {
        return None;
    }
    let value: Value = serde_json::from_slice(text).ok()?;
    let id = value.get("id")?.as_u64()?;
    (value.get("type")? == "ping").then(|| serde_json::json!({"type": "pong", "id": id}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_answered_with_their_number_and_nothing_else_is() {
        assert_eq!(pong(br#"{"type":"ping","id":7}"#).as_deref(), Some(r#"{"id":7,"type":"pong"}"#));
        for other in [
            r#"{"type":"ping"}"#,
            r#"{"type":"ping","id":"x"}"#,
            r#"{"type":"x","id":7,"y":"ping"}"#,
            "\"ping\"",
        ] {
            assert_eq!(pong(other.as_bytes()), None, "{other}");
        }
    }
}
