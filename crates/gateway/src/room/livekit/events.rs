//! What happens in a LiveKit room, as a device understands it.
//!
//! Agents say what they do in three ways, and all of them are heard: attributes of the participant
//! (`lk.agent.state`), texts on topics (`lk.transcription`, `emotion`), and data packets with a `type`. Where a reply
//! begins and ends is told by the lane, which hears it; what an agent says of it goes there as a [`Cue`].

use evenkeel_livekit::data::{RequestId, Transcript};
use evenkeel_livekit::participant::{Event, RemoteParticipant};
use serde_json::{Map, Value, json};

use crate::device::envelope::Envelope;
use crate::lane::voices::Cue;
use crate::room::websocket::text::{self, ServerText};
use crate::room::{RoomEvent, TtsState};

/// Participants that are kept track of.
const MOST_OTHERS: usize = 64;

/// What is to be done about an event.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Give the call this.
    Room(RoomEvent),
    /// Tell the lane this.
    Cue(Cue),
    /// Say that there is no such method.
    Refuse(RequestId),
    /// It meant nothing to a device.
    Ignored,
}

/// Reads events; knows who is in the room and what the agent does.
#[derive(Debug)]
pub struct Events {
    identity: String,
    /// The server's name for the device's track.
    track: Option<String>,
    /// Who else is there: identity, and whether it is an agent.
    others: Vec<(String, bool)>,
    state: Option<String>,
    next_id: u32,
}

/// A message for the device. `None` if it is longer than a message may be.
#[must_use]
pub(super) fn text(message: &Value) -> Option<Envelope> {
    Envelope::new(message.to_string().as_bytes(), text::LIMITS).ok()
}

impl Events {
    /// Of a room in which we are `identity`.
    #[must_use]
    pub const fn new(identity: String) -> Self {
        Self { identity, track: None, others: Vec::new(), state: None, next_id: 1 }
    }

