//! Why a guest cannot be given what it is to have: told to whoever starts it, never to the guest.

use std::io;

use abi::http::HEAD_BYTES_MAX;
use abi::{Handle, layout};

/// Why a guest could not be given what it was to have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process has no descriptors left, or a standard stream is closed.
    #[error("duplicate standard stream {}", handle.0)]
    DuplicateStdio {
        /// Which.
        handle: Handle,
        /// Why.
        source: io::Error,
    },
    /// A standard stream cannot be used.
    #[error("inspect standard stream {}", handle.0)]
    InspectStdio {
        /// Which.
        handle: Handle,
        /// Why.
        source: io::Error,
    },
    /// A directory cannot be used.
    #[error("inspect the directory for guest path {guest_path:?}")]
    InspectDirectory {
        /// Where the guest was to see it.
        guest_path: String,
        /// Why.
        source: io::Error,
    },
    /// What was to be preopened is something else.
    #[error("what the guest is to see at {guest_path:?} is no directory")]
    NotADirectory {
        /// Where the guest was to see it.
        guest_path: String,
    },
    /// No path of a guest can be this.
    #[error(
        "guest path {guest_path:?} of {} bytes must have 1 to {} bytes and no NUL",
        guest_path.len(),
        layout::PATH_BYTES_MAX
    )]
    GuestPath {
        /// The path.
        guest_path: String,
    },
    /// A signal for what a guest does would end the process.
    #[error("catch signal {signal}")]
    CatchSignal {
        /// Which.
        signal: i32,
        /// Why it cannot be caught.
        source: io::Error,
    },
    /// More was to be granted than the table holds.
    #[error("a guest has at most {limit} handles here; see the limit of open files (ulimit -n)")]
    TooManyHandles {
        /// Most handles.
        limit: usize,
    },
    /// Nothing could be made by which another thread ends a wait of the guest.
    #[error("make an eventfd")]
    Bell(#[source] io::Error),
    /// The head of a request does not go to a guest.
    #[error("the head of the request takes {bytes} bytes, at most {HEAD_BYTES_MAX} go to a guest")]
    HeadSize {
        /// What it takes.
        bytes: usize,
    },
}
