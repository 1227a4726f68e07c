//! What a gateway says of itself, read from its operations port.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use serde::Serialize;

const PATIENCE: Duration = Duration::from_secs(2);

/// The longest page that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// Looks at a gateway now and then.
pub(super) struct Watch {
    operations: String,
    first: Option<Look>,
    last: Option<Look>,
    resident: f64,
}

/// What a gateway said of itself between the first look and the last.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    /// CPU time over wall time.
    pub(super) cores: f64,
    /// Physical memory, the most that was seen.
    pub(super) rss_mb: f64,
    /// Packets that it sent.
    pub(super) sent: u64,
    /// Packets that it received.
    pub(super) received: u64,
    /// Packets that it dropped because they were over 50 ms late.
    pub(super) missed: u64,
    /// `[ms, percent]`: how many packets left at most so far from their deadline.
    pub(super) departures_within: Vec<(f64, f64)>,
}

/// One look.
struct Look {
    at: Instant,
    page: String,
}

impl Watch {
    pub(super) fn new(operations: &str) -> Self {
        Self { operations: operations.to_owned(), first: None, last: None, resident: 0.0 }
    }

    /// Looks, if there is a gateway to look at.
    pub(super) fn look(&mut self, is_first: bool) {
        if !is_first && self.first.is_none() {
            return;
        }
        let Ok(page) = metrics(&self.operations) else { return };
        let look = Look { at: Instant::now(), page };
        self.resident = self.resident.max(look.sum("process_resident_memory_bytes"));
        *(if is_first { &mut self.first } else { &mut self.last }) = Some(look);
    }

    /// What was seen; `None` if there was nothing to see.
    pub(super) fn figures(&self) -> Option<Figures> {
        let (first, last) = (self.first.as_ref()?, self.last.as_ref()?);
        let grown = |name: &str| last.sum(name) - first.sum(name);
        let count = |name: &str| grown(name).max(0.0) as u64;
        let left = grown("evenkeel_departure_error_seconds_count").max(1.0);
        let before = first.buckets();
        let within = last
            .buckets()
            .into_iter()
            .zip(before)
            .map(|((bound, after), (_, before))| (bound * 1e3, 100.0 * (after - before) / left));
        Some(Figures {
            cores: grown("process_cpu_seconds_total") / last.at.duration_since(first.at).as_secs_f64(),
            rss_mb: self.resident / 1e6,
            sent: count("evenkeel_lane_sent_total"),
            received: count("evenkeel_lane_received_total"),
            missed: count("evenkeel_lane_missed_total"),
            departures_within: within.filter(|(bound, _)| bound.is_finite()).collect(),
        })
    }
}

impl Look {
    /// All values of a name, whatever their labels, added up.
    fn sum(&self, name: &str) -> f64 {
        let lines = self.page.lines().filter_map(|line| line.strip_prefix(name));
        let values = lines.filter(|rest| rest.starts_with([' ', '{']));
        values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Bounds in seconds, and how many are at most that.
    fn buckets(&self) -> Vec<(f64, f64)> {
        let bucket = |line: &str| {
            let rest = line.strip_prefix("evenkeel_departure_error_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
        };
        self.page.lines().filter_map(bucket).collect()
    }
}

/// GET /metrics.
fn metrics(operations: &str) -> std::io::Result<String> {
    let address = operations.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, page)) if head.starts_with("HTTP/1.1 200") => Ok(page.to_owned()),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}
