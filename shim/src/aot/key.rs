//! The name of a program in the cache: a digest of all that its bytes depend on.
//!
//! Rule: if two programs could differ, their keys do. [`settings`] has Wasmtime's version, the engine's
//! settings and the CPU features that code is generated for; the ABI and the artifact's digest come on top.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::Wasm;
use super::entry::Kind;
use super::trailer::MAGIC;
use super::wasm::hex;
use crate::compile::{Refusal, settings};

/// The key of one program on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of what `wasm` is compiled to on this machine, by this version.
    pub(super) fn of(wasm: &Wasm) -> Result<Self, Refusal> {
        let mut digest = Sha256::new();
        digest.update(digest_of_settings()?);
        digest.update(wasm.sha256());
        Ok(Self(digest.finalize().into()))
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

/// Digest of everything but the artifact. Computed once: the compiler takes a moment to build.
fn digest_of_settings() -> Result<[u8; 32], Refusal> {
    static DIGEST: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(digest) = DIGEST.get() {
        return Ok(*digest);
    }
    let mut digest = Sha256::new();
    // A file of another form has another name.
    digest.update(MAGIC);
    // Wasmtime writes its major version only.
    digest.update(abi::engine::WASMTIME_VERSION);
    digest.update(abi::ABI_VERSION.to_le_bytes());
    digest.update(settings()?);
    Ok(*DIGEST.get_or_init(|| digest.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wasm(bytes: &[u8]) -> Wasm {
        Wasm::from_bytes("test.wasm", bytes).unwrap()
    }

    #[test]
    fn the_same_bytes_have_the_same_key_whatever_they_are_called() {
        let other_name = Wasm::from_bytes("other.wasm", b"a").unwrap();
        assert_eq!(Key::of(&wasm(b"a")).unwrap(), Key::of(&other_name).unwrap());
    }

    #[test]
    fn other_bytes_have_another_key() {
        assert_ne!(Key::of(&wasm(b"a")).unwrap(), Key::of(&wasm(b"b")).unwrap());
    }

    #[test]
    fn the_pinned_version_of_wasmtime_is_that_of_the_contract() {
        let manifest = include_str!("../../Cargo.toml");
        let pin = format!("version = \"={}\"", abi::engine::WASMTIME_VERSION);
        assert!(manifest.lines().any(|it| it.starts_with("wasmtime ") && it.contains(&pin)));
    }
}
