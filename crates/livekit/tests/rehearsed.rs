//! Failures of the signal connection as LiveKit's own test server rehearses them; see `common`.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::{free_tcp_port, tools};
use evenkeel_livekit::error::SignalError;
use evenkeel_livekit::proto::DisconnectReason;
use evenkeel_livekit::proto::leave_request::Action;
use evenkeel_livekit::signal::{Connections, SignalConfig, SignalEvent, SignalHandle, TokenSource, spawn};
use evenkeel_livekit::token::{ApiKey, TokenRequest};
use tokio::process::{Child, Command};

struct Rehearsal {
    port: u16,
    _child: Child,
}

impl Rehearsal {
    async fn start() -> Option<Self> {
        let tools = tools()?;
        let port = free_tcp_port();
        let child = Command::new(tools.path("bin/test-server"))
            .args(["--ports", &port.to_string(), "--bind", "127.0.0.1"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                return Some(Self { port, _child: child });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the test server does not listen");
    }

    /// Joins a server that behaves like this.
    fn join(&self, behaviour: &str) -> SignalHandle {
        let mut request = TokenRequest::new("room", "device");
        request.attributes.insert("lk.mock".into(), behaviour.into());
        let token = request.mint(&ApiKey { key: "devkey".into(), secret: "secret".into() }).unwrap();
        let url = format!("ws://127.0.0.1:{}", self.port);
        let mut config = SignalConfig::new(url, TokenSource::Fixed(token));
        // This server looks for the wish to resume in the address alone, where only `/rtc` has it.
        config.connections = Connections::Dual;
        config.connect_timeout = Duration::from_secs(5);
        config.rejoin_for = Duration::from_secs(30);
        spawn(config, || ())
    }
}

/// What happens next, in a word.
async fn next(handle: &mut SignalHandle) -> String {
    loop {
        let event =
            tokio::time::timeout(Duration::from_secs(60), handle.recv()).await.expect("an event in time");
        return match event.expect("one") {
            SignalEvent::Joined { .. } => "joined".into(),
            SignalEvent::Resumed { .. } => "resumed".into(),
            SignalEvent::Message(_) => continue,
            SignalEvent::Interrupted(error) => format!("interrupted: {}", name(&error)),
            SignalEvent::Closed(error) => format!("closed: {}", error.as_ref().map_or("left".into(), name)),
            other => panic!("{other:?}"),
        };
    }
}

fn name(error: &SignalError) -> String {
    match error {
        SignalError::Leave { reason: DisconnectReason::ServerShutdown, action } => match action {
            Action::Disconnect => "disconnect",
            Action::Resume => "resume",
            Action::Reconnect => "reconnect",
        }
        .into(),
        SignalError::Closed { code } => format!("code {code:?}"),
        SignalError::PingTimeout { .. } => "no pong".into(),
        SignalError::Timeout { .. } => "timeout".into(),
        SignalError::RoomNotFound => "no room".into(),
        SignalError::ServiceNotFound => "no service".into(),
        SignalError::Server { status, .. } => format!("status {status}"),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn each_failure_is_told_as_what_it_is_and_each_leave_obeyed() {
    let Some(rehearsal) = Rehearsal::start().await else { return };
    let cases: [(&str, &[&str]); 13] = [
        (r#"{"signal":"happy"}"#, &["joined"]),
        (r#"{"signal":"validate_500"}"#, &["closed: status 500"]),
        (r#"{"signal":"validate_service_not_found"}"#, &["closed: no service"]),
        // This server refuses both without a word; the real one says when it is the room that is missing.
        (r#"{"signal":"room_not_found"}"#, &["closed: no service"]),
        (r#"{"signal":"no_first_message"}"#, &["closed: timeout"]),
        (r#"{"signal":"no_pong"}"#, &["joined", "interrupted: no pong", "resumed"]),
        (r#"{"signal":"close_before_join"}"#, &["closed: code Some(1011)"]),
        (r#"{"signal":"close_when_connected"}"#, &["joined", "interrupted: code Some(1011)", "resumed"]),
        (r#"{"signal":"drop_when_connected"}"#, &["joined", "interrupted: code None", "resumed"]),
        (r#"{"signal":"leave_first_message"}"#, &["closed: disconnect"]),
        (r#"{"signal":"leave_when_connected"}"#, &["joined", "closed: disconnect"]),
        (
            r#"{"signal":"leave_when_connected","leaveAction":"RESUME"}"#,
            &["joined", "interrupted: resume", "resumed"],
        ),
        (
            r#"{"signal":"leave_when_connected","leaveAction":"RECONNECT"}"#,
            &["joined", "interrupted: reconnect", "joined"],
        ),
    ];
    // All at once, for most of them are waits.
    let mut tasks = tokio::task::JoinSet::new();
    for (behaviour, expected) in cases {
        let mut handle = rehearsal.join(behaviour);
        tasks.spawn(async move {
            for expected in expected {
                assert_eq!(next(&mut handle).await, *expected, "{behaviour}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
