//! What the system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many files and sockets this process may have open: now, and at most. `None` is no limit.
#[must_use]
pub fn open_files() -> (Option<u64>, Option<u64>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    (current, maximum)
}

/// Raises the limit of open files to what it may be at most, and returns that.
pub fn raise_open_files() -> Option<u64> {
    let (current, maximum) = open_files();
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_ok() { maximum } else { current }
}

/// The highest real-time priority that threads may take without a privilege; 0 is none.
#[must_use]
pub fn real_time_priority() -> u64 {
    #[cfg(target_os = "linux")]
    return getrlimit(Resource::Rtprio).current.unwrap_or(u64::MAX);
    #[cfg(not(target_os = "linux"))]
    return 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_can_be_raised_to_its_maximum() {
        let raised = raise_open_files();
        assert_eq!(open_files(), (raised, raised));
    }
}
