//! One device's connection, from CONNECT to its end.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::codec::{self, Connect, MqttError, Packet};
use super::endpoint::Shared;
use super::half_open::Place;
use crate::control::{Attachment, Content, OUTLET_CAPACITY, Outgoing};
use crate::device::credentials::{CredentialError, Identity};
use crate::ops::counters::Counter;

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// It was closed, by either side.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// The device broke the protocol.
    Protocol(MqttError),
    /// The device said nothing for 1.5 times its keep-alive.
    KeepAlive,
    /// The device did not read in time.
    SlowReader,
    /// Not let in.
    Refused,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<MqttError> for End {
    fn from(error: MqttError) -> Self {
        Self::Protocol(error)
    }
}

/// Serves a connection that has to say CONNECT by `deadline`.
pub(super) async fn serve<S>(
    stream: S,
    peer: SocketAddr,
    place: Place,
    deadline: Instant,
    shared: &Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let counters = &shared.hub.registry.counters;
    let mut wire = Wire { stream, pending: Vec::new(), write_limit: shared.config.write_limit };
    let connected = match tokio::time::timeout_at(deadline, connect(&mut wire, peer, shared)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(end)) => return note(&end, peer, shared),
        Err(_) => return counters.add(Counter::ConnectTimeout),
    };
    drop(place);
    let end = converse(&mut wire, connected, shared).await;
    note(&end, peer, shared);
}

fn note(end: &End, peer: SocketAddr, shared: &Shared) {
    let counters = &shared.hub.registry.counters;
    match end {
        End::Closed => {}
        End::Io(error) => tracing::debug!(%peer, %error, "connection lost"),
        End::Protocol(error) => {
            tracing::debug!(%peer, %error, "connection closed");
            counters.add(Counter::Malformed);
        }
        End::KeepAlive => counters.add(Counter::KeepAliveExpired),
        End::SlowReader => counters.add(Counter::SlowReader),
        End::Refused => counters.add(Counter::Refused),
    }
}

struct Connected {
    attachment: Attachment,
    outbox: mpsc::Receiver<Box<Outgoing>>,
    keep_alive: Option<Duration>,
}

/// Waits for CONNECT and answers it.
async fn connect<S>(wire: &mut Wire<S>, peer: SocketAddr, shared: &Arc<Shared>) -> Result<Connected, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let max_packet = shared.config.max_packet;
    let (verdict, keep_alive, taken) = loop {
        if let Some((packet, taken)) = codec::decode(&wire.pending, max_packet)? {
            let Packet::Connect(connect) = packet else {
                return Err(MqttError::Malformed { what: "conversation: CONNECT comes first" }.into());
            };
            break (check(&connect, shared), connect.keep_alive, taken);
        }
        wire.read().await?;
    };
    let identity = match verdict {
        Ok(identity) => identity,
        Err(code) => {
            wire.write(&codec::connack(code)).await?;
            let _ = wire.stream.shutdown().await;
            return Err(End::Refused);
        }
    };
    wire.consume(taken);
    wire.write(&codec::connack(0)).await?;
    let (outlet, outbox) = mpsc::channel(OUTLET_CAPACITY);
    let topic = format!("devices/p2p/{}", identity.client.mac.underscored());
    let attachment = shared.hub.attach(identity, topic, Some(peer.ip().to_canonical()), outlet);
    let keep_alive = (keep_alive > 0).then(|| Duration::from_millis(1500 * u64::from(keep_alive)));
    Ok(Connected { attachment, outbox, keep_alive })
}

/// Who it is, or the return code that says why not.
fn check(connect: &Connect<'_>, shared: &Shared) -> Result<Identity, u8> {
    if !matches!(connect.level, 3 | 4) {
        return Err(1);
    }
    if shared.hub.is_draining() {
        return Err(3);
    }
    let gatekeeper = shared.hub.gatekeeper();
    gatekeeper.check(connect.client_id, connect.username, connect.password).map_err(
        |error: CredentialError| {
            tracing::debug!(%error, "not let in");
            error.connack_code()
        },
    )
}

