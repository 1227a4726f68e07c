//! What tests share: a lossy network on virtual time, a simulated device, recordings.
