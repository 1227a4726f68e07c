//! Running the program, and reading what it wrote.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_files::Recording;
use serde_json::Value;

/// 128 and 256 bits.
pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f";
pub(crate) const LONG_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What a run left: exit code, standard output, standard error.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `evenkeel process`.
pub(crate) fn process(args: impl IntoIterator<Item: AsRef<OsStr>>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let output = command.arg("process").args(args).env_remove("EVENKEEL_KEY").output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `evenkeel process INPUT --to OUTPUT --json`, which must succeed, with `options` besides.
pub(crate) fn report(input: &Path, output: &Path, options: &str) -> Value {
    let mut args: Vec<&OsStr> =
        vec![input.as_os_str(), "--to".as_ref(), output.as_os_str(), "--json".as_ref()];
    args.extend(options.split_whitespace().map(OsStr::new));
    let run = process(args);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{options}");
    serde_json::from_str(&run.out).unwrap()
}

/// A new, empty directory.
pub(crate) fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// All samples of a recording, interleaved.
pub(crate) fn samples(path: &Path) -> Vec<f32> {
    let mut recording = Recording::open(path).unwrap();
    let channels = recording.channels().count();
    let (mut all, mut out) = (Vec::new(), vec![0.0; 9_600]);
    loop {
        match recording.read(&mut out).unwrap() {
            0 => return all,
            n => all.extend_from_slice(&out[..n * channels]),
        }
    }
}

/// Signal to noise, in dB.
pub(crate) fn snr(signal: &[f32], coded: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let power: f64 = signal.iter().map(|&x| square(x)).sum();
    let noise: f64 = signal.iter().zip(coded).map(|(&a, &b)| square(a - b)).sum();
    10.0 * (power / noise).log10()
}
