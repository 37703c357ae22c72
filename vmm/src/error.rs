//! What can go wrong on our side.
//!
//! One variant per failed operation, with the values needed to act and the source kept. What a guest
//! does is never an [`Error`]: that is an [`Exit`](crate::Exit).

use std::io;

use abi::boot::BOOT_BYTES_MAX;
use abi::layout;

use crate::config::MEMORY_BYTES_MIN;
use crate::image::ImageError;
use crate::program::PROGRAM_BYTES_MAX;
use crate::snapshot::SnapshotError;

/// A failed operation of the host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `/dev/kvm` could not be opened.
    #[error(
        "open /dev/kvm: load the module (modprobe kvm_intel or kvm_amd), let this user read and write \
         /dev/kvm, and if this machine is itself virtual, enable nested virtualization for it"
    )]
    OpenKvm(#[source] io::Error),
    /// The kernel speaks another version of the KVM API.
    #[error("KVM API version {found}, need 12: update the kernel")]
    KvmApiVersion {
        /// What KVM_GET_API_VERSION returned.
        found: i32,
    },
    /// The kernel's KVM lacks a capability.
    #[error("this kernel's KVM has no {name}: update the kernel")]
    MissingCapability {
        /// Name in the KVM API.
        name: &'static str,
    },
    /// The processor lacks a feature.
    #[error("KVM offers no {name} to guests on this processor: run on another machine")]
    MissingCpuFeature {
        /// Name in the processor manuals.
        name: &'static str,
    },
    /// KVM_GET_SUPPORTED_CPUID failed.
    #[error("get the CPUID that KVM supports")]
    SupportedCpuid(#[source] io::Error),
    /// KVM_CREATE_VM failed.
    #[error("create a virtual machine")]
    CreateVm(#[source] io::Error),
    /// KVM_SET_USER_MEMORY_REGION failed.
    #[error("set memory slot {slot} ({gpa:#x}, {bytes:#x} bytes)")]
    SetMemorySlot {
        /// Slot number.
        slot: u32,
        /// First guest-physical address.
        gpa: u64,
        /// Size; 0 deletes the slot.
        bytes: u64,
        /// What KVM said.
        #[source]
        source: io::Error,
    },
    /// KVM_CREATE_VCPU failed.
    #[error("create the vCPU")]
    CreateVcpu(#[source] io::Error),
    /// A vCPU ioctl failed.
    #[error("{ioctl}")]
    VcpuState {
        /// Which.
        ioctl: &'static str,
        /// What KVM said.
        #[source]
        source: io::Error,
    },
    /// KVM_RUN failed for a reason that no guest can cause.
    #[error("run the vCPU")]
    Run(#[source] io::Error),
    /// The signal by which a run is stopped could not be set up.
    #[error("set up signal {signal}")]
    Signal {
        /// Its number.
        signal: i32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The doorbell port does not work at CPL3 on this KVM.
    #[error(
        "this KVM does not let ring 3 use I/O port {port:#x} by the task's I/O bitmap: run on another host",
        port = abi::DOORBELL_PORT
    )]
    NoDoorbell,
    /// Host memory for a guest could not be mapped.
    #[error("map {bytes} bytes of host memory")]
    MapMemory {
        /// How much.
        bytes: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Shared memory could not be made read-only.
    #[error("make {bytes} bytes of host memory read-only")]
    ProtectMemory {
        /// How much.
        bytes: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An access of ours lies outside the guest's memory, or in a part that is shared: a bug of ours.
    #[error("access {len} bytes at guest-physical address {gpa:#x}: not in a writable memory slot")]
    OutsideMemory {
        /// First guest-physical address.
        gpa: u64,
        /// Bytes.
        len: u64,
    },
    /// A frame that was counted as free was not found: a bug of ours.
    #[error("no frame left for an edit of the page tables that was checked to fit")]
    FrameAccounting,
    /// The compiled program could not be read.
    #[error("read the compiled program")]
    ReadProgram(#[source] io::Error),
    /// The compiled program is empty or does not fit its slot.
    #[error("compiled program of {bytes} bytes: must be 1 to {PROGRAM_BYTES_MAX}")]
    ProgramSize {
        /// How large it is.
        bytes: u64,
    },
    /// The guest image was refused.
    #[error("parse the guest image")]
    Image(#[from] ImageError),
    /// No micro-VM of this size.
    #[error(
        "memory of {memory_bytes} bytes: must be a multiple of {} from {MEMORY_BYTES_MIN} to {}",
        layout::PAGE,
        layout::RAM_BYTES_MAX
    )]
    MemorySize {
        /// What was asked for.
        memory_bytes: u64,
    },
    /// The state of a snapshot does not fit.
    #[error(
        "memory of {memory_bytes} bytes does not hold the loaded program, which takes {needed_bytes}: \
         give the micro-VM more memory"
    )]
    MemoryTooSmall {
        /// The micro-VM's memory.
        memory_bytes: u64,
        /// What it should hold.
        needed_bytes: u64,
    },
    /// Arguments, environment and preopened directories are too many.
    #[error(
        "arguments, environment and directories take {bytes} bytes, at most {BOOT_BYTES_MAX} fit"
    )]
    BootInfoSize {
        /// What they take.
        bytes: u64,
    },
    /// A file could not be mapped.
    #[error("map {bytes} bytes of a file")]
    MapFile {
        /// How much.
        bytes: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel does not tell which pages were written.
    #[error("read /proc/self/pagemap: mount proc at /proc")]
    Pagemap(#[source] io::Error),
    /// The file of a snapshot could not be made.
    #[error("write a snapshot")]
    SnapshotFile(#[source] io::Error),
    /// A file is no snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The micro-VM was booted, not started from a snapshot.
    #[error("a micro-VM that was not started from a snapshot cannot go back to one")]
    NoSnapshot,
    /// The guest is gone.
    #[error("the guest has ended by a fault: reset the micro-VM before it is called again")]
    Ended,
    /// The kernel gave no entropy for the guest's seed.
    #[error("get entropy for the guest")]
    Entropy(#[source] io::Error),
}
