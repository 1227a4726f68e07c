//! Which chat server a call goes to: in turn, leaving out those that lately failed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_core::units::Time;

/// How long a server that failed once is left out; doubles with every failure in a row.
const FIRST_BAN: Duration = Duration::from_secs(1);
/// The longest a server is left out.
const LONGEST_BAN: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug)]
pub struct Servers {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    servers: Vec<Server>,
    turn: usize,
}

#[derive(Debug)]
struct Server {
    url: String,
    failures: u32,
    banned_until: Time,
}

impl Servers {
    /// All in good health.
    #[must_use]
    pub fn new(urls: impl IntoIterator<Item = String>) -> Self {
        let servers =
            urls.into_iter().map(|url| Server { url, failures: 0, banned_until: Time::ZERO }).collect();
        Self { state: Mutex::new(State { servers, turn: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next server in turn that is in good health; if none is, the one that was banned longest ago, so that a
    /// call is never refused for what happened to another. `None` if there are no servers.
    #[must_use]
    pub fn pick(&self, now: Time) -> Option<String> {
        let mut state = self.state();
        let (count, turn) = (state.servers.len(), state.turn);
        let in_turn = (0..count).map(|at| (turn + at) % count);
        let healthy = in_turn.clone().find(|at| state.servers[*at].banned_until <= now);
        let at = healthy.or_else(|| in_turn.min_by_key(|at| state.servers[*at].banned_until))?;
        state.turn = at + 1;
        Some(state.servers[at].url.clone())
    }

    /// A call went well with this server.
    pub fn succeeded(&self, url: &str) {
        if let Some(server) = self.state().servers.iter_mut().find(|server| server.url == url) {
            server.failures = 0;
            server.banned_until = Time::ZERO;
        }
    }

    /// A call could not reach this server, or lost it at once. Failures of calls that began together count as one.
    pub fn failed(&self, url: &str, now: Time) {
        if let Some(server) = self.state().servers.iter_mut().find(|server| server.url == url)
            && server.banned_until <= now
        {
            let ban = FIRST_BAN * (1 << server.failures.min(6));
            server.failures += 1;
            server.banned_until = now + ban.min(LONGEST_BAN);
        }
    }

    /// Every server, and whether it is in good health.
    #[must_use]
    pub fn health(&self, now: Time) -> Vec<(String, bool)> {
        self.state().servers.iter().map(|s| (s.url.clone(), s.banned_until <= now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    #[test]
    fn calls_go_round_and_leave_out_what_failed() {
        let servers = Servers::new(["a", "b", "c"].map(String::from));
        let pick = |s| servers.pick(second(s)).unwrap();
        assert_eq!([pick(0), pick(0), pick(0), pick(0)], ["a", "b", "c", "a"]);
        servers.failed("b", second(0));
        assert_eq!([pick(0), pick(0), pick(0)], ["c", "a", "c"]);
        assert_eq!([pick(1), pick(1)], ["a", "b"], "a second later it is tried again");
    }

    #[test]
    fn bans_grow_and_end_with_a_success() {
        let servers = Servers::new(["a".to_owned()]);
        let mut now = second(0);
        let mut bans = Vec::new();
        for _ in 0..8 {
            servers.failed("a", now);
            servers.failed("a", now);
            let ban = (1..).find(|s| servers.health(now + Duration::from_secs(*s))[0].1).unwrap();
            bans.push(ban);
            now = now + Duration::from_secs(ban);
        }
        assert_eq!(bans, [1, 2, 4, 8, 16, 32, 60, 60]);
        servers.failed("a", now);
        assert_eq!(servers.pick(now).as_deref(), Some("a"), "better than none");
        servers.succeeded("a");
        assert!(servers.health(now)[0].1);
        assert_eq!(Servers::new([]).pick(now), None);
    }
}
