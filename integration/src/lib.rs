//! What the end-to-end tests and the demonstration stand on: real programs, a real registry, a real
//! containerd and an ordinary KVM, each private to the run.
//!
//! Everything a run makes lies in one temporary directory and below one cgroup directory of its own;
//! only [`tools`] (unpacked Debian packages) and the shim's program cache outlive it. [`leaks`]
//! asserts that after each end-to-end test.
//!
//! [`Node`] is where to start: `Node::start()` gives a containerd with a registry beside it,
//! `node.push(..)`, `node.ctr(..)` work with it, and dropping it takes it down and checks. [`Cri::start()`]
//! gives one that runs pods, [`kubernetes::Cluster::start()`] a cluster.

pub mod bench;
mod containerd;
pub mod cri;
mod events;
pub mod exits;
pub mod floor;
pub mod gate;
pub mod host;
pub mod kubernetes;
pub mod leaks;
mod micro_vm;
mod network;
mod node;
pub mod oci;
pub mod process;
pub mod programs;
pub mod random;
mod registry;
pub mod run;
pub mod scratch;
pub mod subject;
pub mod svm;
mod tasks;
pub mod tools;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use containerd::Sandboxer;
pub use cri::Cri;
pub use events::{Event, Events};
pub use micro_vm::{MicroVm, micro_vms};
pub use node::Node;
pub use registry::Registry;
pub use tasks::{Code, Exec, Metrics, Tasks};

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

/// cargo, as from a shell. What cargo says of a package to a test of it, a build script may take for something that has
/// changed, and most of the workspace would be built again (cargo, "Environment variables Cargo sets for crates").
#[must_use]
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let of_a_package = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_"];
        if name.to_str().is_some_and(|name| of_a_package.iter().any(|it| name.starts_with(it))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, or `target/` in the source tree.
#[must_use]
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Ends the test with a printed reason where there is no `/dev/kvm`; fails it with `REQUIRE_KVM=1`.
#[macro_export]
macro_rules! require_kvm {
    () => {
        if !$crate::kvm_is_there() {
            return;
        }
    };
}

/// Whether `/dev/kvm` is there; if not, says that the test that asks is skipped.
///
/// # Panics
///
/// If it is not there and `REQUIRE_KVM=1` says that it must be.
#[must_use]
pub fn kvm_is_there() -> bool {
    let there = Path::new("/dev/kvm").exists();
    if !there {
        assert!(std::env::var_os("REQUIRE_KVM").is_none_or(|value| value != "1"), "no /dev/kvm");
        skipped("no /dev/kvm");
    }
    there
}

/// Says that the test that runs on this thread is skipped, and why.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    say(&format!("skipped: {}: {reason}", thread.name().unwrap_or("a test")));
}

/// Says what takes long, past the test runner, which would keep it until the test fails.
pub fn say(text: &str) {
    // One write, so that lines of several threads do not mix. Nobody to read it is no failure.
    drop(std::io::stderr().write_all(format!("{text}\n").as_bytes()));
}
