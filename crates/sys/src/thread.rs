//! Threads that carry media: named, pinned to a core, of real-time priority and without timer slack, as far as the
//! system lets them.
#![allow(unsafe_code)]

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// What a media thread shall be. What the system refuses is done without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaThread {
    /// Its name, of which Linux shows the first 15 bytes.
    pub name: String,
    /// The core it stays on, of those in [`allowed_cores`].
    pub core: Option<usize>,
    /// Its real-time priority, 1 (lowest, and enough) to 99. It then goes before every normal thread and takes turns
    /// with its equals (`SCHED_RR`). Needs `RLIMIT_RTPRIO` or `CAP_SYS_NICE`; threads it starts are normal ones.
    pub real_time: Option<u8>,
}

/// What a media thread got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Staying on its core.
    pub core: Grant,
    /// Real-time priority.
    pub real_time: Grant,
    /// Timers that fire to the nanosecond, not up to 50 µs late to save power.
    pub timer_slack: Grant,
}

/// The system's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It was not asked.
    NotAsked,
    /// Yes.
    Yes,
    /// No, and why.
    Refused(io::ErrorKind),
}

impl From<io::Result<()>> for Grant {
    fn from(answer: io::Result<()>) -> Self {
        match answer {
            Ok(()) => Self::Yes,
            Err(error) => Self::Refused(error.kind()),
        }
    }
}

/// Starts a media thread and says what it got.
///
/// # Errors
/// Only if the thread itself could not be started.
pub fn spawn<T: Send + 'static>(
    wanted: MediaThread,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<(JoinHandle<T>, Granted)> {
    let (tell, told) = mpsc::sync_channel(1);
    let MediaThread { name, core, real_time } = wanted;
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let granted = Granted {
            core: core.map_or(Grant::NotAsked, |core| stay_on(core).into()),
            real_time: real_time.map_or(Grant::NotAsked, |priority| raise_to(priority).into()),
            timer_slack: forgo_timer_slack().into(),
        };
        // The receiver waits below, so this cannot fail.
        let _ = tell.send(granted);
        work()
    })?;
    let granted = told.recv().map_err(|_| io::Error::other("the thread ended before it began"))?;
    Ok((thread, granted))
}

/// Raises the calling thread to a real-time priority, as [`MediaThread::real_time`]; for threads that others started.
#[must_use]
pub fn raise_current(priority: u8) -> Grant {
    raise_to(priority).into()
}

/// The cores this process may run on, lowest first: the system's, less what affinity masks and containers take away.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    }
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

#[cfg(target_os = "linux")]
fn stay_on(core: usize) -> io::Result<()> {
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(target_os = "linux")]
fn raise_to(priority: u8) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority.into() };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // The call itself, because musl's `sched_setscheduler` always fails.
    // SAFETY: thread 0 is the caller; the kernel reads `param`, which outlives the call, and writes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(target_os = "linux")]
fn forgo_timer_slack() -> io::Result<()> {
    Ok(rustix::thread::set_current_timer_slack(Some(std::num::NonZeroU64::MIN))?)
}

#[cfg(not(target_os = "linux"))]
fn stay_on(_core: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn raise_to(_priority: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn forgo_timer_slack() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_its_name_its_core_and_no_slack() {
        let core = *allowed_cores().last().unwrap();
        let wanted = MediaThread { name: "lane-7".into(), core: Some(core), real_time: None };
        let (thread, granted) = spawn(wanted, || {
            let slack = rustix::thread::current_timer_slack().unwrap();
            (std::thread::current().name().map(str::to_owned), allowed_cores(), slack)
        })
        .unwrap();
        assert_eq!(
            granted,
            Granted { core: Grant::Yes, real_time: Grant::NotAsked, timer_slack: Grant::Yes }
        );
        assert_eq!(thread.join().unwrap(), (Some("lane-7".into()), vec![core], 1));
    }

    #[test]
    fn what_is_refused_is_said_and_done_without() {
        let wanted = MediaThread { name: "x".into(), core: Some(usize::MAX), real_time: Some(0) };
        let (thread, granted) = spawn(wanted, || 7).unwrap();
        assert_eq!(granted.core, Grant::Refused(io::ErrorKind::InvalidInput));
        assert!(matches!(granted.real_time, Grant::Refused(_)), "priority 0 is not a real-time one");
        assert_eq!(thread.join().unwrap(), 7);
    }

    #[test]
    fn real_time_priority_is_as_granted_and_not_inherited() {
        let wanted = MediaThread { name: "rt".into(), core: None, real_time: Some(1) };
        let policy = || std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
        let (thread, granted) =
            spawn(wanted, move || (policy(), std::thread::spawn(policy).join().unwrap())).unwrap();
        let (own, child) = thread.join().unwrap();
        let is_real_time = |sched: &str| {
            let line = sched.lines().find(|line| line.starts_with("policy")).map(str::trim_end);
            line.is_some_and(|line| line.ends_with(" 2"))
        };
        if !own.is_empty() {
            assert_eq!(is_real_time(&own), granted.real_time == Grant::Yes, "{own}");
            assert!(!is_real_time(&child), "{child}");
        }
    }
}
