//! The part of MQTT 3.1.1 that devices use, as bytes (OASIS MQTT 3.1.1; level 3 differs in the protocol name only).
//!
//! Decoding borrows from the input and never allocates: an announced length costs nothing until the bytes are there,
//! and more than the limit is refused from the header alone.

use thiserror::Error;

/// A packet from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Section 3.1.
    Connect(Connect<'a>),
    /// Section 3.3, QoS 0 or 1.
    Publish {
        /// Where to; deployed firmware uses `device-server`.
        topic: &'a str,
        /// Present with QoS 1, which wants a PUBACK of this id.
        packet_id: Option<u16>,
        /// What.
        payload: &'a [u8],
    },
    /// Section 3.4: never needed, as we publish at QoS 0 only.
    PubAck,
    /// Section 3.8.
    Subscribe {
        /// Wants a SUBACK of this id.
        packet_id: u16,
        /// How many topics; each is granted QoS 0.
        topics: usize,
    },
    /// Section 3.10.
    Unsubscribe {
        /// Wants an UNSUBACK of this id.
        packet_id: u16,
    },
    /// Section 3.12.
    PingReq,
    /// Section 3.14.
    Disconnect,
}

/// What a CONNECT says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// 4 for MQTT 3.1.1, 3 for 3.1; anything else is to be refused with return code 1.
    pub level: u8,
    /// In seconds; 0 means never.
    pub keep_alive: u16,
    /// The client id.
    pub client_id: &'a str,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
}

/// Why a connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MqttError {
    /// A remaining length of more than four bytes (section 2.2.3).
    #[error("the remaining length has more than four bytes")]
    RemainingLength,
    /// Longer than allowed.
    #[error("a packet of {actual} bytes; {limit} is the most")]
    Oversized {
        /// The most allowed, in bytes after the fixed header.
        limit: usize,
        /// What was announced, in bytes after the fixed header.
        actual: usize,
    },
    /// Not as the standard says.
    #[error("malformed {what}")]
    Malformed {
        /// Which packet or field.
        what: &'static str,
    },
    /// A packet only a server may send, or QoS 2, which firmware does not use.
    #[error("{what} is not supported")]
    Unsupported {
        /// Which.
        what: &'static str,
    },
}

/// Reads the packet at the start of `bytes`. `None` if it is not complete yet, else the packet and how many bytes it
/// took. `limit` bounds the bytes after the fixed header.
///
/// # Errors
/// [`MqttError`]: the connection cannot go on.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Option<(Packet<'_>, usize)>, MqttError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    check_first_byte(first)?;
    let Some((length, header)) = remaining_length(&bytes[1..])? else { return Ok(None) };
    if length > limit {
        return Err(MqttError::Oversized { limit, actual: length });
    }
    let total = 1 + header + length;
    let Some(body) = bytes.get(1 + header..total) else { return Ok(None) };
    let mut body = Body(body);
    let packet = match first >> 4 {
        1 => Packet::Connect(body.connect()?),
        3 => body.publish(first)?,
        4 => {
            body.u16("PUBACK")?;
            Packet::PubAck
        }
        8 => body.subscribe()?,
        10 => {
            let packet_id = body.packet_id("UNSUBSCRIBE")?;
            body.topics("UNSUBSCRIBE", false)?;
            Packet::Unsubscribe { packet_id }
        }
        12 => Packet::PingReq,
        _ => Packet::Disconnect,
    };
    if !body.0.is_empty() {
        return Err(MqttError::Malformed { what: "packet: bytes left over" });
    }
    Ok(Some((packet, total)))
}

/// The type and flags of section 2.2, so that garbage is refused at its first byte.
const fn check_first_byte(first: u8) -> Result<(), MqttError> {
    match (first >> 4, first & 0x0f) {
        (3, flags) if flags & 0b110 == 0b110 => Err(MqttError::Malformed { what: "QoS 3" }),
        (3, flags) if flags & 0b100 != 0 => Err(MqttError::Unsupported { what: "QoS 2" }),
        (1 | 4 | 12 | 14, 0) | (3, _) | (8 | 10, 2) => Ok(()),
        (1 | 4 | 8 | 10 | 12 | 14, _) => Err(MqttError::Malformed { what: "flags" }),
        _ => Err(MqttError::Unsupported { what: "a packet of this type from a client" }),
    }
}

/// Section 2.2.3: the length and how many bytes it took; `None` if more bytes are needed.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, MqttError> {
    let mut length = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    if bytes.len() >= 4 { Err(MqttError::RemainingLength) } else { Ok(None) }
}

struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], MqttError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MqttError::Malformed { what })?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, MqttError> {
        Ok(self.take(1, what)?[0])
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, MqttError> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn packet_id(&mut self, what: &'static str) -> Result<u16, MqttError> {
        match self.u16(what)? {
            0 => Err(MqttError::Malformed { what }),
            id => Ok(id),
        }
    }

    fn binary(&mut self, what: &'static str) -> Result<&'a [u8], MqttError> {
        let length = self.u16(what)?;
        self.take(usize::from(length), what)
    }

    /// Section 1.5.3: UTF-8 without U+0000.
    fn string(&mut self, what: &'static str) -> Result<&'a str, MqttError> {
        let text = std::str::from_utf8(self.binary(what)?).map_err(|_| MqttError::Malformed { what })?;
        if text.contains('\0') { Err(MqttError::Malformed { what }) } else { Ok(text) }
    }

    fn connect(&mut self) -> Result<Connect<'a>, MqttError> {
        const WHAT: &str = "CONNECT";
        let name = self.string(WHAT)?;
        let level = self.u8(WHAT)?;
        match (name, level) {
            ("MQTT", 4) | ("MQIsdp", 3) => {}
            ("MQTT" | "MQIsdp", level) => {
                // What follows is laid out by a standard we do not speak.
                self.0 = &[];
                return Ok(Connect { level, keep_alive: 0, client_id: "", username: None, password: None });
            }
            _ => return Err(MqttError::Malformed { what: "protocol name" }),
        }
        let flags = self.u8(WHAT)?;
        let keep_alive = self.u16(WHAT)?;
        let client_id = self.string("client id")?;
        let (will, password, username) = (flags & 0x04 != 0, flags & 0x40 != 0, flags & 0x80 != 0);
        let malformed_will = if will { flags & 0x18 == 0x18 } else { flags & 0x38 != 0 };
        if flags & 1 != 0 || malformed_will || (password && !username) {
            return Err(MqttError::Malformed { what: "connect flags" });
        }
        if will {
            self.string("will topic")?;
            self.binary("will message")?;
        }
        let username = if username { Some(self.string("user name")?) } else { None };
        let password = if password { Some(self.binary("password")?) } else { None };
        Ok(Connect { level, keep_alive, client_id, username, password })
    }

    fn publish(&mut self, first: u8) -> Result<Packet<'a>, MqttError> {
        let topic = self.string("topic")?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err(MqttError::Malformed { what: "topic" });
        }
        let packet_id = if first & 0b010 != 0 { Some(self.packet_id("PUBLISH")?) } else { None };
        let payload = std::mem::take(&mut self.0);
        Ok(Packet::Publish { topic, packet_id, payload })
    }

    fn subscribe(&mut self) -> Result<Packet<'a>, MqttError> {
        let packet_id = self.packet_id("SUBSCRIBE")?;
        let topics = self.topics("SUBSCRIBE", true)?;
        Ok(Packet::Subscribe { packet_id, topics })
    }

    fn topics(&mut self, what: &'static str, with_qos: bool) -> Result<usize, MqttError> {
        let mut topics = 0;
        while !self.0.is_empty() {
            self.string(what)?;
            if with_qos && self.u8(what)? > 2 {
                return Err(MqttError::Malformed { what });
            }
            topics += 1;
        }
        if topics == 0 { Err(MqttError::Malformed { what }) } else { Ok(topics) }
    }
}

/// CONNACK (section 3.2): 0 accepted, 1 protocol level, 2 identifier, 3 unavailable, 4 user name or password, 5 not
/// authorized. Sessions are always clean.
#[must_use]
pub const fn connack(code: u8) -> [u8; 4] {
    [0x20, 2, 0, code]
}

/// PINGRESP (section 3.13).
pub const PINGRESP: [u8; 2] = [0xd0, 0];

/// PUBACK (section 3.4).
#[must_use]
pub const fn puback(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x40, 2, high, low]
}

/// UNSUBACK (section 3.11).
#[must_use]
pub const fn unsuback(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0xb0, 2, high, low]
}

/// Appends a SUBACK (section 3.9) that grants QoS 0 to `topics` topics.
pub fn suback(packet_id: u16, topics: usize, out: &mut Vec<u8>) {
    out.push(0x90);
    push_length(2 + topics, out);
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.resize(out.len() + topics, 0);
}

/// Appends a PUBLISH (section 3.3) at QoS 0.
pub fn publish(topic: &str, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x30);
    push_length(2 + topic.len() + payload.len(), out);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(payload);
}

