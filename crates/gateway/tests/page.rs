//! The page in a real browser against a real gateway, and what the gateway answers a browser.
//!
//! The browser's tests run where `EVENKEEL_PAGE` is set, as `make wasm` does. `SCREENSHOTS=FOLDER` keeps what it looked like.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_gateway::device::credentials::sign_token;
use evenkeel_gateway::device::websocket::page;
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_gateway::run::Gateway;
use evenkeel_testkit::recordings::clip;
use evenkeel_testkit::tools;
use serde_json::{Value, json};
use support::sound::{likeness, read_wav, write_wav};
use support::tls::Certificate;
use support::{KEY, until, whole};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

/// Of a device that the key's owner knows.
const DEVICE: (&str, &str) = ("AA:bb:cc:dd:ee:01", "uuid-1");

fn token() -> String {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    sign_token(KEY, &format!("{}|{}", DEVICE.1, DEVICE.0), unix)
}

/// Status, headers and body.
async fn get(to: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_where_the_setting_says() {
    for (setting, is_there) in [("auto", true), ("on", true), ("off", false)] {
        let gateway = whole(&[("web.page", setting)]).await;
        let web = gateway.started().web[0];
        let (status, head, body) = get(web, "/", "").await;
        assert_eq!(status, if is_there { 200 } else { 426 }, "{setting}");
        let page = format!("http://{web}/");
        let pages = if is_there && page::is_built_in() { vec![page] } else { Vec::new() };
        assert_eq!(gateway.started().pages, pages);
        let (_, _, operations) = get(gateway.started().operations[0], "/api/status", "").await;
        assert_eq!(serde_json::from_str::<Value>(&operations).unwrap()["pages"], json!(pages));
        if !is_there {
            assert_eq!(get(web, page::ADMISSION, "").await.0, 426);
            continue;
        }
        assert!(head.contains("cross-origin-embedder-policy: require-corp"), "{head}");
        assert_eq!(body.contains("built without"), !page::is_built_in());
        assert_eq!(get(web, "/xiaozhi/v1/", "").await.0, 426);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_learns_whether_he_would_be_let_in() {
    let gateway = whole(&[]).await;
    let web = gateway.started().web[0];
    let ids = "Device-Id: AA:bb:cc:dd:ee:01\r\nClient-Id: uuid-1\r\n";
    let token = token();
    let refused = || gateway.hub().registry.counters.get(Counter::WebSocketRefused);
    for (headers, status, why, counted) in [
        (String::new(), 400, "`device-id` is missing: give it as a header or in the query string", 0),
        (ids.to_owned(), 401, "the token is missing or wrong", 0),
        (format!("{ids}Authorization: Bearer a.1\r\n"), 401, "the token is missing or wrong", 1),
        (format!("{ids}Authorization: Bearer {token}\r\n"), 200, "", 1),
    ] {
        let (good, head, body) = get(web, page::ADMISSION, &headers).await;
        assert_eq!(good, 200);
        assert!(head.contains("cache-control: no-store"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, json!({"status": status, "why": why}));
        assert_eq!(refused(), counted, "who shows no token only asks");
    }
    // The page asks with the query of its upgrade, which may say anything.
    for (device, token, status, counted) in
        [(DEVICE.0, "a.1", 401, 2), ("%E2%80%8BAA", &token, 400, 2), (DEVICE.0, &token, 200, 2)]
    {
        let ids = format!("device-id={device}&client-id={}&protocol-version=2", DEVICE.1);
        let path = format!("{}?{ids}&authorization=Bearer%20{token}", page::ADMISSION);
        let (_, _, body) = get(web, &path, "").await;
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], status, "{device}");
        assert_eq!(refused(), counted, "{device}");
    }
}

/// A browser in a scenario of `tests/page`, and what its microphone hears.
struct Browser {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    folder: PathBuf,
    said: (Vec<i16>, u32),
}

impl Browser {
    /// `None`, with the reason printed, where there is no browser or the page is not to be tested.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says why")]
    fn open(scenario: &str, url: &str, arguments: &[&str]) -> Option<Self> {
        if std::env::var_os("EVENKEEL_PAGE").is_none() {
            eprintln!("skipped: EVENKEEL_PAGE is not set; `make wasm` builds the page's modules and sets it");
            return None;
        }
        assert!(page::is_built_in(), "the page's modules are not built in: `make page`");
        let (chromium, node) = (tools::find("chromium")?, tools::find("node")?);
        let packages = tools::npm_packages("gateway")?;
        let folder = std::env::temp_dir().join(format!("evenkeel-page-{}-{scenario}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // Two seconds of speech without a long pause, in silence; a browser plays it again and again.
        let (clip, rate) = read_wav(&clip("cmn-16k.wav"));
        let speech = &clip[..(2 * rate) as usize];
        let silence = |seconds: u32| vec![0; (seconds * rate) as usize];
        let microphone = folder.join("microphone.wav");
        write_wav(&microphone, &[&silence(1)[..], speech, &silence(5)].concat(), rate);
        let mut child = Command::new(node)
            .arg(format!("{}/tests/page/{scenario}.js", env!("CARGO_MANIFEST_DIR")))
            .args([chromium.as_os_str(), url.as_ref(), microphone.as_os_str(), folder.as_os_str()])
            .args(arguments)
            .env("NODE_PATH", packages)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { child, lines, folder, said: (speech.to_vec(), rate) })
    }

    /// The next thing that the scenario wants of the test, or `None` and what it saw.
    async fn next(&mut self) -> Result<String, Value> {
        let line = tokio::time::timeout(Duration::from_secs(120), self.lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("a scenario that fails says why above");
        match line.strip_prefix("ASK ") {
            Some(asked) => Ok(asked.to_owned()),
            None => Err(serde_json::from_str(&line).unwrap()),
        }
    }

    /// What it saw; nothing was wrong with the page, and it asked nobody else for anything.
    async fn end(&mut self) -> Value {
        let seen = self.next().await.unwrap_err();
        assert_eq!((&seen["errors"], &seen["elsewhere"]), (&json!([]), &json!([])), "{seen}");
        assert!(self.child.wait().await.unwrap().success());
        seen
    }

    /// What was said is in a recording of what was heard: all quarters of it but one, as on a machine that stands still for a
    /// moment a part has a gap.
    fn hears_itself(&self, recording: &Value) {
        let (heard, rate) = read_wav(Path::new(recording.as_str().unwrap()));
        let (said, said_rate) = &self.said;
        let parts = said.chunks(said.len() / 4).map(|part| likeness((part, *said_rate), (&heard, rate)));
        let parts: Vec<_> = parts.collect();
        assert!(parts.iter().filter(|likeness| **likeness > 0.85).count() >= 3, "{recording}: {parts:.3?}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Who looks at pictures may want to listen, too.
        if std::env::var_os("SCREENSHOTS").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

async fn open_gateway(settings: &[(&str, &str)]) -> Gateway {
    let keyless = [("devices.signature_key", "")];
    whole(&[&keyless[..], settings].concat()).await
}

fn web(gateway: &Gateway) -> String {
    format!("http://{}/", gateway.started().web[0])
}

fn text(seen: &Value) -> &str {
    seen.as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_talks_to_the_echo_by_microphone_and_by_recording() {
    let gateway = open_gateway(&[]).await;
    let Some(mut browser) = Browser::open("conversation", &web(&gateway), &[]) else { return };
    let seen = browser.end().await;
    assert_eq!((&seen["isolated"], &seen["first"]), (&json!(true), &json!("talk")));
    assert!(seen["screens"].as_object().unwrap().values().all(|fits| *fits == true), "{}", seen["screens"]);
    browser.hears_itself(&seen["heard"]);
    browser.hears_itself(&seen["heardOfFile"]);
    assert_eq!((&seen["name"], &seen["afterwards"]), (&json!("heard.wav"), &json!("The call has ended.")));
    assert!(text(&seen["playing"]).starts_with("Playing 8 s"), "{seen}");
    assert!(text(&seen["noRecording"]).contains("“notes.txt” is not a recording"), "{seen}");
    assert_eq!((&seen["goesOn"], &seen["loaded"]), (&json!("talking"), &json!([960, 960])));
    let figures = seen["figures"].as_object().unwrap();
    assert!(figures.values().all(|figure| text(figure) != "–"), "{figures:?}");
    until(|| gateway.hub().registry.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_told_in_plain_words_what_is_refused_and_what_to_do() {
    let gateway = open_gateway(&[("web.page", "on")]).await;
    let closed = whole(&[]).await;
    let insecure = format!("http://elsewhere.test:{}/", gateway.started().web[0].port());
    let (signed, token) = (web(&closed), token());
    let arguments = [insecure.as_str(), &signed, DEVICE.0, DEVICE.1, &token];
    let Some(mut browser) = Browser::open("refused", &web(&gateway), &arguments) else { return };
    let seen = browser.end().await;
    assert!(text(&seen["noMicrophone"]).contains("send a recording instead"), "{seen}");
    browser.hears_itself(&seen["heardOfFile"]);
    assert!(text(&seen["insecure"]).contains("https://"), "{seen}");
    assert_eq!((&seen["insecureTalk"], &seen["asksForToken"]), (&json!(true), &json!(true)));
    assert!(text(&seen["wrongToken"]).contains("the token is missing or wrong"), "{seen}");
    assert_eq!(seen["focus"], "device-id");
    assert!(!text(&seen["address"]).contains("token"), "{seen}");
    assert_eq!(seen["taken"], "idle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_fails_is_waited_for_and_so_is_a_gateway_that_drains() {
    let gateway = open_gateway(&[("call.drain_limit", "1s")]).await;
    let Some(mut browser) = Browser::open("network", &web(&gateway), &[]) else { return };
    assert_eq!(browser.next().await, Ok("drain".to_owned()));
    gateway.drain().await;
    let seen = browser.end().await;
    for (state, words) in [
        ("cut", "The connection broke. Trying again in"),
        ("away", "The gateway cannot be reached. Trying again in"),
        ("stalled", "The gateway has gone silent. Trying again in"),
        ("draining", "about to stop or to restart. Trying again in"),
    ] {
        assert!(text(&seen[state]).contains(words), "{seen}");
    }
    assert_eq!(seen["ofNobody"], 0, "what belongs to no session is not shown");
    browser.hears_itself(&seen["heardAfterwards"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_in_the_browser_is_told_and_the_next_try_goes_well() {
    let gateway = open_gateway(&[]).await;
    let arguments = [DEVICE.0, DEVICE.1, "token.1"];
    let Some(mut browser) = Browser::open("failing", &web(&gateway), &arguments) else { return };
    let seen = browser.end().await;
    assert!(text(&seen["noWorklet"]).contains("Audio could not be started"), "{seen}");
    assert_eq!(seen["afterFailedAudio"], "talking");
    assert_eq!((&seen["closed"], &seen["closedAtTheEnd"]), (&json!(true), &json!(true)));
    assert!(text(&seen["still"]).contains("Tap here to go on"), "{seen}");
    assert_eq!((&seen["stillAtFirst"], &seen["stillState"]), (&json!(false), &json!(["running", "talking"])));
    assert!(text(&seen["noMicrophone"]).contains("Plug one in"), "{seen}");
    assert_eq!(seen["token"], "token.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finger_on_a_phone_holds_the_button() {
    let gateway = open_gateway(&[]).await;
    let Some(mut browser) = Browser::open("phone", &web(&gateway), &[]) else { return };
    let seen = browser.end().await;
    assert_eq!(
        (&seen["hint"], &seen["stillPressed"]),
        (&json!("Hold the button while you speak."), &json!(true))
    );
    browser.hears_itself(&seen["heard"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_is_chosen_amid_another_or_before_the_call_is_heard_whole() {
    let gateway = open_gateway(&[]).await;
    let Some(mut browser) = Browser::open("recordings", &web(&gateway), &[]) else { return };
    let seen = browser.end().await;
    browser.hears_itself(&seen["second"]);
    browser.hears_itself(&seen["afterTheQuestion"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_goes_on_while_the_page_is_hidden_also_over_tls() {
    let certificate = Certificate::new("page");
    let settings = [
        ("web.tls_listen", "127.0.0.1:0"),
        ("web.tls_certificate", certificate.file.to_str().unwrap()),
        ("web.tls_key", certificate.key_file.to_str().unwrap()),
    ];
    let gateway = open_gateway(&settings).await;
    let url = format!("https://{}/", gateway.started().web_tls[0]);
    let Some(mut browser) = Browser::open("hidden", &url, &[]) else { return };
    let seen = browser.end().await;
    assert_eq!((&seen["wasHidden"], &seen["state"]), (&json!(true), &json!("talking")));
    browser.hears_itself(&seen["heard"]);
}

/// A chat server of `tests/page`, for as long as it is held, and a gateway in front of it; `None` where it cannot run.
async fn chat_server(arguments: &[&str]) -> Option<(Child, Gateway)> {
    let server = Command::new(tools::python("gateway")?)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/chat_server.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut server = server.unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().unwrap().replace("PORT ", "");
    let chat = format!("ws://127.0.0.1:{port}/");
    Some((server, open_gateway(&[("room.kind", "websocket"), ("websocket.servers", &chat)]).await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_when_may_change_amid_an_answer_and_while_the_button_is_held() {
    let Some((_server, gateway)) = chat_server(&["turns"]).await else { return };
    let Some(mut browser) = Browser::open("turns", &web(&gateway), &[]) else { return };
    assert_eq!(browser.end().await["isHeld"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_chat_server_says_is_shown_and_who_pushes_to_talk_takes_the_turn() {
    let Some((_server, gateway)) = chat_server(&[]).await else { return };
    let Some(mut browser) = Browser::open("texts", &web(&gateway), &[]) else { return };
    let seen = browser.end().await;
    let lines = json!(["stt: What is <b>that</b>?", "tts: That is a page.", "alert: Battery: it is low"]);
    assert_eq!((&seen["lines"], &seen["face"], &seen["markup"]), (&lines, &json!("happy"), &json!(0)));
    assert!(text(&seen["hint"]).starts_with("Hold the button"), "{seen}");
    assert_eq!((&seen["isHeld"], &seen["ended"]), (&json!(false), &json!("The other side ended the call.")));
}
