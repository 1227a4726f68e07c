//! Files: captures, Ogg Opus, recordings of any format.

use std::io::Cursor;
use std::panic;
use std::sync::Once;

use evenkeel_files::pcap::{Datagram, PcapReader, PcapWriter};
use evenkeel_files::{OpusReader, Recording};

/// Reads the bytes as a capture; what was read must be read again, the same, once written.
pub(super) fn pcap_read(bytes: &[u8]) {
    let Ok(mut reader) = PcapReader::new(bytes) else { return };
    let mut writer = PcapWriter::new(Vec::new()).expect("a Vec takes all");
    let mut copy = Vec::new();
    while let Ok(Some(datagram)) = reader.next_datagram() {
        if writer.write(&datagram).is_ok() {
            copy.push((datagram.time, datagram.from, datagram.to, datagram.payload.to_vec()));
        }
    }
    assert!(reader.skipped() + copy.len() as u64 <= reader.frames());
    let written = writer.finish().expect("a Vec takes all");
    let mut again = PcapReader::new(written.as_slice()).expect("our own header");
    for (time, from, to, payload) in &copy {
        let expected = Datagram { time: *time, from: *from, to: *to, payload };
        assert_eq!(again.next_datagram().expect("our own file"), Some(expected));
    }
    assert_eq!((again.frames(), again.skipped()), (copy.len() as u64, 0));
}

/// Reads the bytes as an Ogg Opus file, without decoding.
pub(super) fn ogg_opus(bytes: &[u8]) {
    let mut source = Cursor::new(bytes);
    let _ = OpusReader::announced_samples(&mut source);
    let Ok(mut reader) = OpusReader::new(source) else { return };
    while let Ok(Some(packet)) = reader.next_packet() {
        assert!(packet.keep <= packet.samples && packet.samples <= 5_760);
    }
}

/// Reads the bytes as a recording of any format, and decodes it.
pub(super) fn recording(bytes: &[u8]) {
    // libFuzzer's hook ends the process at a panic that `Recording` contains. One that it does not ends it all the same.
    static CONTAINABLE: Once = Once::new();
    CONTAINABLE.call_once(|| drop(panic::take_hook()));
    let Ok(mut recording) = Recording::read_from(Cursor::new(bytes.to_vec())) else { return };
    let mut out = [0.0; 4_096];
    while matches!(recording.read(&mut out), Ok(1..)) {}
}
