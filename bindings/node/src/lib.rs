//! The audio path and the engine as classes of JavaScript. Thin: what is done is done in the other crates; here are
//! the checks of what JavaScript hands over, and the errors it gets for what is wrong.
//!
//! Nothing in here may abort the process: every call catches panics, no call runs JavaScript while it holds a borrow of
//! JavaScript's memory, and what comes from other threads goes through a queue (`engine`).

mod cipher;
mod codec;
mod engine;
mod fault;
mod js;
mod metrics;
mod options;
mod processor;
mod resampler;
