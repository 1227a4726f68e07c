//! `evenkeel bench` prints what it promises. What the figures are is not for a test.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

#[test]
fn every_promised_key_is_there_and_the_figure_is_drawn() {
    let plot = std::env::temp_dir().join(format!("evenkeel-bench-{}.svg", std::process::id()));
    let run = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["bench", "--frames", "100", "--json", "--plot"])
        .arg(&plot)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    for key in [
        "/path/ratio_to_bare_opus",
        "/path/other_than_opus_us",
        "/path/latency_us/mean",
        "/path/latency_us/p50",
        "/path/latency_us/p99",
        "/path/latency_us/p999",
        "/path/latency_us/max",
        "/seal/ns",
        "/open/ns",
        "/relay/us_per_packet",
        "/resample/0/us_per_20ms",
        "/resample/0/delay_ms",
        "/resample/0/passband_db",
        "/rungs/13/us_per_20ms",
        "/inputs/1/relative",
        "/durations/3/us_per_20ms",
        "/receive/0/decode_us",
    ] {
        assert!(report.pointer(key).is_some_and(Value::is_number), "{key} is no number");
    }
    let whole = report["resample"].as_array().unwrap();
    assert!(whole.iter().any(|r| (r["from"].as_u64(), r["to"].as_u64()) == (Some(48_000), Some(24_000))));
    let none = serde_json::json!({ "sender": 0.0, "receiver": 0.0, "relay": 0.0 });
    assert_eq!(report["allocations_per_frame"], none);

    let svg = std::fs::read_to_string(&plot).unwrap();
    std::fs::remove_file(&plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
}
