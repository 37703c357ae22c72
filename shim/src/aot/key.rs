//! The name of a program in the cache: a digest of all that its bytes depend on.
//!
//! Rule: if two programs could differ, their keys do. [`Compiler::settings`] has Wasmtime's version, the engine's
//! settings and the CPU features that code is generated for, which are those that guests can use;
//! the ABI and the artifact's digest come on top. So a program from another version or CPU is none here.
//!
//! Asking the compiler and KVM takes some milliseconds, so the answer is remembered like the [`digests`] of files:
//! for this boot, this compiler, and `/dev/kvm` as it is.

use std::fs::File;
use std::sync::OnceLock;

use rustix::fs::stat;
use sha2::{Digest, Sha256};

use super::entry::Kind;
use super::identity::{Identity, is_settled};
use super::trailer::MAGIC;
use super::wasm::hex;
use super::{Wasm, digests};
use crate::compile::{CompileError, Compiler, Withheld};

/// The key of one program on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of what `compiler` makes of `wasm` on this machine. `dir` is the cache directory, if there is one.
    pub(super) fn of(
        wasm: &Wasm,
        dir: Option<&File>,
        compiler: &Compiler,
    ) -> Result<Self, CompileError> {
        static SETTINGS: OnceLock<[u8; 32]> = OnceLock::new();
        let settings = match SETTINGS.get() {
            Some(settings) => *settings,
            None => {
                let settings = known_digest_of_settings(dir, compiler)?;
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
fn known_digest_of_settings(
    dir: Option<&File>,
    compiler: &Compiler,
) -> Result<[u8; 32], CompileError> {
    let ask = || Ok::<_, CompileError>(digest_of_settings(&compiler.settings(withheld())?));
    let Some((dir, (identity, is_settled))) = dir.zip(machine(compiler)) else {
        return ask();
    };
    if let Some(digest) = digests::recall(dir, &identity) {
        return Ok(digest);
    }
    let digest = ask()?;
    // KVM may answer another time.
    if is_settled && ask_kvm().is_some() {
        digests::remember(dir, &identity, &digest);
    }
    Ok(digest)
}

/// What the settings depend on as long as this boot lasts, and whether it has settled.
fn machine(compiler: &Compiler) -> Option<(Identity, bool)> {
    let (executable, kvm) = (stat(compiler.file()).ok()?, stat("/dev/kvm").ok()?);
    let mut purpose = b"settings".to_vec();
    purpose.extend(Identity::of(&kvm, b"")?.bytes());
    let identity = Identity::of(&executable, &purpose)?;
    Some((identity, is_settled(&executable) && is_settled(&kvm)))
}

/// Digest of everything but the artifact.
fn digest_of_settings(settings: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    // A file of another form has another name.
    digest.update(MAGIC);
    // Wasmtime writes its major version only.
    digest.update(abi::engine::WASMTIME_VERSION);
    digest.update(abi::ABI_VERSION.to_le_bytes());
    digest.update(settings);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_remembered_are_not_asked_for() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        // It answers nothing.
        let compiler = Compiler::at("/bin/true");
        let known = || known_digest_of_settings(Some(&dir), &compiler);
        let Some((identity, _)) = machine(&compiler) else {
            assert_ne!(std::env::var_os("REQUIRE_KVM").as_deref(), Some("1".as_ref()));
            eprintln!("skipped: no /dev/kvm");
            return;
        };
        assert!(known().is_err());
        digests::remember(&dir, &identity, &[7; 32]);
        assert_eq!(known().unwrap(), [7; 32]);
    }

    #[test]
    fn the_pinned_version_of_wasmtime_is_that_of_the_contract() {
        let manifest = include_str!("../../Cargo.toml");
        let pin = format!("version = \"={}\"", abi::engine::WASMTIME_VERSION);
        assert!(manifest.lines().any(|it| it.starts_with("wasmtime ") && it.contains(&pin)));
    }
}
