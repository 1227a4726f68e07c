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
use futures_util::{SinkExt as _, StreamExt as _};
use rustls_pki_types::ServerName;
use serde_json::json;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::frame::{self, ServerText};
use crate::device::credentials::Mac;
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
    WebSocket(#[from] Box<WsError>),
    #[error("the server closed before its hello")]
    Closed,
    #[error("no hello within {0:?}")]
    Timeout(Duration),
}

impl From<WsError> for ConnectError {
    fn from(error: WsError) -> Self {
        Self::WebSocket(Box::new(error))
    }
}

pub(super) type Socket = WebSocketStream<Stream>;

/// How long the whole of it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Buffers are small: a frame of voice has some 200 bytes, and there are thousands of sockets.
fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(256 * 1024))
        .max_frame_size(Some(256 * 1024))
}

/// Connects and exchanges hellos. Gives the socket and the session as the server knows it.
pub(super) async fn connect(
    url: &str,
    tls: Arc<rustls::ClientConfig>,
    headers: &Headers,
    token: &str,
    join: &Join,
) -> Result<(Socket, Option<String>), ConnectError> {
    let joined = async {
        let request = request(url, headers, token)?;
        let stream = Stream::open(request.uri(), tls).await?;
        let (mut socket, _) = client_async_with_config(request, stream, Some(socket_config())).await?;
        socket.send(Message::text(hello(join))).await?;
        loop {
            match socket.next().await.ok_or(ConnectError::Closed)?? {
                Message::Text(text) => {
                    if let Ok(ServerText::Hello { session_id }) = frame::parse_text(text.as_bytes()) {
                        return Ok((socket, session_id));
                    }
                }
                Message::Close(_) => return Err(ConnectError::Closed),
                _ => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, joined).await.unwrap_or(Err(ConnectError::Timeout(LIMIT)))
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

fn request(url: &str, headers: &Headers, token: &str) -> Result<Request, ConnectError> {
    let mut request = url.into_client_request()?;
    let mut insert = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    insert("device-id", &headers.mac.to_string());
    insert("protocol-version", "2");
    insert("authorization", &format!("Bearer {token}"));
    if let Some(ip) = headers.ip {
        insert("x-forwarded-for", &ip.to_string());
    }
    if let Some(uuid) = &headers.uuid {
        insert("client-id", uuid);
    }
    Ok(request)
}

/// A TCP stream, with TLS or without.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
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

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
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
        let request = request("ws://127.0.0.1:8000/xiaozhi/v1/?from=mqtt_gateway", &headers(), "T").unwrap();
        assert_eq!(request.uri().query(), Some("from=mqtt_gateway"));
        for (name, value) in [
            ("device-id", "aa:bb:cc:dd:ee:ff"),
            ("client-id", "the-uuid"),
            ("protocol-version", "2"),
            ("x-forwarded-for", "203.0.113.7"),
            ("authorization", "Bearer T"),
        ] {
            assert_eq!(request.headers()[name], value);
        }
        let odd = Headers { uuid: Some("line\nbreak".into()), ..headers() };
        assert!(!super::request("ws://h/", &odd, "T").unwrap().headers().contains_key("client-id"));
        assert!(super::request("not a url", &headers(), "T").is_err());
    }
}
