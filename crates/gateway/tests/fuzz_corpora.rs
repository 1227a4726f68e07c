//! Every committed input of the gateway's fuzz targets, on every change; and no target without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use evenkeel_gateway::fuzz::TARGETS;

#[test]
fn every_target_has_a_program_an_entry_and_inputs_that_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (target, body) in TARGETS {
        let program = fs::read_to_string(folder.join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzz::run(\"{target}\", data)")), "{target} runs another body");
        let entry = format!("{{ name = \"{target}\", path = \"fuzz_targets/{target}.rs\" }}");
        assert!(manifest.contains(&entry), "fuzz/Cargo.toml has no {entry}");
        let inputs: Vec<_> = folder.join("corpus").join(target).read_dir().unwrap().collect();
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(path).unwrap());
        }
    }
    let programs = folder.join("fuzz_targets").read_dir().unwrap();
    let ours = programs.filter(|p| p.as_ref().unwrap().file_name().to_str().unwrap().starts_with("gateway_"));
    assert_eq!(ours.count(), TARGETS.len());
}
