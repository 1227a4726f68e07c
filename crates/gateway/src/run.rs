//! A whole gateway: settings in, running sockets, lanes and tasks out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::{Anonymous, Config, ConfigError, Effective, Reload};
use crate::control::{Clock, Hub};
use crate::device::broker::BrokerClient;
use crate::device::credentials::Gatekeeper;
use crate::device::mqtt::{Endpoint, EndpointConfig};
use crate::device::tls::Tls;
use crate::device::websocket::{Web, WebConfig};
use crate::entropy;
use crate::lane::{LaneStart, Lanes, PlaneConfig};
use crate::ops::management;
use crate::ops::registry::Registry;
use crate::ops::server::Operations;

/// A gateway could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address that cannot be listened on.
    #[error("{what} cannot listen on {address} (setting `{setting}`): {}", advice(error))]
    Listen {
        /// What was to listen.
        what: &'static str,
        /// Where; of the lanes, the first.
        address: SocketAddr,
        /// The setting that says so.
        setting: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The system refused.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl RunError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }

    fn listen(
        what: &'static str,
        address: SocketAddr,
        setting: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Listen { what, address, setting, error }
    }
}

/// What the system says, and what mends it.
fn advice(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; stop the program that has the port, or choose another",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 take a privilege (CAP_NET_BIND_SERVICE): grant it, or choose another"
        }
        _ => "",
    };
    format!("{error}{advice}")
}

/// A running gateway. Dropping it ends it at once, its connections with the runtime; [`Gateway::drain`] first lets replies
/// end.
pub struct Gateway {
    config: Config,
    hub: Arc<Hub>,
    operations: Arc<Operations>,
    started: Started,
    /// With the settings that say where they lie.
    certificates: Vec<(&'static str, Arc<Tls>)>,
    tasks: JoinSet<()>,
    lanes: Lanes,
}

/// Where a gateway listens, with the ports it got, and what the system gave its lanes.
#[derive(Clone, Debug, Default)]
pub struct Started {
    /// MQTT without TLS.
    pub mqtt: Vec<SocketAddr>,
    /// MQTT with TLS.
    pub mqtt_tls: Vec<SocketAddr>,
    /// WebSocket without TLS.
    pub web: Vec<SocketAddr>,
    /// WebSocket with TLS.
    pub web_tls: Vec<SocketAddr>,
    /// The pages in which a person talks with a browser.
    pub pages: Vec<String>,
    /// The external broker.
    pub broker: Option<String>,
    /// The operations port, with the dashboard.
    pub operations: Vec<SocketAddr>,
    /// The management API of the old gateway.
    pub management: Vec<SocketAddr>,
    /// The lanes.
    pub lanes: Vec<LaneStart>,
    /// What devices are told to send audio to.
    pub public_host: String,
    /// What was decided about devices without credentials.
    pub anonymous: Option<Anonymous>,
}

impl Gateway {
    /// Starts everything; once this returns, devices can connect. To be called within a runtime.
    ///
    /// # Errors
    /// [`RunError`]: nothing runs then.
    pub async fn start(config: Config) -> Result<Self, RunError> {
        evenkeel_sys::limits::raise_open_files();
        entropy::fill(&mut [0; 4]);
        let clock = Clock::start();
        let effective = config.effective()?;
        let broker = config.broker()?;
        let rooms = config.rooms(clock)?;
        let plane = plane_config(&config)?;
        let public_host = plane.public_host.clone();
        let first_lane = SocketAddr::new(plane.address, plane.first_port);
        let started = Lanes::start(plane, entropy::fill);
        let (lanes, receivers) = started.map_err(RunError::listen("audio", first_lane, "media.udp_port"))?;
        let registry = Arc::new(Registry::default());
        let Effective { hub, endpoint, gatekeeper, mqtt_listen, web, web_listen, web_tls_listen, anonymous } =
            effective;
        let hub = Hub::new(hub, gatekeeper, rooms, lanes.plane(), clock, registry);
        let operations = Operations::new(Arc::clone(&hub), config.operations.token.clone());
        let started = Started {
            lanes: lanes.starts().to_vec(),
            public_host,
            anonymous: Some(anonymous),
            ..Started::default()
        };
        let (certificates, tasks) = (Vec::new(), JoinSet::new());
        let mut gateway = Self { config, hub, operations, started, certificates, tasks, lanes };
        for events in receivers {
            gateway.tasks.spawn(Arc::clone(&gateway.hub).run_events(events));
        }
        gateway.serve_mqtt(&mqtt_listen, endpoint)?;
        gateway.serve_web(&web_listen, &web_tls_listen, web)?;
        if let Some(broker) = broker {
            gateway.started.broker = Some(format!("{}:{}", broker.host, broker.port));
            gateway.tasks.spawn(BrokerClient::run(broker, Arc::clone(&gateway.hub)));
        }
        gateway.serve_http().await?;
        Ok(gateway)
    }

