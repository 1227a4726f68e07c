//! A gateway's MQTT endpoint: how it is given, and what to do where none answers.

use std::io::ErrorKind;

use evenkeel_device::DeviceError;

/// `HOST:PORT`, for `--server`.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let is_whole =
        |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
    if text.rsplit_once(':').is_some_and(is_whole) {
        return Ok(text.to_owned());
    }
    Err("must be HOST:PORT, as 127.0.0.1:1883 or [::1]:1883".to_owned())
}

/// Why it could not be called, and what would help.
pub(crate) fn unreached(server: &str, has_key: bool, error: &DeviceError) -> String {
    match error {
        DeviceError::Io { error: io, .. } if io.kind() == ErrorKind::ConnectionRefused => {
            format!("no gateway listens on {server}: start one with `evenkeel serve`, or give --server")
        }
        DeviceError::Refused { code: 4 | 5 } if has_key => {
            format!("{error}: it has another signature key than the one that was given (--key)")
        }
        DeviceError::Refused { code: 4 | 5 } => {
            format!("{error}: give its signature key (--key), or --client-id and --password")
        }
        DeviceError::Protocol { what: "CONNACK", .. } => format!(
            "what listens on {server} does not speak MQTT: --server is the gateway's `mqtt.listen`, not where its page or \
             dashboard is"
        ),
        _ => format!("{server}: {error}"),
    }
}
