//! Randomness, which a lane is given and never makes.

use std::cell::RefCell;

/// Numbers from a CSPRNG.
pub(super) struct Random(RefCell<Box<dyn FnMut() -> u32 + Send>>);

impl Random {
    pub(super) fn new(source: impl FnMut() -> u32 + Send + 'static) -> Self {
        Self(RefCell::new(Box::new(source)))
    }

    /// The next.
    pub(super) fn next(&self) -> u32 {
        // The source does not call back, so nobody else has it.
        self.0.borrow_mut()()
    }
}
