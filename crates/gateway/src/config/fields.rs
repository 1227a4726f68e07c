//! Every setting: what it is, its unit, its default and what it costs.

use std::net::SocketAddr;
use std::time::Duration;

use super::value::{Raw, Secret, Setting, choice};

choice! {
    /// `room.kind`.
    RoomKind {
        /// The parrot.
        Echo = "echo",
        /// A chat server.
        Websocket = "websocket",
        /// A LiveKit room.
        Livekit = "livekit",
    }
}

choice! {
    /// `web.page`.
    PageSwitch {
        /// Where only this machine reaches it.
        Auto = "auto",
        /// Wherever devices are served.
        On = "on",
        /// Nowhere.
        Off = "off",
    }
}

choice! {
    /// `media.source`.
    SourceKind {
        /// The address of the MQTT connection.
        MqttIp = "mqtt-ip",
        /// Any address.
        Any = "any",
        /// The first address only.
        First = "first",
    }
}

choice! {
    /// `broker.downlink`.
    DownlinkTopic {
        /// `devices/p2p/<mac>`.
        Mac = "mac",
        /// `devices/p2p/<client id>`.
        Client = "client",
    }
}

/// What is known of a setting beside its value.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// `section.name`, as in the file, in `--set` and on flags.
    pub path: &'static str,
    /// Unit, cost, and all there is to say.
    pub doc: &'static str,
    /// Whether SIGHUP changes it in a running gateway.
    pub reloads: bool,
}

impl Field {
    /// The environment variable that sets it.
    #[must_use]
    pub fn env(&self) -> String {
        format!("EVENKEEL_{}", self.path.replace('.', "_").to_uppercase())
    }
}

