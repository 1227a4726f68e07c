//! A lane allocates nothing per packet once it is warm.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::{Direction, Sealer, SessionKeys, Suite};
use evenkeel_core::units::{FrameDuration, SampleRate, Time};
use evenkeel_gateway::fuzz::FarEnd;
use evenkeel_gateway::lane::guest::Errand;
use evenkeel_gateway::lane::stream::Written;
use evenkeel_gateway::lane::{Lane, LaneConfig};
use evenkeel_gateway::media::{
    DownlinkFormat, Encryption, EventReceiver, Gate, MediaCommand, MediaId, Open, Route, SessionKey,
    SourcePolicy, Transport, events,
};
use evenkeel_testkit::alloc::{CountingAllocator, count_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const DEVICES: usize = 60;

struct World {
    lane: Lane,
    events: EventReceiver,
    sealers: Vec<Sealer>,
    /// Keep the servers' queues open.
    servers: Vec<FarEnd>,
    reply: Vec<u8>,
    written: usize,
    sent: usize,
    tick: u64,
}

impl World {
    fn new(route: Route) -> Self {
        let (sender, events) = events(4096);
        let inboxes = vec![ArrayQueue::new(64)].into();
        let mut lane = Lane::new(LaneConfig::default(), || 7, sender, inboxes);
        let (mut sealers, mut servers) = (Vec::new(), Vec::new());
        for n in 0..DEVICES {
            let media = MediaId { lane: 0, serial: n as u64 };
            let key = SessionKey::new(Encryption::Aes128Ctr, &[n as u8; 32]);
            let keys = SessionKeys::new(Suite::Aes128Ctr, key.expose(), n as u32, b"s").unwrap();
            sealers.push(Sealer::new(&keys, Direction::Uplink, 0));
            let open = Open {
                transport: Transport::Udp,
                encryption: Encryption::Aes128Ctr,
                key,
                session_id: "s".into(),
                connection_id: n as u32,
                source: SourcePolicy::First,
                downlink: DownlinkFormat {
                    sample_rate: SampleRate::HZ_24000,
                    frame_duration: FrameDuration::MS_60,
                },
                route,
                first_datagram_limit: Duration::from_secs(10),
                active_interval: Duration::from_secs(1),
            };
            lane.handle_command(Time::ZERO, media, MediaCommand::Open(Box::new(open)));
            let flow = MediaCommand::Gate(Gate::Flow { lead: Duration::ZERO });
            lane.handle_command(Time::ZERO, media, flow);
            if route == Route::Chat {
                let (server, guest) = FarEnd::new();
                lane.attach(Time::ZERO, media, guest, vec![n as u32]);
                lane.handle_command(Time::ZERO, media, FarEnd::GO_ON);
                servers.push(server);
            }
        }
        let reply = FarEnd::say_audio(7, &[0xf8, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        Self { lane, events, sealers, servers, reply, written: 0, sent: 0, tick: 0 }
    }

    /// Every device speaks and is spoken to, for this many times 60 ms.
    fn run(&mut self, ticks: u64) {
        let mut datagram = [0; 1500];
        for _ in 0..ticks {
            for n in 0..DEVICES {
                let now = Time::from_millis(self.tick * 60 + n as u64);
                let from = SocketAddr::new([10, 0, 0, n as u8].into(), 9);
                datagram[HEADER_LEN..HEADER_LEN + 80].fill(0);
                datagram[HEADER_LEN] = 0x58;
                let (_, len) = self.sealers[n].seal_echo(&mut datagram, 80, 0).unwrap();
                self.lane.handle_datagram(now, from, &mut datagram[..len]);
                let media = MediaId { lane: 0, serial: n as u64 };
                for _ in 0..3 {
                    self.lane.handle_guest_bytes(now, media, &self.reply);
                }
                while let Some(errand) = self.lane.poll_errand() {
                    if let Errand::Write(_) = errand {
                        self.lane.write_guest(now, media, |bytes| {
                            self.written += bytes.len();
                            Ok(Written { count: bytes.len(), is_flushed: true })
                        });
                    }
                }
                self.lane.handle_inbox(now);
                self.lane.handle_timeout(now);
                while self.lane.poll_transmit(now, &mut datagram).is_some() {
                    self.sent += 1;
                }
                self.lane.handle_transmitted(now);
                self.lane.finish_turn();
                while self.events.try_next().is_some() {}
            }
            self.tick += 1;
        }
    }
}

#[test]
fn nothing_is_allocated_per_packet() {
    for route in [Route::Chat, Route::Loopback] {
        let mut world = World::new(route);
        world.run(20);
        let sent = world.sent;
        let allocations = count_allocations(|| world.run(100));
        assert_eq!(allocations, 0, "{route:?}");
        assert_eq!(world.sent - sent, 100 * DEVICES, "{route:?}");
        assert_eq!(world.servers.is_empty(), world.written == 0, "{route:?}");
    }
}
