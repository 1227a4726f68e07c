//! One try to connect: the request, the upgrade, and the server's first message.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::StreamExt as _;
use livekit_protocol as proto;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::{Connections, SignalConfig};
use crate::error::{SignalError, shorten};

/// The signalling version spoken here.
const PROTOCOL: i32 = 16;
/// How much a connection reads and writes at once, in bytes; the library's own default is 128 KiB each.
const IO_BUFFER: usize = 4 * 1024;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What to ask the server for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    Join,
    Resume { participant_sid: &'a str },
}

/// A connection on which the server has sent its first message.
pub(super) struct Opened {
    pub(super) socket: Socket,
    pub(super) connections: Connections,
    pub(super) first: proto::SignalResponse,
}

/// Connects, within the configured time, falling back to two peer connections where the server knows no single one.
pub(super) async fn connect(
    config: &SignalConfig,
    url: &str,
    token: &str,
    connections: Connections,
    purpose: Purpose<'_>,
) -> Result<Opened, SignalError> {
    let after = config.connect_timeout;
    let opening = async {
        match open(config, url, token, connections, purpose).await {
            Err(SignalError::ServiceNotFound) if connections == Connections::Single => {
                open(config, url, token, Connections::Dual, purpose).await
            }
            other => other,
        }
    };
    tokio::time::timeout(after, opening)
        .await
        .unwrap_or(Err(SignalError::Timeout { after, during: "connecting to the room" }))
}

async fn open(
    config: &SignalConfig,
    url: &str,
    token: &str,
    connections: Connections,
    purpose: Purpose<'_>,
) -> Result<Opened, SignalError> {
    let address = address(url, connections, config.disable_ice_lite, purpose)?;
    let bad_url = |reason| SignalError::Url { url: url.to_owned(), reason };
    let mut request = address.into_client_request().map_err(|_| bad_url("it does not parse"))?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| SignalError::TokenRefused { detail: "it holds characters no token has".into() })?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);

    let limits = WebSocketConfig::default()
        .read_buffer_size(IO_BUFFER)
        .write_buffer_size(IO_BUFFER)
        .max_write_buffer_size(config.message_limit + IO_BUFFER)
        .max_message_size(Some(config.message_limit))
        .max_frame_size(Some(config.message_limit));
    let tls = Connector::Rustls(config.tls.clone().unwrap_or_else(default_tls));
    let (mut socket, _) =
        tokio_tungstenite::connect_async_tls_with_config(request, Some(limits), true, Some(tls))
            .await
            .map_err(|e| failure(e, config.message_limit))?;
    let first = loop {
        if let Some(message) = next_message(&mut socket, config.message_limit).await? {
            break message;
        }
    };
    Ok(Opened { socket, connections, first })
}

/// The next signal message; `None` for a frame that carries none.
pub(super) async fn next_message(
    socket: &mut Socket,
    limit: usize,
) -> Result<Option<proto::SignalResponse>, SignalError> {
    match socket.next().await {
        Some(Ok(Message::Binary(bytes))) => super::parse(&bytes, limit).map(Some),
        Some(Ok(Message::Text(_))) => {
            Err(SignalError::Garbage { reason: "a text frame, where only binary ones are".into() })
        }
        Some(Ok(Message::Close(frame))) => Err(SignalError::Closed { code: frame.map(|f| f.code.into()) }),
        Some(Ok(_)) => Ok(None),
        Some(Err(e)) => Err(failure(e, limit)),
        None => Err(SignalError::Closed { code: None }),
    }
}

/// What went wrong, in our words.
pub(super) fn failure(error: Error, limit: usize) -> SignalError {
    match error {
        Error::Http(response) => refusal(&response),
        Error::Capacity(_) => SignalError::Oversized { limit },
        Error::ConnectionClosed | Error::AlreadyClosed => SignalError::Closed { code: None },
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => SignalError::Closed { code: None },
        Error::Io(e) => SignalError::Unreachable { reason: shorten(&e.to_string()) },
        Error::Tls(e) => SignalError::Unreachable { reason: shorten(&format!("TLS: {e}")) },
        Error::Url(_) | Error::HttpFormat(_) => {
            SignalError::Url { url: String::new(), reason: "no request can be made of it" }
        }
        other => SignalError::Garbage { reason: shorten(&other.to_string()) },
    }
}

fn refusal(response: &Response<Option<Vec<u8>>>) -> SignalError {
    let status = response.status().as_u16();
    let body = response.body().as_deref().unwrap_or_default();
    let detail = shorten(&String::from_utf8_lossy(&body[..body.len().min(1000)]));
    match status {
        401 if detail.contains("expired") => SignalError::TokenExpired,
        401 => SignalError::TokenRefused { detail },
        404 if detail.contains("room does not exist") => SignalError::RoomNotFound,
        404 => SignalError::ServiceNotFound,
        500.. => SignalError::Server { status, detail },
        _ => SignalError::Refused { status, detail },
    }
}

