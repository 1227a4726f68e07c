//! Streams, storms and crowds against a gateway in the middle of a call: nothing ends, nothing grows, each is counted, and
//! the call loses no packet.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use evenkeel_gateway::device::credentials::sign;
use evenkeel_gateway::run::Gateway;
use serde_json::json;
use support::bystander::Bystander;
use support::metrics::{counted, counted_at_least, metric};
use support::{Device, KEY, PATIENCE, client_id, connect_packet, packet, resident, until, whole};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

/// What the program has, so that memory is held to its limits as there.
#[global_allocator]
static HEAP: evenkeel_heap::Heap = evenkeel_heap::HEAP;

/// How long a stream or storm lasts.
const LASTING: Duration = Duration::from_secs(8);

/// Memory is that of the process, so tests that look at it run one by one.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A gateway in the middle of a call, and nothing else in this process.
struct Attacked {
    gateway: Gateway,
    bystander: Bystander,
    _alone: MutexGuard<'static, ()>,
}

impl Attacked {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let alone = ALONE.lock().await;
        let gateway = whole(&[settings, &[("room.loopback", "true"), ("media.lanes", "1")]].concat()).await;
        let bystander = Bystander::call(&gateway, json!({})).await;
        Self { gateway, bystander, _alone: alone }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.gateway.started().mqtt[0]).await.unwrap()
    }

    async fn device(&self, number: u8) -> Device<TcpStream> {
        Device::connect(self.tcp().await, number).await
    }

    async fn counted(&self, name: &str, value: u64) {
        counted(&self.gateway, name, "", value).await;
    }

    /// Waits until so many connections had to go before they said CONNECT.
    async fn evicted(&self, least: u64) {
        counted_at_least(&self.gateway, "evenkeel_mqtt_half_open_evicted_total", "", least).await;
    }

    /// Devices that are connected beside the bystander.
    async fn connected(&self, others: usize) {
        until(|| self.gateway.hub().connected() == others + 1).await;
    }

    async fn end(self) {
        self.bystander.felt_nothing(&self.gateway).await;
    }
}

/// What the process has taken since.
struct Memory(usize);

impl Memory {
    fn now() -> Self {
        Self(resident())
    }

    fn has_grown_by_less_than(&self, bytes: usize) {
        let grown = resident().saturating_sub(self.0);
        assert!(grown < bytes, "grew by {grown} bytes");
    }
}

fn connect(number: u8) -> Vec<u8> {
    let (id, user) = (client_id(number), "e30=");
    connect_packet(&id, user, &sign(KEY, &id, user))
}