    fn serve_mqtt(&mut self, listen: &[SocketAddr], config: EndpointConfig) -> Result<(), RunError> {
        for &address in listen {
            let bound = self.serve_endpoint(address, None, config);
            self.started.mqtt.push(bound.map_err(RunError::listen("MQTT", address, "mqtt.listen"))?);
        }
        let mqtt = self.config.mqtt.clone();
        for address in mqtt.tls_listen {
            let tls = self.tls("mqtt.tls_certificate", &mqtt.tls_certificate, &mqtt.tls_key);
            let tls = tls.map_err(RunError::system("mqtt.tls_certificate and mqtt.tls_key"))?;
            let bound = self.serve_endpoint(address, Some(tls), config);
            let failed = RunError::listen("MQTT with TLS", address, "mqtt.tls_listen");
            self.started.mqtt_tls.push(bound.map_err(failed)?);
        }
        Ok(())
    }

    /// TLS with a certificate that [`Gateway::reload`] renews.
    fn tls(
        &mut self,
        setting: &'static str,
        certificate: &str,
        key: &str,
    ) -> io::Result<Arc<rustls::ServerConfig>> {
        let opened = self.certificates.iter().find(|(name, _)| *name == setting);
        let tls = match opened {
            Some((_, tls)) => Arc::clone(tls),
            None => Tls::open(Path::new(certificate), Path::new(key))?,
        };
        let config = tls.server_config()?;
        if opened.is_none() {
            self.certificates.push((setting, tls));
        }
        Ok(config)
    }

    fn serve_endpoint(
        &mut self,
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        config: EndpointConfig,
    ) -> io::Result<SocketAddr> {
        let endpoint = Endpoint::bind(address, tls, config, Arc::clone(&self.hub))?;
        let bound = endpoint.local_addr()?;
        self.tasks.spawn(endpoint.run());
        Ok(bound)
    }

    fn serve_web(
        &mut self,
        listen: &[SocketAddr],
        tls_listen: &[SocketAddr],
        config: WebConfig,
    ) -> Result<(), RunError> {
        for &address in listen {
            let bound = self.serve_websockets(address, None, config);
            self.started.web.push(bound.map_err(RunError::listen("WebSocket", address, "web.listen"))?);
        }
        let settings = self.config.web.clone();
        for &address in tls_listen {
            let tls = self.tls("web.tls_certificate", &settings.tls_certificate, &settings.tls_key);
            let tls = tls.map_err(RunError::system("web.tls_certificate and web.tls_key"))?;
            let bound = self.serve_websockets(address, Some(tls), config);
            let failed = RunError::listen("WebSocket with TLS", address, "web.tls_listen");
            self.started.web_tls.push(bound.map_err(failed)?);
        }
        Ok(())
    }

    fn serve_websockets(
        &mut self,
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        config: WebConfig,
    ) -> io::Result<SocketAddr> {
        let web = Web::bind(address, tls, config, Arc::clone(&self.hub))?;
        let bound = web.local_addr()?;
        self.started.pages.extend(web.page()?);
        self.tasks.spawn(web.run());
        Ok(bound)
    }

