//! ICE-TCP for a participant: its TCP connections live here, its packets pass through its queues. Seldom needed, where
//! UDP does not get through.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_livekit::participant::{TcpId, Transmit};
use evenkeel_livekit::stream::{self, Deframer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::presence::Way;
use crate::lane::guest::livekit::Request;

/// Packets that may wait for a connection. One that does not keep up loses packets, as a network does.
const QUEUE: usize = 64;

/// How long a connection may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Bytes read at once.
const CHUNK: usize = 2048;

type Open = Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>>;

/// See the [module](self).
pub(super) struct Carrier {
    way: Option<Way>,
    open: Open,
    tasks: JoinSet<()>,
}

impl Carrier {
    pub(super) fn new(way: Way) -> Self {
        Self { way: Some(way), open: Open::default(), tasks: JoinSet::new() }
    }

    /// Opens a connection, and reports to the participant when it is open.
    pub(super) fn connect(&mut self, id: TcpId, remote: SocketAddr) {
        let Some(way) = self.way.clone() else { return };
        let open = Arc::clone(&self.open);
        self.tasks.spawn(async move {
            let connecting = tokio::time::timeout(OPEN_LIMIT, TcpStream::connect(remote));
            let Ok(Ok(stream)) = connecting.await else { return };
            let Ok(local) = stream.local_addr() else { return };
            let _ = stream.set_nodelay(true);
            let (packets, queue) = mpsc::channel(QUEUE);
            open.lock().unwrap_or_else(PoisonError::into_inner).insert(local, packets);
            way.ask(Request::TcpOpened { id, local });
            carry(stream, local, remote, queue, &way).await;
            open.lock().unwrap_or_else(PoisonError::into_inner).remove(&local);
            way.ask(Request::TcpClosed(id));
        });
    }

    /// Sends a packet.
    pub(super) fn transmit(&self, transmit: Transmit) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packets) = open.get(&transmit.source)
            && transmit.contents.len() <= stream::PACKET_LIMIT
        {
            let mut framed = Vec::with_capacity(transmit.contents.len() + 2);
            stream::frame(&transmit.contents, &mut framed);
            let _ = packets.try_send(framed);
        }
    }

    /// Closes all.
    pub(super) fn close(&mut self) {
        // The way ends when the last who has it lets go.
        self.way = None;
        self.tasks.abort_all();
    }
}

async fn carry(
    stream: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
    mut queue: mpsc::Receiver<Vec<u8>>,
    way: &Way,
) {
    let (mut reader, mut writer) = stream.into_split();
    let write = async {
        while let Some(packet) = queue.recv().await {
            if writer.write_all(&packet).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let (mut deframer, mut chunk) = (Deframer::new(), vec![0; CHUNK]);
        while let Ok(count) = reader.read(&mut chunk).await
            && count > 0
        {
            let packet = |packet: &[u8]| {
                way.ask(Request::TcpPacket { local, remote, packet: packet.to_vec() });
            };
            if deframer.handle(&chunk[..count], packet).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}
