//! Three hosts that are network namespaces: a device, the gateway, and a router between them that translates the device's
//! address, loses and delays.
//!
//! ```text
//! device 10.77.1.2 ── 10.77.1.1 downlink │ router │ uplink 10.77.2.1 ── 10.77.2.2 gateway
//! ```

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// The gateway's address.
pub(crate) const GATEWAY: &str = "10.77.2.2";
/// Those that the router has for the device.
pub(crate) const PUBLIC: &str = "10.77.2.1";
pub(crate) const OTHER_PUBLIC: &str = "10.77.2.9";

const HOSTS: [&str; 3] = ["device", "router", "gateway"];
/// Where netem sits on each interface: one for all but datagrams, one for those.
const NETEMS: [(&str, &str); 2] = [("1:1", "10:"), ("1:3", "30:")];

/// One way through the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the gateway.
    Up,
    /// To the device.
    Down,
}

impl Way {
    const fn interface(self) -> &'static str {
        match self {
            Self::Up => "uplink",
            Self::Down => "downlink",
        }
    }
}

/// What netem did to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Netem {
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
}

/// See the [module](self).
pub(crate) struct Lab {
    name: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::build().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether this kernel can have one, and if not why.
    pub(crate) fn try_out() -> Result<(), String> {
        Self::build().map(drop)
    }

    fn build() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lab = Self { name: format!("evenkeel-{}-{number}", std::process::id()) };
        for host in HOSTS {
            attempt(Command::new("ip").args(["netns", "add", &lab.host(host)]))?;
            lab.ip(host, "link set lo up")?;
        }
        lab.cable("device", Way::Down, "10.77.1.2/24", "10.77.1.1/24")?;
        lab.cable("gateway", Way::Up, "10.77.2.2/24", "10.77.2.1/24")?;
        lab.ip("router", &format!("addr add {OTHER_PUBLIC}/24 dev uplink"))?;
        lab.ip("device", "route add default via 10.77.1.1")?;
        let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
        attempt(lab.command("router", "sh").args(["-c", forward]))?;
        for way in [Way::Up, Way::Down] {
            // Datagrams pass a netem of their own, so that its counts are of them alone.
            let all = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
            let dev = way.interface();
            lab.at("router", &format!("tc qdisc add dev {dev} root handle 1: prio bands 3 priomap {all}"))?;
            for (parent, handle) in NETEMS {
                let netem = format!("parent {parent} handle {handle} netem delay 1ms");
                lab.at("router", &format!("tc qdisc add dev {dev} {netem}"))?;
            }
            let udp = "protocol ip u32 match ip protocol 17 0xff";
            lab.at("router", &format!("tc filter add dev {dev} parent 1: {udp} flowid 1:3"))?;
        }
        lab.nat(&format!("-A POSTROUTING -o uplink -p tcp -j SNAT --to-source {PUBLIC}"))?;
        lab.nat(&format!("-A POSTROUTING -o uplink -p udp -j SNAT --to-source {PUBLIC}:40000-40099"))?;
        // What the router has no device for any longer ends here, counted.
        lab.at("router", "iptables-legacy -A INPUT -i uplink -p udp -j DROP")?;
        Ok(lab)
    }

    pub(crate) fn host(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// A command that runs at a host.
    pub(crate) fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host), program]);
        command
    }

    /// Changes what the network does to all that goes one way, in the words of `tc`.
    pub(crate) fn weather(&self, way: Way, netem: &str) {
        let dev = way.interface();
        for (parent, handle) in NETEMS {
            let change = format!("tc qdisc change dev {dev} parent {parent} handle {handle} netem {netem}");
            self.at("router", &change).unwrap();
        }
    }

    /// What netem did to datagrams.
    pub(crate) fn netem(&self, way: Way) -> Netem {
        let shown = self.at("router", &format!("tc -s -j qdisc show dev {}", way.interface())).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let netem = shown.as_array().unwrap().iter().find(|qdisc| qdisc["handle"] == "30:").unwrap();
        let count = |what: &str| netem[what].as_u64().unwrap_or_else(|| panic!("{what} in {netem}"));
        Netem { delivered: count("packets"), dropped: count("drops") }
    }

    /// The router forgets under which address and port it knows the device's datagrams, and takes others.
    pub(crate) fn translate(&self, to: &str) {
        self.nat(&format!("-R POSTROUTING 2 -o uplink -p udp -j SNAT --to-source {to}")).unwrap();
        self.at("router", "conntrack -D -p udp").unwrap();
    }

    /// Datagrams to the device that came to an address and port at which the router no longer knew it.
    pub(crate) fn strayed(&self) -> u64 {
        let listed = self.at("router", "iptables-legacy -nvxL INPUT").unwrap();
        let rule = listed.lines().find(|line| line.contains("DROP") && line.contains("uplink")).unwrap();
        rule.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// A page of the operations port, which is on the gateway's loopback.
    pub(crate) fn operations(&self, path: &str) -> String {
        let host = File::open(format!("/run/netns/{}", self.host("gateway"))).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        let asking = std::thread::spawn(move || {
            move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let address: SocketAddr = ([127, 0, 0, 1], 8085).into();
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.split_once("\r\n\r\n").unwrap().1.to_owned()
        });
        asking.join().unwrap()
    }

    fn cable(&self, host: &str, way: Way, theirs: &str, ours: &str) -> Result<(), String> {
        let (host, router, dev) = (self.host(host), self.host("router"), way.interface());
        let pair = ["netns", &router, "type", "veth", "peer", "name", "eth0", "netns", &host];
        attempt(Command::new("ip").args(["link", "add", dev]).args(pair))?;
        for (at, dev, address) in [(&router, dev, ours), (&host, "eth0", theirs)] {
            attempt(Command::new("ip").args(["-n", at, "addr", "add", address, "dev", dev]))?;
            attempt(Command::new("ip").args(["-n", at, "link", "set", "dev", dev, "up"]))?;
        }
        Ok(())
    }

    fn ip(&self, host: &str, words: &str) -> Result<String, String> {
        attempt(Command::new("ip").args(["-n", &self.host(host)]).args(words.split(' ')))
    }

    fn nat(&self, words: &str) -> Result<String, String> {
        self.at("router", &format!("iptables-legacy -t nat {words}"))
    }

    fn at(&self, host: &str, words: &str) -> Result<String, String> {
        let (program, words) = words.split_once(' ').unwrap();
        attempt(self.command(host, program).args(words.split(' ')))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in HOSTS {
            // Cables go with their ends.
            let _ = Command::new("ip").args(["netns", "del", &self.host(host)]).output();
        }
    }
}

/// Runs a command that should succeed; gives what it says.
pub(crate) fn attempt(command: &mut Command) -> Result<String, String> {
    let name = |command: &Command| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    };
    let done = command.output().map_err(|error| format!("{}: {error}", name(command)))?;
    if !done.status.success() {
        return Err(format!("{}: {}", name(command), String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
