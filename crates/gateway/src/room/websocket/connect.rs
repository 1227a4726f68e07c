//! Reaching a chat server: TCP, TLS, the upgrade with its headers, and both hellos.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::json;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::text::{self, ServerText};
use crate::chat::wire::WireError;
use crate::chat::{Connection, Event};
use crate::device::credentials::Mac;
use crate::entropy;
use crate::lane::stream::Stream;
use crate::room::Join;

/// What a server is told of the device in the headers of the upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `device-id`.
    pub mac: Mac,
    /// `client-id`.
    pub uuid: Option<String>,
    /// `x-forwarded-for`, if it is known.
    pub ip: Option<IpAddr>,
}

/// What proves to a server that we may speak for a device.
#[derive(Clone)]
pub struct Bearer {
    key: Option<hmac::Key>,
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bearer({})", if self.key.is_some() { "signed" } else { "test-token" })
    }
}

impl Bearer {
    /// Signs with `secret`; without one, the token is `test-token`.
    #[must_use]
    pub fn new(secret: Option<&str>) -> Self {
        Self { key: secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())) }
    }

    /// The token for one device at one time, in seconds since 1970.
    #[must_use]
    pub fn token(&self, uuid: &str, mac: Mac, unix: u64) -> String {
        match &self.key {
            None => "test-token".to_owned(),
            Some(key) => {
                let tag = hmac::sign(key, format!("{uuid}|{mac}|{unix}").as_bytes());
                format!("{}.{unix}", URL_SAFE_NO_PAD.encode(tag))
            }
        }
    }
}

/// Why a server could not be joined.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("the address is not ws:// or wss:// with a host")]
    Url,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the server answered {0} and not 101 Switching Protocols")]
    Status(StatusCode),
    #[error("the server's answer is not that of a WebSocket handshake")]
    Handshake,
    #[error(transparent)]
    Protocol(#[from] WireError),
    #[error("the server closed before its hello")]
    Closed,
    #[error("no hello within {0:?}")]
    Timeout(Duration),
}

/// How long the whole of it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// A server after both hellos.
pub(super) struct Joined {
    pub(super) stream: Stream,
    pub(super) connection: Connection,
    /// The session as the server knows it.
    pub(super) session_id: Option<String>,
}

/// Connects and exchanges hellos.
pub(super) async fn connect(
    url: &str,
    tls: Arc<rustls::ClientConfig>,
    headers: &Headers,
    token: &str,
    join: &Join,
) -> Result<Joined, ConnectError> {
    let joined = async {
        let uri: Uri = url.parse().map_err(|_| ConnectError::Url)?;
        let key = generate_key();
        let request = request(&uri, &key, headers, token)?;
        let pipe = Pipe::open(&uri, tls).await?;
        let (mut pipe, mut connection) = upgrade(pipe, request, &key).await?;
        let session_id = exchange_hellos(&mut pipe, &mut connection, &hello(join)).await?;
        Ok(Joined { stream: pipe.into_stream()?, connection, session_id })
    };
    tokio::time::timeout(LIMIT, joined).await.unwrap_or(Err(ConnectError::Timeout(LIMIT)))
}

fn request(
    uri: &Uri,
    key: &str,
    headers: &Headers,
    token: &str,
) -> Result<Request<Empty<Bytes>>, ConnectError> {
    let authority = uri.authority().ok_or(ConnectError::Url)?;
    // What stands before an @ is for whoever opens the address, not for the server.
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().map_err(|_| ConnectError::Url)?;
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            request.headers_mut().insert(name, value);
        }
    };
    insert(header::HOST, host);
    insert(header::CONNECTION, "Upgrade");
    insert(header::UPGRADE, "websocket");
    insert(header::SEC_WEBSOCKET_VERSION, "13");
    insert(header::SEC_WEBSOCKET_KEY, key);
    insert(HeaderName::from_static("device-id"), &headers.mac.to_string());
    insert(HeaderName::from_static("protocol-version"), "2");
    insert(header::AUTHORIZATION, &format!("Bearer {token}"));
    if let Some(ip) = headers.ip {
        insert(HeaderName::from_static("x-forwarded-for"), &ip.to_string());
    }
    if let Some(uuid) = &headers.uuid {
        insert(HeaderName::from_static("client-id"), uuid);
    }
    Ok(request)
}

/// From HTTP to WebSocket (RFC 6455, section 4.1).
async fn upgrade(
    pipe: Pipe,
    request: Request<Empty<Bytes>>,
    key: &str,
) -> Result<(Pipe, Connection), ConnectError> {
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD);
    let (mut sender, driver) = http.handshake(TokioIo::new(pipe)).await?;
    let driver = async {
        // How it ends, the answer says too.
        let _ = driver.with_upgrades().await;
        std::future::pending().await
    };
    let answered = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ConnectError::Status(response.status()));
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(ConnectError::Handshake);
        }
        Ok(hyper::upgrade::on(response).await?)
    };
    let upgraded: Upgraded = tokio::select! {
        upgraded = answered => upgraded?,
        never = driver => never,
    };
    let parts = upgraded.downcast::<TokioIo<Pipe>>().map_err(|_| ConnectError::Handshake)?;
    Ok((parts.io.into_inner(), Connection::new(&parts.read_buf)))
}

