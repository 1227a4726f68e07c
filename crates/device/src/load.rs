//! Thousands of devices that talk and listen at once: what `evenkeel load --server` runs.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use evenkeel_core::stats::Histogram;
use evenkeel_sys::clock;
use evenkeel_sys::limits;
use evenkeel_sys::thread::{MediaThread, spawn};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::DeviceError;
use crate::control::Control;
use crate::ear::{Heard, Millis};
use crate::fleet::{Command, Commands, Fleet, Seen};
use crate::identity::Identity;
use crate::session::Hello;

/// How long packets under way are waited for at the end.
const LINGER: Duration = Duration::from_millis(500);

/// How often a device says that it is still there.
const PING: Duration = Duration::from_secs(60);

/// A load test of a gateway.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// The gateway's MQTT endpoint, `host:port`, without TLS.
    pub server: String,
    /// How many devices.
    pub devices: u32,
    /// For how long they all talk and listen, once all are there.
    pub duration: Duration,
    /// How many `hello`s a second while they come.
    pub hellos_per_second: f64,
    /// Whether they talk. Otherwise they are connected and idle, without a session.
    pub talk: bool,
    /// Whether they ask an echo room to send each packet back at once, so that they listen while they talk.
    pub loopback: bool,
    /// Threads for audio. One does for about 5,000 devices.
    pub threads: usize,
    /// The gateway's signature key, if it has one.
    pub signature_key: Option<String>,
    /// Tells the devices of this process from those of others, so that several can load one gateway.
    pub tag: u8,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            server: "127.0.0.1:1883".to_owned(),
            devices: 100,
            duration: Duration::from_secs(30),
            hellos_per_second: 200.0,
            talk: true,
            loopback: true,
            threads: 1,
            signature_key: None,
            tag: 1,
        }
    }
}

/// How far a load test is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Devices that are there.
    pub ready: u32,
    /// Devices that could not come, or were thrown out.
    pub failed: u32,
    /// How long all have been talking; `None` while they still come.
    pub talking: Option<Duration>,
}

/// What the devices of a load test noticed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadReport {
    /// How many devices were asked for.
    pub devices: u32,
    /// How many of them could not come, or were thrown out.
    pub failed: u32,
    /// Why the first of those failed.
    pub first_failure: Option<String>,
    /// For how long all talked.
    pub seconds: f64,
    /// From `hello` to its answer.
    pub hello_ms: Millis,
    /// Packets sent by all devices.
    pub sent: u64,
    /// What came.
    pub heard: Heard,
    /// Own packets that came back.
    pub echoed: u64,
    /// Own packets that did not, though later ones did.
    pub not_echoed: u64,
    /// From sending a packet to hearing it back.
    pub round_trip_ms: Millis,
    /// How late this process itself was in sending: where this is large, the other figures say little.
    pub own_lateness_ms: Millis,
    /// Packets that could not be opened.
    pub not_opened: u64,
    /// CPU this process took while all talked, in cores.
    pub own_cores: f64,
    /// `[upper bound in ms, count]` of the times of `hello_ms`.
    pub hello_histogram: Vec<(f64, u64)>,
    /// `[upper bound in ms, count]` of the gaps between packets.
    pub gap_histogram: Vec<(f64, u64)>,
    /// `[upper bound in ms, count]` of the times of `round_trip_ms`.
    pub round_trip_histogram: Vec<(f64, u64)>,
}

