//! The CPU that programs are compiled for: the one that guests get.
//!
//! Rule: the compiler finds out by itself what the CPU under this process has. What of it guests cannot
//! execute is [`Withheld`], and is turned off: the guest does not ask, and an instruction that it does not
//! have would end a program in the middle. Where there is no KVM, nothing runs either, and the program
//! is compiled for this CPU.
#![expect(unsafe_code, reason = "Wasmtime's setter of compiler flags")]
// UNSAFETY: Config::cranelift_flag_set is unsafe because a flag may say that the CPU has what it has not.

use std::fmt;
use std::str::FromStr;

use wasmtime::Config;

/// What the compiler makes use of: Cranelift's flag, and the name that the feature has elsewhere.
const FEATURES: &[(&str, &str)] = if cfg!(target_arch = "x86_64") { X86_64 } else { &[] };

const X86_64: &[(&str, &str)] = &[
    ("has_cmpxchg16b", "cmpxchg16b"),
    ("has_sse3", "sse3"),
    ("has_ssse3", "ssse3"),
    ("has_sse41", "sse4.1"),
    ("has_sse42", "sse4.2"),
    ("has_popcnt", "popcnt"),
    ("has_avx", "avx"),
    ("has_avx2", "avx2"),
    ("has_fma", "fma"),
    ("has_avx_vnni", "avxvnni"),
    ("has_avx512vnni", "avx512vnni"),
    ("has_bmi1", "bmi1"),
    ("has_bmi2", "bmi2"),
    ("has_avx512bitalg", "avx512bitalg"),
    ("has_avx512dq", "avx512dq"),
    ("has_avx512f", "avx512f"),
    ("has_avx512vl", "avx512vl"),
    ("has_avx512vbmi", "avx512vbmi"),
    ("has_lzcnt", "lzcnt"),
];

/// Features that guests do not have even if the CPU has: a bit for each of those that the compiler
/// makes use of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withheld(u32);

impl Withheld {
    /// What KVM withholds on this machine.
    ///
    /// # Errors
    ///
    /// Those of [`vmm::cpu_features`]: KVM cannot be asked, or cannot run guests.
    pub(crate) fn by_kvm() -> Result<Self, vmm::Error> {
        let offered = vmm::cpu_features()?;
        Ok(Self::of(|name| offered.has(name) == Some(false)))
    }

    fn of(is_withheld: impl Fn(&str) -> bool) -> Self {
        let bits = FEATURES.iter().enumerate();
        let bits = bits.map(|(bit, (_, name))| u32::from(is_withheld(name)) << bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// Turns them off.
    pub(super) fn apply(self, config: &mut Config) {
        for (bit, (flag, _)) in FEATURES.iter().enumerate() {
            if self.0 >> bit & 1 == 1 {
                // SAFETY: the value is always false; code that does without a feature runs anywhere.
                unsafe { config.cranelift_flag_set(flag, "false") };
            }
        }
    }
}

/// As it is among the arguments of a child: the names, or `none`.
impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = FEATURES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        let names: Vec<_> = names.map(|(_, (_, name))| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// A name that is no feature's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no feature of this CPU that the compiler knows")]
pub struct UnknownFeature(String);

impl FromStr for Withheld {
    type Err = UnknownFeature;

    fn from_str(text: &str) -> Result<Self, UnknownFeature> {
        let names: Vec<_> = text.split(',').filter(|_| text != "none").collect();
        match names.iter().find(|name| FEATURES.iter().all(|feature| feature.1 != **name)) {
            Some(unknown) => Err(UnknownFeature((*unknown).to_owned())),
            None => Ok(Self::of(|name| names.contains(&name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::settings;

    #[test]
    fn what_is_withheld_passes_through_the_arguments_of_a_child() {
        for text in ["none", "sse3", "avx,avx2,lzcnt"] {
            assert_eq!(text.parse::<Withheld>().unwrap().to_string(), text);
        }
        assert_eq!("mmx".parse::<Withheld>(), Err(UnknownFeature("mmx".to_owned())));
    }

    #[test]
    fn each_feature_can_be_withheld_and_makes_other_programs() {
        let all = settings(Withheld::of(|_| true)).unwrap();
        for (_, name) in FEATURES {
            // The settings are written into each program.
            assert!(settings(Withheld::of(|it| it == *name)).is_ok(), "{name}");
        }
        assert_ne!(all, settings(Withheld::default()).unwrap());
    }

    #[test]
    fn kvm_withholds_nothing_that_it_was_not_asked_for() {
        let Ok(withheld) = Withheld::by_kvm() else {
            assert_ne!(std::env::var_os("REQUIRE_KVM").as_deref(), Some("1".as_ref()));
            eprintln!("skipped: no /dev/kvm");
            return;
        };
        let unknown = FEATURES
            .iter()
            .find(|(_, name)| vmm::cpu_features().is_ok_and(|offered| offered.has(name).is_none()));
        assert_eq!(unknown, None, "a feature that vmm does not know");
        assert_eq!(withheld.to_string().parse(), Ok(withheld));
    }
}
