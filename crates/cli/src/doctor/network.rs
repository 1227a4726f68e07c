//! Ports and addresses.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use evenkeel_gateway::config::{Anonymous, Config};
use evenkeel_gateway::run::public_host;
use evenkeel_sys::thread::allowed_cores;

use super::{Finding, Verdict};

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut ports: Vec<(&'static str, &'static str, SocketAddr)> = Vec::new();
    let mut add = |what, setting, addresses: &[SocketAddr]| {
        ports.extend(addresses.iter().map(|&address| (what, setting, address)));
    };
    let effective = config.effective();
    add("MQTT", "mqtt.listen", effective.as_ref().map_or(&[][..], |effective| &effective.mqtt_listen));
    add("MQTT, TLS", "mqtt.tls_listen", &config.mqtt.tls_listen);
    add("WebSocket", "web.listen", effective.as_ref().map_or(&[][..], |effective| &effective.web_listen));
    add(
        "WebSocket, TLS",
        "web.tls_listen",
        effective.as_ref().map_or(&[][..], |effective| &effective.web_tls_listen),
    );
    add("operations", "operations.listen", &config.operations.listen);
    if config.management.enabled && config.devices.signature_key.expose().is_some() {
        add("management", "management.listen", &config.management.listen);
    }
    findings.extend(ports.into_iter().map(|(what, setting, address)| {
        tried(what, setting, &address.to_string(), TcpListener::bind(address).map(drop))
    }));
    findings.push(audio_ports(config));
    findings.extend(public_address(config));
    if let Ok(effective) = effective {
        let verdict = if effective.anonymous == Anonymous::Refused { Verdict::Good } else { Verdict::Fair };
        findings.push(Finding::new("credentials", verdict, effective.anonymous.notice()));
    }
    findings
}

fn tried(what: &'static str, setting: &str, address: &str, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Finding::new(what, Verdict::Good, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::new(
            what,
            Verdict::Bad,
            format!("{address} is taken: stop the program that has it, or change `{setting}`"),
        ),
        Err(error) => Finding::new(what, Verdict::Bad, format!("{address} (`{setting}`): {error}")),
    }
}

fn audio_ports(config: &Config) -> Finding {
    let lanes = if config.media.lanes == 0 { allowed_cores().len() } else { config.media.lanes };
    let first = config.media.udp_port;
    let Ok(address) = config.media.udp_address.parse::<IpAddr>() else {
        return Finding::new("audio", Verdict::Bad, "`media.udp_address` is no IP address");
    };
    let ports = (0..lanes).map(|lane| if first == 0 { 0 } else { first.saturating_add(lane as u16) });
    for port in ports {
        if let Err(error) = UdpSocket::bind((address, port)) {
            return tried("audio", "media.udp_port", &format!("UDP {port}"), Err(error));
        }
    }
    let name = match lanes {
        _ if first == 0 => "any UDP port".to_owned(),
        0 | 1 => format!("UDP {first}"),
        lanes => format!("UDP {first} to {}", usize::from(first) + lanes - 1),
    };
    tried("audio", "media.udp_port", &name, Ok(()))
}

/// Whether devices can send where they are told to, as far as that can be seen from here.
fn public_address(config: &Config) -> Option<Finding> {
    let what = "public address";
    let host = match public_host(config) {
        Ok(host) => host,
        Err(error) => return Some(Finding::new(what, Verdict::Bad, error.to_string())),
    };
    let Some(address) = (host.as_str(), 0).to_socket_addrs().ok().and_then(|mut all| all.next()) else {
        let text = format!("{host} (`media.public_address`) is no address and no name that is known");
        return Some(Finding::new(what, Verdict::Bad, text));
    };
    let ip = address.ip();
    let scope = scope(ip);
    if scope == Scope::Nowhere {
        let text = format!("{ip} can be reached by nobody: set `media.public_address`");
        return Some(Finding::new(what, Verdict::Bad, text));
    }
    let serves_others = config.effective().is_ok_and(|effective| effective.anonymous != Anonymous::Loopback);
    let datagrams = arrives("datagrams", &loops(config, ip));
    // Without a key, MQTT is for this machine alone.
    let connections = if serves_others || scope == Scope::Machine {
        arrives("connections", &connects(config, ip))
    } else {
        "connections are taken from this machine alone, for want of `devices.signature_key`".to_owned()
    };
    let (verdict, reach) = match scope {
        Scope::World => (Verdict::Good, "the world can reach it"),
        Scope::Neighbours if serves_others => (
            Verdict::Fair,
            "only devices in the same network can reach it; for others set `media.public_address`",
        ),
        Scope::Machine if serves_others => {
            (Verdict::Bad, "only this machine can reach it: set `media.public_address`")
        }
        _ => (Verdict::Good, "this machine can reach it, which is all that is served"),
    };
    Some(Finding::new(what, verdict, format!("{host}: {reach}; {datagrams}, {connections}")))
}