    /// The agent: whoever says that it is one, or else whoever came first.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        let found = self.others.iter().find(|other| other.1).or(self.others.first());
        found.map(|other| other.0.as_str())
    }

    /// Reads an event; what it means is added to `effects`.
    pub fn handle(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Joined { .. } | Event::RoomMoved { .. } => {
                self.others.clear();
                self.state = None;
                effects.push(Effect::Cue(Cue::Unknown));
            }
            Event::Published { sid } => self.track = Some(sid.clone()),
            Event::ParticipantJoined(other) | Event::ParticipantChanged(other) => self.meet(other, effects),
            Event::ParticipantLeft { identity } => {
                let was_agent = self.agent() == Some(identity);
                self.others.retain(|other| other.0 != *identity);
                if was_agent {
                    self.state = None;
                    effects.push(Effect::Cue(Cue::Unknown));
                }
            }
            Event::Transcript(transcript) => self.read_transcript(transcript, effects),
            Event::Text(text) if text.topic == "emotion" => Self::read_emotion(&text.text, effects),
            Event::Data(data) if data.topic == "emotion" => {
                Self::read_emotion(&String::from_utf8_lossy(&data.payload), effects);
            }
            Event::Data(data) => self.read_data(&data.payload, effects),
            Event::Text(text) => self.read_data(text.text.as_bytes(), effects),
            Event::RpcRequest { id, .. } => effects.push(Effect::Refuse(*id)),
            _ => {}
        }
    }

    fn meet(&mut self, other: &RemoteParticipant, effects: &mut Vec<Effect>) {
        if let Some(known) = self.others.iter_mut().find(|known| known.0 == other.identity) {
            known.1 = other.agent;
        } else if self.others.len() < MOST_OTHERS {
            self.others.push((other.identity.clone(), other.agent));
        }
        if self.agent() == Some(&other.identity)
            && let Some(state) = other.attributes.get("lk.agent.state")
        {
            self.note_state(state, effects);
        }
    }

    fn note_state(&mut self, state: &str, effects: &mut Vec<Effect>) {
        let before = self.state.replace(state.to_owned());
        if before.as_deref() == Some(state) {
            return;
        }
        let was_speaking = before.as_deref() == Some("speaking");
        match state {
            "speaking" => {
                effects.push(Effect::Cue(Cue::Speaking));
                effects.extend(tts(TtsState::Start, "start", None));
            }
            "thinking" => {
                // Speech that was announced may still be on its way.
                if was_speaking {
                    effects.push(Effect::Cue(Cue::Quiet));
                }
                effects.extend(say(&json!({"type": "llm", "state": "think"})));
            }
            _ => effects.push(Effect::Cue(Cue::Quiet)),
        }
    }

    fn read_transcript(&self, transcript: &Transcript, effects: &mut Vec<Effect>) {
        if !transcript.is_final || transcript.text.trim().is_empty() {
            return;
        }
        let is_ours = match &self.track {
            Some(track) if !transcript.track.is_empty() => transcript.track == *track,
            _ => transcript.speaker == self.identity,
        };
        if is_ours {
            effects.extend(say(&json!({"type": "stt", "text": transcript.text})));
        } else {
            effects.extend(tts(TtsState::Sentence, "sentence_start", Some(&transcript.text)));
        }
    }

    /// An emotion is its name, or JSON that has it.
    fn read_emotion(text: &str, effects: &mut Vec<Effect>) {
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(object)) => effects.extend(emotion(&object)),
            _ => effects.extend(say(&json!({"type": "llm", "emotion": text.trim()}))),
        }
    }

    fn read_data(&mut self, payload: &[u8], effects: &mut Vec<Effect>) {
        let Ok(envelope) = Envelope::new(payload, text::LIMITS) else { return effects.push(Effect::Ignored) };
        let Ok(Value::Object(object)) = serde_json::from_str(envelope.text()) else {
            return effects.push(Effect::Ignored);
        };
        let word = |name: &str| field(&object, name).and_then(Value::as_str);
        match object.get("type").and_then(Value::as_str).unwrap_or_default() {
            "agent_state_changed" => {
                if let Some(state) = word("new_state").or_else(|| word("state")) {
                    self.note_state(state, effects);
                }
            }
            "speech_created" => {
                effects.push(Effect::Cue(Cue::Speaking));
                effects.extend(tts(TtsState::Start, "start", word("text")));
            }
            "music_playback_stopped" => effects.push(Effect::Cue(Cue::Quiet)),
            "user_input_transcribed" => {
                let is_final = field(&object, "is_final").and_then(Value::as_bool).unwrap_or(true);
                if let Some(text) = word("text").or_else(|| word("transcript")).filter(|_| is_final) {
                    effects.extend(say(&json!({"type": "stt", "text": text})));
                }
            }
            "llm_emotion" => effects.extend(emotion(&object)),
            "device_control" | "function_call" => effects.extend(self.tool_call(&object)),
            "tts" | "stt" | "llm" | "mcp" | "system" | "alert" | "custom" | "goodbye" => {
                Self::pass_on(payload, effects);
            }
            _ => effects.push(Effect::Ignored),
        }
    }

    /// A message in the device's own form.
    fn pass_on(payload: &[u8], effects: &mut Vec<Effect>) {
        match text::parse(payload) {
            Ok(ServerText::Event(event)) => match event {
                RoomEvent::Tts { state: TtsState::Start, .. } => {
                    effects.extend([Effect::Cue(Cue::Speaking), Effect::Room(event)]);
                }
                RoomEvent::Tts { state: TtsState::Stop, .. } => effects.push(Effect::Cue(Cue::Quiet)),
                event => effects.push(Effect::Room(event)),
            },
            _ => effects.push(Effect::Ignored),
        }
    }

    fn tool_call(&mut self, object: &Map<String, Value>) -> Option<Effect> {
        let call = field(object, "function_call").and_then(Value::as_object).unwrap_or(object);
        let pick = |names: &[&str]| names.iter().find_map(|name| field(call, name)).cloned();
        let name = pick(&["name", "function", "action", "command"]).filter(Value::is_string)?;
        let arguments = match pick(&["arguments", "params", "parameters"]) {
            // Models write arguments as JSON in a string.
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::Null),
            Some(arguments) => arguments,
            None => json!({}),
        };
        let id = field(object, "id").cloned().unwrap_or_else(|| {
            self.next_id = self.next_id % 9999 + 1;
            self.next_id.into()
        });
        let params = json!({"name": name, "arguments": arguments});
        let payload = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        let envelope = text(&json!({"type": "mcp", "payload": payload}))?;
        let Value::Object(payload) = payload else { return None };
        Some(Effect::Room(RoomEvent::Mcp { payload, envelope }))
    }
}

/// A field of a message, or of its `data`.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.get("data")?.get(name))
}

fn emotion(object: &Map<String, Value>) -> Option<Effect> {
    let mut message = json!({"type": "llm", "emotion": field(object, "emotion")?.as_str()?});
    if let Some(text) = field(object, "text").and_then(Value::as_str) {
        message["text"] = text.into();
    }
    say(&message)
}

fn say(message: &Value) -> Option<Effect> {
    text(message).map(|envelope| Effect::Room(RoomEvent::Text(envelope)))
}

fn tts(state: TtsState, name: &str, words: Option<&str>) -> Option<Effect> {
    let mut message = json!({"type": "tts", "state": name});
    if let Some(words) = words {
        message["text"] = words.into();
    }
    text(&message).map(|envelope| Effect::Room(RoomEvent::Tts { state, envelope }))
}

#[cfg(test)]
mod tests;
