//! The instructions that guests can execute, by the names that compilers know the features by.
//!
//! Rule: a CPUID without a feature's bit does not keep a guest from executing its instructions; what does
//! is a register state that the guest cannot switch on in XCR0 (SDM vol. 1, 13.3 and 14.3; APM vol. 2,
//! 11.5). So of what this CPU has, guests lack what needs a state that KVM does not list in leaf 0xd. The
//! other leaves say less than guests have on a KVM without VT-x and SVM: one such lists neither SSE3 nor
//! XSAVE, and all of AVX-512 runs.

use kvm_bindings::CpuId;

use crate::Error;
use crate::kvm::Kvm;

/// Features without a state of their own beside that of SSE2, which every guest has.
const STATELESS: [&str; 9] =
    ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cmpxchg16b", "bmi1", "bmi2", "lzcnt"];
/// Features of 256-bit registers, in XCR0 with those of x87 and SSE.
const AVX: [&str; 4] = ["avx", "avx2", "fma", "avxvnni"];
const AVX_STATE: u64 = 0b111;
/// Features of 512-bit and mask registers, which are three more states.
const AVX512: [&str; 7] =
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni", "avx512bitalg"];
const AVX512_STATE: u64 = AVX_STATE | 0b1110_0000;

/// What guests of this machine can execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFeatures {
    /// The states that guests can switch on.
    xcr0: u64,
}

/// What guests of this machine can execute.
///
/// # Errors
///
/// [`Error::OpenKvm`] and the others of a machine that cannot run guests.
pub fn cpu_features() -> Result<CpuFeatures, Error> {
    Ok(CpuFeatures::of(Kvm::get()?.cpuid()))
}

impl CpuFeatures {
    fn of(cpuid: &CpuId) -> Self {
        let states = cpuid.as_slice().iter().find(|it| (it.function, it.index) == (0xd, 0));
        let xcr0 = states.map_or(0, |states| u64::from(states.edx) << 32 | u64::from(states.eax));
        Self { xcr0 }
    }

    /// Whether guests can execute the instructions of the feature that `is_x86_feature_detected!` calls
    /// `name`, if this CPU has it. `None` for a name that is not known here.
    #[must_use]
    pub fn has(&self, name: &str) -> Option<bool> {
        let features = [(&STATELESS[..], 0), (&AVX, AVX_STATE), (&AVX512, AVX512_STATE)];
        let (_, state) = features.into_iter().find(|(names, _)| names.contains(&name))?;
        Some(self.xcr0 & state == state)
    }
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;

    use super::*;

    /// What guests have where KVM lists these states and no other leaf.
    fn with_states(eax: u32) -> CpuFeatures {
        let states = kvm_cpuid_entry2 { function: 0xd, eax, ..Default::default() };
        CpuFeatures::of(&CpuId::from_entries(&[states]).unwrap())
    }

    #[test]
    fn wide_registers_need_their_states() {
        for (states, avx, avx512) in
            [(0, false, false), (0b11, false, false), (0b111, true, false), (0xe7, true, true)]
        {
            let features = with_states(states);
            assert_eq!(features.has("avx2"), Some(avx), "{states:#x}");
            assert_eq!(features.has("avx512f"), Some(avx512), "{states:#x}");
        }
    }

    #[test]
    fn what_has_no_state_of_its_own_cannot_be_withheld() {
        let features = CpuFeatures::of(&CpuId::new(0).unwrap());
        assert_eq!((features.has("sse4.1"), features.has("avx")), (Some(true), Some(false)));
    }

    #[test]
    fn a_name_that_is_no_feature_is_not_known() {
        assert_eq!(with_states(0xe7).has("avx1024"), None);
    }
}
