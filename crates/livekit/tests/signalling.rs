//! The signal connection against servers that do what no good server does.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use evenkeel_livekit::error::SignalError;
use evenkeel_livekit::proto;
use evenkeel_livekit::signal::{
    Connections, SignalCommand, SignalConfig, SignalEvent, SignalHandle, TokenSource, spawn,
};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Upgrade};
use tokio_tungstenite::tungstenite::http::{Response as HttpResponse, StatusCode};

type Socket = WebSocketStream<TcpStream>;

/// Listens, and does `serve` with each connection, which gets its number.
async fn server<F: Future<Output = ()> + Send>(
    serve: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static,
) -> SignalConfig {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            serve(number, stream).await;
        }
    });
    let mut config = SignalConfig::new(format!("ws://127.0.0.1:{port}"), TokenSource::Fixed("first".into()));
    config.connect_timeout = Duration::from_secs(30);
    config.rejoin_for = Duration::from_secs(5);
    config
}

/// Accepts a WebSocket; gives the path with its query, and the token.
async fn accept(stream: TcpStream) -> (Socket, String, String) {
    let mut asked = (String::new(), String::new());
    #[allow(clippy::result_large_err)]
    let look = |request: &Upgrade, response| {
        let token = request.headers()["authorization"].to_str().unwrap();
        asked = (request.uri().to_string(), token.trim_start_matches("Bearer ").to_owned());
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, look).await.unwrap();
    (socket, asked.0, asked.1)
}

async fn refuse(stream: TcpStream, status: StatusCode, body: &str) {
    #[allow(clippy::result_large_err)]
    let answer = |_: &Upgrade, _| -> Result<_, ErrorResponse> {
        Err(HttpResponse::builder().status(status).body(Some(body.to_owned())).unwrap())
    };
    let _ = tokio_tungstenite::accept_hdr_async(stream, answer).await;
}

async fn say(socket: &mut Socket, message: Response) {
    let bytes = proto::SignalResponse { message: Some(message) }.encode_to_vec();
    socket.send(Message::Binary(bytes.into())).await.unwrap();
}

fn welcome() -> Response {
    Response::Join(proto::JoinResponse {
        participant: Some(proto::ParticipantInfo { sid: "PA_1".into(), ..Default::default() }),
        ping_interval: 1,
        ping_timeout: 2,
        ..Default::default()
    })
}

/// Answers pings until the other side is gone; other requests come out.
async fn keep(mut socket: Socket, mut seen: impl FnMut(Request)) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else { continue };
        match proto::SignalRequest::decode(bytes).unwrap().message.unwrap() {
            Request::PingReq(ping) => {
                let pong = proto::Pong { last_ping_timestamp: ping.timestamp, ..Default::default() };
                say(&mut socket, Response::PongResp(pong)).await;
            }
            other => seen(other),
        }
    }
}

async fn next(handle: &mut SignalHandle) -> SignalEvent {
    tokio::time::timeout(Duration::from_secs(30), handle.recv())
        .await
        .expect("an event in time")
        .expect("one")
}

async fn closed(config: SignalConfig) -> SignalError {
    let mut handle = spawn(config, || ());
    loop {
        if let SignalEvent::Closed(error) = next(&mut handle).await {
            return error.expect("an error");
        }
    }
}

#[tokio::test]
async fn where_nobody_listens_it_says_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("ws://127.0.0.1:{port}");
    let error = closed(SignalConfig::new(url, TokenSource::Fixed("t".into()))).await;
    assert!(matches!(error, SignalError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    let mut config = server(|_, stream| async move {
        tokio::spawn(async move {
            let _keep = stream;
            std::future::pending::<()>().await
        });
    })
    .await;
    config.connect_timeout = Duration::from_millis(200);
    let after = config.connect_timeout;
    assert_eq!(closed(config).await, SignalError::Timeout { after, during: "connecting to the room" });
}

#[tokio::test]
async fn garbage_is_called_garbage() {
    let http = server(|_, mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
    });
    assert!(matches!(closed(http.await).await, SignalError::Garbage { .. }));
    for message in [Message::Binary(vec![0xff; 40].into()), Message::Text("{}".into())] {
        let config = server(move |_, stream| {
            let message = message.clone();
            async move {
                let (mut socket, ..) = accept(stream).await;
                socket.send(message).await.unwrap();
                keep(socket, |_| ()).await;
            }
        })
        .await;
        assert!(matches!(closed(config).await, SignalError::Garbage { .. }));
    }
    // An empty message is a valid one, but no welcome.
    let config = server(|_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        socket.send(Message::Binary(Vec::new().into())).await.unwrap();
        keep(socket, |_| ()).await;
    })
    .await;
    assert!(matches!(closed(config).await, SignalError::Garbage { .. }));
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_not_read() {
    let mut config = server(|_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        let _ = socket.send(Message::Binary(vec![0; 100_000].into())).await;
    })
    .await;
    config.message_limit = 10_000;
    assert_eq!(closed(config).await, SignalError::Oversized { limit: 10_000 });
}

