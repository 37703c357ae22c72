//! KVM as a whole: the device, what this kernel's KVM can do, and what it offers to guests.
//!
//! All ioctls of this crate are in this folder, one file per KVM object. The device is opened once per
//! process and stays open; everything is decided from capabilities and CPUID, nothing from the kind of KVM.

mod vcpu;
mod vm;

use std::io;
use std::sync::OnceLock;

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_sregs,
};
use kvm_ioctls::Cap;

use crate::Error;

pub(crate) use vcpu::{Registers, Vcpu, VmExit};
pub(crate) use vm::Vm;

/// The open device.
#[derive(Debug)]
pub(crate) struct Kvm {
    device: kvm_ioctls::Kvm,
    cpuid: CpuId,
    features: Features,
    /// What every vCPU says of itself: system registers before anybody has set them, TSC ticks per millisecond.
    vcpu_constants: OnceLock<(kvm_sregs, u64)>,
}

/// What the guest's control registers switch on, from the CPUID that KVM supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// CR4.
    pub(crate) cr4: u64,
    /// XCR0, `None` without XSAVE.
    pub(crate) xcr0: Option<u64>,
    /// Whether the TSC runs at one rate always (APM vol. 3, Fn8000_0007 EDX\[8\]).
    pub(crate) tsc_is_invariant: bool,
}

