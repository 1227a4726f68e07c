//! Debian's mosquitto, a broker that nobody here wrote.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel_testkit::tools;
use serde_json::Value;

use super::{PATIENCE, until};

pub struct Mosquitto {
    child: Child,
    pub port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Mosquitto {
    /// On a port of loopback that is free now. `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(port)
    }

    pub fn start_on(port: u16) -> Option<Self> {
        let program = tools::find("mosquitto")?;
        let config = std::env::temp_dir().join(format!("evenkeel-mosquitto-{port}.conf"));
        let listener = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
        std::fs::write(&config, listener).unwrap();
        let mut child =
            Command::new(program).arg("-v").arg("-c").arg(&config).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        // Its own clients do not try again where nobody listens yet.
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "mosquitto does not listen: {:?}", log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { child, port, log })
    }

    /// Waits until this client has subscribed so many times.
    pub async fn subscribed(&self, client_id: &str, times: usize) {
        let wanted = format!("Sending SUBACK to {client_id}");
        let count = || self.log.lock().unwrap().iter().filter(|line| line.ends_with(&wanted)).count();
        until(|| count() >= times).await;
    }

    /// Publishes by mosquitto's own client.
    pub fn publish(&self, topic: &str, message: &Value, sender: Option<&str>) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-V", "5", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-t", topic, "-m", &message.to_string()]);
        if let Some(sender) = sender {
            command.args(["-D", "publish", "user-property", "sender_client_id", sender]);
        }
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