#[tokio::test]
async fn what_the_server_refuses_keeps_its_reason() {
    type Case = (StatusCode, &'static str, fn(&SignalError) -> bool);
    let cases: [Case; 5] = [
        (
            StatusCode::UNAUTHORIZED,
            "invalid signature",
            |e| matches!(e, SignalError::TokenRefused { detail } if detail == "invalid signature"),
        ),
        (StatusCode::UNAUTHORIZED, "token is expired (exp)", |e| *e == SignalError::TokenExpired),
        (StatusCode::FORBIDDEN, "no", |e| matches!(e, SignalError::Refused { status: 403, .. })),
        (StatusCode::NOT_FOUND, "requested room does not exist", |e| *e == SignalError::RoomNotFound),
        (StatusCode::BAD_GATEWAY, "", |e| matches!(e, SignalError::Server { status: 502, .. })),
    ];
    for (status, body, expected) in cases {
        let config = server(move |_, stream| refuse(stream, status, body)).await;
        let error = closed(config).await;
        assert!(expected(&error), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn where_no_single_connection_is_known_two_are_used() {
    let config = server(|number, stream| async move {
        match number {
            0 => refuse(stream, StatusCode::NOT_FOUND, "404 page not found").await,
            _ => {
                let (mut socket, path, _) = accept(stream).await;
                assert!(path.starts_with("/rtc?protocol=16&"), "{path}");
                say(&mut socket, welcome()).await;
                keep(socket, |_| ()).await;
            }
        }
    })
    .await;
    let mut handle = spawn(config, || ());
    match next(&mut handle).await {
        SignalEvent::Joined { connections, .. } => assert_eq!(connections, Connections::Dual),
        other => panic!("{other:?}"),
    }
    let nowhere = server(|_, stream| refuse(stream, StatusCode::NOT_FOUND, "404 page not found")).await;
    assert_eq!(closed(nowhere).await, SignalError::ServiceNotFound);
}

#[tokio::test]
async fn a_cut_is_resumed_with_the_newest_token_and_older_requests_are_dropped() {
    let wakes = Arc::new(AtomicUsize::new(0));
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let config = server(move |number, stream| {
        let seen = seen.clone();
        async move {
            let (mut socket, _, token) = accept(stream).await;
            match number {
                0 => {
                    assert_eq!(token, "first");
                    say(&mut socket, welcome()).await;
                    say(&mut socket, Response::RefreshToken("second".into())).await;
                    say(&mut socket, Response::RoomUpdate(Default::default())).await;
                    // The connection is dropped without a word.
                }
                _ => {
                    assert_eq!(token, "second");
                    let reconnect = proto::ReconnectResponse { last_message_seq: 3, ..Default::default() };
                    say(&mut socket, Response::Reconnect(reconnect)).await;
                    keep(socket, |r| seen.send(r).unwrap()).await;
                }
            }
        }
    })
    .await;
    let counted = wakes.clone();
    let mut handle = spawn(config, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    assert!(matches!(next(&mut handle).await, SignalEvent::Joined { connection: 1, .. }));
    assert!(matches!(next(&mut handle).await, SignalEvent::Message(_)));
    assert!(matches!(next(&mut handle).await, SignalEvent::Interrupted(SignalError::Closed { code: None })));
    match next(&mut handle).await {
        SignalEvent::Resumed { connection: 2, reconnect } => assert_eq!(reconnect.last_message_seq, 3),
        other => panic!("{other:?}"),
    }
    assert_eq!(wakes.load(Ordering::Relaxed), 4);
    for (connection, muted) in [(1, true), (2, false)] {
        let mute = Request::Mute(proto::MuteTrackRequest { sid: "TR".into(), muted });
        let request = Box::new(proto::SignalRequest { message: Some(mute) });
        handle.send(SignalCommand::Send { connection, request }).unwrap();
    }
    let Some(Request::Mute(mute)) = requests.recv().await else { panic!() };
    assert!(!mute.muted, "a request meant for the first connection came through the second");
    handle.send(SignalCommand::Leave).unwrap();
    assert!(matches!(requests.recv().await, Some(Request::Leave(_))));
    assert!(matches!(next(&mut handle).await, SignalEvent::Closed(None)));
    assert!(handle.send(SignalCommand::Leave).is_err());
}

#[tokio::test]
async fn a_server_that_forgot_us_is_joined_anew_and_one_that_is_gone_given_up() {
    let config = server(|number, stream| async move {
        match number {
            0 | 2 => {
                let (mut socket, path, _) = accept(stream).await;
                assert!(path.starts_with("/rtc/v1?join_request="));
                say(&mut socket, welcome()).await;
            }
            1 => {
                let (mut socket, ..) = accept(stream).await;
                let leave = proto::LeaveRequest {
                    reason: proto::DisconnectReason::StateMismatch.into(),
                    action: proto::leave_request::Action::Reconnect.into(),
                    ..Default::default()
                };
                say(&mut socket, Response::Leave(leave)).await;
            }
            _ => refuse(stream, StatusCode::SERVICE_UNAVAILABLE, "starting").await,
        }
    })
    .await;
    let mut handle = spawn(config, || ());
    let mut joined = 0;
    loop {
        match next(&mut handle).await {
            SignalEvent::Joined { .. } => joined += 1,
            SignalEvent::Interrupted(_) => {}
            SignalEvent::Closed(Some(SignalError::GaveUp { last, .. })) => {
                assert!(matches!(*last, SignalError::Server { status: 503, .. }), "{last}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(joined, 2);
}

#[tokio::test]
async fn a_new_session_in_answer_to_a_wish_to_resume_is_taken_as_one() {
    let config = server(|number, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        say(&mut socket, welcome()).await;
        if number > 0 {
            keep(socket, |_| ()).await;
        }
    })
    .await;
    let mut handle = spawn(config, || ());
    assert!(matches!(next(&mut handle).await, SignalEvent::Joined { connection: 1, .. }));
    assert!(matches!(next(&mut handle).await, SignalEvent::Interrupted(_)));
    assert!(matches!(next(&mut handle).await, SignalEvent::Joined { connection: 2, .. }));
}

#[tokio::test]
async fn without_pongs_the_connection_is_given_up() {
    let config = server(|_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        say(&mut socket, welcome()).await;
        tokio::spawn(async move { while socket.next().await.is_some() {} });
    })
    .await;
    let mut handle = spawn(config, || ());
    assert!(matches!(next(&mut handle).await, SignalEvent::Joined { .. }));
    let after = Duration::from_secs(2);
    match next(&mut handle).await {
        SignalEvent::Interrupted(error) => assert_eq!(error, SignalError::PingTimeout { after }),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_sends_us_on_without_end_is_not_followed_without_end() {
    let config = server(|_, stream| async move {
        let port = stream.local_addr().unwrap().port();
        let (mut socket, ..) = accept(stream).await;
        let alternative_url = format!("ws://127.0.0.1:{port}");
        say(&mut socket, Response::Join(proto::JoinResponse { alternative_url, ..Default::default() })).await;
    })
    .await;
    assert!(matches!(closed(config).await, SignalError::Garbage { .. }));
}

#[tokio::test]
async fn dropping_the_handle_leaves_the_room() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let config = server(move |_, stream| {
        let seen = seen.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            say(&mut socket, welcome()).await;
            keep(socket, |r| seen.send(r).unwrap()).await;
        }
    })
    .await;
    let mut handle = spawn(config, || ());
    assert!(matches!(next(&mut handle).await, SignalEvent::Joined { .. }));
    drop(handle);
    assert!(matches!(requests.recv().await, Some(Request::Leave(_))));
}
