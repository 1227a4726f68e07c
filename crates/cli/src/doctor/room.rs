//! Whether calls will find their rooms.

use evenkeel_gateway::config::{Config, RoomKind};

use super::{Finding, Verdict};
use crate::failure::Failure;

const WHAT: &str = "LiveKit room";

/// Joins a room on the LiveKit server, if calls are to have theirs there.
pub(super) fn look(config: &Config) -> Result<Option<Finding>, Failure> {
    if config.room.kind != RoomKind::Livekit {
        return Ok(None);
    }
    let rooms = config.livekit_rooms().map_err(Failure::input)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::machine)?;
    let finding = match runtime.block_on(rooms.try_out()) {
        Ok(trial) => {
            let ms = |time: std::time::Duration| time.as_millis();
            let agent = trial
                .agent
                .map_or(String::new(), |came| format!(", the agent was there after {} ms", ms(came)));
            let (joined, connected) = (ms(trial.joined), ms(trial.connected));
            let text = format!(
                "{}: joined after {joined} ms, audio had a way after {connected} ms{agent}",
                rooms.url
            );
            Finding::new(WHAT, Verdict::Good, text)
        }
        Err(error) => Finding::new(WHAT, Verdict::Bad, format!("{}: {error}", rooms.url)),
    };
    runtime.shutdown_background();
    Ok(Some(finding))
}
