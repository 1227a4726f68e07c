//! The part of MQTT 3.1.1 (OASIS) that firmware uses, from the client's side.

use crate::identity::Identity;

/// What a gateway sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The answer to CONNECT: 0 is accepted.
    ConnAck(u8),
    /// A message.
    Publish {
        /// Where it was published.
        topic: String,
        /// What.
        payload: Vec<u8>,
    },
    /// PINGRESP and whatever else needs no answer.
    Other(u8),
}

/// What a return code of CONNACK means (section 3.2.2.3).
#[must_use]
pub const fn meaning(code: u8) -> &'static str {
    match code {
        1 => " (protocol level)",
        2 => " (client id)",
        3 => " (server unavailable)",
        4 => " (user name or password)",
        5 => " (not authorized)",
        _ => "",
    }
}

/// CONNECT (section 3.1), clean session.
#[must_use]
pub fn connect(identity: &Identity, keep_alive_seconds: u16) -> Vec<u8> {
    let has_password = !identity.password.is_empty();
    let mut body = Vec::with_capacity(256);
    push_text("MQTT", &mut body);
    body.extend_from_slice(&[4, 0x82 | if has_password { 0x40 } else { 0 }]);
    body.extend_from_slice(&keep_alive_seconds.to_be_bytes());
    push_text(&identity.client_id, &mut body);
    push_text(&identity.username, &mut body);
    if has_password {
        push_text(&identity.password, &mut body);
    }
    packet(0x10, &body)
}

/// PUBLISH (section 3.3) at QoS 0.
#[must_use]
pub fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(2 + topic.len() + payload.len());
    push_text(topic, &mut body);
    body.extend_from_slice(payload);
    packet(0x30, &body)
}

/// PINGREQ (section 3.12).
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// DISCONNECT (section 3.14).
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Takes the packet at the start of `buffer` out of it. `None` until it is complete.
///
/// # Errors
/// What is malformed.
pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Incoming>, &'static str> {
    let Some(&first) = buffer.first() else { return Ok(None) };
    let Some((length, header)) = remaining_length(&buffer[1..])? else { return Ok(None) };
    let start = 1 + header;
    let Some(body) = buffer.get(start..start + length) else { return Ok(None) };
    let incoming = match first >> 4 {
        2 => Incoming::ConnAck(*body.get(1).ok_or("a CONNACK of one byte")?),
        3 => {
            let is_plain = first & 0b110 == 0;
            let (topic_len, rest) = body.split_first_chunk::<2>().ok_or("a PUBLISH without topic")?;
            let topic_len = usize::from(u16::from_be_bytes(*topic_len));
            let (topic, rest) = rest.split_at_checked(topic_len).ok_or("a topic longer than its packet")?;
            let topic = String::from_utf8(topic.to_vec()).map_err(|_| "a topic that is no UTF-8")?;
            let payload = if is_plain { rest } else { rest.get(2..).ok_or("a PUBLISH without its id")? };
            Incoming::Publish { topic, payload: payload.to_vec() }
        }
        kind => Incoming::Other(kind),
    };
    buffer.drain(..start + length);
    Ok(Some(incoming))
}

/// Section 2.2.3: the length and how many bytes it took.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let mut length = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err("a remaining length of more than four bytes") }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(first);
    let mut length = body.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

fn push_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_packets_wherever_it_was_cut_before() {
        let mut stream = vec![0x20, 2, 0, 5];
        stream.extend(publish("devices/p2p/x", &[7; 300]));
        stream.extend([0xd0, 0]);
        stream.extend([0x32, 7, 0, 1, b't', 0, 9, b'h', b'i']);
        let (mut buffer, mut got) = (Vec::new(), Vec::new());
        for byte in stream {
            buffer.push(byte);
            while let Some(incoming) = take(&mut buffer).unwrap() {
                got.push(incoming);
            }
        }
        let text =
            |topic: &str, payload: &[u8]| Incoming::Publish { topic: topic.into(), payload: payload.into() };
        let expected =
            [Incoming::ConnAck(5), text("devices/p2p/x", &[7; 300]), Incoming::Other(13), text("t", b"hi")];
        assert_eq!((got.as_slice(), buffer.len()), (&expected[..], 0));
    }

    #[test]
    fn connect_is_laid_out_as_the_standard_says() {
        let identity = Identity { client_id: "c".into(), username: "u".into(), password: "p".into() };
        let expected = b"\x10\x13\0\x04MQTT\x04\xc2\0\xf0\0\x01c\0\x01u\0\x01p";
        assert_eq!(connect(&identity, 240), expected);
        assert!(take(&mut vec![0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(take(&mut vec![0x20, 1, 0]).is_err());
        assert!(take(&mut vec![0x30, 3, 0, 9, b'x']).is_err());
    }
}