fn push_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 8192;

    fn connect(flags: u8, payload: &[&[u8]]) -> Vec<u8> {
        let mut body = b"\0\x04MQTT\x04".to_vec();
        body.push(flags);
        body.extend_from_slice(&240u16.to_be_bytes());
        for field in payload {
            body.extend_from_slice(&(field.len() as u16).to_be_bytes());
            body.extend_from_slice(field);
        }
        packet(0x10, &body)
    }

    fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        push_length(body.len(), &mut out);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_firmware_connect_is_read() {
        let bytes = connect(0xc2, &[b"id", b"user", b"pass"]);
        let expected = Connect {
            level: 4,
            keep_alive: 240,
            client_id: "id",
            username: Some("user"),
            password: Some(b"pass"),
        };
        assert_eq!(decode(&bytes, LIMIT), Ok(Some((Packet::Connect(expected), bytes.len()))));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut], LIMIT), Ok(None));
        }
        let with_will = connect(0xc6, &[b"id", b"topic", b"message", b"user", b"pass"]);
        assert!(matches!(decode(&with_will, LIMIT), Ok(Some((Packet::Connect(c), _))) if c == expected));
    }

    #[test]
    fn other_levels_are_told_apart() {
        let level3 = packet(0x10, b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01a");
        assert!(matches!(decode(&level3, LIMIT), Ok(Some((Packet::Connect(c), _))) if c.level == 3));
        let level5 = packet(0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01a");
        assert!(matches!(decode(&level5, LIMIT), Ok(Some((Packet::Connect(c), _))) if c.level == 5));
        assert!(decode(&packet(0x10, b"\0\x04HTTP\x04\x02\0\x3c\0\x01a"), LIMIT).is_err());
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let malformed = |bytes: &[u8]| matches!(decode(bytes, LIMIT), Err(MqttError::Malformed { .. }));
        assert!(malformed(&connect(0x03, &[b"id"])), "reserved flag");
        assert!(malformed(&connect(0x42, &[b"id", b"p"])), "password without user");
        assert!(malformed(&connect(0x1e, &[b"id", b"t", b"m"])), "will QoS 3");
        assert!(malformed(&connect(0x22, &[b"id"])), "will retain without will");
        assert!(malformed(&connect(0x02, &[b"a\0b"])), "U+0000");
        assert!(malformed(&connect(0x02, &[b"\xff"])), "not UTF-8");
        assert!(malformed(&connect(0x02, &[b"id", b"left over"])));
        assert!(malformed(&packet(0x30, b"\0\x03a/+x")), "wildcard");
        assert!(malformed(&packet(0x32, b"\0\x01a\0\0x")), "packet id 0");
        assert!(malformed(&packet(0x36, b"\0\x01a\0\x01x")), "QoS 3");
        assert!(malformed(&packet(0x82, b"\0\x01")), "no topics");
        assert!(malformed(&packet(0xc1, b"")), "flags");
        for server_only in [0x00, 0x20, 0x34, 0x50, 0x62, 0x70, 0x90, 0xb0, 0xd0, 0xf0] {
            assert!(matches!(decode(&[server_only], LIMIT), Err(MqttError::Unsupported { .. })));
        }
    }

    #[test]
    fn lengths_are_refused_before_the_bytes_come() {
        assert_eq!(decode(&[0x30, 0xff, 0xff, 0xff, 0xff], LIMIT), Err(MqttError::RemainingLength));
        assert_eq!(decode(&[0x30, 0xff, 0xff, 0xff], LIMIT), Ok(None));
        assert_eq!(
            decode(&[0x30, 0xff, 0xff, 0xff, 0x7f], LIMIT),
            Err(MqttError::Oversized { limit: LIMIT, actual: 268_435_455 })
        );
        assert_eq!(
            decode(&[0x30, 0x81, 0x40], LIMIT),
            Err(MqttError::Oversized { limit: LIMIT, actual: 8193 })
        );
        assert_eq!(decode(&[0x30, 0x80, 0x40], LIMIT), Ok(None));
    }

    #[test]
    fn publishes_and_the_rest_are_read() {
        let mut bytes = Vec::new();
        publish("a/b", &[7; 300], &mut bytes);
        let expected = Packet::Publish { topic: "a/b", packet_id: None, payload: &[7; 300] };
        assert_eq!(decode(&bytes, LIMIT), Ok(Some((expected, bytes.len()))));
        let qos1 = packet(0x32, b"\0\x01a\x12\x34hi");
        let expected = Packet::Publish { topic: "a", packet_id: Some(0x1234), payload: b"hi" };
        assert_eq!(decode(&qos1, LIMIT), Ok(Some((expected, qos1.len()))));
        let subscribe = packet(0x82, b"\0\x07\0\x01a\0\0\x01b\x01");
        assert_eq!(
            decode(&subscribe, LIMIT),
            Ok(Some((Packet::Subscribe { packet_id: 7, topics: 2 }, subscribe.len())))
        );
        let unsubscribe = packet(0xa2, b"\0\x07\0\x01a");
        assert_eq!(decode(&unsubscribe, LIMIT), Ok(Some((Packet::Unsubscribe { packet_id: 7 }, 7))));
        assert_eq!(decode(&[0xc0, 0, 0xe0, 0], LIMIT), Ok(Some((Packet::PingReq, 2))));
        assert_eq!(decode(&[0xe0, 0], LIMIT), Ok(Some((Packet::Disconnect, 2))));
        let mut out = Vec::new();
        suback(7, 2, &mut out);
        assert_eq!(out, [0x90, 4, 0, 7, 0, 0]);
    }
}
