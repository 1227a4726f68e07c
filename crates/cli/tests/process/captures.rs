//! `.pcap` files open in Wireshark with the right lengths, and turn back into sound.

use std::path::Path;
use std::process::Command;

use evenkeel_testkit::recordings::clip;
use evenkeel_testkit::tools;

use crate::program::{KEY, LONG_KEY, directory, report, samples};

const PROFILES: [(&str, &str, u64); 5] = [
    ("compat", KEY, 0),
    ("compat-256", LONG_KEY, 0),
    ("aes-128-gcm", KEY, 16),
    ("aes-256-gcm", LONG_KEY, 16),
    ("chacha20-poly1305", LONG_KEY, 16),
];

/// What tshark sees of each datagram: length with UDP's header, payload in hexadecimal, time since the one before.
fn tshark(path: &Path) -> Option<Vec<(u64, String, f64)>> {
    let run = Command::new(tools::find("tshark")?)
        .args(["-n", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "separator=,", "-Y"])
        .args(["udp.checksum.status == 1 && !_ws.malformed", "-e", "udp.length", "-e", "udp.payload"])
        .args(["-e", "frame.time_delta", "-r"])
        .arg(path)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let rows = String::from_utf8(run.stdout).unwrap();
    let row = |line: &str| {
        let mut fields = line.split(',');
        let mut next = || fields.next().unwrap().to_owned();
        (next().parse().unwrap(), next(), next().parse().unwrap())
    };
    Some(rows.lines().map(row).collect())
}

#[test]
fn tshark_dissects_with_the_right_lengths() {
    let directory = directory("dissected");
    for (profile, key, tag) in PROFILES {
        let output = directory.join(format!("{profile}.pcap"));
        let report = report(
            &clip("de-24k.flac"),
            &output,
            &format!("--profile {profile} --key {key} --frame 60 --complexity 0"),
        );
        let coding = &report["coding"];
        let packets = coding["packets"].as_u64().unwrap();
        let Some(rows) = tshark(&output) else { return };
        assert_eq!(rows.len() as u64, packets, "{profile}");
        let total: u64 = rows.iter().map(|row| row.0).sum();
        assert_eq!(total, coding["payload_bytes"].as_u64().unwrap() + packets * (8 + 16 + tag), "{profile}");
        for (i, (len, payload, delta)) in rows.iter().enumerate() {
            let announced = u64::from_str_radix(&payload[4..8], 16).unwrap();
            let sequence = u64::from_str_radix(&payload[24..32], 16).unwrap();
            assert_eq!((announced + 24, sequence), (*len, i as u64 + 1), "{profile}");
            assert_eq!(&payload[8..16], report["session"]["connection_id"].as_str().unwrap(), "{profile}");
            assert!(i == 0 || (delta - 0.060).abs() < 1e-9, "{profile}: {delta}");
        }
    }
}

#[test]
fn a_capture_sounds_like_the_recording_it_was_made_of() {
    let directory = directory("back");
    let [direct, pcap, back] = ["direct.wav", "there.pcap", "back.wav"].map(|name| directory.join(name));
    let input = clip("en-gb-48k.flac");
    for channels in ["--channels 1", "--channels 2"] {
        report(&input, &direct, channels);
        let direct = samples(&direct);
        for (profile, key, _) in PROFILES {
            let options = format!("--profile {profile} --key {key} --session-id abc");
            report(&input, &pcap, &format!("{options} {channels}"));
            let heard = report(&pcap, &back, &options);
            assert_eq!(heard["heard"]["refused"], 0, "{profile}");
            // A capture does not tell where in its last packet the recording ended.
            let back = samples(&back);
            assert_eq!(direct, back[..direct.len()], "{profile} {channels}");
            assert!(back.len() - direct.len() < 2 * 960, "{profile} {channels}");
        }
    }
}

#[test]
fn a_capture_becomes_opus_and_capture() {
    let directory = directory("onward");
    let input = clip("fr.opus");
    let [direct, pcap, opus, again] =
        ["direct.opus", "there.pcap", "back.opus", "again.pcap"].map(|name| directory.join(name));
    report(&input, &pcap, &format!("--key {KEY}"));
    report(&input, &direct, "");
    report(&pcap, &opus, &format!("--key {KEY}"));
    let (direct, back) = (samples(&direct), samples(&opus));
    assert_eq!(direct, back[..direct.len()]);
    report(&pcap, &again, "");
    assert_eq!(std::fs::read(&pcap).unwrap(), std::fs::read(&again).unwrap(), "without a key, as it was");
    let lossy = report(&pcap, &again, "--loss 50 --seed 3");
    assert!(lossy["network"]["lost"].as_u64().unwrap() > 20);
    assert!(again.metadata().unwrap().len() < pcap.metadata().unwrap().len());
}

#[test]
fn a_key_is_made_up_and_told() {
    let directory = directory("random_key");
    let (pcap, wav) = (directory.join("a.pcap"), directory.join("a.wav"));
    for profile in ["compat", "aes-256-gcm"] {
        let made = report(&clip("fr.opus"), &pcap, &format!("--profile {profile} --session-id x"));
        let options = made["session"]["to_open_again"].as_str().unwrap().replace('"', "");
        assert_eq!(report(&pcap, &wav, &options)["heard"]["refused"], 0);
    }
}