/// The address to ask: path and query by how many peer connections there shall be.
fn address(
    url: &str,
    connections: Connections,
    disable_ice_lite: bool,
    purpose: Purpose<'_>,
) -> Result<String, SignalError> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("wss" | "https", rest)) => ("wss", rest),
        Some(("ws" | "http", rest)) => ("ws", rest),
        Some(_) => return Err(SignalError::Url { url: url.to_owned(), reason: "unknown scheme" }),
        None => return Err(SignalError::Url { url: url.to_owned(), reason: "no scheme" }),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    if rest.is_empty() {
        return Err(SignalError::Url { url: url.to_owned(), reason: "no host" });
    }
    let version = env!("CARGO_PKG_VERSION");
    Ok(match connections {
        Connections::Single => {
            let wrapped = proto::WrappedJoinRequest {
                compression: proto::wrapped_join_request::Compression::None.into(),
                join_request: join_request(disable_ice_lite, purpose).encode_to_vec(),
            };
            format!("{scheme}://{rest}/rtc/v1?join_request={}", URL_SAFE.encode(wrapped.encode_to_vec()))
        }
        Connections::Dual => {
            // Full ICE, always: against a lite server the second connection, which it offers, did not come up.
            let mut address = format!(
                "{scheme}://{rest}/rtc?protocol={PROTOCOL}&sdk=rust&version={version}&auto_subscribe=0\
                 &disable_ice_lite=1"
            );
            if let Purpose::Resume { participant_sid } = purpose {
                address.push_str("&reconnect=1&sid=");
                // Sids are letters, digits and '_'; anything else a server may call one is not passed on.
                address.extend(participant_sid.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_'));
            }
            address
        }
    })
}

/// Subscriptions are asked for one by one, so that neither video nor too many tracks ever come.
fn join_request(disable_ice_lite: bool, purpose: Purpose<'_>) -> proto::JoinRequest {
    let mut request = proto::JoinRequest {
        client_info: Some(proto::ClientInfo {
            sdk: proto::client_info::Sdk::Rust.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            os: std::env::consts::OS.into(),
            ..proto::ClientInfo::default()
        }),
        connection_settings: Some(proto::ConnectionSettings {
            auto_subscribe: false,
            disable_ice_lite,
            auto_subscribe_data_track: Some(false),
            ..proto::ConnectionSettings::default()
        }),
        ..proto::JoinRequest::default()
    };
    if let Purpose::Resume { participant_sid } = purpose {
        request.reconnect = true;
        request.participant_sid = participant_sid.to_owned();
    }
    request
}

/// The certificates this machine trusts, read once for all connections.
fn default_tls() -> Arc<rustls::ClientConfig> {
    static TLS: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    TLS.get_or_init(|| {
        let mut roots = rustls::RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if added == 0 {
            tracing::warn!(
                "this machine trusts no certificate; wss servers will be refused (ca-certificates?)"
            );
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_single_connection_is_asked_for_with_a_join_request() {
        let a = address("https://lk.example/", Connections::Single, false, Purpose::Join).unwrap();
        let encoded = a.strip_prefix("wss://lk.example/rtc/v1?join_request=").unwrap();
        let wrapped = proto::WrappedJoinRequest::decode(&*URL_SAFE.decode(encoded).unwrap()).unwrap();
        let join = proto::JoinRequest::decode(&*wrapped.join_request).unwrap();
        assert_eq!(join.client_info.unwrap().protocol, PROTOCOL);
        assert!(!join.reconnect);
    }

    #[test]
    fn resuming_names_the_participant_in_both_forms() {
        let purpose = Purpose::Resume { participant_sid: "PA_x&y=z" };
        let a = address("ws://h:7880", Connections::Dual, false, purpose).unwrap();
        assert!(a.starts_with("ws://h:7880/rtc?protocol=16&"), "{a}");
        assert!(a.ends_with("&reconnect=1&sid=PA_xyz"), "{a}");
        let join = join_request(false, purpose);
        assert!(join.reconnect);
        assert_eq!(join.participant_sid, "PA_x&y=z");
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_reason() {
        for (url, reason) in
            [("host", "no scheme"), ("mqtt://host", "unknown scheme"), ("wss:///", "no host")]
        {
            match address(url, Connections::Single, false, Purpose::Join) {
                Err(SignalError::Url { reason: r, .. }) => assert_eq!(r, reason),
                other => panic!("{url}: {other:?}"),
            }
        }
    }
}
