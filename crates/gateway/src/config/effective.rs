//! Settings as the parts of the gateway take them.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_livekit::signal::Connections;
use evenkeel_livekit::token::ApiKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use super::fields::{Config, DownlinkTopic, RoomKind, SourceKind};
use super::load::{ConfigError, EVERYWHERE};
use crate::call::CallConfig;
use crate::control::{Clock, HubConfig, RoomMaker, SourceRule};
use crate::device::broker::BrokerConfig;
use crate::device::credentials::{Gatekeeper, Mac};
use crate::device::envelope::Limits;
use crate::device::limits::Rate;
use crate::device::mcp::McpConfig;
use crate::device::message::AudioParams;
use crate::device::mqtt::EndpointConfig;
use crate::device::tls::Tls;
use crate::device::websocket::WebConfig;
use crate::media::Encryption;
use crate::room::livekit::LiveKitRooms;
use crate::room::websocket::servers::Servers;
use crate::room::websocket::{Bearer, WebSocketRooms};

/// Settings that were checked against each other, as the parts take them.
#[derive(Clone, Debug)]
pub struct Effective {
    /// For the hub.
    pub hub: HubConfig,
    /// For MQTT endpoints.
    pub endpoint: EndpointConfig,
    /// Who is let in.
    pub gatekeeper: Gatekeeper,
    /// Where to listen without TLS.
    pub mqtt_listen: Vec<SocketAddr>,
    /// For devices on WebSocket.
    pub web: WebConfig,
    /// Where to listen for WebSockets without TLS.
    pub web_listen: Vec<SocketAddr>,
    /// The same with TLS.
    pub web_tls_listen: Vec<SocketAddr>,
    /// What was decided about devices without credentials, for the log.
    pub anonymous: Anonymous,
}

/// What becomes of devices that cannot prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// They are refused: a signature key is set.
    Refused,
    /// They are let in from this machine only: no key is set.
    Loopback,
    /// They are let in from anywhere: no key is set, and the operator said so.
    Everywhere,
}

impl Anonymous {
    /// What start-up says.
    #[must_use]
    pub const fn notice(self) -> &'static str {
        match self {
            Self::Refused => "devices need a password signed with the signature key",
            Self::Loopback => {
                "no signature key is set: MQTT and WebSocket listen on loopback only, and everyone there is let in; \
                 set devices.signature_key (MQTT_SIGNATURE_KEY) to serve other machines"
            }
            Self::Everywhere => {
                "no signature key is set and devices.allow_anonymous is on: EVERYONE is let in"
            }
        }
    }
}

/// As many as a lane can tell apart when it wakes others.
const MAX_LANES: usize = 64;

fn wrong(name: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { origin: EVERYWHERE.to_owned(), name: name.to_owned(), reason: reason.into() }
}

/// Levels, alone or of modules. A word that is none would be taken for a module, and nothing else be logged.
fn log_level(text: &str) -> Result<(), ConfigError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level =
        |directive: &str| directive.rsplit('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    match text.split(',').find(|directive| !LEVELS.contains(&level(directive).as_str())) {
        None => Ok(()),
        Some(directive) => Err(wrong(
            "log.level",
            format!(
                "must be error, warn, info, debug or trace, or such by module (info,evenkeel_gateway::call=debug), not \
                 {directive:?}"
            ),
        )),
    }
}

