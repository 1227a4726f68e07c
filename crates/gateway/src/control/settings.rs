//! What devices may do.

use std::sync::Arc;

use crate::call::CallConfig;
use crate::device::envelope::Limits;
use crate::device::limits::Rate;

/// What a device may do, and how its call is held.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// How calls are held.
    pub call: Arc<CallConfig>,
    /// What one message may cost.
    pub limits: Limits,
    /// Hellos of one device.
    pub hellos_per_device: Rate,
    /// Hellos of one network: an IPv4 address or an IPv6 /64.
    pub hellos_per_network: Rate,
    /// Messages of one device.
    pub messages_per_device: Rate,
    /// Who may send to a session.
    pub source: SourceRule,
    /// Whether devices of the echo room may ask for each packet straight back. Default no.
    pub loopback: bool,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            call: Arc::new(CallConfig::default()),
            limits: Limits::default(),
            hellos_per_device: Rate { burst: 5, per_second: 0.5 },
            hellos_per_network: Rate { burst: 1000, per_second: 500.0 },
            messages_per_device: Rate { burst: 100, per_second: 50.0 },
            source: SourceRule::MqttIp,
            loopback: false,
        }
    }
}

/// Where the datagrams of a device may come from, after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRule {
    /// From the address its MQTT connection comes from; as [`SourceRule::First`] where that is not known.
    MqttIp,
    /// From anywhere.
    Any,
    /// From where the first came.
    First,
}
