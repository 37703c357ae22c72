//! What the end-to-end tests and the demonstration stand on: real programs, a real registry, a real
//! containerd and an ordinary KVM, each private to the run.
//!
//! Everything a run makes lies in one temporary directory and below one cgroup directory of its own;
//! only [`tools`] (unpacked Debian packages) and the shim's program cache outlive it. [`leaks`]
//! asserts that after each end-to-end test.
//!
//! [`Node`] is where to start: `Node::start()` gives a containerd with a registry beside it,
//! `node.push(..)`, `node.ctr(..)` work with it, and dropping it takes it down and checks.

pub mod leaks;
mod micro_vm;
mod node;
pub mod oci;
pub mod process;
pub mod programs;
mod registry;
pub mod svm;
pub mod tools;

use std::path::PathBuf;

pub use micro_vm::{MicroVm, micro_vms};
pub use node::Node;
pub use registry::Registry;

/// The runtime as `ctr run --runtime` names it.
pub const RUNTIME: &str = "io.containerd.hyperlight.v1";

/// Root of the source tree.
#[must_use]
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Directory of the release binaries: `release/` in cargo's target directory.
#[must_use]
pub fn binaries() -> PathBuf {
    target_directory().join("release")
}

/// The `hyperlight` command, as `make build` leaves it.
///
/// # Errors
///
/// There is none: it says what builds it.
pub fn hyperlight() -> anyhow::Result<PathBuf> {
    let path = binaries().join("hyperlight");
    anyhow::ensure!(path.exists(), "no {}: run `make build` first", path.display());
    Ok(path)
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, or `target/` in the source tree.
#[must_use]
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