    async fn serve_http(&mut self) -> Result<(), RunError> {
        self.operations.set_pages(self.started.pages.clone());
        for address in self.config.operations.listen.clone() {
            let bound = self.serve_routes(address, self.operations.router()).await;
            let failed = RunError::listen("the operations port", address, "operations.listen");
            self.started.operations.push(bound.map_err(failed)?);
        }
        let key = self.config.devices.signature_key.clone();
        if !self.config.management.enabled || key.expose().is_none() {
            return Ok(());
        }
        for address in self.config.management.listen.clone() {
            let router = management::router(Arc::clone(&self.hub), key.clone());
            let bound = self.serve_routes(address, router).await;
            let failed = RunError::listen("the management API", address, "management.listen");
            self.started.management.push(bound.map_err(failed)?);
        }
        Ok(())
    }

    async fn serve_routes(&mut self, address: SocketAddr, router: axum::Router) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        self.tasks.spawn(async move {
            // It ends only when it is cancelled.
            let _ = axum::serve(listener, service).await;
        });
        Ok(bound)
    }

    /// Where it listens, and what it got.
    #[must_use]
    pub const fn started(&self) -> &Started {
        &self.started
    }

    /// The kind of room that calls are in.
    #[must_use]
    pub const fn room(&self) -> &'static str {
        self.config.room.kind.name()
    }

    /// Devices, calls, figures.
    #[must_use]
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Takes over what can be from newer settings, certificates that were renewed included, and says what cannot. The log's
    /// level is the caller's to set.
    pub fn reload(&mut self, newer: &Config) -> Reload {
        let mut reload = self.config.reload(newer);
        for (setting, tls) in &self.certificates {
            match tls.read_again() {
                Ok(true) => reload.changed.push(setting),
                Ok(false) => {}
                Err(error) => reload.failed.push(format!("{setting}: {error}")),
            }
        }
        self.hub.set_gatekeeper(Gatekeeper::new(self.config.devices.signature_key.expose()));
        self.operations.set_token(self.config.operations.token.clone());
        reload
    }

    /// Takes no new sessions, lets the replies that play end, within `call.drain_limit`, then ends everything.
    pub async fn drain(self) {
        self.lanes.drain();
        let deadline = self.hub.clock.now() + self.config.call.drain_limit;
        self.hub.drain(deadline).await;
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("started", &self.started).finish_non_exhaustive()
    }
}

fn plane_config(config: &Config) -> Result<PlaneConfig, RunError> {
    let m = &config.media;
    let (address, public_host) = (config.udp_address()?, public_host(config)?);
    Ok(PlaneConfig { lanes: m.lanes, address, first_port: m.udp_port, public_host, ..PlaneConfig::default() })
}

/// What devices are told to send audio to: `media.public_address`, or what stands in for it.
///
/// # Errors
/// If neither settings nor system say.
pub fn public_host(config: &Config) -> Result<String, RunError> {
    if !config.media.public_address.is_empty() {
        return Ok(config.media.public_address.clone());
    }
    let listen = config.udp_address()?;
    if listen.is_unspecified() && config.effective()?.anonymous == Anonymous::Loopback {
        let loopback: IpAddr =
            if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        return Ok(loopback.to_string());
    }
    let own = own_address(listen);
    own.map(|own| own.to_string())
        .map_err(RunError::system("media.public_address is not set, and no address was found"))
}

/// The address of this machine from which the way to the world begins; this machine's own if there is no such way.
fn own_address(listen: IpAddr) -> io::Result<IpAddr> {
    if !listen.is_unspecified() {
        return Ok(listen);
    }
    // Connecting a UDP socket chooses a route and sends nothing. The addresses are reserved for documentation.
    let (local, remote): (IpAddr, SocketAddr) = if listen.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED.into(), SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 9))
    } else {
        (
            Ipv6Addr::UNSPECIFIED.into(),
            SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), 9),
        )
    };
    let socket = UdpSocket::bind((local, 0))?;
    match socket.connect(remote) {
        Ok(()) => Ok(socket.local_addr()?.ip()),
        Err(_) if listen.is_ipv4() => Ok(Ipv4Addr::LOCALHOST.into()),
        Err(_) => Ok(Ipv6Addr::LOCALHOST.into()),
    }
}
