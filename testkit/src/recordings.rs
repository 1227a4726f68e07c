//! Recordings to test with: the committed clips, and real voices where the machine has them.

use std::path::{Path, PathBuf};

/// Where Debian's `alsa-utils` puts eight spoken words at 48 kHz, and a noise that is left out here.
const VOICES: &str = "/usr/share/sounds/alsa";

/// A committed clip by its file name, e.g. `en-gb-48k.flac`.
///
/// # Panics
/// If there is no such clip.
#[must_use]
pub fn clip(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/clips").join(name);
    assert!(path.is_file(), "there is no clip {}", path.display());
    path
}

/// Every recording there is: the committed clips, then the real voices. Says so where the voices are missing.
///
/// # Panics
/// If the clips cannot be listed.
#[must_use]
pub fn recordings() -> Vec<PathBuf> {
    let mut found = files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/clips"));
    found.retain(|path| path.extension().is_some_and(|e| e != "md"));
    assert!(!found.is_empty(), "testdata/clips holds no clip");
    found.extend(voices());
    found
}

/// The real voices, if any: 16-bit WAV, 48 kHz, mono. Says so where they are missing.
#[must_use]
pub fn voices() -> Vec<PathBuf> {
    let mut found = files_in(Path::new(VOICES));
    found
        .retain(|p| p.extension().is_some_and(|e| e == "wav") && p.file_stem().is_some_and(|n| n != "Noise"));
    if found.is_empty() {
        crate::tools::skip(&format!("no real voices in {VOICES} (Debian: apt install alsa-utils)"));
    }
    found
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
    files.sort();
    files
}
