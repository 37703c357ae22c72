//! The name of a program in the cache: a digest of all that its bytes depend on.
//!
//! Rule: if two programs could differ, their keys do. [`settings`] has Wasmtime's version, the engine's
//! settings and the CPU features that code is generated for, which are those that guests can use;
//! the ABI and the artifact's digest come on top. So a program from another version or CPU is none here.
//!
//! Asking the compiler and KVM takes a millisecond, which is remembered like the [`digests`] of files:
//! for this boot, this executable, and `/dev/kvm` as it is.

use std::fs::File;
use std::sync::OnceLock;

use rustix::fs::stat;
use sha2::{Digest, Sha256};

use super::entry::Kind;
use super::identity::{Identity, is_settled};
use super::trailer::MAGIC;
use super::wasm::hex;
use super::{Wasm, digests};
use crate::compile::{Refusal, Withheld, settings};

/// The key of one program on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of what `wasm` is compiled to on this machine, by this version. `dir` is the cache
    /// directory, if there is one.
    pub(super) fn of(wasm: &Wasm, dir: Option<&File>) -> Result<Self, Refusal> {
        static SETTINGS: OnceLock<[u8; 32]> = OnceLock::new();
        let settings = match SETTINGS.get() {
            Some(settings) => *settings,
            None => {
                let settings = known_digest_of_settings(dir)?;
                *SETTINGS.get_or_init(|| settings)
            }
        };
        let mut digest = Sha256::new();
        digest.update(settings);
        digest.update(wasm.sha256());
        Ok(Self(digest.finalize().into()))
    }

    /// The key of the guest image with this digest.
    pub(super) fn of_image(digest: &str) -> Self {
        Self(Sha256::new().chain_update("guest image").chain_update(digest).finalize().into())
    }

    /// A key that comes from no program.
    #[cfg(test)]
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Name of a file of this key.
    pub(super) fn name(&self, kind: Kind) -> String {
        format!("{}.{}", self.stem(), kind.extension())
    }

    /// What the names of all its files begin with.
    pub(super) fn stem(&self) -> String {
        hex(&self.0)
    }
}

/// What of this CPU guests do not have; nothing where there is no KVM to say so. Asked once.
pub(super) fn withheld() -> Withheld {
    ask_kvm().unwrap_or_default()
}

fn ask_kvm() -> Option<Withheld> {
    static WITHHELD: OnceLock<Option<Withheld>> = OnceLock::new();
    *WITHHELD.get_or_init(|| {
        let asked = Withheld::by_kvm();
        asked.inspect_err(|error| log::debug!("ask KVM for features: {error}")).ok()
    })
}

/// [`digest_of_settings`], from the cache directory `dir` if it was computed before, else computed and
/// remembered there.
fn known_digest_of_settings(dir: Option<&File>) -> Result<[u8; 32], Refusal> {
    let Some((dir, (identity, is_settled))) = dir.zip(machine()) else {
        return digest_of_settings(withheld());
    };
    if let Some(digest) = digests::recall(dir, &identity) {
        return Ok(digest);
    }
    let digest = digest_of_settings(withheld())?;
    // KVM may answer another time.
    if is_settled && ask_kvm().is_some() {
        digests::remember(dir, &identity, &digest);
    }
    Ok(digest)
}

/// What the settings depend on as long as this boot lasts, and whether it has settled.
fn machine() -> Option<(Identity, bool)> {
    let (executable, kvm) = (stat("/proc/self/exe").ok()?, stat("/dev/kvm").ok()?);
    let mut purpose = b"settings".to_vec();
    purpose.extend(Identity::of(&kvm, b"")?.bytes());
    let identity = Identity::of(&executable, &purpose)?;
    Some((identity, is_settled(&executable) && is_settled(&kvm)))
}

/// Digest of everything but the artifact.
fn digest_of_settings(withheld: Withheld) -> Result<[u8; 32], Refusal> {
    let mut digest = Sha256::new();
    // A file of another form has another name.
    digest.update(MAGIC);
    // Wasmtime writes its major version only.
    digest.update(abi::engine::WASMTIME_VERSION);
    digest.update(abi::ABI_VERSION.to_le_bytes());
    digest.update(settings(withheld)?);
    Ok(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Result<Key, Refusal> {
        Key::of(&Wasm::from_bytes("test.wasm", bytes).unwrap(), None)
    }

    #[test]
    fn the_same_bytes_have_the_same_key_whatever_they_are_called() {
        let other_name = Wasm::from_bytes("other.wasm", b"a").unwrap();
        assert_eq!(key(b"a").unwrap(), Key::of(&other_name, None).unwrap());
    }

    #[test]
    fn other_bytes_have_another_key() {
        assert_ne!(key(b"a").unwrap(), key(b"b").unwrap());
    }

    #[test]
    fn another_set_of_cpu_features_has_another_digest() {
        let all = digest_of_settings(Withheld::default()).unwrap();
        for features in ["sse4.1", "popcnt"] {
            assert_ne!(digest_of_settings(features.parse().unwrap()).unwrap(), all, "{features}");
        }
    }

    #[test]
    fn remembered_settings_are_those_that_were_computed() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        let computed = digest_of_settings(withheld()).unwrap();
        for _ in 0..2 {
            assert_eq!(known_digest_of_settings(Some(&dir)).unwrap(), computed);
        }
        let Some((identity, true)) = machine() else {
            eprintln!("skipped: no /dev/kvm, or an executable of this moment");
            return;
        };
        assert_eq!(digests::recall(&dir, &identity), ask_kvm().map(|_| computed));
    }

    #[test]
    fn the_pinned_version_of_wasmtime_is_that_of_the_contract() {
        let manifest = include_str!("../../Cargo.toml");
        let pin = format!("version = \"={}\"", abi::engine::WASMTIME_VERSION);
        assert!(manifest.lines().any(|it| it.starts_with("wasmtime ") && it.contains(&pin)));
    }
}