/// What is to be said of a try from here.
fn arrives(what: &str, result: &io::Result<bool>) -> String {
    match result {
        Ok(true) => format!("{what} from here arrive there"),
        // So it is behind many a router, too.
        Ok(false) => {
            format!("{what} from here do not (is the port forwarded? From outside, try `evenkeel call`)")
        }
        Err(error) => format!("{what} could not be tried ({error})"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Nowhere,
    Machine,
    Neighbours,
    World,
}

fn scope(ip: IpAddr) -> Scope {
    let ip = ip.to_canonical();
    let (is_private, is_nobodys) = match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // Between a provider and its customers (RFC 6598).
            let is_shared = a == 100 && b & 0xc0 == 64;
            (ip.is_private() || ip.is_link_local() || is_shared, ip.is_documentation() || a == 0 || a >= 240)
        }
        IpAddr::V6(ip) => {
            // For documentation (RFC 3849).
            let is_documentation = ip.segments()[..2] == [0x2001, 0xdb8];
            (ip.is_unique_local() || ip.is_unicast_link_local(), is_documentation)
        }
    };
    match ip {
        _ if ip.is_unspecified() || ip.is_multicast() || is_nobodys => Scope::Nowhere,
        _ if ip.is_loopback() => Scope::Machine,
        _ if is_private => Scope::Neighbours,
        _ => Scope::World,
    }
}

/// Whether a datagram to the public address comes back to a socket as a lane has it.
fn loops(config: &Config, public: IpAddr) -> io::Result<bool> {
    let listen: IpAddr = config.media.udp_address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let lane = UdpSocket::bind((listen, config.media.udp_port))?;
    lane.set_read_timeout(Some(Duration::from_millis(500)))?;
    let any: IpAddr = if public.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    UdpSocket::bind((any, 0))?.send_to(b"evenkeel", (public, lane.local_addr()?.port()))?;
    let mut heard = [0; 16];
    Ok(lane.recv(&mut heard).is_ok_and(|len| heard[..len] == *b"evenkeel"))
}

/// Whether a connection to the public address comes to a socket as the first MQTT endpoint has it.
fn connects(config: &Config, public: IpAddr) -> io::Result<bool> {
    let effective = config.effective().map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut listens = effective.mqtt_listen.iter().chain(&config.mqtt.tls_listen);
    let listen = listens.next().ok_or(io::ErrorKind::NotFound)?;
    let endpoint = TcpListener::bind(listen)?;
    endpoint.set_nonblocking(true)?;
    let there = SocketAddr::new(public, endpoint.local_addr()?.port());
    let patience = Duration::from_millis(500);
    if TcpStream::connect_timeout(&there, patience).is_err() {
        return Ok(false);
    }
    // Whoever else answers there, it must be this one, though it may hear of it a little later.
    let began = Instant::now();
    while endpoint.accept().is_err() {
        if began.elapsed() > patience {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_they_do() {
        for (address, expected) in [
            ("0.0.0.0", Scope::Nowhere),
            ("203.0.113.7", Scope::Nowhere),
            ("0.1.2.3", Scope::Nowhere),
            ("255.255.255.255", Scope::Nowhere),
            ("224.0.0.1", Scope::Nowhere),
            ("2001:db8::1", Scope::Nowhere),
            ("127.0.0.1", Scope::Machine),
            ("::1", Scope::Machine),
            ("10.1.2.3", Scope::Neighbours),
            ("100.64.0.1", Scope::Neighbours),
            ("100.127.255.255", Scope::Neighbours),
            ("169.254.0.1", Scope::Neighbours),
            ("fd00::1", Scope::Neighbours),
            ("9.9.9.9", Scope::World),
            ("100.128.0.1", Scope::World),
            ("2620:fe::9", Scope::World),
        ] {
            assert!(scope(address.parse().unwrap()) == expected, "{address}");
        }
    }
}