/// Passes messages both ways until the connection ends.
async fn converse<S>(wire: &mut Wire<S>, connected: Connected, shared: &Shared) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Connected { mut attachment, mut outbox, keep_alive } = connected;
    // The timer is not moved by every packet: when it fires, it looks at when the last one came.
    let mut heard = Instant::now();
    let timer = tokio::time::sleep(keep_alive.unwrap_or(Duration::MAX / 4));
    tokio::pin!(timer);
    loop {
        match handle_pending(wire, &mut attachment, shared.config.max_packet).await {
            Ok(()) => {}
            Err(end) => return end,
        }
        tokio::select! {
            read = wire.read() => match read {
                Ok(()) => heard = Instant::now(),
                Err(end) => return end,
            },
            outgoing = outbox.recv() => {
                // The hub let go of this connection: a newer one took its place, or it does not read.
                let Some(outgoing) = outgoing else { return End::Closed };
                if let Err(end) = send(wire, outgoing, &mut outbox).await {
                    return end;
                }
            }
            () = &mut timer, if keep_alive.is_some() => {
                let due = heard + keep_alive.unwrap_or_default();
                if due <= Instant::now() {
                    return End::KeepAlive;
                }
                timer.as_mut().reset(due);
            }
        }
    }
}

/// Writes a message and those that wait behind it in one go, then says so.
async fn send<S>(
    wire: &mut Wire<S>,
    first: Box<Outgoing>,
    outbox: &mut mpsc::Receiver<Box<Outgoing>>,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    let mut written = Vec::new();
    let mut next = Some(first);
    while let Some(outgoing) = next {
        if let Content::Text(text) = &outgoing.content {
            codec::publish(&outgoing.topic, text.as_bytes(), &mut bytes);
        }
        if outgoing.receipt.is_some() {
            written.push(outgoing);
        }
        next = outbox.try_recv().ok();
    }
    wire.write(&bytes).await?;
    written.into_iter().for_each(|outgoing| outgoing.written());
    Ok(())
}

/// Handles every packet that has come whole.
async fn handle_pending<S>(wire: &mut Wire<S>, attachment: &mut Attachment, limit: usize) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pending = std::mem::take(&mut wire.pending);
    let mut at = 0;
    while let Some((packet, taken)) = codec::decode(&pending[at..], limit)? {
        at += taken;
        match packet {
            Packet::Publish { packet_id, payload, .. } => {
                if let Some(id) = packet_id {
                    wire.write(&codec::puback(id)).await?;
                }
                attachment.deliver(payload).await;
            }
            Packet::Subscribe { packet_id, topics } => {
                let mut bytes = Vec::new();
                codec::suback(packet_id, topics, &mut bytes);
                wire.write(&bytes).await?;
            }
            Packet::Unsubscribe { packet_id } => wire.write(&codec::unsuback(packet_id)).await?,
            Packet::PingReq => wire.write(&codec::PINGRESP).await?,
            Packet::PubAck => {}
            Packet::Disconnect => return Err(End::Closed),
            Packet::Connect(_) => {
                return Err(MqttError::Malformed { what: "conversation: a second CONNECT" }.into());
            }
        }
    }
    // What is left is the beginning of a packet, bounded by the limit; mostly it is nothing, and nothing is kept.
    if at < pending.len() {
        wire.pending.extend_from_slice(&pending[at..]);
    }
    Ok(())
}

struct Wire<S> {
    stream: S,
    /// Bytes that came and were not handled; empty, without memory of its own, between packets.
    pending: Vec<u8>,
    write_limit: Duration,
}

/// Bytes taken from a socket at once.
const READ: usize = 2048;

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Adds what came to `pending`. Cancel safe. The buffer is on the stack of one poll, so an idle connection has none.
    async fn read(&mut self) -> Result<(), End> {
        let Self { stream, pending, .. } = self;
        let count = std::future::poll_fn(|cx| {
            let mut bytes = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            pending.extend_from_slice(buffer.filled());
            std::task::Poll::Ready(io::Result::Ok(buffer.filled().len()))
        })
        .await?;
        if count == 0 { Err(End::Closed) } else { Ok(()) }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(self.write_limit, written).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(End::SlowReader),
        }
    }

    fn consume(&mut self, count: usize) {
        self.pending = self.pending.split_off(count);
    }
}
