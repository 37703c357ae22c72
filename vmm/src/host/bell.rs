//! The bell of a host: by it, another thread ends the wait of the guest's thread.
//!
//! Rule: whoever changes what the guest could wait for does so under a lock, releases it, and then
//! [`ring`](Bell::ring)s. The guest's thread says that it [`listen`](Bell::listen)s before it takes that lock
//! to look. So either it sees the change, or the ring comes after and ends its wait: none is lost. Nobody
//! pays for a system call while nobody listens.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use abi::Errno;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno as Os;

use super::errno::refusal;

/// An eventfd(2) that is rung only while someone listens.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
    is_listened_to: AtomicBool,
}

impl Bell {
    /// # Errors
    ///
    /// Why there is no eventfd(2).
    pub(super) fn new() -> Result<Self, Os> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd, is_listened_to: AtomicBool::new(false) })
    }

    /// Polls as readable once it was rung.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// From here on it can be rung, once. What was rung before is forgotten.
    pub(super) fn listen(&self) {
        if !self.is_listened_to.load(Ordering::SeqCst) {
            // It may have been rung. Where it was not, this is Again, and all the same.
            let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        }
        self.is_listened_to.store(true, Ordering::SeqCst);
    }

    /// Ends the wait of who listens.
    pub(super) fn ring(&self) {
        if self.is_listened_to.swap(false, Ordering::SeqCst) {
            // It fails only if the counter is full, and then it is rung already.
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    /// Waits until `attempt` has another answer than [`Errno::Again`].
    ///
    /// # Errors
    ///
    /// That answer, and [`Errno::Interrupted`] if a signal came.
    pub(super) fn wait_for<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut listens = false;
        loop {
            match attempt() {
                Err(Errno::Again) => {}
                answer => return answer,
            }
            if !listens {
                self.listen();
                listens = true;
                continue; // to look again
            }
            listens = false;
            let mut fds = [PollFd::from_borrowed_fd(self.fd(), PollFlags::IN)];
            poll(&mut fds, None).map_err(refusal)?;
        }
    }
}
