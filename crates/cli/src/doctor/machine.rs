//! What the machine gives: instructions, priority, clock, limits.

use std::time::{Duration, SystemTime};

use evenkeel_core::stats::Histogram;
use evenkeel_gateway::config::Config;
use evenkeel_sys::thread::{Grant, MediaThread, spawn};
use evenkeel_sys::udp::{BufferSizes, Socket};
use evenkeel_sys::wait::sleep_until;
use evenkeel_sys::{clock, limits};

use super::{Finding, Verdict};

/// What a lane asks the kernel to hold each way, in bytes.
const WANTED_BUFFER: usize = 4 << 20;

/// Files beside one a connection: sockets of lanes, listeners, chat servers' and so on.
const OTHER_FILES: u64 = 256;

/// A clock that takes this long to read is read by the kernel.
const SLOW_CLOCK: Duration = Duration::from_nanos(300);

/// In seconds.
const DAY: u64 = 86_400;

/// A media thread that wakes this late is heard.
const LATE: Duration = Duration::from_millis(1);

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let (priority, wakes) = thread();
    [
        Some(instructions()),
        Some(priority),
        wakes,
        Some(clock_reading()),
        Some(date()),
        Some(files(config)),
        buffers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn instructions() -> Finding {
    let what = "CPU";
    let (has_aes, has_vectors) = features();
    match (has_aes, has_vectors) {
        (true, true) => Finding::new(what, Verdict::Good, "it has instructions for AES and wide vectors"),
        (true, false) => Finding::new(what, Verdict::Fair, "no wide vectors: coding takes longer"),
        (false, _) => {
            Finding::new(what, Verdict::Fair, "no instructions for AES: sealing takes many times longer")
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> (bool, bool) {
    (std::is_x86_feature_detected!("aes"), std::is_x86_feature_detected!("avx2"))
}

#[cfg(target_arch = "aarch64")]
fn features() -> (bool, bool) {
    (std::arch::is_aarch64_feature_detected!("aes"), std::arch::is_aarch64_feature_detected!("neon"))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> (bool, bool) {
    (false, false)
}

/// Real-time priority, and how late a thread that has it (or not) wakes.
fn thread() -> (Finding, Option<Finding>) {
    let wanted = MediaThread { name: "doctor".to_owned(), core: None, real_time: Some(1) };
    let measured = spawn(wanted, || {
        let mut late = Histogram::new();
        for _ in 0..500 {
            let due = clock::now() + Duration::from_millis(1);
            sleep_until(due);
            late.record(clock::now().since(due).as_nanos() as u64);
        }
        late.summary()
    });
    let Ok((thread, granted)) = measured else {
        return (Finding::new("priority", Verdict::Bad, "no thread can be started"), None);
    };
    let priority = match granted.real_time {
        Grant::Yes => Finding::new("priority", Verdict::Good, "media threads get real-time priority"),
        _ => Finding::new(
            "priority",
            Verdict::Fair,
            "media threads get no real-time priority, so other programs can delay audio: grant CAP_SYS_NICE, or \
             LimitRTPRIO=1 in the systemd unit",
        ),
    };
    let wakes = thread.join().ok().map(|late| {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let verdict = if Duration::from_nanos(late.p99) < LATE { Verdict::Good } else { Verdict::Fair };
        let text = format!(
            "a thread that slept woke {:.0} µs late (p50), {:.0} (p99), {:.0} at most",
            micros(late.p50),
            micros(late.p99),
            micros(late.max)
        );
        Finding::new("timers", verdict, text)
    });
    (priority, wakes)
}

/// What reading the clock costs, which every packet does.
fn clock_reading() -> Finding {
    const READINGS: u32 = 100_000;
    let began = clock::now();
    let last = (0..READINGS).map(|_| clock::now()).max().unwrap_or(began);
    let nanos = last.since(began).as_nanos() / u128::from(READINGS);
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(path).unwrap_or_default();
    let source = if source.is_empty() { "the clock" } else { source.trim() };
    if nanos < SLOW_CLOCK.as_nanos() {
        return Finding::new("clock", Verdict::Good, format!("{source} is read in {nanos} ns"));
    }
    let text = format!(
        "{source} takes {nanos} ns to read: the kernel is asked for it. Where the machine has tsc, it is not"
    );
    Finding::new("clock", Verdict::Fair, text)
}

/// Whether the date can be right: tokens carry it, and certificates are checked against it.
fn date() -> Finding {
    let what = "date";
    let unix =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = unix(SystemTime::now());
    let made = std::env::current_exe().and_then(|program| program.metadata()?.modified()).map_or(0, unix);
    // Whoever copies a program may be in another zone.
    if now + DAY >= made {
        return Finding::new(what, Verdict::Good, "it may be right: it is after that of this program");
    }
    let days = (made - now) / DAY;
    let text = format!(
        "this program is from {days} days ahead, so the date is wrong: devices' tokens and certificates will be, too"
    );
    Finding::new(what, Verdict::Bad, text)
}

fn files(config: &Config) -> Finding {
    let raised = limits::raise_open_files();
    let wanted = config.mqtt.max_connections as u64 + OTHER_FILES;
    match raised {
        Some(files) if files < wanted => {
            let text = format!(
                "{files} open files carry {} devices, not the {} of `mqtt.max_connections`: LimitNOFILE={wanted} in the \
                 systemd unit, or ulimit -n {wanted}",
                files.saturating_sub(OTHER_FILES),
                config.mqtt.max_connections
            );
            Finding::new("open files", Verdict::Fair, text)
        }
        Some(files) => Finding::new("open files", Verdict::Good, format!("{files}, enough for all devices")),
        None => Finding::new("open files", Verdict::Good, "without limit"),
    }
}

fn buffers() -> Option<Finding> {
    let wanted = BufferSizes { receive: WANTED_BUFFER, send: WANTED_BUFFER };
    let granted = Socket::bind(([127, 0, 0, 1], 0).into(), wanted).ok()?.buffer_sizes().ok()?;
    let least = granted.receive.min(granted.send);
    // A datagram of audio counts for some 768 bytes, and comes every 60 ms.
    let text = format!("the kernel holds {} kB a lane, some {} datagrams", least / 1000, least / 768);
    Some(if least < WANTED_BUFFER {
        let advice = format!(
            "{text}; for thousands of calls: sysctl -w net.core.rmem_max={WANTED_BUFFER} net.core.wmem_max={WANTED_BUFFER}"
        );
        Finding::new("UDP buffers", Verdict::Fair, advice)
    } else {
        Finding::new("UDP buffers", Verdict::Good, text)
    })
}
