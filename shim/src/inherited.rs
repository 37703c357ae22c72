//! Descriptors that a parent process has left open for this one.
//!
//! Rule: taken once, at the start of a process that was told their numbers, before it opens anything.
#![expect(unsafe_code, reason = "a number becomes an owned descriptor")]
// UNSAFETY: what a parent passes is known by number only, and std has no safe way to own it.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

/// Takes the descriptors `numbers`, and keeps them from the children of this process.
///
/// # Errors
///
/// One of them is not open, or this process has taken its descriptors before.
pub(crate) fn take<const N: usize>(numbers: [RawFd; N]) -> io::Result<[OwnedFd; N]> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("the inherited descriptors were taken before"));
    }
    for number in numbers {
        // SAFETY: borrowed for this call only, which answers EBADF if nothing is open by the number.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    // SAFETY: each is open, as the loop above has found, and nothing in this process owns it: the parent
    // has made it for us by the contract of `microvm::child_main`, and the flag lets nobody take it twice.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}
