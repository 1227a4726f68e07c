//! How many calls the machine carries: a gateway is started on loopback, devices talk through it, and what its lanes take
//! for that is what all calls together may take.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_device::load::{self, LoadConfig};
use evenkeel_gateway::config::Config;
use evenkeel_gateway::lane::{FULL_LOAD, PlaneConfig};
use evenkeel_gateway::run::Gateway;
use evenkeel_sys::limits;
use serde::Serialize;

use crate::failure::Failure;

/// Devices that try it, and for how long.
const DEVICES: u32 = 300;
const TALK: Duration = Duration::from_secs(4);

/// Packets a second and call: 60 ms each, both ways.
const PACKETS: f64 = 2.0 / 0.06;

/// See the [module](self).
#[derive(Debug, Serialize)]
pub(super) struct Capacity {
    /// How many calls.
    pub(super) calls: u64,
    /// What gives out first.
    pub(super) limit: &'static str,
    /// What the lanes alone would carry.
    pub(super) lanes_carry: u64,
    /// Media threads that a gateway would have.
    pub(super) lanes: usize,
    /// What a packet took of a lane's time, in µs.
    pub(super) packet_us: f64,
    /// Devices that tried it.
    pub(super) tried_with: u32,
}

impl Capacity {
    pub(super) fn measure(config: &Config) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::machine)?;
        let (busy, lanes) = runtime.block_on(try_out(config))?;
        runtime.shutdown_background();
        let packet = busy / (f64::from(DEVICES) * PACKETS);
        let lanes_carry = (lanes as f64 * f64::from(FULL_LOAD) / (packet * PACKETS)) as u64;
        let sessions = lanes as u64 * PlaneConfig::default().lane.max_sessions as u64;
        let files = limits::open_files().1.unwrap_or(u64::MAX).saturating_sub(256);
        let (calls, limit) = [
            (lanes_carry, "the time of the media threads"),
            (config.mqtt.max_connections as u64, "`mqtt.max_connections`"),
            (sessions, "sessions a media thread takes"),
            (files, "open files"),
        ]
        .into_iter()
        .min()
        .unwrap_or_default();
        Ok(Self { calls, limit, lanes_carry, lanes, packet_us: packet * 1e6, tried_with: DEVICES })
    }
}

/// How much of a second the lanes work for all devices, and how many lanes there are.
async fn try_out(config: &Config) -> Result<(f64, usize), Failure> {
    let mut trial = Config::default();
    let free = ([127, 0, 0, 1], 0).into();
    trial.mqtt.listen = vec![free];
    trial.operations.listen.clear();
    trial.web.listen.clear();
    trial.web.tls_listen.clear();
    trial.media.udp_address = "127.0.0.1".to_owned();
    trial.media.udp_port = 0;
    trial.media.lanes = config.media.lanes;
    trial.room.loopback = true;
    let gateway = Gateway::start(trial).await.map_err(Failure::machine)?;
    let wanted = LoadConfig {
        server: gateway.started().mqtt[0].to_string(),
        devices: DEVICES,
        duration: TALK,
        hellos_per_second: 300.0,
        ..LoadConfig::default()
    };
    let (hub, busiest) = (Arc::clone(gateway.hub()), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&busiest);
    let loaded = tokio::task::spawn_blocking(move || {
        load::run(&wanted, |progress| {
            // The load that lanes tell is that of the last second.
            if progress.talking.is_some_and(|time| time > Duration::from_secs(2)) {
                let load: f32 = hub.plane.lanes().iter().map(|lane| lane.load).sum();
                seen.fetch_max((load * 1e6) as u64, Ordering::Relaxed);
            }
        })
    });
    let report = loaded.await.map_err(Failure::machine)?.map_err(Failure::machine)?;
    let busy = busiest.load(Ordering::Relaxed) as f64 / 1e6;
    if report.failed > 0 || busy == 0.0 {
        let why = report.first_failure.unwrap_or_else(|| "the lanes told nothing".to_owned());
        return Err(Failure::machine(format!("how many calls it carries could not be measured: {why}")));
    }
    Ok((busy, gateway.started().lanes.len()))
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "about {} calls; {} gives out first", self.calls, self.limit)?;
        write!(
            f,
            "measured: {} devices talked through a gateway on this machine; a packet took {:.1} µs of a media thread, a call is \
             {PACKETS:.0} packets a second, and {} such threads may work {:.0} % of the time. That holds for rooms that relay; \
             `evenkeel load --devices` tries it in earnest",
            self.tried_with,
            self.packet_us,
            self.lanes,
            FULL_LOAD * 100.0
        )
    }
}
