//! Listening for WebSockets, and who is let in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::request::{self, Caller};
use super::visit::Visit;
use super::{connection, origin, page};
use crate::config::PageSwitch;
use crate::control::{Hub, OUTLET_CAPACITY};
use crate::device::credentials::Identity;
use crate::media::Transport;
use crate::ops::counters::Counter;

/// How connections are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebConfig {
    /// The longest message, in bytes. Default 8192.
    pub max_message: usize,
    /// How long a connection may take until it is a WebSocket, TLS included. Default 10 s.
    pub connect_limit: Duration,
    /// Connections in all; beyond it new ones are closed. Default 20,000.
    pub max_connections: usize,
    /// How long a device may take to read what it is sent. Default 10 s.
    pub write_limit: Duration,
    /// How long after it was signed a token is good. Default 30 days.
    pub token_lifetime: Duration,
    /// Where the [`page`] is. Default `auto`: on loopback.
    pub page: PageSwitch,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            max_message: 8192,
            connect_limit: Duration::from_secs(10),
            max_connections: 20_000,
            write_limit: Duration::from_secs(10),
            token_lifetime: Duration::from_secs(30 * 24 * 3600),
            page: PageSwitch::Auto,
        }
    }
}

/// One listening socket.
pub struct Web {
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    pub(super) config: WebConfig,
    shows_page: bool,
    connections: AtomicUsize,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Web {
    /// Listens on `address`, with TLS if there is a configuration for it. Devices wait in the backlog until [`Web::run`].
    ///
    /// # Errors
    /// What the system says of the address.
    pub fn bind(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        config: WebConfig,
        hub: Arc<Hub>,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(4096)?;
        let shows_page = match config.page {
            PageSwitch::Auto => address.ip().is_loopback(),
            PageSwitch::On => true,
            PageSwitch::Off => false,
        };
        let shared = Arc::new(Shared { hub, config, shows_page, connections: AtomicUsize::new(0) });
        Ok(Self { listener, shared, tls: tls.map(TlsAcceptor::from) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the page is, if it is here.
    ///
    /// # Errors
    /// What the system says.
    pub fn page(&self) -> io::Result<Option<String>> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = self.local_addr()?;
        Ok((self.shared.shows_page && page::is_built_in()).then(|| format!("{scheme}://{address}/")))
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

    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let counters = &self.shared.hub.registry.counters;
        counters.add(Counter::WebSocketAccepted);
        let Some(seat) = Seat::take(&self.shared) else {
            return counters.add(Counter::WebSocketTooMany);
        };
        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let limit = shared.config.connect_limit;
            match tls {
                None => serve(stream, Peer { address, is_encrypted: false }, &shared).await,
                Some(tls) => match tokio::time::timeout(limit, tls.accept(stream)).await {
                    Ok(Ok(stream)) => serve(stream, Peer { address, is_encrypted: true }, &shared).await,
                    Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
                    Err(_) => shared.hub.registry.counters.add(Counter::WebSocketTimeout),
                },
            }
            drop(seat);
        });
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

/// Who speaks, and whether by TLS.
#[derive(Clone, Copy)]
struct Peer {
    address: SocketAddr,
    is_encrypted: bool,
}

/// A device that was let in, and the connection that is about to be its own.
type Admitted = (Identity, Caller, OnUpgrade);

/// Answers requests until one is an upgrade, then is a WebSocket.
async fn serve<S>(stream: S, peer: Peer, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (admitted, mut admissions) = mpsc::channel::<Admitted>(1);
    let limit = shared.config.connect_limit;
    let visit = Visit::new(limit);
    let service = service_fn(|request| {
        let answer = answer(request, peer, shared, &admitted, &visit);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A browser that keeps the connection for later opens another one then.
    if visit.is_overdue(http).await {
        return shared.hub.registry.counters.add(Counter::WebSocketTimeout);
    }
    let Ok((identity, caller, upgrade)) = admissions.try_recv() else { return };
    let Ok(upgraded) = upgrade.await else { return };
    let (outlet, outbox) = mpsc::channel(OUTLET_CAPACITY);
    let topic = String::new();
    let ip = Some(peer.address.ip().to_canonical());
    let attachment = shared.hub.attach_by(Transport::WebSocket, identity, topic, ip, outlet);
    connection::serve(TokioIo::new(upgraded), caller.version, attachment, outbox, shared).await;
}

type Answer = Response<Full<Bytes>>;

fn answer(
    mut request: Request<Incoming>,
    peer: Peer,
    shared: &Shared,
    admitted: &mpsc::Sender<Admitted>,
    visit: &Visit,
) -> Answer {
    if shared.shows_page && !is_upgrade(&request) {
        if request.uri().path() == page::ADMISSION {
            visit.note_file();
            return tell_admission(&request, peer, shared);
        }
        if let Some(file) = page::answer(&request) {
            visit.note_file();
            return file;
        }
    }
    match upgrade(&mut request, peer, shared) {
        Ok((key, admission)) => {
            if admitted.try_send(admission).is_err() {
                return say(StatusCode::BAD_REQUEST, "one upgrade is enough");
            }
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            response
        }
        Err(refusal) => refuse(refusal, peer, shared),
    }
}

/// What an upgrade would be told. All of it is a good answer: to a browser, others are errors of the page.
fn tell_admission(request: &Request<Incoming>, peer: Peer, shared: &Shared) -> Answer {
    let (status, why) = match admit(request, peer, shared) {
        Ok(_) => (StatusCode::OK, String::new()),
        Err((status, why)) => {
            // Who shows no token asks whether one is needed.
            if request::shows_token(|name| text(request.headers(), name), request.uri().query()) {
                note_refusal(status, &why, peer, shared);
            }
            (status, why)
        }
    };
    let body = serde_json::json!({"status": status.as_u16(), "why": why}).to_string();
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What the caller is told, and why.
type Refusal = (StatusCode, String);

fn refuse((status, why): Refusal, peer: Peer, shared: &Shared) -> Answer {
    note_refusal(status, &why, peer, shared);
    say(status, &why)
}

fn note_refusal(status: StatusCode, why: &str, peer: Peer, shared: &Shared) {
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        shared.hub.registry.counters.add(Counter::WebSocketRefused);
        tracing::debug!(peer = %peer.address, why, "not let in");
    }
}

fn say(status: StatusCode, why: &str) -> Answer {
    let mut response = Response::new(Full::from(format!("{why}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    response
}

fn is_upgrade(request: &Request<Incoming>) -> bool {
    request.method() == Method::GET && has_token(request.headers(), &header::UPGRADE, "websocket")
}

/// The key of the handshake (RFC 6455, section 4.2.2) and who was let in, or why not.
fn upgrade(
    request: &mut Request<Incoming>,
    peer: Peer,
    shared: &Shared,
) -> Result<(String, Admitted), Refusal> {
    let headers = request.headers();
    if !is_upgrade(request) {
        let why = "this port is for devices that speak WebSocket";
        return Err((StatusCode::UPGRADE_REQUIRED, why.to_owned()));
    }
    let key = text(headers, header::SEC_WEBSOCKET_KEY.as_str()).map(str::to_owned);
    let version = text(headers, header::SEC_WEBSOCKET_VERSION.as_str());
    let Some(key) =
        key.filter(|_| version == Some("13") && has_token(headers, &header::CONNECTION, "upgrade"))
    else {
        return Err((StatusCode::BAD_REQUEST, "not a WebSocket handshake of version 13".to_owned()));
    };
    let (identity, caller) = admit(request, peer, shared)?;
    let upgrade = hyper::upgrade::on(request);
    Ok((key, (identity, caller, upgrade)))
}

/// Who is let in, or why not.
fn admit(request: &Request<Incoming>, peer: Peer, shared: &Shared) -> Result<(Identity, Caller), Refusal> {
    let refuse = |status, why: &str| Err((status, why.to_owned()));
    let headers = request.headers();
    let caller = Caller::read(|name| text(headers, name), request.uri().query())
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let gatekeeper = shared.hub.gatekeeper();
    if !gatekeeper.is_signed() && !origin::may_call(headers, peer.is_encrypted) {
        return refuse(
            StatusCode::FORBIDDEN,
            "pages of other sites may not call while no signature key is set",
        );
    }
    if shared.hub.is_draining() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is draining");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let identity = gatekeeper
        .check_token(
            caller.client.clone(),
            &format!("{}|{}", caller.client_id, caller.device_id),
            caller.token.expose(),
            now,
            shared.config.token_lifetime,
        )
        .map_err(|error| (StatusCode::UNAUTHORIZED, error.to_string()))?;
    Ok((identity, caller))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}
