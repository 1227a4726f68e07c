//! The gateway that is measured, in a process of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use evenkeel_device::session::Session;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::common::{PATIENCE, Server, api};
use crate::device::{Device, room};

/// What is measured.
pub(crate) enum Kind {
    /// `evenkeel serve`.
    Evenkeel(PathBuf),
    /// The script of a gateway in Node.js.
    Node(PathBuf),
}

impl Kind {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Evenkeel(_) => "evenkeel",
            Self::Node(_) => "Node.js",
        }
    }
}

/// A gateway that runs, ended when dropped.
pub(crate) struct Gateway {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    /// Where devices say hello, and where it says what it noticed. The one in Node.js has neither.
    endpoints: Option<(String, SocketAddr)>,
}

/// What the gateway says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Noticed {
    /// Packets over 50 ms late, dropped.
    pub(crate) missed: u64,
    /// From when a packet had been played out of its jitter buffer until it left: the 99th percentile is at most this.
    pub(crate) transit_p99_ms: f64,
}

impl Gateway {
    pub(crate) async fn start(kind: &Kind, server: &Server) -> Self {
        let mut command = match kind {
            Kind::Evenkeel(program) => {
                let mut command = Command::new(program);
                command.args(["serve", "--json"]);
                let livekit = [
                    "room.kind=livekit".to_owned(),
                    format!("livekit.url={}", server.url()),
                    format!("livekit.api_key={}", api().key),
                    // So that the agent can be there first.
                    "livekit.room={uuid}_{mac}".to_owned(),
                ];
                let free = [
                    "mqtt.listen=127.0.0.1:0",
                    "web.listen=127.0.0.1:0",
                    "operations.listen=127.0.0.1:0",
                    "media.udp_port=0",
                ];
                let others = ["media.udp_address=127.0.0.1", "log.level=warn"];
                for setting in livekit.iter().map(String::as_str).chain(free).chain(others) {
                    command.args(["--set", setting]);
                }
                command.env("LIVEKIT_API_SECRET", api().secret.as_str());
                command
            }
            Kind::Node(script) => {
                let mut command = Command::new("node");
                command.arg(script);
                command
            }
        };
        // What is set here for other things would be taken for settings of the gateway.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EVENKEEL_"))
        {
            command.env_remove(name);
        }
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child =
            pipes.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", kind.name()));
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut gateway = Self { child, to, from, endpoints: None };
        let greeting = gateway.answer_with(if let Kind::Node(_) = kind { "ready" } else { "mqtt" }).await;
        if let Kind::Evenkeel(_) = kind {
            let address = |at: &str| greeting.pointer(at).and_then(Value::as_str).unwrap().to_owned();
            gateway.endpoints = Some((address("/mqtt/0"), address("/operations/0").parse().unwrap()));
        }
        gateway
    }

    /// A device comes.
    pub(crate) async fn call(&mut self, server: &Server, number: u32, keeps: bool) -> Device {
        if let Some((mqtt, _)) = &self.endpoints {
            return Device::call(mqtt, number, keeps).await;
        }
        // The one in Node.js is told what a hello would have come to.
        let key = format!("{:032x}", u128::from(number) << 64 | 0x5eed);
        let call = json!({
            "url": server.url(), "token": server.token(&room(number), "device"), "key": key, "ssrc": number,
        });
        self.to.write_all(format!("{call}\n").as_bytes()).await.unwrap();
        let port = self.answer_with("port").await["port"].clone();
        let hello = json!({
            "session_id": "s", "audio_params": {"frame_duration": 60, "sample_rate": 24_000},
            "udp": {"server": "127.0.0.1", "port": port, "encryption": "aes-128-ctr", "key": key,
                "nonce": format!("01000000{number:08x}0000000000000000")},
        });
        Device::begin(&Session::parse(&hello).unwrap(), keeps).await
    }

    async fn answer(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.from.next_line()).await.expect("an answer in time");
        serde_json::from_str(&line.unwrap().expect("the gateway to run: what it said is above"))
            .expect("JSON")
    }

    /// The next answer that has `key`: LiveKit's SDK for Node.js writes its log between them.
    async fn answer_with(&mut self, key: &str) -> Value {
        loop {
            let answer = self.answer().await;
            if answer.get(key).is_some() {
                return answer;
            }
            eprintln!("rooms: the gateway says {answer}");
        }
    }

    /// The CPU time it has used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // What follows the name, which may hold anything; user and system time are the 14th and 15th of all.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Its physical memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id().unwrap())).unwrap()
    }

    /// Its metrics, if it has any.
    pub(crate) fn metrics(&self) -> Option<Metrics> {
        let (_, operations) = self.endpoints.as_ref()?;
        let mut stream = TcpStream::connect(operations).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {operations}\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        Some(Metrics { page })
    }
}

/// What a gateway said of itself at one time.
pub(crate) struct Metrics {
    page: String,
}

impl Metrics {
    /// What it noticed since it said `before`.
    pub(crate) fn since(&self, before: &Self) -> Noticed {
        let grown: Vec<_> =
            self.transit().into_iter().zip(before.transit()).map(|(a, b)| (a.0, a.1 - b.1)).collect();
        let all = grown.last().map_or(0.0, |(_, count)| *count);
        let p99 = grown.iter().find(|(_, count)| *count >= 0.99 * all);
        Noticed {
            missed: (self.sum("evenkeel_lane_missed_total") - before.sum("evenkeel_lane_missed_total"))
                as u64,
            transit_p99_ms: p99.map_or(f64::INFINITY, |(bound, _)| bound * 1e3),
        }
    }

    fn sum(&self, name: &str) -> f64 {
        let values = self.page.lines().filter(|line| line.starts_with(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Bounds in seconds, and how many packets took at most that long.
    fn transit(&self) -> Vec<(f64, f64)> {
        let bucket = |line: &str| {
            let rest = line.strip_prefix("evenkeel_room_transit_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
        };
        self.page.lines().filter_map(bucket).collect()
    }
}
