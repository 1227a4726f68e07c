//! Many calls at once.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_device::ear;
use evenkeel_sys::clock;
use tokio::time::sleep;

use crate::agent::{self, Agent};
use crate::common::audio::{encode, speech};
use crate::common::{Server, ServerOptions, Tools};
use crate::device::{self, PACKET};
use crate::gateway::{Gateway, Kind, Noticed};

/// How long all talk before it counts.
const WARM_UP: Duration = Duration::from_secs(3);

/// What came of it.
pub(crate) struct Figures {
    /// CPU time of the gateway's process, a second and call, in ms.
    pub(crate) cpu_ms: f64,
    /// By how much its process grew with each call after the first, which also brings what all have in common, in units of
    /// 1000 bytes.
    pub(crate) call_kb: f64,
    /// Physical memory of its process with all calls, in units of 10^6 bytes.
    pub(crate) process_mb: f64,
    /// What the devices noticed.
    pub(crate) down: ear::Heard,
    /// What the agents noticed.
    pub(crate) up: agent::Heard,
    /// What the gateway noticed itself.
    pub(crate) noticed: Option<Noticed>,
    /// From a device's hello until it heard the agent, who was there already: median and longest, in ms.
    pub(crate) first_audio: Option<(f64, f64)>,
}

/// Lets `calls` devices and agents talk through a gateway for a time.
pub(crate) async fn run(tools: &Tools, kind: &Kind, calls: u32, time: Duration) -> Figures {
    let server = Server::start(tools, ServerOptions::default()).await;
    let mut gateway = Gateway::start(kind, &server).await;
    let said = speech(10.0);
    let (up, down) = (Arc::new(encode(&said, 60)), Arc::new(encode(&said, 20)));
    let (mut agents, mut devices, mut first_audio) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=calls {
        agents.push(Agent::begin(&server, &device::room(number), Arc::clone(&down)).await);
    }
    let mut one = 0;
    for number in 1..=calls {
        let hello = clock::now();
        let mut device = gateway.call(&server, number, false).await;
        first_audio.push(device.first_audio().await.since(hello).as_secs_f64() * 1e3);
        devices.push(device.watch());
        let packets = Arc::clone(&up);
        tokio::spawn(async move { device.talk(packets.iter().cycle()).await });
        if number == 1 {
            one = gateway.resident();
        }
        // So that not all of them talk at the same moment.
        sleep(PACKET / calls).await;
    }
    eprintln!("rooms: all {calls} talk");
    sleep(WARM_UP).await;
    for device in &devices {
        let _ = device.take();
    }
    for agent in &agents {
        let _ = agent.take();
    }
    let before = (gateway.metrics(), gateway.cpu(), clock::now());
    sleep(time).await;
    let (cpu, span) = (gateway.cpu() - before.1, clock::now().since(before.2));
    let mut ear = ear::Ear::new(PACKET);
    devices.iter().for_each(|device| ear.merge(&device.take()));
    let up = agents.iter().map(Agent::take).reduce(agent::Heard::and).unwrap_or_default();
    let full = gateway.resident();
    first_audio.sort_by(f64::total_cmp);
    let says_hello = matches!(kind, Kind::Evenkeel(_));
    Figures {
        cpu_ms: cpu.as_secs_f64() * 1e3 / span.as_secs_f64() / f64::from(calls),
        call_kb: full.saturating_sub(one) as f64 / 1e3 / f64::from((calls - 1).max(1)),
        process_mb: full as f64 / 1e6,
        down: ear.heard(),
        up,
        noticed: gateway.metrics().zip(before.0).map(|(after, before)| after.since(&before)),
        first_audio: says_hello
            .then(|| (first_audio[first_audio.len() / 2], first_audio[first_audio.len() - 1])),
    }
}
