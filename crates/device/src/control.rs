//! The device's MQTT connection.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::DeviceError;
use crate::identity::Identity;
use crate::mqtt::{self, Incoming};
use crate::session::{Hello, Session};

/// How long a device waits for the answer to what it asked, as firmware does.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Where firmware publishes.
const TOPIC: &str = "device-server";

/// A device's connection to the gateway.
pub struct Control {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Control {
    /// Connects to the gateway at `host:port` and proves who the device is.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the gateway does not let it in, or what the network says.
    pub async fn connect(server: &str, identity: &Identity) -> Result<Self, DeviceError> {
        let connecting = async {
            let stream = TcpStream::connect(server).await.map_err(DeviceError::io("connecting"))?;
            stream.set_nodelay(true).map_err(DeviceError::io("connecting"))?;
            let mut control = Self { stream, received: Vec::new() };
            control.write(&mqtt::connect(identity, 240)).await?;
            match control.take().await? {
                Incoming::ConnAck(0) => Ok(control),
                Incoming::ConnAck(code) => Err(DeviceError::Refused { code }),
                other => {
                    let reason = format!("{other:?} came, which is no answer of MQTT");
                    Err(DeviceError::Protocol { what: "CONNACK", reason })
                }
            }
        };
        within("answer to CONNECT", connecting).await
    }

    /// Asks for a media session.
    ///
    /// # Errors
    /// If there is no answer in time, or it is no `hello`.
    pub async fn hello(&mut self, hello: &Hello) -> Result<Session, DeviceError> {
        let answered = async {
            self.say(&hello.to_json()).await?;
            loop {
                let message = self.next().await?;
                match message["type"].as_str() {
                    Some("hello") => return Session::parse(&message),
                    Some("error") => {
                        let reason = message["message"].as_str().unwrap_or("without reason").to_owned();
                        return Err(DeviceError::Protocol { what: "answer to hello", reason });
                    }
                    _ => {}
                }
            }
        };
        within("answer to hello", answered).await
    }

    /// Says that the device listens, as after a wake word.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn listen(&mut self, session: &Session, mode: &str) -> Result<(), DeviceError> {
        let message = json!({"type": "listen", "session_id": session.id, "state": "start", "mode": mode});
        self.say(&message).await
    }

    /// Ends the session and the connection, as far as there still is one.
    pub async fn goodbye(mut self, session_id: Option<&str>) {
        if let Some(session_id) = session_id {
            let _ = self.say(&json!({"type": "goodbye", "session_id": session_id})).await;
        }
        let _ = self.write(&mqtt::DISCONNECT).await;
        let _ = self.stream.shutdown().await;
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn say(&mut self, message: &Value) -> Result<(), DeviceError> {
        self.write(&mqtt::publish(TOPIC, message.to_string().as_bytes())).await
    }

    /// Says that it is still there.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn ping(&mut self) -> Result<(), DeviceError> {
        self.write(&mqtt::PINGREQ).await
    }

    /// The next message from the gateway. Cancel safe.
    ///
    /// # Errors
    /// [`DeviceError::Closed`], or what is malformed.
    pub async fn next(&mut self) -> Result<Value, DeviceError> {
        loop {
            if let Incoming::Publish { payload, .. } = self.take().await? {
                let broken = |error: serde_json::Error| DeviceError::Protocol {
                    what: "message",
                    reason: error.to_string(),
                };
                return serde_json::from_slice(&payload).map_err(broken);
            }
        }
    }

    async fn take(&mut self) -> Result<Incoming, DeviceError> {
        loop {
            let taken = mqtt::take(&mut self.received)
                .map_err(|reason| DeviceError::Protocol { what: "packet", reason: reason.to_owned() })?;
            if let Some(incoming) = taken {
                // Most of the time nothing is under way: thousands of connections then hold no buffer.
                if self.received.is_empty() {
                    self.received = Vec::new();
                }
                return Ok(incoming);
            }
            self.stream.readable().await.map_err(DeviceError::io("receiving"))?;
            let mut chunk = [0; 2048];
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Err(DeviceError::Closed),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(DeviceError::Io { what: "receiving", error }),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        self.stream.write_all(bytes).await.map_err(DeviceError::io("sending"))
    }
}

async fn within<T>(
    what: &'static str,
    work: impl Future<Output = Result<T, DeviceError>>,
) -> Result<T, DeviceError> {
    let late = DeviceError::Timeout { what, seconds: ANSWER_LIMIT.as_secs() };
    timeout(ANSWER_LIMIT, work).await.unwrap_or(Err(late))
}
