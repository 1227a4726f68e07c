//! What start-up says: where everything is, and what could be better.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use evenkeel_gateway::run::{Gateway, Started};
use evenkeel_sys::thread::Grant;
use serde_json::json;

/// See the [module](self).
pub(super) struct Greeting {
    started: Started,
    room: String,
}

impl Greeting {
    pub(super) fn new(gateway: &Gateway) -> Self {
        Self { started: gateway.started().clone(), room: gateway.room().to_owned() }
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let s = &self.started;
        let audio: Vec<_> = s.lanes.iter().map(|lane| lane.address).collect();
        json!({
            "pid": std::process::id(), "room": self.room, "mqtt": s.mqtt, "mqtt_tls": s.mqtt_tls, "web": s.web, "web_tls": s.web_tls,
            "pages": s.pages, "broker": s.broker,
            "audio": audio, "public_host": s.public_host, "operations": s.operations, "management": s.management,
        })
        .to_string()
    }

    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let refused = |grant| matches!(grant, Grant::Refused(io::ErrorKind::PermissionDenied));
        if self.started.lanes.iter().any(|lane| refused(lane.granted.real_time)) {
            advice.push(
                "media threads have no real-time priority, so other programs can delay audio; \
                 grant CAP_SYS_NICE, or LimitRTPRIO=1 in the systemd unit"
                    .to_owned(),
            );
        }
        let is_open = |page: &String| {
            let mut open = self.started.web.iter().filter(|address| !address.ip().is_loopback());
            open.any(|address| *page == format!("http://{address}/"))
        };
        if self.started.pages.iter().any(is_open) {
            advice.push(
                "the page is served to other machines without TLS, where browsers give it no microphone: set web.tls_listen"
                    .to_owned(),
            );
        }
        let buffer = self.started.lanes.iter().map(|lane| lane.buffers.receive).min().unwrap_or(usize::MAX);
        if buffer < 1 << 20 {
            advice.push(format!(
                "the kernel holds only {} kB of arriving audio a lane; with thousands of calls: \
                 sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304",
                buffer / 1000
            ));
        }
        advice
    }
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.started;
        let list = |addresses: &[SocketAddr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "evenkeel {}, room: {}", env!("CARGO_PKG_VERSION"), self.room)?;
        for (name, addresses) in
            [("MQTT", &s.mqtt), ("MQTT, TLS", &s.mqtt_tls), ("WebSocket", &s.web), ("… TLS", &s.web_tls)]
        {
            if !addresses.is_empty() {
                writeln!(f, "  {name:<11}{}", list(addresses))?;
            }
        }
        for page in &s.pages {
            writeln!(f, "  {:<11}{page}", "page")?;
        }
        if s.pages.is_empty() && !(s.web.is_empty() && s.web_tls.is_empty()) {
            writeln!(f, "  {:<11}off; see web.page", "page")?;
        }
        if let Some(broker) = &s.broker {
            writeln!(f, "  {:<11}{broker}", "broker")?;
        }
        let lanes: Vec<_> = s.lanes.iter().map(|lane| lane.address).collect();
        writeln!(f, "  {:<11}UDP {}; devices are told {}", "audio", list(&lanes), s.public_host)?;
        for address in &s.operations {
            writeln!(f, "  {:<11}http://{address}/", "dashboard")?;
        }
        if !s.management.is_empty() {
            writeln!(f, "  {:<11}http://{}/", "management", list(&s.management))?;
        }
        if let Some(anonymous) = s.anonymous {
            writeln!(f, "  {}", anonymous.notice())?;
        }
        for advice in self.advice() {
            writeln!(f, "  {advice}")?;
        }
        write!(f, "  Ctrl-C ends it")
    }
}