macro_rules! sections {
    ($($(#[doc = $section_doc:literal])+ $section:ident: $type:ident {
        $($(#[doc = $doc:literal])+ $(@$reloads:ident)? $field:ident: $kind:ty = $default:expr;)+
    })+) => {
        /// Every setting of a gateway.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Config {
            $($(#[doc = $section_doc])+ pub $section: $type,)+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $type {
                $($(#[doc = $doc])+ pub $field: $kind,)+
            }

            impl Default for $type {
                fn default() -> Self {
                    Self { $($field: $default,)+ }
                }
            }
        )+

        /// Every setting, in the order of the file.
        pub const FIELDS: &[Field] = &[$($(Field {
            path: concat!(stringify!($section), ".", stringify!($field)),
            doc: concat!($($doc, "\n"),+),
            reloads: sections!(@reloads $($reloads)?),
        },)+)+];

        /// Every section, and what it is about.
        pub const SECTIONS: &[(&str, &str)] =
            &[$((stringify!($section), concat!($($section_doc, "\n"),+)),)+];

        impl Config {
            /// Sets the field of this path. `None` if there is none.
            pub(super) fn set(&mut self, path: &str, raw: &Raw) -> Option<Result<(), String>> {
                $($(
                    if path == concat!(stringify!($section), ".", stringify!($field)) {
                        return Some(<$kind>::read(raw).map(|value| self.$section.$field = value));
                    }
                )+)+
                None
            }

            /// The field of this path as TOML, secrets hidden.
            pub(super) fn get(&self, path: &str) -> Option<String> {
                $($(
                    if path == concat!(stringify!($section), ".", stringify!($field)) {
                        return Some(self.$section.$field.write());
                    }
                )+)+
                None
            }

            /// Whether the field of this path is the same in both, secrets included.
            pub(super) fn same(&self, other: &Self, path: &str) -> bool {
                $($(
                    if path == concat!(stringify!($section), ".", stringify!($field)) {
                        return self.$section.$field == other.$section.$field;
                    }
                )+)+
                true
            }
        }
    };
    (@reloads reloads) => { true };
    (@reloads) => { false };
}

fn address(text: &str) -> Vec<SocketAddr> {
    text.parse().into_iter().collect()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

sections! {
    /// Who may connect, and how much each may ask.
    devices: Devices {
        /// The key that device passwords are signed with. Without one, everyone is let in.
        @reloads signature_key: Secret = Secret::default();
        /// Whether devices may connect from other machines although no signature key is set.
        allow_anonymous: bool = false;
        /// The deepest a JSON message may nest, in levels.
        max_depth: usize = 16;
        /// Hellos of one device at once, in messages.
        hello_burst: u32 = 5;
        /// Hellos of one device in the long run, a second.
        hello_rate: f64 = 0.5;
        /// Hellos of one network (an IPv4 address or an IPv6 /64) at once, in messages.
        network_hello_burst: u32 = 1000;
        /// Hellos of one network in the long run, a second.
        network_hello_rate: f64 = 500.0;
        /// Messages of one device at once, in messages.
        message_burst: u32 = 100;
        /// Messages of one device in the long run, a second.
        message_rate: f64 = 50.0;
    }
    /// The embedded MQTT endpoint.
    mqtt: Mqtt {
        /// Where to listen without TLS; addresses. Empty means nowhere.
        listen: Vec<SocketAddr> = address("0.0.0.0:1883");
        /// Where to listen with TLS; addresses. Firmware uses TLS when the port is 8883. Costs some 20 kB a connection.
        tls_listen: Vec<SocketAddr> = Vec::new();
        /// The certificate chain for TLS; a PEM file.
        tls_certificate: String = String::new();
        /// The private key for TLS; a PEM file.
        tls_key: String = String::new();
        /// The longest packet, in bytes.
        max_payload: usize = 8192;
        /// How long a connection may take to say CONNECT.
        connect_limit: Duration = seconds(10);
        /// Connections that have not said CONNECT; beyond it the oldest is closed. Costs a file and some 3 kB each.
        max_half_open: usize = 4096;
        /// Connections in all; beyond it new ones are closed. Costs a file and some 5 kB each.
        max_connections: usize = 20_000;
        /// How long a device may take to read what it is sent.
        write_limit: Duration = seconds(10);
    }
    /// Devices that call over WebSocket.
    web: Web {
        /// Where to listen without TLS; addresses. Empty means nowhere.
        listen: Vec<SocketAddr> = address("0.0.0.0:8086");
        /// Where to listen with TLS; addresses. Costs some 20 kB a connection.
        tls_listen: Vec<SocketAddr> = Vec::new();
        /// The certificate chain for TLS; a PEM file.
        tls_certificate: String = String::new();
        /// The private key for TLS; a PEM file.
        tls_key: String = String::new();
        /// Where the page is in which a person talks with a browser: `on` at every address of this section, `off` at none,
        /// `auto` at those of loopback. Browsers give a microphone only to pages with TLS and to those of their own machine.
        page: PageSwitch = PageSwitch::Auto;
        /// How long after it was signed a device's token is good.
        token_lifetime: Duration = seconds(30 * 24 * 3600);
        /// The longest message, in bytes.
        max_payload: usize = 8192;
        /// How long a connection may take until it is a WebSocket.
        connect_limit: Duration = seconds(10);
        /// Connections in all; beyond it new ones are closed. Costs a file and some 10 kB each.
        max_connections: usize = 20_000;
        /// How long a device may take to read what it is sent.
        write_limit: Duration = seconds(10);
    }
    /// An external MQTT broker, for more than one gateway.
    broker: Broker {
        /// `mqtt://host:port` or `mqtts://host:port`. Empty means none.
        url: String = String::new();
        /// Our client id; must be unlike that of other gateways. Empty means a random one.
        client_id: String = String::new();
        /// User name.
        username: String = String::new();
        /// Password.
        password: Secret = Secret::default();
        /// Topics that devices' messages come on.
        ingest: Vec<String> = vec!["device-server".to_owned(), "internal/server-ingest".to_owned()];
        /// The group of the shared subscription; gateways in one group share the devices, so the broker has to send all
        /// of one device to the same gateway (EMQX: `shared_subscription_strategy = hash_clientid`). Empty means not
        /// shared.
        share: String = "evenkeel".to_owned();
        /// What a device's own topic ends in: `mac` or `client`.
        downlink: DownlinkTopic = DownlinkTopic::Mac;
        /// How long a device that says nothing is remembered.
        forget_after: Duration = seconds(600);
    }
    /// Lanes, UDP, and what devices are sent.
    media: Media {
        /// The address or name devices are told to send audio to. Empty means the address of this machine that has the
        /// default route, or loopback where only this machine is served.
        public_address: String = String::new();
        /// The address lanes listen on.
        udp_address: String = "0.0.0.0".to_owned();
        /// The UDP port of the first lane; each further lane takes the next.
        udp_port: u16 = 8884;
        /// Lanes, each a thread. 0 means one a core.
        lanes: usize = 0;
        /// Where datagrams of a device may come from after its first: `mqtt-ip`, `any` or `first`.
        source: SourceKind = SourceKind::MqttIp;
        /// Suites of profile `sealed` that are offered, best first.
        sealed: Vec<String> = ["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"].map(str::to_owned).to_vec();
        /// The rate devices decode at, in Hz: 8000, 12000, 16000, 24000 or 48000.
        sample_rate: u32 = 24_000;
        /// What one packet to a device lasts, in ms. Shorter ones cost more packets, each some 3 µs.
        frame_duration: f64 = 60.0;
        /// How long after `tts start` was written the first audio may leave. Costs as much delay.
        lead: Duration = Duration::ZERO;
    }
    /// The place where an agent listens and speaks.
    room: RoomSection {
        /// `echo`, `websocket` or `livekit`.
        kind: RoomKind = RoomKind::Echo;
        /// Whether the echo room sends each packet straight back to devices that ask for it (`features.loopback` of their
        /// hello), as load tests do.
        loopback: bool = false;
    }
    /// Chat servers, for `room.kind = "websocket"`.
    websocket: Websocket {
        /// `ws://` or `wss://` addresses; calls go to each in turn.
        servers: Vec<String> = Vec::new();
        /// Signs the token that chat servers check. Without one, the token is `test-token`.
        secret: Secret = Secret::default();
        /// Further certificate authorities for `wss://`; a PEM file.
        ca_file: String = String::new();
        /// Servers for the devices of `development_devices`.
        development_servers: Vec<String> = Vec::new();
        /// MAC addresses of devices under development.
        development_devices: Vec<String> = Vec::new();
    }
    /// The LiveKit server, for `room.kind = "livekit"`.
    livekit: Livekit {
        /// Its address, `wss://` or `ws://`.
        url: String = String::new();
        /// The key that tokens are signed with.
        api_key: String = String::new();
        /// Its secret.
        api_secret: Secret = Secret::default();
        /// The name of the agent that is sent into each room. Empty leaves that to the server.
        agent: String = String::new();
        /// The name of a device's room: `{uuid}` and `{mac}` are the device's, `{session}` is unlike for each session.
        room: String = "{uuid}_{mac}_{session}".to_owned();
        /// How long a room may be without an agent before the call is ended. 0s means for ever.
        agent_limit: Duration = seconds(30);
        /// The address of this machine for the server's media. Empty means that by which the server is reached.
        address: String = String::new();
    }
    /// How calls are held.
    call: CallSection {
        /// How long joining a room may take.
        join_limit: Duration = seconds(10);
        /// How long a new session waits for the old room to be left.
        leave_limit: Duration = Duration::from_millis(500);
        /// The first wait before a lost room is joined anew.
        room_retry: Duration = Duration::from_millis(500);
        /// How long a lost room may stay away.
        room_return_limit: Duration = seconds(30);
        /// How long a device's MQTT connection may stay away.
        mqtt_return_limit: Duration = seconds(60);
        /// How long a call may go without message or audio.
        idle_limit: Duration = seconds(600);
        /// After how long without a datagram UDP counts as never seen.
        first_datagram_limit: Duration = seconds(10);
        /// How long a reply may play after the room ended it.
        playout_limit: Duration = seconds(120);
        /// How long calls may go on when the gateway is told to stop.
        drain_limit: Duration = seconds(30);
    }
    /// The gateway's own cache of device tools.
    mcp: Mcp {
        /// Whether the gateway asks devices for their tools, and answers rooms from that.
        enabled: bool = true;
        /// Tools kept of one device; some 500 B each.
        max_tools: usize = 128;
        /// How long a device may take to answer.
        answer_limit: Duration = seconds(10);
        /// The name devices are told.
        client_name: String = "evenkeel".to_owned();
        /// The version devices are told.
        client_version: String = env!("CARGO_PKG_VERSION").to_owned();
    }
    /// The management API of the old gateway. Its token is weak (one a day, made from the signature key), so it opens four
    /// calls and nothing else.
    management: Management {
        /// Whether it is there; it needs a signature key as well.
        enabled: bool = true;
        /// Where to listen; addresses.
        listen: Vec<SocketAddr> = address("0.0.0.0:8007");
    }
    /// Health, metrics and the dashboard.
    operations: Operations {
        /// Where to listen; addresses. Empty means nowhere.
        listen: Vec<SocketAddr> = address("127.0.0.1:8085");
        /// The bearer token that requests from other machines need. Without one, they are refused.
        @reloads token: Secret = Secret::default();
    }
    /// What is written to standard error.
    log: Log {
        /// `error`, `warn`, `info`, `debug` or `trace`, by module if need be: `info,evenkeel_gateway::call=debug`.
        @reloads level: String = "info".to_owned();
    }
}