impl Config {
    /// Checks settings against each other.
    ///
    /// # Errors
    /// The first that cannot be.
    pub fn effective(&self) -> Result<Effective, ConfigError> {
        let d = &self.devices;
        let signed = d.signature_key.expose().is_some();
        let anonymous = match (signed, d.allow_anonymous) {
            (true, _) => Anonymous::Refused,
            (false, false) => Anonymous::Loopback,
            (false, true) => Anonymous::Everywhere,
        };
        let rate = |burst, per_second| Rate { burst, per_second };
        let hub = HubConfig {
            call: Arc::new(self.call_config()?),
            limits: Limits { bytes: self.mqtt.max_payload, depth: d.max_depth },
            hellos_per_device: rate(d.hello_burst, d.hello_rate),
            hellos_per_network: rate(d.network_hello_burst, d.network_hello_rate),
            messages_per_device: rate(d.message_burst, d.message_rate),
            source: match self.media.source {
                SourceKind::MqttIp => SourceRule::MqttIp,
                SourceKind::Any => SourceRule::Any,
                SourceKind::First => SourceRule::First,
            },
            loopback: self.room.loopback,
        };
        self.ranges()?;
        let m = &self.mqtt;
        if !m.tls_listen.is_empty() && (m.tls_certificate.is_empty() || m.tls_key.is_empty()) {
            return Err(wrong("mqtt.tls_listen", "needs mqtt.tls_certificate and mqtt.tls_key"));
        }
        let w = &self.web;
        if !w.tls_listen.is_empty() && (w.tls_certificate.is_empty() || w.tls_key.is_empty()) {
            return Err(wrong("web.tls_listen", "needs web.tls_certificate and web.tls_key"));
        }
        let confined = |addresses: &[SocketAddr]| addresses.iter().map(|a| anonymous.confine(*a)).collect();
        Ok(Effective {
            hub,
            endpoint: EndpointConfig {
                max_packet: m.max_payload,
                connect_limit: m.connect_limit,
                max_half_open: m.max_half_open,
                max_connections: m.max_connections,
                write_limit: m.write_limit,
            },
            gatekeeper: Gatekeeper::new(d.signature_key.expose()),
            mqtt_listen: confined(&m.listen),
            web: WebConfig {
                max_message: w.max_payload,
                connect_limit: w.connect_limit,
                max_connections: w.max_connections,
                write_limit: w.write_limit,
                token_lifetime: w.token_lifetime,
                page: w.page,
            },
            web_listen: confined(&w.listen),
            web_tls_listen: confined(&w.tls_listen),
            anonymous,
        })
    }

