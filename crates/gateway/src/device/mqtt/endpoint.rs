//! Listening, and how many may.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::half_open::HalfOpen;
use crate::control::Hub;
use crate::ops::counters::Counter;

/// How connections are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The longest packet, in bytes after the fixed header. Default 8192.
    pub max_packet: usize,
    /// How long a connection may take to say CONNECT, TLS included. Default 10 s.
    pub connect_limit: Duration,
    /// Connections that have not said CONNECT; beyond it the oldest is closed. Default 4096.
    pub max_half_open: usize,
    /// Connections in all; beyond it new ones are closed. Default 20,000.
    pub max_connections: usize,
    /// How long a device may take to read what it is sent. Default 10 s.
    pub write_limit: Duration,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            max_packet: 8192,
            connect_limit: Duration::from_secs(10),
            max_half_open: 4096,
            max_connections: 20_000,
            write_limit: Duration::from_secs(10),
        }
    }
}

/// One listening socket.
pub struct Endpoint {
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    pub(super) config: EndpointConfig,
    half_open: Arc<HalfOpen>,
    connections: AtomicUsize,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Listens on `address`, with TLS if there is a configuration for it. Devices wait in the backlog until
    /// [`Endpoint::run`].
    ///
    /// # Errors
    /// What the system says of the address.
    pub fn bind(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        config: EndpointConfig,
        hub: Arc<Hub>,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(4096)?;
        let half_open = HalfOpen::new(config.max_half_open);
        let shared = Shared { hub, config, half_open, connections: AtomicUsize::new(0) };
        Ok(Self { listener, shared: Arc::new(shared), tls: tls.map(TlsAcceptor::from) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes connections until cancelled.
    pub async fn run(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    // Mostly too many open files: those there are go on, and there may be room soon.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let shared = &self.shared;
        let counters = &shared.hub.registry.counters;
        counters.add(Counter::Accepted);
        let Some(seat) = Seat::take(shared) else {
            return counters.add(Counter::TooManyConnections);
        };
        let place = shared.half_open.place();
        let number = place.number();
        let (shared_, tls) = (Arc::clone(shared), self.tls.clone());
        let deadline = Instant::now() + shared.config.connect_limit;
        let task = tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match tls {
                None => connection::serve(stream, peer, place, deadline, &shared_).await,
                Some(tls) => {
                    let counters = &shared_.hub.registry.counters;
                    match tokio::time::timeout_at(deadline, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            connection::serve(Box::new(stream), peer, place, deadline, &shared_).await;
                        }
                        Ok(Err(error)) => {
                            tracing::debug!(%peer, %error, "no TLS");
                            counters.add(Counter::TlsFailed);
                        }
                        Err(_) => counters.add(Counter::ConnectTimeout),
                    }
                }
            }
            drop(seat);
        });
        if shared.half_open.admit(number, task.abort_handle()) {
            counters.add(Counter::HalfOpenEvicted);
        }
    }
}

/// One of the connections there may be.
struct Seat(Arc<Shared>);

impl Seat {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let seat = Self(Arc::clone(shared));
        let taken = shared.connections.fetch_add(1, Ordering::Relaxed);
        (taken < shared.config.max_connections).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