impl Kvm {
    /// The process's KVM, opened at the first call.
    ///
    /// # Errors
    ///
    /// [`Error::OpenKvm`], [`Error::KvmApiVersion`], [`Error::MissingCapability`],
    /// [`Error::SupportedCpuid`], [`Error::MissingCpuFeature`]. Tried again at the next call.
    pub(crate) fn get() -> Result<&'static Self, Error> {
        static KVM: OnceLock<Kvm> = OnceLock::new();
        if let Some(kvm) = KVM.get() {
            return Ok(kvm);
        }
        let kvm = Self::open()?;
        Ok(KVM.get_or_init(|| kvm))
    }

    fn open() -> Result<Self, Error> {
        let device = kvm_ioctls::Kvm::new().map_err(|e| Error::OpenKvm(io_error(e)))?;
        let found = device.get_api_version();
        if u32::try_from(found) != Ok(KVM_API_VERSION) {
            return Err(Error::KvmApiVersion { found });
        }
        let needed = [
            (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
            (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
            (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
        ];
        if let Some((_, name)) = needed.iter().find(|(cap, _)| !device.check_extension(*cap)) {
            return Err(Error::MissingCapability { name });
        }
        let wanted = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        let found = u32::try_from(device.check_extension_int(Cap::SyncRegs)).unwrap_or(0);
        if found & wanted != wanted {
            return Err(Error::MissingCapability { name: "KVM_CAP_SYNC_REGS" });
        }
        let cpuid = device
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|e| Error::SupportedCpuid(io_error(e)))?;
        let features = Features::of(&cpuid)?;
        Ok(Self { device, cpuid, features, vcpu_constants: OnceLock::new() })
    }

    /// Makes a virtual machine.
    ///
    /// # Errors
    ///
    /// [`Error::CreateVm`].
    pub(crate) fn create_vm(&self) -> Result<Vm, Error> {
        self.device.create_vm().map(Vm::new).map_err(|e| Error::CreateVm(io_error(e)))
    }

    /// All the CPUID that KVM supports; every guest gets it.
    pub(crate) const fn cpuid(&self) -> &CpuId {
        &self.cpuid
    }

    /// What every vCPU says of itself, asked of the first.
    fn vcpu_constants(
        &self,
        ask: impl FnOnce() -> Result<(kvm_sregs, u64), Error>,
    ) -> Result<(kvm_sregs, u64), Error> {
        if let Some(constants) = self.vcpu_constants.get() {
            return Ok(*constants);
        }
        let constants = ask()?;
        Ok(*self.vcpu_constants.get_or_init(|| constants))
    }

    /// What guests may switch on.
    pub(crate) const fn features(&self) -> Features {
        self.features
    }
}

/// What a snapshot depends on beside the guest image and the program, in bytes for a digest: this build, the
/// kernel, and the CPU that its KVM offers.
///
/// # Errors
///
/// As [`Shell::new`](crate::Shell::new) where KVM cannot be used.
pub fn machine_identity() -> Result<Vec<u8>, Error> {
    let kvm = Kvm::get()?;
    let kernel = rustix::system::uname();
    let mut identity = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
    identity.extend(abi::ABI_VERSION.to_le_bytes());
    identity.extend([kernel.release().to_bytes(), kernel.version().to_bytes()].concat());
    for entry in kvm.cpuid().as_slice() {
        // Numbers of the CPU that was asked, not of its kind (SDM vol. 2, CPUID).
        let ebx = if entry.function == 1 { entry.ebx & 0x00ff_ffff } else { entry.ebx };
        let is_topology = matches!(entry.function, 0xb | 0x1f | 0x8000_001e);
        let values = if is_topology { [0; 4] } else { [entry.eax, ebx, entry.ecx, entry.edx] };
        for value in [entry.function, entry.index].into_iter().chain(values) {
            identity.extend(value.to_le_bytes());
        }
    }
    Ok(identity)
}

// Bits of CR4 (SDM vol. 3, 2.5).
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_SMEP: u64 = 1 << 20;

impl Features {
    /// Reads CPUID (SDM vol. 2, CPUID; APM vol. 3, appendix E). SMAP stays off: the exception stubs write
    /// to a page of ring 3.
    fn of(cpuid: &CpuId) -> Result<Self, Error> {
        let leaf = |function: u32, index: u32| {
            let found =
                cpuid.as_slice().iter().find(|e| (e.function, e.index) == (function, index));
            found.copied().unwrap_or_default()
        };
        let (basic, structured, state) = (leaf(1, 0), leaf(7, 0), leaf(0xd, 0));
        let (extended, power) = (leaf(0x8000_0001, 0), leaf(0x8000_0007, 0));
        let needed = [
            (basic.edx >> 24 & 1, "FXSR"),
            (basic.edx >> 26 & 1, "SSE2"),
            (extended.edx >> 20 & 1, "NX"),
            (extended.edx >> 29 & 1, "long mode"),
        ];
        if let Some((_, name)) = needed.iter().find(|(bit, _)| *bit == 0) {
            return Err(Error::MissingCpuFeature { name });
        }
        let has_xsave = basic.ecx >> 26 & 1 == 1;
        let optional = [
            (has_xsave, CR4_OSXSAVE),
            (structured.ebx & 1 == 1, CR4_FSGSBASE),
            (structured.ebx >> 7 & 1 == 1, CR4_SMEP),
            (structured.ecx >> 2 & 1 == 1, CR4_UMIP),
        ];
        let fixed = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
        let cr4 = optional.iter().filter(|(has, _)| *has).fold(fixed, |cr4, (_, bit)| cr4 | bit);
        let xcr0 = u64::from(state.edx) << 32 | u64::from(state.eax);
        Ok(Self { cr4, xcr0: has_xsave.then_some(xcr0), tsc_is_invariant: power.edx >> 8 & 1 == 1 })
    }
}

/// The error of an ioctl in the standard library's type.
fn io_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;

    use super::*;

    fn cpuid(entries: &[(u32, [u32; 4])]) -> CpuId {
        let entries: Vec<_> = entries
            .iter()
            .map(|&(function, [eax, ebx, ecx, edx])| kvm_cpuid_entry2 {
                function,
                eax,
                ebx,
                ecx,
                edx,
                ..Default::default()
            })
            .collect();
        CpuId::from_entries(&entries).unwrap()
    }

    const BASIC: (u32, [u32; 4]) = (1, [0, 0, 0, 1 << 24 | 1 << 26]);
    const EXTENDED: (u32, [u32; 4]) = (0x8000_0001, [0, 0, 0, 1 << 20 | 1 << 29]);

    #[test]
    fn a_plain_processor_gets_the_fixed_bits_only() {
        let features = Features::of(&cpuid(&[BASIC, EXTENDED])).unwrap();
        let expected = Features { cr4: 0x620, xcr0: None, tsc_is_invariant: false };
        assert_eq!(features, expected);
    }

    #[test]
    fn optional_features_follow_cpuid() {
        let basic = (1, [0, 0, 1 << 26, BASIC.1[3]]);
        let entries = [
            basic,
            EXTENDED,
            (7, [0, 1 | 1 << 7, 1 << 2, 0]),
            (0xd, [0xe7, 0, 0, 1]),
            (0x8000_0007, [0, 0, 0, 1 << 8]),
        ];
        let features = Features::of(&cpuid(&entries)).unwrap();
        assert_eq!(features.cr4, 0x620 | CR4_OSXSAVE | CR4_FSGSBASE | CR4_SMEP | CR4_UMIP);
        assert_eq!(features.xcr0, Some(0x1_0000_00e7));
        assert!(features.tsc_is_invariant);
    }

    #[test]
    fn a_processor_without_nx_is_refused_by_name() {
        let error = Features::of(&cpuid(&[BASIC, (0x8000_0001, [0, 0, 0, 1 << 29])])).unwrap_err();
        assert!(matches!(error, Error::MissingCpuFeature { name: "NX" }));
    }
}