    /// Checks all that can be checked without starting.
    ///
    /// # Errors
    /// The first setting or file that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.effective()?;
        self.broker()?;
        self.rooms(Clock::start())?;
        let (mqtt, web) = (&self.mqtt, &self.web);
        for (listen, certificate, key, name) in [
            (&mqtt.tls_listen, &mqtt.tls_certificate, &mqtt.tls_key, "mqtt.tls_certificate"),
            (&web.tls_listen, &web.tls_certificate, &web.tls_key, "web.tls_certificate"),
        ] {
            if !listen.is_empty() {
                Tls::open(Path::new(certificate), Path::new(key))
                    .map_err(|error| wrong(name, format!("and its key cannot be used: {error}")))?;
            }
        }
        Ok(())
    }

    /// Values that a setting of its kind may have and this one may not: with them the gateway would run and serve nobody.
    fn ranges(&self) -> Result<(), ConfigError> {
        self.udp_address()?;
        log_level(&self.log.level)?;
        let (d, m, w, c) = (&self.devices, &self.mqtt, &self.web, &self.call);
        let lanes = self.media.lanes;
        if lanes > MAX_LANES {
            return Err(wrong("media.lanes", format!("must be at most {MAX_LANES}")));
        }
        if usize::from(self.media.udp_port) + lanes > usize::from(u16::MAX) + 1 {
            return Err(wrong(
                "media.udp_port",
                format!("and the {lanes} of media.lanes go beyond port 65535"),
            ));
        }
        for (name, value, least) in [
            // A hello nests so deep, and is so long.
            ("devices.max_depth", d.max_depth, 4),
            ("mqtt.max_payload", m.max_payload, 1024),
            ("web.max_payload", w.max_payload, 1024),
            ("devices.hello_burst", d.hello_burst as usize, 1),
            ("devices.network_hello_burst", d.network_hello_burst as usize, 1),
            ("devices.message_burst", d.message_burst as usize, 1),
            ("mqtt.max_half_open", m.max_half_open, 1),
            ("mqtt.max_connections", m.max_connections, 1),
            ("web.max_connections", w.max_connections, 1),
        ] {
            if value < least {
                return Err(wrong(name, format!("must be at least {least}")));
            }
        }
        for (name, rate) in [
            ("devices.hello_rate", d.hello_rate),
            ("devices.network_hello_rate", d.network_hello_rate),
            ("devices.message_rate", d.message_rate),
        ] {
            if rate <= 0.0 {
                return Err(wrong(name, "must be more than 0"));
            }
        }
        for (name, limit) in [
            ("mqtt.connect_limit", m.connect_limit),
            ("mqtt.write_limit", m.write_limit),
            ("web.connect_limit", w.connect_limit),
            ("web.write_limit", w.write_limit),
            ("web.token_lifetime", w.token_lifetime),
            ("call.join_limit", c.join_limit),
            ("call.idle_limit", c.idle_limit),
            ("call.first_datagram_limit", c.first_datagram_limit),
        ] {
            if limit.is_zero() {
                return Err(wrong(name, "must be more than 0s"));
            }
        }
        Ok(())
    }

    /// The address that lanes listen on.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn udp_address(&self) -> Result<IpAddr, ConfigError> {
        let text = &self.media.udp_address;
        text.parse().map_err(|_| wrong("media.udp_address", format!("must be an IP address, not {text:?}")))
    }

    fn call_config(&self) -> Result<CallConfig, ConfigError> {
        let (c, m) = (&self.call, &self.media);
        let sample_rate = SampleRate::from_hz(m.sample_rate)
            .ok()
            .filter(|rate| rate.is_opus())
            .ok_or_else(|| wrong("media.sample_rate", "must be 8000, 12000, 16000, 24000 or 48000"))?;
        let frame_duration = FrameDuration::from_millis(m.frame_duration)
            .map_err(|error| wrong("media.frame_duration", format!("cannot be: {error}")))?;
        let sealed = m.sealed.iter().map(|name| {
            Encryption::sealed_from_name(name).ok_or_else(|| {
                wrong(
                    "media.sealed",
                    format!("knows no {name:?}; use aes-128-gcm, aes-256-gcm or chacha20-poly1305"),
                )
            })
        });
        Ok(CallConfig {
            downlink: AudioParams { sample_rate, frame_duration },
            sealed: sealed.collect::<Result<_, _>>()?,
            lead: m.lead,
            first_datagram_limit: c.first_datagram_limit,
            join_limit: c.join_limit,
            leave_limit: c.leave_limit,
            room_return_limit: c.room_return_limit,
            room_retry: c.room_retry,
            mqtt_return_limit: c.mqtt_return_limit,
            idle_limit: c.idle_limit,
            playout_limit: c.playout_limit,
            mcp: self.mcp.enabled.then(|| McpConfig {
                client_info: json!({"name": self.mcp.client_name, "version": self.mcp.client_version}),
                max_tools: self.mcp.max_tools,
                answer_limit: self.mcp.answer_limit,
                ..McpConfig::default()
            }),
            ..CallConfig::default()
        })
    }

    /// What makes the rooms of devices.
    ///
    /// # Errors
    /// Settings or files that cannot be.
    pub fn rooms(&self, clock: Clock) -> Result<RoomMaker, ConfigError> {
        match self.room.kind {
            RoomKind::Livekit => self.livekit_rooms().map(|rooms| RoomMaker::LiveKit(Arc::new(rooms))),
            RoomKind::Echo => Ok(RoomMaker::Echo),
            RoomKind::Websocket => {
                let w = &self.websocket;
                if w.servers.is_empty() {
                    return Err(wrong("websocket.servers", "needs at least one address"));
                }
                let tls = self.client_tls()?;
                let rooms = |urls: &[String]| {
                    Arc::new(WebSocketRooms {
                        servers: Servers::new(urls.iter().cloned()),
                        bearer: Bearer::new(w.secret.expose()),
                        tls: Arc::clone(&tls),
                        clock,
                    })
                };
                for (name, urls) in [
                    ("websocket.servers", &w.servers),
                    ("websocket.development_servers", &w.development_servers),
                ] {
                    if let Some(url) =
                        urls.iter().find(|u| !u.starts_with("ws://") && !u.starts_with("wss://"))
                    {
                        return Err(wrong(name, format!("must be ws:// or wss:// addresses, not {url:?}")));
                    }
                }
                let shared = rooms(&w.development_servers);
                let mut development = HashMap::new();
                for device in &w.development_devices {
                    let mac: Mac = device
                        .parse()
                        .map_err(|e| wrong("websocket.development_devices", format!("{device:?}: {e}")))?;
                    development.insert(mac, Arc::clone(&shared));
                }
                Ok(RoomMaker::WebSocket { rooms: rooms(&w.servers), development })
            }
        }
    }

    /// How the external broker is reached; `None` if there is none.
    ///
    /// # Errors
    /// Settings or files that cannot be.
    pub fn broker(&self) -> Result<Option<BrokerConfig>, ConfigError> {
        let b = &self.broker;
        if b.url.is_empty() {
            return Ok(None);
        }
        let form = || wrong("broker.url", "must be mqtt://host:port or mqtts://host:port");
        let (scheme, address) = b.url.split_once("://").ok_or_else(form)?;
        let (tls, default_port) = match scheme {
            "mqtt" => (None, 1883),
            "mqtts" => (Some(self.client_tls()?), 8883),
            _ => return Err(form()),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| form())?),
            _ => (address, default_port),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.contains('/') {
            return Err(form());
        }
        let share = if b.share.is_empty() { String::new() } else { format!("$share/{}/", b.share) };
        Ok(Some(BrokerConfig {
            host: host.to_owned(),
            port,
            tls,
            client_id: b.client_id.clone(),
            credentials: (!b.username.is_empty())
                .then(|| (b.username.clone(), b.password.expose().unwrap_or_default().to_owned())),
            filters: b.ingest.iter().map(|topic| format!("{share}{topic}")).collect(),
            topic_by_client: b.downlink == DownlinkTopic::Client,
            forget_after: b.forget_after,
        }))
    }

    /// What calls in LiveKit rooms share, whatever `room.kind` is.
    ///
    /// # Errors
    /// The setting that is missing or wrong.
    pub fn livekit_rooms(&self) -> Result<LiveKitRooms, ConfigError> {
        let l = &self.livekit;
        if !["ws://", "wss://"].iter().any(|scheme| l.url.starts_with(scheme)) {
            return Err(wrong("livekit.url", format!("must be a ws:// or wss:// address, not {:?}", l.url)));
        }
        let Some(secret) = l.api_secret.expose().filter(|_| !l.api_key.is_empty()) else {
            return Err(wrong("livekit.api_secret", "is needed to sign tokens, and livekit.api_key with it"));
        };
        if !l.room.contains("{session}") && !l.room.contains("{mac}") {
            return Err(wrong("livekit.room", "must have {mac} or {session} in it, or devices share a room"));
        }
        let address = Some(l.address.as_str()).filter(|address| !address.is_empty());
        let address = address
            .map(str::parse)
            .transpose()
            .map_err(|_| wrong("livekit.address", format!("must be an IP address, not {:?}", l.address)))?;
        Ok(LiveKitRooms {
            url: l.url.clone(),
            api: ApiKey { key: l.api_key.clone(), secret: secret.to_owned() },
            agent: Some(l.agent.clone()).filter(|agent| !agent.is_empty()),
            template: l.room.clone(),
            address,
            agent_limit: l.agent_limit,
            connections: Connections::Single,
            tls: Some(self.client_tls()?),
        })
    }

    /// TLS towards chat servers and brokers: the system's authorities and those of `websocket.ca_file`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn client_tls(&self) -> Result<Arc<rustls::ClientConfig>, ConfigError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let path = &self.websocket.ca_file;
        if !path.is_empty() {
            let unreadable = |e: String| wrong("websocket.ca_file", format!("cannot be read: {e}"));
            let file = File::open(path).map_err(|e| unreadable(e.to_string()))?;
            for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
                let certificate = certificate.map_err(|e| unreadable(e.to_string()))?;
                roots.add(certificate).map_err(|e| unreadable(e.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong("websocket.ca_file", e.to_string()))?;
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

impl Anonymous {
    /// The address to listen on instead of `address`.
    fn confine(self, mut address: SocketAddr) -> SocketAddr {
        if self == Self::Loopback && !address.ip().is_loopback() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_agree_with_those_of_the_parts() {
        let effective = Config::default().effective().unwrap();
        assert_eq!(*effective.hub.call, CallConfig::default());
        assert_eq!(effective.endpoint, EndpointConfig::default());
        assert_eq!(effective.web, WebConfig::default());
        let (hub, default) = (effective.hub, HubConfig::default());
        assert_eq!((hub.limits, hub.source), (default.limits, default.source));
        assert_eq!(hub.loopback, default.loopback);
        assert_eq!(hub.hellos_per_device, default.hellos_per_device);
        assert_eq!(hub.hellos_per_network, default.hellos_per_network);
        assert_eq!(hub.messages_per_device, default.messages_per_device);
    }

    #[test]
    fn without_a_key_only_loopback_is_served_unless_asked_for() {
        let mut config = Config::default();
        config.mqtt.listen = ["0.0.0.0:1883", "[::]:1883"].map(|a| a.parse().unwrap()).to_vec();
        let listens = |config: &Config| {
            let effective = config.effective().unwrap();
            (effective.anonymous, effective.mqtt_listen.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let local = vec!["127.0.0.1:1883".to_owned(), "[::1]:1883".to_owned()];
        let all = vec!["0.0.0.0:1883".to_owned(), "[::]:1883".to_owned()];
        assert_eq!(listens(&config), (Anonymous::Loopback, local));
        config.devices.allow_anonymous = true;
        assert_eq!(listens(&config), (Anonymous::Everywhere, all.clone()));
        config.devices.signature_key = "key".into();
        assert_eq!(listens(&config), (Anonymous::Refused, all));
    }

    #[test]
    fn the_broker_is_taken_from_its_url() {
        let broker = |url: &str| {
            let mut config = Config::default();
            config.broker.url = url.to_owned();
            config.broker()
        };
        assert!(broker("").unwrap().is_none());
        for (url, host, port, tls) in [
            ("mqtt://b", "b", 1883, false),
            ("mqtts://b.example", "b.example", 8883, true),
            ("mqtt://10.0.0.1:99", "10.0.0.1", 99, false),
            ("mqtt://[::1]:99", "::1", 99, false),
            ("mqtt://[::1]", "::1", 1883, false),
        ] {
            let broker = broker(url).unwrap().unwrap();
            assert_eq!((broker.host.as_str(), broker.port, broker.tls.is_some()), (host, port, tls));
            assert_eq!(broker.filters[0], "$share/evenkeel/device-server");
        }
        for bad in ["b:1883", "http://b", "mqtt://", "mqtt://b:port", "mqtt://b/x"] {
            assert!(broker(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_that_cannot_be_together_are_refused() {
        type Change = fn(&mut Config);
        let cases: [(Change, &str); 5] = [
            (|c| c.media.sample_rate = 44_100, "media.sample_rate"),
            (|c| c.media.frame_duration = 30.0, "media.frame_duration"),
            (|c| c.media.sealed = vec!["rot13".into()], "media.sealed"),
            (|c| c.mqtt.tls_listen = c.mqtt.listen.clone(), "mqtt.tls_listen"),
            (|c| c.web.tls_listen = c.web.listen.clone(), "web.tls_listen"),
        ];
        for (change, field) in cases {
            let mut config = Config::default();
            change(&mut config);
            let error = config.effective().unwrap_err();
            assert!(matches!(&error, ConfigError::Value { name, .. } if name == field), "{error}");
        }
        let mut config = Config::default();
        config.room.kind = RoomKind::Websocket;
        assert!(config.rooms(Clock::start()).is_err());
        config.websocket.servers = vec!["http://x".into()];
        assert!(config.rooms(Clock::start()).is_err());
        config.websocket.servers = vec!["ws://x".into()];
        assert!(config.rooms(Clock::start()).is_ok());
    }
}
