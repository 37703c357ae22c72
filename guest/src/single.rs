//! Global state of a program with one thread.
//!
//! Invariant: the guest has one vCPU, no interrupts and no signals that return; an exception handler
//! never comes back to the code it interrupted. So two borrows can overlap only by recursion, which
//! the flag detects.
#![expect(unsafe_code, reason = "shared state without locks")]
// UNSAFETY: a static must be Sync; with a single thread a checked cell is.

use core::cell::{RefCell, RefMut};

/// A cell for a static.
pub(crate) struct Single<T>(RefCell<T>);

// SAFETY: there is one thread, so nothing is ever accessed from two.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    /// A cell that holds `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Borrows the value; `None` while it is borrowed already.
    pub(crate) fn borrow(&self) -> Option<RefMut<'_, T>> {
        self.0.try_borrow_mut().ok()
    }
}
