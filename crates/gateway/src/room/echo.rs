//! The control part of the parrot. Its audio, and where its replies begin and end, are the lane's affair.

use std::collections::VecDeque;

use crate::device::envelope::{Envelope, Limits};
use crate::device::message::Message;
use crate::room::{RoomCommand, RoomEvent, RoomId, TtsState};

/// A room that is always there and says back what it heard.
#[derive(Debug, Default)]
pub struct EchoRoom {
    events: VecDeque<(RoomId, RoomEvent)>,
}

impl EchoRoom {
    /// Carries out a command of the call.
    pub fn command(&mut self, id: RoomId, command: &RoomCommand) {
        let event = match command {
            RoomCommand::Join(_) => RoomEvent::Ready { session_id: None },
            RoomCommand::Leave => RoomEvent::Left,
            // The parrot forgets what it was saying: its reply is over.
            RoomCommand::Device { incoming, .. } if matches!(incoming.message, Message::Abort { .. }) => {
                let Ok(envelope) = Envelope::new(br#"{"type":"tts","state":"stop"}"#, Limits::default())
                else {
                    return;
                };
                RoomEvent::Tts { state: TtsState::Stop, envelope }
            }
            _ => return,
        };
        self.events.push_back((id, event));
    }

    /// What the room gives next.
    #[must_use]
    pub fn poll(&mut self) -> Option<(RoomId, RoomEvent)> {
        self.events.pop_front()
    }
}