/// Runs a load test; calls `progress` twice a second.
///
/// # Errors
/// If the load could not be produced at all. Devices that fail are in the report.
pub fn run(config: &LoadConfig, progress: impl FnMut(Progress)) -> Result<LoadReport, DeviceError> {
    limits::raise_open_files();
    let local = local_address(&config.server)?;
    let frame = Duration::from_millis(60);
    let (mut commands, mut threads) = (Vec::new(), Vec::new());
    for index in 0..config.threads.max(1) {
        let queue: Commands = Arc::new(SegQueue::new());
        let fleet = Fleet::new(local, frame, Arc::clone(&queue)).map_err(DeviceError::io("a UDP socket"))?;
        let wanted = MediaThread { name: format!("load-{index}"), core: None, real_time: Some(1) };
        let (thread, _) = spawn(wanted, move || fleet.run()).map_err(DeviceError::io("a thread"))?;
        threads.push(thread);
        commands.push(queue);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(DeviceError::io("a runtime"))?;
    let mut report = runtime.block_on(control(config, &commands, progress));
    commands.iter().for_each(|queue| queue.push(Command::Stop));
    let mut seen = Seen::new(frame);
    for thread in threads {
        match thread.join() {
            Ok(of_thread) => seen.merge(&of_thread),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    report.sent = seen.sent;
    report.heard = seen.ear.heard();
    report.gap_histogram = buckets(seen.ear.gaps());
    report.round_trip_histogram = buckets(&seen.round_trip);
    report.echoed = seen.echoed;
    report.not_echoed = seen.not_echoed;
    report.round_trip_ms = seen.round_trip.summary().into();
    report.own_lateness_ms = seen.own_lateness.summary().into();
    report.not_opened = seen.not_opened;
    Ok(report)
}

/// What the tasks of the devices share.
struct Shared {
    config: LoadConfig,
    ready: AtomicU32,
    failed: AtomicU32,
    first_failure: mpsc::UnboundedSender<DeviceError>,
    hellos: mpsc::UnboundedSender<Duration>,
    /// True once the devices shall hang up.
    ending: watch::Receiver<bool>,
}

async fn control(
    config: &LoadConfig,
    commands: &[Commands],
    mut progress: impl FnMut(Progress),
) -> LoadReport {
    let (end, ending) = watch::channel(false);
    let (first_failure, mut failures) = mpsc::unbounded_channel();
    let (hellos, mut hello_times) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        config: config.clone(),
        ready: AtomicU32::new(0),
        failed: AtomicU32::new(0),
        first_failure,
        hellos,
        ending,
    });
    let mut devices = JoinSet::new();
    let start = Instant::now();
    for index in 0..config.devices {
        let queue = Arc::clone(&commands[index as usize % commands.len()]);
        let begin = start + Duration::from_secs_f64(f64::from(index) / config.hellos_per_second.max(0.01));
        devices.spawn(device(index, begin, queue, Arc::clone(&shared)));
    }
    let state = |talking| Progress {
        ready: shared.ready.load(Ordering::Relaxed),
        failed: shared.failed.load(Ordering::Relaxed),
        talking,
    };
    let mut ticks = interval(Duration::from_millis(500));
    while state(None).ready + state(None).failed < config.devices {
        ticks.tick().await;
        progress(state(None));
    }
    // All that piled up while they came has left by then.
    sleep(LINGER).await;
    commands.iter().for_each(|queue| queue.push(Command::Begin));
    let (began, cpu) = (clock::now(), clock::process_cpu());
    let until = Instant::now() + config.duration;
    while Instant::now() < until {
        tokio::select! {
            _ = ticks.tick() => progress(state(Some(clock::now().since(began)))),
            () = sleep_until(until) => {}
        }
    }
    let seconds = clock::now().since(began).as_secs_f64();
    let own_cores = (clock::process_cpu() - cpu).as_secs_f64() / seconds;
    commands.iter().for_each(|queue| queue.push(Command::Hush));
    sleep(LINGER).await;
    // Nobody listens only if all devices are gone already.
    let _ = end.send(true);
    while devices.join_next().await.is_some() {}

    let mut hello = Histogram::new();
    while let Ok(time) = hello_times.try_recv() {
        hello.record(time.as_nanos() as u64);
    }
    LoadReport {
        devices: config.devices,
        failed: state(None).failed,
        first_failure: failures.try_recv().ok().map(|error| error.to_string()),
        seconds,
        hello_ms: hello.summary().into(),
        hello_histogram: buckets(&hello),
        own_cores,
        ..LoadReport::default()
    }
}

async fn device(index: u32, begin: Instant, queue: Commands, shared: Arc<Shared>) {
    sleep_until(begin).await;
    let mut is_ready = false;
    if let Err(error) = hold(index, &queue, &shared, &mut is_ready).await {
        if is_ready {
            shared.ready.fetch_sub(1, Ordering::Relaxed);
        }
        shared.failed.fetch_add(1, Ordering::Relaxed);
        // Only the first is asked for.
        let _ = shared.first_failure.send(error);
    }
    queue.push(Command::Remove(index));
}

async fn hold(index: u32, queue: &Commands, shared: &Shared, is_ready: &mut bool) -> Result<(), DeviceError> {
    let config = &shared.config;
    let identity = Identity::numbered(index, config.tag, config.signature_key.as_deref());
    let mut control = Control::connect(&config.server, &identity).await?;
    let mut session = None;
    if config.talk {
        let features = config.loopback.then(|| json!({"loopback": true}));
        let began = Instant::now();
        let granted = control.hello(&Hello { features }).await?;
        // The receiver lives as long as the test.
        let _ = shared.hellos.send(began.elapsed());
        control.listen(&granted, "realtime").await?;
        session = Some(granted.id.clone());
        queue.push(Command::Add(index, Box::new(granted)));
    }
    shared.ready.fetch_add(1, Ordering::Relaxed);
    *is_ready = true;
    let mut ending = shared.ending.clone();
    let mut pings = interval(PING);
    pings.tick().await;
    loop {
        tokio::select! {
            _ = ending.changed() => break,
            _ = pings.tick() => control.ping().await?,
            message = control.next() => match message?["type"].as_str() {
                Some("tts") => queue.push(Command::Pause(index)),
                Some("goodbye") => return Err(DeviceError::Closed),
                _ => {}
            },
        }
    }
    control.goodbye(session.as_deref()).await;
    Ok(())
}

fn buckets(histogram: &Histogram) -> Vec<(f64, u64)> {
    histogram.iter().map(|(end, count)| (end as f64 / 1e6, count)).collect()
}

/// From where the gateway can be reached.
fn local_address(server: &str) -> Result<SocketAddr, DeviceError> {
    let mut addresses = server.to_socket_addrs().map_err(DeviceError::io("looking up the server"))?;
    Ok(match addresses.next() {
        Some(SocketAddr::V6(_)) => SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, 0, 0, 0).into(),
        _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    })
}
