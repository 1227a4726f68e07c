//! An agent by our own participant: cheap, so that what is measured is the gateway.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_livekit::driver::Packet;
use evenkeel_livekit::participant::{AudioLevel, Event};
use tokio::time::{MissedTickBehavior, interval};

use crate::common::{Server, join, publishing};

/// Which packets an agent heard, by their RTP sequences.
#[derive(Clone, Copy, Default)]
pub(crate) struct Heard {
    pub(crate) count: u64,
    first: Option<u64>,
    last: u64,
    lost_elsewhere: u64,
}

impl Heard {
    fn note(&mut self, sequence: u64) {
        self.first.get_or_insert(sequence);
        self.last = self.last.max(sequence);
        self.count += 1;
    }

    /// How many never came.
    pub(crate) fn lost(&self) -> u64 {
        let own = self.first.map_or(0, |first| (self.last + 1 - first).saturating_sub(self.count));
        own + self.lost_elsewhere
    }

    /// The same of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            lost_elsewhere: self.lost() + other.lost(),
            ..Self::default()
        }
    }
}

/// An agent that talks without end.
pub(crate) struct Agent {
    heard: Arc<Mutex<Heard>>,
}

impl Agent {
    /// Joins a room and talks, in packets of 20 ms.
    pub(crate) async fn begin(server: &Server, room: &str, packets: Arc<Vec<Vec<u8>>>) -> Self {
        let mut room = join(server.signal(room, "agent"), publishing()).await;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let noted = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(20));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut next = packets.iter().cycle();
            loop {
                tokio::select! {
                    event = room.recv() => match event {
                        Some(Event::Audio(audio)) => noted.lock().unwrap().note(audio.sequence),
                        Some(_) => {}
                        None => return,
                    },
                    _ = ticks.tick() => {
                        let payload = next.next().unwrap().clone();
                        let packet = Packet { payload, advance: 960, lost: 0, marker: false, level: AudioLevel::SPEECH };
                        if room.send_audio(packet).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self { heard }
    }

    /// What it heard since this was asked last.
    pub(crate) fn take(&self) -> Heard {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}
