//! The features of the CPU that guests can have, by the names that compilers know them by.
//!
//! Rule: a guest gets the CPUID that KVM supports and the register state (XCR0) that goes with it, so
//! that is what decides, not the CPU that this process sees: KVM, and a hypervisor below it, may offer
//! less.

use kvm_bindings::CpuId;

use crate::Error;
use crate::kvm::Kvm;

/// A register of CPUID.
#[derive(Clone, Copy, Debug)]
enum Register {
    Eax,
    Ebx,
    Ecx,
}

/// Feature, leaf and index of CPUID, register, bit, and the bits of XCR0 without which its registers
/// cannot be used (SDM vol. 2, CPUID; vol. 1, 13.3; APM vol. 3, appendix E).
type Row = (&'static str, u32, u32, Register, u32, u64);

/// x87, SSE and AVX state.
const AVX: u64 = 0b111;
/// And the three parts of AVX-512 state.
const AVX512: u64 = AVX | 0b1110_0000;

const ROWS: [Row; 20] = [
    ("sse3", 1, 0, Register::Ecx, 0, 0),
    ("ssse3", 1, 0, Register::Ecx, 9, 0),
    ("fma", 1, 0, Register::Ecx, 12, AVX),
    ("cmpxchg16b", 1, 0, Register::Ecx, 13, 0),
    ("sse4.1", 1, 0, Register::Ecx, 19, 0),
    ("sse4.2", 1, 0, Register::Ecx, 20, 0),
    ("popcnt", 1, 0, Register::Ecx, 23, 0),
    ("avx", 1, 0, Register::Ecx, 28, AVX),
    ("bmi1", 7, 0, Register::Ebx, 3, 0),
    ("avx2", 7, 0, Register::Ebx, 5, AVX),
    ("bmi2", 7, 0, Register::Ebx, 8, 0),
    ("avx512f", 7, 0, Register::Ebx, 16, AVX512),
    ("avx512dq", 7, 0, Register::Ebx, 17, AVX512),
    ("avx512bw", 7, 0, Register::Ebx, 30, AVX512),
    ("avx512vl", 7, 0, Register::Ebx, 31, AVX512),
    ("avx512vbmi", 7, 0, Register::Ecx, 1, AVX512),
    ("avx512vnni", 7, 0, Register::Ecx, 11, AVX512),
    ("avx512bitalg", 7, 0, Register::Ecx, 12, AVX512),
    ("avxvnni", 7, 1, Register::Eax, 4, AVX),
    ("lzcnt", 0x8000_0001, 0, Register::Ecx, 5, 0),
];

/// What guests have.
#[derive(Clone, Copy, Debug)]
pub struct CpuFeatures(&'static CpuId);

/// What guests of this machine have.
///
/// # Errors
///
/// [`Error::OpenKvm`] and the others of a machine that cannot run guests.
pub fn cpu_features() -> Result<CpuFeatures, Error> {
    Ok(CpuFeatures(Kvm::get()?.cpuid()))
}

impl CpuFeatures {
    /// Whether guests have the feature that `is_x86_feature_detected!` calls `name`. `None` for a name
    /// that is not known here.
    #[must_use]
    pub fn has(&self, name: &str) -> Option<bool> {
        has(self.0, name)
    }
}

fn has(cpuid: &CpuId, name: &str) -> Option<bool> {
    let (_, function, index, register, bit, state) = *ROWS.iter().find(|row| row.0 == name)?;
    let leaf = |function: u32, index: u32| {
        let found = cpuid.as_slice().iter().find(|it| (it.function, it.index) == (function, index));
        found.copied().unwrap_or_default()
    };
    let found = leaf(function, index);
    let register = match register {
        Register::Eax => found.eax,
        Register::Ebx => found.ebx,
        Register::Ecx => found.ecx,
    };
    let states = leaf(0xd, 0);
    let xcr0 = u64::from(states.edx) << 32 | u64::from(states.eax);
    Some(register >> bit & 1 == 1 && xcr0 & state == state)
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;

    use super::*;

    fn entry(function: u32, eax: u32, ebx: u32, ecx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, eax, ebx, ecx, ..Default::default() }
    }

    #[test]
    fn a_feature_is_there_if_its_bit_is() {
        let cpuid = CpuId::from_entries(&[entry(1, 0, 0, 1 << 9)]).unwrap();
        assert_eq!(has(&cpuid, "ssse3"), Some(true));
        assert_eq!(has(&cpuid, "sse3"), Some(false));
        assert_eq!(has(&cpuid, "lzcnt"), Some(false));
        assert_eq!(has(&cpuid, "no feature"), None);
    }

    #[test]
    fn a_feature_without_the_state_of_its_registers_is_not_there() {
        let features = [entry(1, 0, 0, 1 << 28), entry(7, 0, 1 << 16, 0)];
        let with_state = |eax| {
            let entries = [&features[..], &[entry(0xd, eax, 0, 0)]].concat();
            let cpuid = CpuId::from_entries(&entries).unwrap();
            (has(&cpuid, "avx").unwrap(), has(&cpuid, "avx512f").unwrap())
        };
        assert_eq!(with_state(0b11), (false, false));
        assert_eq!(with_state(0b111), (true, false));
        assert_eq!(with_state(0b1110_0111), (true, true));
    }

    #[test]
    fn names_are_listed_once() {
        for (i, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..i].iter().all(|other| other.0 != row.0), "{}", row.0);
        }
    }
}
