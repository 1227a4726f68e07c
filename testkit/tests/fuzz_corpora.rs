//! Every committed input of every fuzz target, on every change; and no target without one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_testkit::fuzz;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name)
}

/// Names in a folder, endings left out, and those of the gateway's own targets, which it replays itself.
fn names(path: &Path) -> BTreeSet<String> {
    let entries = path.read_dir().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !name.starts_with("gateway_"))
        .collect()
}

#[test]
fn every_target_has_a_program_an_entry_and_a_corpus() {
    let targets: BTreeSet<_> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("fuzz_targets")), targets);
    assert_eq!(names(&folder("corpus")), targets);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in &targets {
        let program = fs::read_to_string(folder("fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzz::run(\"{target}\", data)")), "{target} runs another body");
        let entry = format!("{{ name = \"{target}\", path = \"fuzz_targets/{target}.rs\" }}");
        assert_eq!(manifest.matches(&entry).count(), 1, "cargo wants one {entry} in fuzz/Cargo.toml");
    }
}

#[test]
fn every_input_passes() {
    for (target, body) in fuzz::TARGETS {
        let inputs: Vec<_> = folder("corpus").join(target).read_dir().unwrap().collect();
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(path).unwrap());
        }
    }
}
