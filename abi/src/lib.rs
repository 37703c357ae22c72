//! The contract between the guest inside a micro-VM and the host that runs it.
//!
//! Read this crate first: it is everything a guest can ask for ([`Request`]), everything it can be
//! refused ([`Errno`]), everything that ends it ([`Violation`]), what it is given at start
//! ([`boot::BootInfo`]) and where things lie in its memory ([`layout`]).
//!
//! # How a host call is made
//!
//! The guest writes a [`Frame`] at [`layout::CALL_FRAME`] and up to [`layout::CALL_DATA_BYTES`] of
//! payload at [`layout::CALL_DATA`], then executes `out DOORBELL_PORT, al`. The vCPU leaves the guest,
//! the host copies frame and payload out **once**, decides on its copy ([`Request::decode`]), and
//! writes the answer into [`Frame::ret`] and the data area. The guest continues after the `out`.
//!
//! # The life of a guest
//!
//! It asks for the program ([`Request::Program`]), loads and links it, and says so ([`Request::Ready`]). So far
//! it knows nothing of whom it works for: the host may keep this state as a snapshot and start any number of
//! micro-VMs from it. The answer to `Ready` brings the boot information; the guest runs what that says
//! and ends by [`Request::Exit`].
//!
//! # Rules
//!
//! * Numbers are append-only; the layout is pinned by the assertions beside it. Whoever changes either
//!   bumps [`ABI_VERSION`].
//! * A well-formed call that the host declines is answered with an [`Errno`]. A malformed one is a
//!   [`Violation`] and ends the micro-VM: it is never answered and never an error of the host.
//! * Handles are capabilities. No host path, descriptor number, process id or address crosses.
//! * A call exists only for what the guest cannot do itself: file positions, buffering, directory
//!   streams, rights of WASI and clock arithmetic are guest state.
#![no_std]

extern crate alloc;

pub mod boot;
mod call;
pub mod engine;
mod errno;
pub mod http;
pub mod layout;
mod socket;
mod wire;

pub use call::{
    AbortKind, Access, Advice, Frame, Handle, LogLevel, Nr, OpenFlags, Readiness, Request,
    TimesMask, Violation,
};
pub use errno::Errno;
pub use socket::{
    DatagramHeader, Direction, Family, NAME_BYTES_MAX, SocketAddress, SocketKind, SocketOption,
};
pub use wire::{ClockSample, DirEntry, DirEntryHeader, FileKind, PollEntry, Stat, poll_events};

/// Version of this contract. The host refuses a guest image that was built against another one.
pub const ABI_VERSION: u32 = 4;

/// I/O port of the doorbell: `out DOORBELL_PORT, al` makes the host call that lies in the call window.
///
/// The only port that the TSS I/O permission bitmap opens to ring 3 (SDM vol. 1, 19.5.2).
pub const DOORBELL_PORT: u8 = 0x48;

/// I/O port by which the ring-0 exception stubs report an exception that no ring-3 handler took.
///
/// Closed to ring 3; the details are in [`layout::ExceptionRecord`].
pub const EXCEPTION_PORT: u8 = 0x49;

/// [`Request::Write`] offset that means "at the end of the file, atomically" (`O_APPEND`).
pub const APPEND: u64 = u64::MAX;

/// [`Request::Poll`] timeout that means "wait until something is ready".
pub const FOREVER: u64 = u64::MAX;
