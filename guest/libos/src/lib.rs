//! WASI as a library OS: what a wasm program sees of the world, over the host calls of [`abi`].
//!
//! One set of plain objects (streams, files, directories, sockets, HTTP messages, pollables, clocks) over capability handles;
//! `p2` and `p1` are views on it that only translate. What needs no host stays here: arguments,
//! environment, clocks between samples, random numbers, file positions, directory positions, rights of
//! WASI, pending output.
//!
//! Invariant: what a write reported as done is with the host, or pending in its process and delivered
//! before the task ends.
//!
//! The crate knows no machine. It reaches the host through [`HostCall`] only, which is the doorbell in a
//! micro-VM and a function call where the library OS runs in a process of the host for its tests.
#![no_std]

extern crate alloc;

mod ahead;
mod call;
mod clock;
mod descriptor;
mod directory;
mod handle;
mod http;
mod invoke;
mod output;
mod p1;
mod p2;
mod poll;
mod process;
mod random;
mod run;
mod socket;
mod stream;

pub use call::{Calls, HostCall};
pub use run::{Prepared, Program};
