//! A real server and real peers for the tests. `make livekit` installs both and sets `EVENKEEL_LIVEKIT_TOOLS`; without
//! it these tests say that they are skipped, with it nothing that is missing is forgiven.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

pub mod audio;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use evenkeel_livekit::driver::{self, Room};
use evenkeel_livekit::participant::{Event, ParticipantConfig, Publish};
use evenkeel_livekit::signal::{SignalConfig, TokenSource};
use evenkeel_livekit::token::{ApiKey, TokenRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Where the peers are, for the tests of this crate and of others that share this.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../livekit/tests/peers");

/// How long anything may take before a test has failed: long, for the machine may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where `make livekit` put the server and the peers.
#[derive(Clone, Debug)]
pub struct Tools(PathBuf);

impl Tools {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

pub fn tools() -> Option<Tools> {
    let Some(directory) = std::env::var_os("EVENKEEL_LIVEKIT_TOOLS") else {
        eprintln!(
            "skipped: EVENKEEL_LIVEKIT_TOOLS is not set; `make livekit` installs a LiveKit server and sets it"
        );
        return None;
    };
    let tools = Tools(directory.into());
    for path in ["bin/server", "bin/test-server", "venv/bin/python", "node/node_modules/@livekit/rtc-node"] {
        assert!(tools.0.join(path).exists(), "{path} is missing; run `make livekit`");
    }
    Some(tools)
}

pub fn api() -> ApiKey {
    ApiKey { key: "devkey".into(), secret: "a secret of at least thirty-two characters".into() }
}

/// A LiveKit server on loopback, ended when dropped.
pub struct Server {
    child: Child,
    tools: Tools,
    config: PathBuf,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ServerOptions {
    pub ice_lite: bool,
    /// No UDP at all: clients must use ICE-TCP.
    pub tcp_only: bool,
    /// Rooms are not made by joining them.
    pub rooms_must_exist: bool,
}

impl Server {
    pub async fn start(tools: &Tools, options: ServerOptions) -> Self {
        let (port, tcp) = (free_tcp_port(), free_tcp_port());
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config =
            std::env::temp_dir().join(format!("evenkeel-livekit-{}-{port}.yaml", std::process::id()));
        let ApiKey { key, secret } = api();
        std::fs::write(
            &config,
            format!(
                "port: {port}\nbind_addresses: [127.0.0.1]\ndevelopment: true\nkeys:\n  {key}: {secret}\n\
                 rtc:\n  tcp_port: {tcp}\n  udp_port: {udp}\n  node_ip: 127.0.0.1\n  use_external_ip: false\n  \
                 enable_loopback_candidate: true\n  use_ice_lite: {}\n  force_tcp: {}\nroom:\n  auto_create: {}\nlogging:\n  level: warn\n",
                options.ice_lite, options.tcp_only, !options.rooms_must_exist
            ),
        )
        .unwrap();
        let child = Self::spawn(tools, &config);
        let mut server = Self { child, tools: tools.clone(), config, port };
        server.ready().await;
        server
    }

    fn spawn(tools: &Tools, config: &Path) -> Child {
        let log = match std::env::var_os("EVENKEEL_LIVEKIT_LOG") {
            Some(_) => Stdio::inherit(),
            None => Stdio::null(),
        };
        Command::new(tools.0.join("bin/server"))
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn ready(&mut self) {
        for _ in 0..PATIENCE.as_millis() / 50 {
            if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the LiveKit server ended at once");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the LiveKit server does not listen");
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, on the same ports.
    pub async fn restart(&mut self) {
        self.child = Self::spawn(&self.tools, &self.config);
        self.ready().await;
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    pub fn token(&self, room: &str, identity: &str) -> String {
        TokenRequest::new(room, identity).mint(&api()).unwrap()
    }

    pub fn signal(&self, room: &str, identity: &str) -> SignalConfig {
        let request = TokenRequest::new(room, identity);
        let source = TokenSource::Mint(std::sync::Arc::new(move || request.mint(&api())));
        SignalConfig::new(self.url(), source)
    }

    pub async fn peer(&self, room: &str, identity: &str) -> Peer {
        let mut command = Command::new(self.tools.0.join("venv/bin/python"));
        command.arg(Path::new(PEERS).join("peer.py")).args([self.url(), self.token(room, identity)]);
        Peer::start(command).await
    }

    pub async fn node_peer(&self, room: &str, identity: &str) -> Peer {
        let mut command = Command::new("node");
        command
            .arg(Path::new(PEERS).join("peer.cjs"))
            .args([self.url(), self.token(room, identity)])
            .env("NODE_PATH", self.tools.0.join("node/node_modules"));
        Peer::start(command).await
    }

    /// A call of the server's own API.
    pub async fn api(&self, method: &str, body: Value) -> String {
        let grants = livekit_token::VideoGrants {
            room_admin: true,
            room_create: true,
            room_list: true,
            room: body["room"].as_str().unwrap_or_default().into(),
            destination_room: body["destination_room"].as_str().unwrap_or_default().into(),
            ..Default::default()
        };
        let ApiKey { key, secret } = api();
        let token =
            livekit_token::AccessToken::with_api_key(&key, &secret).with_grants(grants).to_jwt().unwrap();
        let body = body.to_string();
        let request = format!(
            "POST /twirp/livekit.RoomService/{method} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.config);
    }
}

pub fn free_tcp_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A participant by LiveKit's own SDK.
pub struct Peer {
    _child: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    async fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if std::env::var_os("EVENKEEL_LIVEKIT_LOG").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Self { _child: child, commands, events };
        peer.until("connected").await;
        peer
    }

    pub async fn tell(&mut self, command: Value) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// The next event of this kind; others are passed over.
    pub async fn until(&mut self, kind: &str) -> Value {
        let wait = async {
            loop {
                let line = self.events.next_line().await.unwrap().expect("the peer ended");
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                assert_ne!(event["event"], "error", "{event}");
                if event["event"] == kind {
                    return event;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the peer never told of {kind}"))
    }

    pub async fn record(&mut self, path: &Path) {
        self.tell(json!({"do": "record", "path": path})).await;
        self.until("recording").await;
    }

    /// Ends the recording once it is as long as what was said, and what a network and a busy machine hold back.
    pub async fn stop(&mut self, path: &Path, said: usize) {
        let wanted = (said + 2 * audio::RATE) as u64 * 2;
        for _ in 0..PATIENCE.as_millis() / 50 {
            if std::fs::metadata(path).is_ok_and(|file| file.len() >= wanted) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.tell(json!({"do": "stop"})).await;
        self.until("stopped").await;
    }
}

pub fn publishing() -> ParticipantConfig {
    let mut config = ParticipantConfig::default();
    config.publish = Some(Publish { name: "device".into(), stereo: false });
    config
}

/// Joins with the driver and waits for the connection.
pub async fn join(signal: SignalConfig, config: ParticipantConfig) -> Room {
    let mut room = driver::join(signal, config, 7).await.unwrap();
    until(&mut room, |e| matches!(e, Event::Connected)).await;
    room
}

/// The next event that `wanted` is true of; others are passed over.
pub async fn until(room: &mut Room, wanted: impl Fn(&Event) -> bool) -> Event {
    pick(room, |e| wanted(&e).then_some(e)).await
}

/// What `wanted` makes of the first event it wants.
pub async fn pick<T>(room: &mut Room, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let event = room.recv().await.unwrap_or_else(|| panic!("the room ended; seen: {seen:#?}"));
            if !matches!(event, Event::Audio(_)) {
                seen.push(format!("{event:?}"));
            }
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    match timeout(PATIENCE, wait).await {
        Ok(found) => found,
        Err(_) => panic!("what was waited for never came; seen: {seen:#?}"),
    }
}

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
