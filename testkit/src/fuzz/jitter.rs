//! Packets and pulls in any order and at any time.

use std::time::Duration;

use evenkeel_core::jitter::{JitterBuffer, JitterConfig, Playout};
use evenkeel_core::units::Time;

use super::Script;

/// Takes bytes for a list of inserts and pulls, and checks what must hold whatever they are: packets come out in
/// order unless the sender restarted, every packet is accounted for, and nothing grows beyond the capacity.
pub(super) fn operate(bytes: &[u8]) {
    let mut script = Script(bytes);
    let settings = script.byte();
    let config = JitterConfig {
        capacity: 2 + usize::from(settings & 15),
        max_payload: 200,
        max_jump: 1 << (settings >> 5),
        timestamp_hz: (settings & 16 != 0).then_some(48_000),
        ..JitterConfig::default()
    };
    let Ok(mut buffer) = JitterBuffer::new(config) else { return };
    let mut now = Time::ZERO;
    let (mut sequence, mut timestamp) = (u32::MAX - 20, 0u32);
    let mut last_played = None;
    let mut restarts = 0;
    while !script.is_over() {
        let operation = script.byte();
        let argument = script.byte();
        match operation & 7 {
            // The next packet, a packet nearby, and one from anywhere.
            0 | 1 => sequence = sequence.wrapping_add(1),
            2 => sequence = sequence.wrapping_add_signed(i32::from(argument as i8)),
            3 => sequence = u32::from_be_bytes([argument, operation, argument, script.byte()]),
            4 => timestamp = timestamp.wrapping_add(u32::from(argument) << (operation >> 3)),
            // Time goes on; rarely by much, and sometimes backwards.
            5 => now = now + Duration::from_millis(u64::from(argument) >> 2),
            6 => now = now + Duration::from_nanos(u64::from(argument) << (operation >> 3)),
            _ => now = now - Duration::from_millis(u64::from(argument)),
        }
        if operation & 7 < 4 {
            timestamp = timestamp.wrapping_add(960);
            let payload = script.bytes(usize::from(operation >> 3));
            let _ = buffer.insert(sequence, timestamp, payload, now);
        } else {
            match buffer.next(now) {
                Playout::Packet { sequence, payload, duration, .. } => {
                    assert!(!payload.is_empty() && payload.len() <= config.max_payload);
                    assert!(!duration.is_zero() && duration <= Duration::from_millis(120));
                    let is_newer = |last: u32| sequence.wrapping_sub(last) as i32 > 0;
                    assert!(last_played.replace(sequence).is_none_or(is_newer), "{sequence} is out of order");
                }
                other => assert!(!other.duration().is_zero()),
            }
        }
        let stats = buffer.stats();
        if stats.restarts != restarts {
            restarts = stats.restarts;
            last_played = None;
        }
        assert!(buffer.len() <= config.capacity);
        let known =
            stats.played + stats.dropped + stats.duplicates + stats.late + stats.suspects + stats.overflow;
        assert_eq!(stats.received, known + buffer.len() as u64);
        assert!((config.min_depth..=config.max_depth).contains(&stats.target));
    }
}
