//! The system's randomness.

/// Fills `bytes` from the system's CSPRNG. The first use in a process gathers entropy for some 50 ms, so it is made
/// before anything depends on it.
pub(crate) fn fill(bytes: &mut [u8]) {
    if aws_lc_rs::rand::fill(bytes).is_err() {
        // Without randomness there are no keys; better no gateway than one that sends under known keys.
        tracing::error!("the system has no randomness");
        std::process::abort();
    }
}

/// A number from it.
pub(crate) fn number() -> u32 {
    let mut bytes = [0; 4];
    fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}
