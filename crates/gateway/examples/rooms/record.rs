//! A recording said by an agent of LiveKit's own SDK to a device, and by a device to the agent, through the gateway;
//! and the same Opus packets decoded where they had not come that far yet.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_core::framing::Frames;
use evenkeel_livekit::participant::{Event, ParticipantConfig};
use serde_json::json;
use tokio::time::sleep;

use crate::common::audio::{decode, encode, speech, write_pcm};
use crate::common::{Server, ServerOptions, Tools, join};
use crate::device;
use crate::gateway::{Gateway, Kind};

/// Each packet, with its place in samples.
type Placed = Vec<(u64, Vec<u8>)>;

/// Writes `said`, and for each way what was heard: `*-direct` past the gateway, `*-through` after it.
pub(crate) async fn run(tools: &Tools, evenkeel: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let server = Server::start(tools, ServerOptions::default()).await;
    let mut gateway = Gateway::start(&Kind::Evenkeel(evenkeel.to_owned()), &server).await;
    let said = speech(12.0);
    let file = |name: &str| folder.join(format!("{name}.pcm"));
    write_pcm(&file("said"), &said);

    let room = device::room(1);
    let tap = Tap::begin(&server, &room).await;
    let mut device = gateway.call(&server, 1, true).await;
    let mut peer = server.peer(&room, "agent").await;
    peer.until("track").await;
    let before = gateway.metrics();
    eprintln!("rooms: the agent speaks, then the device");
    peer.tell(json!({"do": "speak", "path": file("said")})).await;
    peer.until("spoken").await;
    sleep(Duration::from_secs(3)).await;
    write_pcm(&file("down-through"), &decode(&in_a_row(&device.packets())));
    write_pcm(&file("down-direct"), &decode(&tap.take("agent")));

    drop(tap.take_others("agent"));
    let packets = encode(&said, 60);
    device.talk(&packets).await;
    sleep(Duration::from_secs(2)).await;
    write_pcm(&file("up-direct"), &decode(&in_a_row(&packets)));
    write_pcm(&file("up-through"), &decode(&tap.take_others("agent")));
    if let (Some(before), Some(after)) = (before, gateway.metrics()) {
        let p99 = after.since(&before).transit_p99_ms;
        println!("out of the jitter buffer to UDP out, p99 at most: {p99} ms\n");
    }
}

/// Packets that follow each other without a gap.
fn in_a_row(packets: &[Vec<u8>]) -> Placed {
    let mut at = 0;
    let place = |packet: &Vec<u8>| {
        let placed = (at, packet.clone());
        at += u64::from(Frames::parse(packet).unwrap().duration_us()) * 48 / 1000;
        placed
    };
    packets.iter().map(place).collect()
}

/// A participant that keeps what the others say, as packets.
struct Tap {
    heard: Arc<Mutex<HashMap<String, Placed>>>,
}

impl Tap {
    async fn begin(server: &Server, room: &str) -> Self {
        let mut room = join(server.signal(room, "tap"), ParticipantConfig::default()).await;
        let heard = Arc::new(Mutex::new(HashMap::<String, Placed>::new()));
        let kept = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut speakers = HashMap::new();
            while let Some(event) = room.recv().await {
                match event {
                    Event::TrackSubscribed(track) => drop(speakers.insert(track.id, track.identity)),
                    Event::Audio(audio) => {
                        let speaker = speakers.get(&audio.track).cloned().unwrap_or_default();
                        kept.lock()
                            .unwrap()
                            .entry(speaker)
                            .or_default()
                            .push((audio.time, audio.payload.to_vec()));
                    }
                    _ => {}
                }
            }
        });
        Self { heard }
    }

    /// What this participant said.
    fn take(&self, speaker: &str) -> Placed {
        self.heard.lock().unwrap().remove(speaker).unwrap_or_default()
    }

    /// What all but this one said.
    fn take_others(&self, speaker: &str) -> Placed {
        let mut heard = self.heard.lock().unwrap();
        let others = heard.extract_if(|name, _| name != speaker).flat_map(|(_, packets)| packets);
        others.collect()
    }
}
