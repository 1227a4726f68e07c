//! Anything may be inserted at any time: nothing panics, and nothing grows without bound.

use std::time::Duration;

use evenkeel_core::error::{ConfigError, PacketError};
use evenkeel_core::jitter::{Inserted, JitterBuffer, JitterConfig};
use evenkeel_core::units::Time;
use evenkeel_testkit::fuzz;
use proptest::prelude::*;

#[test]
fn what_is_no_opus_packet_or_too_large_changes_nothing() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    assert!(matches!(buffer.insert(1, 0, &[], Time::ZERO), Inserted::Rejected(PacketError::Opus { .. })));
    assert_eq!(
        buffer.insert(2, 0, &[0x49; 1501], Time::ZERO),
        Inserted::Rejected(PacketError::Oversized { limit: 1500, actual: 1501 })
    );
    assert_eq!((buffer.stats().rejected, buffer.stats().received, buffer.len()), (2, 0, 0));
}

#[test]
fn a_full_buffer_drops_the_oldest() {
    let config = JitterConfig { capacity: 4, ..JitterConfig::default() };
    let mut buffer = JitterBuffer::new(config).unwrap();
    let said: Vec<_> = [2, 3, 4, 5, 6, 1].map(|n| buffer.insert(n, 0, &[0x48, 0], Time::ZERO)).into();
    assert_eq!(said[..4], [Inserted::Stored; 4]);
    assert_eq!((said[4], said[5]), (Inserted::Overflow, Inserted::Late));
    assert_eq!((buffer.len(), buffer.stats().overflow), (4, 1));
}

#[test]
fn settings_outside_their_range_are_refused() {
    let base = JitterConfig::default();
    for config in [
        JitterConfig { max_depth: Duration::from_secs(11), ..base },
        JitterConfig { min_depth: Duration::from_secs(1), ..base },
        JitterConfig { min_depth: base.max_depth + Duration::from_micros(500), ..base },
        JitterConfig { initial_depth: Duration::from_secs(1), ..base },
        JitterConfig { capacity: 1, ..base },
        JitterConfig { capacity: usize::MAX, ..base },
        JitterConfig { max_payload: 0, ..base },
        JitterConfig { max_jump: 0, ..base },
        JitterConfig { timestamp_hz: Some(0), ..base },
    ] {
        assert!(matches!(JitterBuffer::new(config).err(), Some(ConfigError::Range { .. })), "{config:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_operations_are_survived(operations in proptest::collection::vec(any::<u8>(), 0..4000)) {
        fuzz::run("jitter_operate", &operations);
    }
}
