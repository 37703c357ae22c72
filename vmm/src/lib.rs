//! The micro-VM on KVM and the host side of the guest contract.
//!
//! One [`MicroVm`] is one virtual machine with one vCPU, no devices and no operating system, that runs
//! one guest image ([`Image`]) with one compiled program ([`Program`]) and is answered by one
//! [`Host`](host::Host). It knows nothing of containers, OCI or wasm.
//!
//! # Threat model
//!
//! Everything inside the machine is hostile: the program, and, once the program has escaped the wasm
//! sandbox, the guest image too. Whatever it does ends in an [`Exit`]; an [`Error`] is always ours, and
//! a panic is a bug. The guest runs at CPL3 from its first instruction; ring 0 holds descriptor tables
//! and a page of exception stubs, page tables are out of its reach, and nothing is both writable and
//! executable.
//!
//! # Data flow
//!
//! [`MicroVm::boot`] maps memory, builds tables and places the boot information; [`MicroVm::run`] enters
//! the guest. A host call leaves it: the frame and its data are copied out once, decoded into an
//! [`abi::Request`], and answered by the machine itself (exit, abort, log, map) or by the host.
//! [`Kick`] ends a run from another thread.

mod boot;
mod config;
mod descriptors;
mod error;
mod exit;
mod frames;
pub mod host;
mod image;
mod kick;
mod kvm;
mod log_gate;
mod memory;
mod microvm;
mod paging;
mod program;

pub use boot::BootParams;
pub use config::{Config, MEMORY_BYTES_MIN};
pub use error::Error;
pub use exit::{Exit, Fault, MESSAGE_BYTES_MAX, RunStats};
pub use image::{Image, ImageError};
pub use kick::Kick;
pub use microvm::MicroVm;
pub use program::{PROGRAM_BYTES_MAX, Program};
