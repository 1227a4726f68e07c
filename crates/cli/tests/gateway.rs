//! `evenkeel serve`, `call` and `config`, as programs.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use evenkeel_testkit::recordings::clip;
use serde_json::Value;

fn evenkeel(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    // Settings of whoever runs the tests are not those of the test.
    command.current_dir(scratch()).args(args).env_clear().stdin(Stdio::null());
    command
}

fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// A program that a test which failed does not leave behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway on free ports of loopback.
struct Serving {
    process: Running,
    says: BufReader<ChildStdout>,
    started: Value,
}

impl Serving {
    fn start(more: &[&str]) -> Self {
        let free = [
            "mqtt.listen=127.0.0.1:0",
            "web.listen=127.0.0.1:0",
            "media.udp_port=0",
            "operations.listen=127.0.0.1:0",
        ];
        let mut command = evenkeel(&["serve", "--json"]);
        command.args(free.iter().flat_map(|set| ["--set", set]));
        let process = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = Running(process.unwrap());
        let mut says = BufReader::new(process.0.stdout.take().unwrap());
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        let started = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { process, says, started }
    }

    fn mqtt(&self) -> &str {
        self.started["mqtt"][0].as_str().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Ends it as an operator does; gives what it logged.
    fn stop(mut self) -> String {
        self.signal("TERM");
        let mut rest = String::new();
        self.says.read_line(&mut rest).unwrap();
        let mut log = String::new();
        let errors = BufReader::new(self.process.0.stderr.take().unwrap());
        errors.lines().map_while(Result::ok).for_each(|line| log += &(line + "\n"));
        assert!(self.process.0.wait().unwrap().success(), "{log}");
        log
    }
}

fn call(server: &str, more: &[&str]) -> Output {
    let wav = clip("cmn-16k.wav").canonicalize().unwrap();
    evenkeel(&["call", "--server", server, "--json", "--wav", wav.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_recording_said_to_the_echo_room_comes_back() {
    let serving = Serving::start(&[]);
    let reply = scratch().join("reply.wav");
    let called = call(serving.mqtt(), &["--out", reply.to_str().unwrap()]);
    assert!(called.status.success(), "{}", text(&called.stderr));
    let report: Value = serde_json::from_slice(&called.stdout).unwrap();
    assert!(report["heard"]["packets"].as_u64().unwrap() >= 10, "{report}");
    assert_eq!(report["not_opened"], 0, "{report}");
    assert!(report["listener"]["played"].as_u64().unwrap() >= 10, "{report}");
    let seconds = report["output"]["seconds"].as_f64().unwrap();
    assert!(
        seconds >= 0.6 && std::fs::metadata(&reply).unwrap().len() as f64 > seconds * 48_000.0,
        "{report}"
    );
    let log = serving.stop();
    assert!(log.contains("draining") && log.contains("all calls have ended"), "{log}");
}

#[test]
fn a_reply_that_never_ends_ends_the_call_nevertheless() {
    // The chat server of loads says that it speaks, and never that it has spoken.
    let load = evenkeel(&["load", "--chat-server", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn();
    let mut servers = Running(load.unwrap());
    let mut line = String::new();
    BufReader::new(servers.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (_, address) = line.split_once("ws://").unwrap_or_else(|| panic!("{line:?}"));
    let address = format!("websocket.servers=ws://{}/", address.trim_end().trim_end_matches('/'));
    let serving = Serving::start(&["--set", "room.kind=websocket", "--set", &address]);
    let called = call(serving.mqtt(), &["--answer-limit", "1"]);
    let report: Value = serde_json::from_slice(&called.stdout).unwrap();
    assert_eq!(report["messages"][0]["message"]["state"], "start", "{report}");
    assert_eq!(report["messages"].as_array().unwrap().len(), 1, "{report}");
    // Who pauses while he is spoken to hears of an echo what he said before, which is hardly anything.
    assert!(report["heard"]["packets"].as_u64().unwrap() <= 3, "{report}");
}

#[test]
fn what_is_wrong_with_a_call_is_said_before_anybody_is_called() {
    for (wrong, says) in
        [(["--loss", "500"], "from 0 to 100 percent"), (["--out", "nowhere/a.wav"], "no folder nowhere")]
    {
        let refused = call("127.0.0.1:1", &wrong);
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
        assert!(text(&refused.stderr).contains(says), "{}", text(&refused.stderr));
    }
    for nowhere in ["127.0.0.1", "gateway.example:", ":1883", "gateway.example:65536"] {
        let refused = call(nowhere, &[]);
        assert_eq!(refused.status.code(), Some(2), "{nowhere}");
        assert!(text(&refused.stderr).contains("must be HOST:PORT"), "{}", text(&refused.stderr));
    }
}

#[test]
fn who_cannot_come_in_is_told_what_to_do() {
    let serving =
        Serving::start(&["--set", "devices.signature_key=k1", "--set", "management.listen=127.0.0.1:0"]);
    let refused = call(serving.mqtt(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--key"), "{}", text(&refused.stderr));
    let called = call(serving.mqtt(), &["--key", "k1", "--loss", "20", "--seed", "3"]);
    assert!(called.status.success(), "{}", text(&called.stderr));
    let report: Value = serde_json::from_slice(&called.stdout).unwrap();
    assert!(report["lost_up"].as_u64().unwrap() + report["lost_down"].as_u64().unwrap() > 0, "{report}");
    let listener = &report["listener"];
    let concealed = listener["concealed_ms"].as_f64().unwrap();
    let brought_back = listener["recovered"].as_u64().unwrap();
    assert!(concealed >= 60.0 * (listener["lost"].as_u64().unwrap() - brought_back) as f64, "{report}");
}

#[test]
fn a_port_that_is_taken_and_one_that_is_wrong_are_said_plainly() {
    let serving = Serving::start(&[]);
    let listen = format!("mqtt.listen={}", serving.mqtt());
    let second = evenkeel(&["serve", "--set", "media.udp_port=0", "--set", &listen]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(said.contains("mqtt.listen") && said.contains(serving.mqtt()), "{said}");
    let other_door = call(serving.started["operations"][0].as_str().unwrap(), &[]);
    assert_eq!(other_door.status.code(), Some(1));
    assert!(text(&other_door.stderr).contains("does not speak MQTT"), "{}", text(&other_door.stderr));
    let address = serving.mqtt().to_owned();
    serving.stop();
    let nobody = call(&address, &[]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("evenkeel serve"), "{}", text(&nobody.stderr));
}

#[test]
fn a_hangup_reads_the_settings_anew_and_a_wrong_file_changes_nothing() {
    let file = scratch().join("reload.toml");
    std::fs::write(&file, "[log]\nlevel = \"info\"\n").unwrap();
    let mut serving = Serving::start(&["--config", file.to_str().unwrap()]);
    let mut errors = BufReader::new(serving.process.0.stderr.take().unwrap());
    let mut until = |word: &str| {
        let mut line = String::new();
        while errors.read_line(&mut line).unwrap() > 0 {
            if line.contains(word) {
                return line;
            }
            line.clear();
        }
        panic!("{word} was never said");
    };
    std::fs::write(&file, "[log]\nlevle = \"debug\"\n").unwrap();
    serving.signal("HUP");
    assert!(until("not read anew").contains("log.level"));
    std::fs::write(&file, "[log]\nlevel = \"debug\"\n[media]\nlanes = 1\n").unwrap();
    serving.signal("HUP");
    let said = until("read anew");
    assert!(said.contains("log.level") && said.contains("media.lanes"), "{said}");
}

#[test]
fn settings_are_shown_checked_and_brought_over() {
    let run = |args: &[&str]| {
        let output = evenkeel(args).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, defaults, _) = run(&["config", "--default"]);
    assert_eq!(code, Some(0));
    let file = scratch().join("defaults.toml");
    std::fs::write(&file, &defaults).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(run(&["config", "--config", file]), (Some(0), defaults, String::new()));
    assert_eq!(run(&["config", "--check", "--config", file]).1, "");

    let (code, _, said) = run(&["config", "--set", "mqtt.lisen=1.1.1.1:1", "--set", "room.kind=zoo"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("did you mean `mqtt.listen`?") && said.contains("\"websocket\""), "{said}");
    let (code, _, said) = run(&["config", "--set", "room.kind=websocket"]);
    assert_eq!((code, said.contains("websocket.servers")), (Some(2), true), "{said}");

    let old = scratch().join("mqtt.json");
    std::fs::write(&old, r#"{"production": {"chat_servers": ["ws://a"]}, "debug": true}"#).unwrap();
    let (code, translated, _) = run(&["config", "--import", old.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(translated.contains("ws://a") && translated.contains("level = \"debug\""), "{translated}");
}

#[test]
fn many_devices_hear_themselves_and_the_gateway_tells_what_it_took() {
    let serving = Serving::start(&["--set", "room.loopback=true"]);
    let operations = serving.started["operations"][0].as_str().unwrap();
    let plot = scratch().join("devices.svg");
    let load = |more: &[&str]| {
        let mut command =
            evenkeel(&["load", "--server", serving.mqtt(), "--operations", operations, "--json"]);
        let output = command.args(["--seconds", "2", "--devices", "20"]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let report = load(&["--plot", plot.to_str().unwrap()]);
    assert_eq!(report["failed"], 0, "{report}");
    // On a machine that stands still, some are too late to be sent.
    if report["gateway"]["missed"] == 0 && report["own_lateness_ms"]["max"].as_f64().unwrap() < 50.0 {
        assert_eq!(report["not_echoed"], 0, "{report}");
    }
    assert!(report["echoed"].as_u64().unwrap() >= 500, "{report}");
    assert!(report["hello_ms"]["p99"].as_f64().unwrap() > 0.0, "{report}");
    let gateway = &report["gateway"];
    assert!(
        gateway["sent"].as_u64().unwrap() >= 300 && gateway["rss_mb"].as_f64().unwrap() > 1.0,
        "{gateway}"
    );
    assert!(gateway["departures_within"].as_array().unwrap().len() >= 9, "{gateway}");
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    let idle = load(&["--idle"]);
    assert_eq!((&idle["failed"], &idle["sent"]), (&0.into(), &0.into()), "{idle}");
}

#[test]
fn the_doctor_finds_what_is_in_the_way() {
    let free = [
        "mqtt.listen=127.0.0.1:0",
        "web.listen=127.0.0.1:0",
        "media.udp_port=0",
        "operations.listen=127.0.0.1:0",
    ];
    let doctor = |more: &[&str]| {
        let mut command = evenkeel(&["doctor", "--json"]);
        let output = command.args(free.iter().flat_map(|set| ["--set", set])).args(more).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let verdict = |report: &Value, what: &str| {
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("{what} in {report}"))["verdict"].as_str().unwrap().to_owned()
    };
    let (code, report) = doctor(&[]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((verdict(&report, "MQTT").as_str(), verdict(&report, "audio").as_str()), ("good", "good"));
    let capacity = &report["capacity"];
    assert!(
        capacity["calls"].as_u64().unwrap() > 0 && capacity["packet_us"].as_f64().unwrap() > 0.0,
        "{capacity}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("mqtt.listen={}", taken.local_addr().unwrap());
    let (code, report) = doctor(&["--quick", "--set", &listen, "--set", "media.public_address=0.0.0.0"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        (verdict(&report, "MQTT").as_str(), verdict(&report, "public address").as_str()),
        ("bad", "bad")
    );
    assert!(report["capacity"].is_null());

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("livekit.url=ws://{nobody}");
    let room =
        ["room.kind=livekit", &url, "livekit.api_key=k", "livekit.api_secret=s"].map(|set| ["--set", set]);
    let (code, report) = doctor(&[&["--quick"], room.as_flattened()].concat());
    assert_eq!((code, verdict(&report, "LiveKit room").as_str()), (Some(1), "bad"), "{report}");
}
