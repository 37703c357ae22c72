//! Descriptors that a parent process has left open for this one, on purpose or not.
//!
//! Rule: dealt with once, at the start of a process that knows what it is to have, before it opens
//! anything.
#![expect(unsafe_code, reason = "a descriptor is closed by its number")]
// UNSAFETY: what a parent has left open is known by number only, and std has no safe way to close it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Dir, Mode, OFlags, open};

/// Closes every descriptor but the standard streams.
///
/// # Errors
///
/// `/proc` cannot be read, or this process has done it before.
pub(crate) fn close_all() -> io::Result<()> {
    static CLOSED: AtomicBool = AtomicBool::new(false);
    if CLOSED.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("the inherited descriptors were closed before"));
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let list: OwnedFd = open("/proc/self/fd", flags, Mode::empty())?;
    let ours = list.as_raw_fd();
    let mut inherited = Vec::new();
    for entry in Dir::new(list)? {
        let number = entry?.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        inherited.extend(number.filter(|number| *number > 2 && *number != ours));
    }
    for number in inherited {
        // SAFETY: nothing in this process owns it: it was open before the process opened anything (the
        // rule of this module), and the flag above lets nobody come here twice. The list itself is left
        // out, and has been closed by the loop that ended.
        unsafe { rustix::io::close(number) };
    }
    Ok(())
}
