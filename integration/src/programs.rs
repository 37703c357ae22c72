//! The test programs, built from their source: component text by `wat`, C by Debian's clang and
//! wasi-libc, made a component by `wit-component` and Wasmtime's preview1 adapter.
//!
//! A `.wat` is used exactly as it is written, so a broken program can be tested too. Results lie in
//! cargo's target directory under a name that holds the digest of the source; a program that is there
//! is not built again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};

use crate::{oci, process, target_directory, tools, workspace};

/// Directory of the test programs' sources.
#[must_use]
pub fn directory() -> PathBuf {
    workspace().join("integration/programs")
}

/// The test program `name` as a `.wasm` file.
///
/// # Errors
///
/// There is no such program, or it cannot be built.
pub fn program(name: &str) -> Result<PathBuf> {
    for extension in ["wat", "c"] {
        let source = directory().join(name).with_extension(extension);
        if source.exists() {
            return build(&source);
        }
    }
    bail!("no {name}.wat or {name}.c in {}", directory().display())
}

/// Builds the `.wat` or `.c` file `source`.
///
/// # Errors
///
/// It cannot be built; the compiler's words are in the error.
pub fn build(source: &Path) -> Result<PathBuf> {
    let text = fs::read(source).with_context(|| format!("read {}", source.display()))?;
    let stem = source.file_stem().context("a source without a name")?.to_string_lossy();
    let is_c = source.extension().is_some_and(|extension| extension == "c");
    let digest = oci::digest(&text);
    let built = target_directory().join("programs");
    let wasm = built.join(format!("{stem}-{}.wasm", &digest["sha256:".len()..][..16]));
    if wasm.exists() {
        return Ok(wasm);
    }
    fs::create_dir_all(&built).with_context(|| format!("create {}", built.display()))?;
    let bytes = if is_c {
        componentize(&compile_c(source, &wasm.with_extension("core"))?)
    } else {
        wat::parse_bytes(&text).map(std::borrow::Cow::into_owned).map_err(Into::into)
    };
    // Tests build at once: each writes a file of its own, the name appears when it is whole.
    let partial = wasm.with_extension(format!("{:?}", std::thread::current().id()));
    fs::write(&partial, bytes.with_context(|| format!("build {}", source.display()))?)
        .and_then(|()| fs::rename(&partial, &wasm))
        .with_context(|| format!("write {}", wasm.display()))?;
    Ok(wasm)
}

fn compile_c(source: &Path, output: &Path) -> Result<Vec<u8>> {
    let tree = tools::tree("wasm-cc")?;
    let clang = fs::read_dir(tree.root().join("usr/bin")).context("list the C compiler")?;
    let clang = clang
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| {
            name.strip_prefix("clang-").is_some_and(|version| version.parse::<u32>().is_ok())
        })
        .context("no clang-VERSION among the unpacked programs")?;
    let output = output.with_extension(format!("{:?}", std::thread::current().id()));
    let mut command = tree.command(&clang)?;
    command
        .args(["--target=wasm32-wasi", "-O2", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("--sysroot={}", tree.root().join("usr").display()))
        .arg("-o")
        .args([&output, source]);
    process::run(&mut command)?.success()?;
    let module = fs::read(&output).with_context(|| format!("read {}", output.display()))?;
    fs::remove_file(&output).with_context(|| format!("remove {}", output.display()))?;
    ensure!(!module.is_empty(), "{clang} wrote nothing");
    Ok(module)
}

/// Makes a component of a core module that uses WASI preview 1.
fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    wit_component::ComponentEncoder::default()
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .validate(true)
        .encode()
}
