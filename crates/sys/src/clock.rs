//! What time it is, and what was spent.

use std::time::Duration;

use evenkeel_core::units::Time;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Time on the system's monotonic clock (`CLOCK_MONOTONIC`), which no correction of the calendar moves. Its epoch is
/// the system's: comparable between threads and processes, not between machines. It stands still in suspend.
#[inline]
#[must_use]
pub fn now() -> Time {
    Time::from_nanos(nanos(clock_gettime(ClockId::Monotonic)))
}

/// CPU time the calling thread has used since it began.
#[must_use]
pub fn thread_cpu() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ThreadCPUTime)))
}

/// CPU time all threads of this process have used since it began.
#[must_use]
pub fn process_cpu() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ProcessCPUTime)))
}

/// Physical memory of this process in bytes (resident set size); `None` where the system does not say.
#[must_use]
pub fn process_resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn nanos(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back_and_sleep_costs_no_cpu() {
        let (start, cpu) = (now(), thread_cpu());
        std::thread::sleep(Duration::from_millis(20));
        assert!(now().since(start) >= Duration::from_millis(20));
        assert!(thread_cpu() - cpu < Duration::from_millis(20));
    }

    #[test]
    fn work_costs_cpu_and_memory() {
        let (thread, process) = (thread_cpu(), process_cpu());
        let mut block = vec![0u8; 1 << 24];
        let before = process_resident();
        while thread_cpu() - thread < Duration::from_millis(2) {
            block.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            std::hint::black_box(&mut block);
        }
        assert!(process_cpu() > process);
        if cfg!(target_os = "linux") {
            assert!(process_resident() > before && before > Some(0), "{before:?}");
        }
    }
}
