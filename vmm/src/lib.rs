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
//! [`MicroVm::boot`] maps memory and builds tables; the guest loads its program first. [`MicroVm::start`] goes on
//! from a [`Snapshot`] of a guest that has done that, in a [`Shell`] that may have been made ahead.
//! [`MicroVm::run`] enters the guest. A host call leaves it: the frame and its data are copied out once, decoded into an
//! [`abi::Request`], and answered by the machine itself (exit, abort, log, map, how it starts) or by the host.
//! What is left of a run is [`Idle`]: it can be reset to the snapshot, or called again.
//! [`Kick`] ends a run from another thread.
//!
//! ```no_run
//! use vmm::host::{Host, Stdio};
//! use vmm::{BootParams, Config, Exit, Image, MicroVm, Program};
//!
//! # fn example(elf: &[u8], compiled: &std::fs::File) -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new(256 << 20)?;
//! let (image, program) = (Image::parse(elf)?, Program::from_file(compiled)?);
//! let params = BootParams { args: vec![b"app".to_vec()], ..BootParams::default() };
//! let vm = MicroVm::boot(&config, &image, &program, &params, Host::new(Stdio::inherit()?)?)?;
//! let (exit, _stats) = vm.run()?;
//! match exit {
//!     Exit::Status(status) => std::process::exit(status),
//!     Exit::Fault(fault) => eprintln!("{fault}"),
//! }
//! # Ok(())
//! # }
//! ```

mod ahead;
mod boot;
mod config;
mod cpu_features;
mod descriptors;
mod error;
mod exit;
mod frames;
pub mod host;
mod image;
mod kick;
mod kvm;
mod log_gate;
mod machine;
mod memory;
mod microvm;
mod paging;
mod program;
mod shell;
mod signal;
mod snapshot;

pub use ahead::open_ahead;
pub use boot::BootParams;
pub use config::{Config, MEMORY_BYTES_MIN};
pub use cpu_features::{CpuFeatures, cpu_features};
pub use error::Error;
pub use exit::{Exit, Fault, MESSAGE_BYTES_MAX, RunStats};
pub use image::{Image, ImageError};
pub use kick::Kick;
pub use kvm::machine_identity;
pub use microvm::{Idle, MicroVm, Rewound};
pub use paging::LoadError;
pub use program::{PROGRAM_BYTES_MAX, Program};
pub use shell::Shell;
pub use snapshot::{Made, Snapshot, SnapshotError};
