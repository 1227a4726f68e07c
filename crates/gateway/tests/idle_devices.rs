//! What thousands of devices cost that are connected and say nothing. Their side runs in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testkit::tools;
use support::{Gateway, KEY, resident, until};

const DEVICES: usize = 5000;

const CLIENT: &str = r#"
import base64, hashlib, hmac, resource, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
port, count, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
def field(b): return len(b).to_bytes(2, "big") + b
open_sockets = []
for n in range(count):
    mac = "_".join("%02x" % b for b in n.to_bytes(6, "big"))
    client, user = ("G@@@%s@@@u" % mac).encode(), b"e30="
    password = base64.b64encode(hmac.new(key, client + b"|" + user, hashlib.sha256).digest())
    body = b"\0\x04MQTT\x04\xc2\0\xf0" + field(client) + field(user) + field(password)
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(bytes([0x10, len(body) & 127 | 128, len(body) >> 7]) + body)
    assert s.recv(4) == b"\x20\x02\0\0"
    open_sockets.append(s)
sys.stdin.read()
"#;

fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) / 100.0
}

#[tokio::test]
async fn thousands_of_idle_devices_cost_little() {
    let Some(python) = tools::find("python3") else { return };
    if !support::may_open(DEVICES) {
        return;
    }
    let gateway = Gateway::start().await;
    let before = resident();
    let mut client = Command::new(python)
        .args(["-c", CLIENT, &gateway.address.port().to_string(), &DEVICES.to_string(), KEY])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| gateway.hub.connected() == DEVICES).await;
    let (memory, start) = (resident(), processor_seconds());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cores = (processor_seconds() - start) / 5.0;
    println!("{DEVICES} idle devices: {} kB, {cores:.3} cores", memory / 1024);
    println!("each: {} B", memory.saturating_sub(before) / DEVICES);
    assert!(memory < 100 << 20, "{memory} bytes");
    drop(client.stdin.take());
    client.wait().unwrap();
    until(|| gateway.hub.connected() == 0).await;
}
