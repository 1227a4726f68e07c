//! Bodies of the fuzz targets. They live here so that every corpus is replayed by the tests, on stable, on every change
//! (`tests/fuzz_corpora.rs`); the crate `fuzz` only hands them what libFuzzer makes up.
//!
//! A new target is a line in [`TARGETS`], a line in `fuzz/Cargo.toml`, a file in `fuzz/fuzz_targets/` like the
//! others, and a few seeds in `fuzz/corpus/<name>/`.

mod files;
mod jitter;
mod opus;
mod seal;

/// Takes any bytes, and panics if something is wrong.
pub type Body = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: &[(&str, Body)] = &[
    ("header", seal::header),
    ("jitter_operate", jitter::operate),
    ("ogg_opus", files::ogg_opus),
    ("open", seal::open),
    ("opus_decode", opus::decode),
    ("opus_encode", opus::encode),
    ("opus_inspect", opus::inspect),
    ("pcap_read", files::pcap_read),
    ("recording", files::recording),
];

/// The body of a target.
///
/// # Panics
/// If there is no such target.
pub fn body(name: &str) -> Body {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("{name} is not in TARGETS")).1
}

/// Runs one target on one input.
///
/// # Panics
/// If there is no such target, or it finds something wrong.
pub fn run(name: &str, data: &[u8]) {
    body(name)(data);
}

/// Reads a script from bytes: what is used up reads as zero.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Up to `len` bytes.
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
