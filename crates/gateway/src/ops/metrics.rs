//! `/metrics`, in Prometheus' text format 0.0.4.

use std::fmt::Write as _;

use evenkeel_sys::clock;

use super::counters::Counter;
use crate::control::Hub;
use crate::media::{DEPARTURE_BOUNDS_MICROS, LaneReport, Refused};

pub(super) fn render(hub: &Hub) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let reports = hub.plane.lanes();
    let of_lanes = |count: fn(&LaneReport) -> u64| reports.iter().map(count).sum();
    let elsewhere = [
        (Counter::BadFrames, of_lanes(|lane| lane.room_frames_bad)),
        (Counter::RoomStalled, of_lanes(|lane| lane.room_frames_stalled)),
        (Counter::RoomHeld, of_lanes(|lane| lane.rooms_held)),
        (Counter::AudioDropped, of_lanes(|lane| lane.unkept)),
    ];
    hub.registry.counters.render(&elsewhere, &mut out);
    let mut gauge = |name: &str, help: &str, value: f64| {
        let _ = writeln!(
            out,
            "# HELP evenkeel_{name} {help}\n# TYPE evenkeel_{name} gauge\nevenkeel_{name} {value}"
        );
    };
    gauge("devices_connected", "Devices connected, over MQTT or WebSocket.", hub.connected() as f64);
    gauge("calls", "Sessions that are open.", hub.registry.live() as f64);
    let totals = hub.registry.totals();
    for (name, help, value) in [
        ("live_received_packets", "Packets from devices in open sessions.", totals.received),
        ("live_lost_packets", "Packets that never came in open sessions.", totals.lost),
        (
            "live_late_packets",
            "Packets from devices that came after later ones in open sessions.",
            totals.late,
        ),
        ("live_refused_datagrams", "Datagrams refused in open sessions.", totals.refused),
        ("live_sent_packets", "Packets to devices in open sessions.", totals.sent),
        ("live_dropped_packets", "Packets to devices dropped in open sessions.", totals.dropped),
        ("live_underruns", "Times the downlink ran dry in open sessions.", totals.underruns),
    ] {
        gauge(name, help, value as f64);
    }
    lanes(&reports, &mut out);
    histogram(
        "departure_error_seconds",
        "How far from their deadlines packets left.",
        reports.iter().map(|lane| (lane.departures, lane.departure_sum_micros)),
        &mut out,
    );
    histogram(
        "room_transit_seconds",
        "How long after they left their jitter buffer packets of LiveKit rooms left for the device.",
        reports.iter().map(|lane| (lane.transits, lane.transit_sum_micros)),
        &mut out,
    );
    process(&mut out);
    out
}

/// A histogram over all lanes, each of which gives how many there are in each range, and their sum in µs.
fn histogram(
    name: &str,
    help: &str,
    lanes: impl Iterator<Item = ([u64; DEPARTURE_BOUNDS_MICROS.len() + 1], u64)>,
    out: &mut String,
) {
    let mut counts = [0; DEPARTURE_BOUNDS_MICROS.len() + 1];
    let mut sum = 0;
    for (lane, micros) in lanes {
        counts.iter_mut().zip(lane).for_each(|(all, count)| *all += count);
        sum += micros;
    }
    let _ = writeln!(out, "# HELP evenkeel_{name} {help}\n# TYPE evenkeel_{name} histogram");
    let mut count = 0;
    let bounds = DEPARTURE_BOUNDS_MICROS.iter().map(|&bound| (f64::from(bound) / 1e6).to_string());
    for (bound, within) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
        count += within;
        let _ = writeln!(out, "evenkeel_{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "evenkeel_{name}_sum {}\nevenkeel_{name}_count {count}", sum as f64 / 1e6);
}

/// What every exporter says of its process, under the names all of them use.
fn process(out: &mut String) {
    let cpu = clock::process_cpu().as_secs_f64();
    let _ = writeln!(
        out,
        "# HELP process_cpu_seconds_total CPU time of the process.\n\
         # TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {cpu}"
    );
    if let Some(resident) = clock::process_resident() {
        let _ = writeln!(
            out,
            "# HELP process_resident_memory_bytes Physical memory of the process.\n\
             # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {resident}"
        );
    }
}

fn lanes(lanes: &[LaneReport], out: &mut String) {
    type Read = fn(&LaneReport) -> f64;
    let families: [(&str, &str, &str, Read); 8] = [
        ("lane_sessions", "gauge", "Sessions of the lane.", |lane| f64::from(lane.sessions)),
        ("lane_load", "gauge", "Share of the last second in which the lane worked.", |lane| {
            f64::from(lane.load)
        }),
        ("lane_departure_p99_seconds", "gauge", "99th percentile of how late packets left.", |lane| {
            f64::from(lane.departure_p99_micros) / 1e6
        }),
        ("lane_missed_total", "counter", "Packets over 50 ms late, dropped.", |lane| lane.missed as f64),
        ("lane_unknown_total", "counter", "Datagrams of no session.", |lane| lane.unknown as f64),
        ("lane_received_total", "counter", "Packets received.", |lane| lane.received as f64),
        ("lane_sent_total", "counter", "Packets sent.", |lane| lane.sent as f64),
        ("lane_events_lost_total", "counter", "Events lost on the way to the control plane.", |lane| {
            lane.events_lost as f64
        }),
    ];
    for (name, kind, help, read) in families {
        let _ = writeln!(out, "# HELP evenkeel_{name} {help}\n# TYPE evenkeel_{name} {kind}");
        for (at, lane) in lanes.iter().enumerate() {
            let _ = writeln!(out, "evenkeel_{name}{{lane=\"{at}\"}} {}", read(lane));
        }
    }
    let name = "evenkeel_lane_refused_total";
    let help = "Datagrams of sessions that were not let in, by what was wrong.";
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
    for (at, lane) in lanes.iter().enumerate() {
        let Refused { malformed, replayed, stale, far, forged, source } = lane.refused;
        for (reason, count) in [
            ("malformed", malformed),
            ("replayed", replayed),
            ("stale", stale),
            ("far", far),
            ("forged", forged),
            ("source", source),
        ] {
            let _ = writeln!(out, "{name}{{lane=\"{at}\",reason=\"{reason}\"}} {count}");
        }
    }
}
