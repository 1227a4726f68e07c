//! `evenkeel load` prints what it promises. Whether the machine is quick enough is not for a test.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

#[test]
fn streams_that_come_and_go_give_their_memory_back() {
    let plot = std::env::temp_dir().join(format!("evenkeel-soak-{}.svg", std::process::id()));
    let run = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args([
            "load",
            "--soak",
            "--streams",
            "20",
            "--complexity",
            "0",
            "--seconds",
            "8",
            "--json",
            "--plot",
        ])
        .arg(&plot)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    for key in [
        "/frames",
        "/packets",
        "/dropped",
        "/departure_error_ms/p999",
        "/warm_mb",
        "/most_mb",
        "/last_mb",
        "/slope_mb_per_hour",
        "/limit_mb",
        "/samples/7/rss_mb",
    ] {
        assert!(report.pointer(key).is_some_and(Value::is_number), "{key} is no number");
    }
    assert_eq!(report["flat"], true);
    assert_eq!(report["opened"], 28, "one of twenty a second");
    assert!(report["growth_mb"].as_f64() <= report["limit_mb"].as_f64());

    let svg = std::fs::read_to_string(&plot).unwrap();
    std::fs::remove_file(&plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
}
