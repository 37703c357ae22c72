//! C and Rust, by Debian's compilers and the linkers that rustup's toolchain has for wasm.
//!
//! Compiling and linking are separate steps for C: the compiler then needs no other program, and each
//! world takes the linker that writes it (`wasm-component-ld` for 0.2, which calls `wasm-ld`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};

use super::{Build, handler};
use crate::leaks::NOT_WATCHED;
use crate::process;
use crate::tools::Tree;

/// Changes with what the functions here do, so that nothing old is used.
pub(super) const RECIPE: &str = "1";

/// Builds a C or Rust source.
pub(super) fn build(
    tree: &Tree,
    source: &Path,
    build: Build,
    flags: &[String],
    work: &Path,
) -> Result<Vec<u8>> {
    let output = work.join("program.wasm");
    let world = if matches!(build, Build::CP2 | Build::RustP2) { "wasip2" } else { "wasip1" };
    let linkers = Linkers::find()?;
    if matches!(build, Build::RustP1 | Build::RustP2) {
        let mut rustc = tree.script("rustc")?;
        rustc
            .args(["--edition", "2024", "-O", "-D", "warnings", "-C", "strip=debuginfo"])
            .args(["--target", &format!("wasm32-{world}"), "-C"])
            .arg(linkers.option(world))
            .args(flags)
            .arg("-o")
            .args([&output, source]);
        linkers.prepare(&mut rustc)?;
        process::run(&mut rustc)?.success()?;
    } else {
        let is_handler = fs::read_to_string(source)
            .with_context(|| format!("read {}", source.display()))?
            .contains(handler::HANDLES);
        // What begins so is for the linker.
        let (link, compile): (Vec<_>, Vec<_>) =
            flags.iter().partition(|flag| flag.starts_with("-l"));
        let compile = |source: &Path, object: &Path, warnings: &[&str]| {
            let mut clang = tree.script("clang")?;
            clang.args(["-O2", "-c"]).args(warnings).arg(format!("--target=wasm32-{world}"));
            clang.arg("-I").arg(work).args(&compile).arg("-o").args([object, source]);
            process::run(&mut clang)?.success()
        };
        let mut objects = vec![work.join("program.o")];
        let (start, entry) = match is_handler {
            true => {
                handler::write_bindings(work)?;
                objects.extend([work.join("bindings.o"), work.join(handler::TYPE)]);
                compile(&work.join("program.c"), &objects[1], &[])?;
                ("crt1-reactor.o", &["--entry", "_initialize"][..])
            }
            false => ("crt1-command.o", &[][..]),
        };
        compile(source, &objects[0], &["-Wall", "-Wextra", "-Werror"])?;
        let library = tree.file(&[&format!("usr/lib/wasm32-{world}")])?;
        let mut linker = Command::new(linkers.linker(world));
        linker
            .args(["-m", "wasm32", "-L"])
            .arg(&library)
            .arg(library.join(start))
            .args(entry)
            .args(&objects)
            .args(link)
            .arg("-lc")
            .arg(compiler_runtime(tree)?)
            .arg("-o")
            .arg(&output);
        linkers.prepare(&mut linker)?;
        process::run(&mut linker)?.success()?;
    }
    let bytes = fs::read(&output).with_context(|| format!("read {}", output.display()))?;
    if build == Build::CAdapted { componentize(&bytes) } else { Ok(bytes) }
}

/// Makes a component of a core module that uses WASI preview 1.
fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    wit_component::ComponentEncoder::default()
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .validate(true)
        .encode()
}

/// What clang calls for operations that wasm has not: of the one version in the tree.
fn compiler_runtime(tree: &Tree) -> Result<PathBuf> {
    let versions = tree.file(&["usr/lib/clang"])?;
    let mut found = fs::read_dir(&versions)
        .with_context(|| format!("list {}", versions.display()))?
        .filter_map(|entry| {
            let library = entry.ok()?.path().join("lib/wasi/libclang_rt.builtins-wasm32.a");
            library.exists().then_some(library)
        });
    found.next().with_context(|| format!("no libclang_rt.builtins-wasm32.a in {versions:?}"))
}

/// The directory of rustup's linkers.
struct Linkers(PathBuf);

impl Linkers {
    fn find() -> Result<Self> {
        let sysroot =
            process::run(Command::new("rustc").args(["--print", "sysroot"]))?.success()?;
        let host = "lib/rustlib/x86_64-unknown-linux-gnu/bin";
        Ok(Self(PathBuf::from(sysroot.trim_end()).join(host)))
    }

    fn linker(&self, world: &str) -> PathBuf {
        self.0.join(if world == "wasip2" { "wasm-component-ld" } else { "gcc-ld/wasm-ld" })
    }

    /// For rustc, which tells `rust-lld` for what to link.
    fn option(&self, world: &str) -> OsString {
        let linker = if world == "wasip2" { "wasm-component-ld" } else { "rust-lld" };
        let mut option = OsString::from("linker=");
        option.push(self.0.join(linker));
        option
    }

    /// Adds their directory to the path of a command: `wasm-component-ld` looks for `wasm-ld` there.
    fn prepare(&self, command: &mut Command) -> Result<()> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = [self.0.join("gcc-ld")].into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(places).context("extend PATH")?);
        command.env(NOT_WATCHED, "1");
        Ok(())
    }
}