/// Streams `flood` after `begin`, on one connection after the other as each is closed. Gives connections and bytes.
async fn stream(attacked: &Attacked, begin: &[&[u8]], flood: &[u8], lasting: Duration) -> (u64, u64) {
    let (mut connections, mut bytes) = (0, 0);
    let mut memory = Memory::now();
    let began = Instant::now();
    while began.elapsed() < lasting || bytes < 16 << 20 {
        assert!(began.elapsed() < lasting + PATIENCE * 3, "only {bytes} bytes were taken");
        let mut stream = attacked.tcp().await;
        let begin = begin[connections as usize % begin.len()];
        connections += 1;
        let _ = stream.write_all(begin).await;
        while let Ok(count) = stream.write(flood).await {
            bytes += count as u64;
        }
        if began.elapsed() < lasting / 4 {
            memory = Memory::now();
        }
    }
    memory.has_grown_by_less_than(4 << 20);
    (connections, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_length_streamed_for_a_minute() {
    let attacked = Attacked::start(&[]).await;
    let after_connect = [&connect(2)[..], &[0x30]].concat();
    // As the length of the first packet, of a later one, and as a first byte that no packet has.
    let (connections, _) =
        stream(&attacked, &[&[0x10], &after_connect, &[]], &[0xff; 64 * 1024], Duration::from_secs(60)).await;
    attacked.counted("evenkeel_mqtt_malformed_total", connections).await;
    attacked.connected(0).await;
    attacked.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_streamed_on_and_on() {
    let attacked = Attacked::start(&[]).await;
    // Numbers of a generator (Numerical Recipes), the same each time.
    let mut seed = 7u32;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    })
    .take(64 * 1024)
    .collect();
    let begin = connect(2);
    let (connections, _) = stream(&attacked, &[&begin, &[]], &garbage, LASTING).await;
    // A few begin as a packet does that ends the connection rightly.
    let malformed = metric(&attacked.gateway, "evenkeel_mqtt_malformed_total", "").await;
    assert!(malformed * 2 > connections, "{malformed} of {connections}");
    attacked.connected(0).await;
    attacked.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_never_end_cost_what_they_may_be_long() {
    const DEVICES: usize = 200;
    let attacked = Attacked::start(&[]).await;
    let memory = Memory::now();
    let mut open = Vec::new();
    for number in 0..DEVICES {
        let mut device = attacked.device(number as u8).await;
        // 8192 bytes are announced, and all but the last come.
        device.send(&[&[0x30, 0x80, 0x40][..], &[0x41; 8191]].concat()).await;
        open.push(device);
    }
    attacked.connected(DEVICES).await;
    memory.has_grown_by_less_than(DEVICES * 40 * 1024);
    drop(open);
    attacked.connected(0).await;
    attacked.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_half_open_connections() {
    if !support::may_open(10_000 + 4_096) {
        return;
    }
    // However slow the machine, they go because of those that come after them.
    let attacked = Attacked::start(&[("mqtt.connect_limit", "5min")]).await;
    let mut open = Vec::new();
    let mut memory = Memory::now();
    for number in 0..10_000 {
        let mut stream = attacked.tcp().await;
        // A third says nothing, a third begins to, a third says what cannot be before CONNECT is whole.
        let _ = stream.write_all(&connect(2)[..[0, 1, 40][number % 3]]).await;
        open.push(stream);
        if number == 5_000 {
            // As many as are let stand are there: the gateway accepts behind us, by as many as the kernel holds for it.
            attacked.evicted(800).await;
            memory = Memory::now();
        }
    }
    attacked.evicted(5_000).await;
    memory.has_grown_by_less_than(8 << 20);
    let mut late = attacked.device(3).await;
    assert_eq!(late.hello().await["type"], "hello", "whoever is a device is let in");
    drop(open);
    attacked.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_come_and_go_without_a_word() {
    let attacked = Attacked::start(&[]).await;
    let (mut memory, mut connections, began) = (Memory::now(), 0u64, Instant::now());
    while began.elapsed() < LASTING {
        drop(attacked.tcp().await);
        connections += 1;
        if began.elapsed() < LASTING / 4 {
            memory = Memory::now();
        }
    }
    memory.has_grown_by_less_than(4 << 20);
    // The bystander's is one more.
    attacked.counted("evenkeel_mqtt_accepted_total", connections + 1).await;
    attacked.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_storms_of_many_devices() {
    const DEVICES: u8 = 10;
    let attacked = Attacked::start(&[("devices.hello_burst", "5"), ("devices.hello_rate", "0.001")]).await;
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        let (mut read, write) = attacked.device(number).await.stream.into_split();
        tokio::spawn(async move {
            let mut answers = [0; 4096];
            while read.read(&mut answers).await.is_ok_and(|count| count > 0) {}
        });
        devices.push(write);
    }
    let hello = packet(0x30, b"\0\x01t{\"type\":\"hello\",\"version\":3}");
    let (mut memory, mut hellos, began) = (Memory::now(), 0u64, Instant::now());
    while began.elapsed() < LASTING {
        for device in &mut devices {
            device.write_all(&hello).await.unwrap();
            hellos += 1;
        }
        if began.elapsed() < LASTING / 4 {
            memory = Memory::now();
        }
    }
    counted_at_least(&attacked.gateway, "evenkeel_messages_total", "", hellos).await;
    memory.has_grown_by_less_than(4 << 20);
    let limited = metric(&attacked.gateway, "evenkeel_hellos_rate_limited_total", "").await;
    let beyond = metric(&attacked.gateway, "evenkeel_messages_rate_limited_total", "").await;
    assert_eq!(limited + beyond + 5 * u64::from(DEVICES), hellos, "five each were answered");
    assert_eq!(attacked.gateway.hub().registry.live(), usize::from(DEVICES) + 1, "one session each");
    attacked.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_again_and_again_is_no_new_device_to_the_limit() {
    let attacked = Attacked::start(&[("devices.hello_burst", "5"), ("devices.hello_rate", "0.001")]).await;
    let mut answered = 0;
    for _ in 0..30 {
        let mut device = attacked.device(1).await;
        let answer = device.hello().await;
        answered += u8::from(answer["type"] == "hello");
        device.say(json!({"type": "goodbye", "session_id": answer["session_id"]})).await;
        drop(device);
        attacked.connected(0).await;
        until(|| attacked.gateway.hub().registry.live() == 1).await;
    }
    assert_eq!(answered, 5);
    attacked.counted("evenkeel_hellos_rate_limited_total", 25).await;
    attacked.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_use_one_client_id_and_drive_each_other_out() {
    let attacked = Attacked::start(&[]).await;
    let mut one = attacked.device(1).await;
    let session = one.hello().await["session_id"].clone();
    let (mut memory, mut replaced, began) = (Memory::now(), 0u64, Instant::now());
    while began.elapsed() < LASTING {
        let mut other = attacked.device(1).await;
        replaced += 1;
        assert!(one.is_closed().await, "the newer one stays");
        // Whoever is there speaks for the device: its call goes on.
        other.say(json!({"type": "listen", "state": "start", "session_id": session})).await;
        one = other;
        if began.elapsed() < LASTING / 4 {
            memory = Memory::now();
        }
    }
    memory.has_grown_by_less_than(4 << 20);
    attacked.counted("evenkeel_mqtt_replaced_total", replaced).await;
    attacked.counted("evenkeel_messages_stale_total", 0).await;
    assert_eq!((attacked.gateway.hub().registry.live(), attacked.gateway.hub().connected()), (2, 2));
    attacked.end().await;
}

/// Floods of packets that are as they should be, from devices that read what they are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_good_packets() {
    let attacked = Attacked::start(&[]).await;
    let publish = |first: u8, id: &[u8], text: &str| {
        packet(first, &[b"\0\x0ddevice-server", id, text.as_bytes()].concat())
    };
    let abort = r#"{"type":"abort","session_id":"nobody's"}"#;
    let floods = [
        publish(0x30, &[], abort),
        publish(0x32, &[0, 9], abort),
        publish(0x31, &[], r#"{"type":"never-heard-of"}"#),
        publish(0x30, &[], "not JSON"),
        vec![0xc0, 0],
        packet(0x82, b"\0\x07\0\x01#\0"),
        packet(0xa2, b"\0\x07\0\x01#"),
    ];
    let before = metric(&attacked.gateway, "evenkeel_messages_total", "").await;
    let mut flooding = Vec::new();
    for (number, one) in floods.into_iter().enumerate() {
        let (mut read, mut write) = attacked.device(number as u8).await.stream.into_split();
        let many = one.repeat(64 * 1024 / one.len());
        flooding.push(tokio::spawn(async move {
            let began = Instant::now();
            while began.elapsed() < LASTING && write.write_all(&many).await.is_ok() {}
            write
        }));
        tokio::spawn(async move {
            let mut answers = vec![0; 64 * 1024];
            while read.read(&mut answers).await.is_ok_and(|count| count > 0) {}
        });
    }
    tokio::time::sleep(LASTING / 4).await;
    let memory = Memory::now();
    let mut open = Vec::new();
    for flood in flooding {
        open.push(flood.await.unwrap());
    }
    memory.has_grown_by_less_than(8 << 20);
    counted_at_least(&attacked.gateway, "evenkeel_messages_rate_limited_total", "", 10_000).await;
    let taken = metric(&attacked.gateway, "evenkeel_messages_total", "").await - before;
    let limited = metric(&attacked.gateway, "evenkeel_messages_rate_limited_total", "").await;
    assert!(limited * 10 > taken * 9, "{limited} of {taken} were beyond the rate");
    let bad = metric(&attacked.gateway, "evenkeel_messages_bad_total", "").await;
    assert!(bad >= 100, "{bad}");
    drop(open);
    attacked.connected(0).await;
    attacked.end().await;
}