async fn exchange_hellos(
    pipe: &mut Pipe,
    connection: &mut Connection,
    hello: &str,
) -> Result<Option<String>, ConnectError> {
    connection.send_text(hello, entropy::number());
    loop {
        while let Some(event) = connection.poll_event(entropy::number)? {
            match event {
                Event::Text(text) => {
                    if let Ok(ServerText::Hello { session_id }) = text::parse(text) {
                        return Ok(session_id);
                    }
                }
                Event::Close(_) => return Err(ConnectError::Closed),
                Event::Audio { .. } | Event::Bad => {}
            }
        }
        pipe.write_all(connection.output()).await?;
        pipe.flush().await?;
        connection.consume_output(connection.output().len());
        let mut bytes = [0; 2048];
        match pipe.read(&mut bytes).await? {
            0 => return Err(ConnectError::Closed),
            count => connection.push_input(&bytes[..count]),
        }
    }
}

fn hello(join: &Join) -> String {
    let mut hello = json!({
        "type": "hello",
        "version": 2,
        "transport": "websocket",
        "audio_params": join.uplink.to_json(),
    });
    if let Some(features) = &join.features {
        hello["features"] = features.clone();
    }
    if let Some(font) = &join.text_font {
        hello["text_font"] = font.clone();
    }
    hello.to_string()
}

/// A connection while it is tokio's, with TLS or without.
#[derive(Debug)]
enum Pipe {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Pipe {
    async fn open(uri: &Uri, tls: Arc<rustls::ClientConfig>) -> Result<Self, ConnectError> {
        let host = uri.host().ok_or(ConnectError::Url)?.trim_matches(['[', ']']);
        let (encrypted, port) = match uri.scheme_str() {
            Some("ws") => (false, 80),
            Some("wss") => (true, 443),
            _ => return Err(ConnectError::Url),
        };
        let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(port))).await?;
        tcp.set_nodelay(true)?;
        if !encrypted {
            return Ok(Self::Plain(tcp));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Url)?;
        Ok(Self::Tls(Box::new(TlsConnector::from(tls).connect(name, tcp).await?)))
    }

    /// No longer tokio's.
    fn into_stream(self) -> io::Result<Stream> {
        match self {
            Self::Plain(tcp) => Stream::new(tcp.into_std()?, None),
            Self::Tls(tls) => {
                let (tcp, session) = tls.into_inner();
                Stream::new(tcp.into_std()?, Some(session))
            }
        }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Self::Tls(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
        }
    };
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        Headers {
            mac: "aa_bb_cc_dd_ee_ff".parse().unwrap(),
            uuid: Some("the-uuid".into()),
            ip: Some([203, 0, 113, 7].into()),
        }
    }

    /// Computed with `openssl dgst -sha256 -hmac topsecret -binary | basenc --base64url`.
    #[test]
    fn the_token_is_what_servers_compute() {
        let token = Bearer::new(Some("topsecret")).token("u", headers().mac, 1_700_000_000);
        assert_eq!(token, "2i6bZKiHs0w97VrFXRpyqXERjNqgcCqok6qM0lE7whw.1700000000");
        assert_eq!(Bearer::new(None).token("u", headers().mac, 1), "test-token");
    }

    #[test]
    fn the_upgrade_carries_every_header() {
        let request = |url: &str, headers: &Headers| super::request(&url.parse().unwrap(), "K", headers, "T");
        let sent = request("ws://u:p@127.0.0.1:8000/xiaozhi/v1/?from=mqtt_gateway", &headers()).unwrap();
        assert_eq!(*sent.uri(), "/xiaozhi/v1/?from=mqtt_gateway");
        for (name, value) in [
            ("device-id", "aa:bb:cc:dd:ee:ff"),
            ("client-id", "the-uuid"),
            ("protocol-version", "2"),
            ("x-forwarded-for", "203.0.113.7"),
            ("authorization", "Bearer T"),
            ("host", "127.0.0.1:8000"),
            ("sec-websocket-key", "K"),
        ] {
            assert_eq!(sent.headers()[name], value);
        }
        let odd = Headers { uuid: Some("line\nbreak".into()), ..headers() };
        assert!(!request("ws://h", &odd).unwrap().headers().contains_key("client-id"));
        assert!(matches!(request("/no/host", &odd), Err(ConnectError::Url)));
    }
}
