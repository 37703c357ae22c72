//! The test programs, built from their source by the toolchains of the field: `programs/NAME.EXTENSION`
//! is one behaviour in one language.
//!
//! A `.wat` is used exactly as it is written, so that a broken program can be tested too. Any other
//! source is built in one or more ways, named LANGUAGE_WORLD: by default in every way that its
//! language has, or in those that its head names in a line `builds: c_p1 c_p2`. A line `flags: ...` there
//! is for the compiler. Results lie in cargo's target directory under a name with the digest of source
//! and toolchain; what is there is not built again, and one program of a language is built at a time.

mod handler;
mod interpreted;
mod native;

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{oci, target_directory, tools, workspace};

/// A way to build a source: its language and the world of the result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Build {
    /// C as a core module for WASI p1.
    CP1,
    /// C as a component for WASI 0.2, by wasi-libc's own target for it.
    CP2,
    /// C as a core module for WASI p1, made a component by Wasmtime's preview1 adapter.
    CAdapted,
    /// Rust as a core module for WASI p1.
    RustP1,
    /// Rust as a component for WASI 0.2.
    RustP2,
    /// Go as a core module for WASI p1.
    GoP1,
    /// JavaScript in StarlingMonkey, a component for WASI 0.2.
    JavaScriptP2,
    /// Python in CPython, a component for WASI 0.2.
    PythonP2,
}

impl Build {
    /// Every way.
    pub const ALL: [Self; 8] = [
        Self::CP1,
        Self::CP2,
        Self::CAdapted,
        Self::RustP1,
        Self::RustP2,
        Self::GoP1,
        Self::JavaScriptP2,
        Self::PythonP2,
    ];

    /// As the heads of sources and the tests name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CP1 => "c_p1",
            Self::CP2 => "c_p2",
            Self::CAdapted => "c_adapted",
            Self::RustP1 => "rs_p1",
            Self::RustP2 => "rs_p2",
            Self::GoP1 => "go_p1",
            Self::JavaScriptP2 => "js_p2",
            Self::PythonP2 => "py_p2",
        }
    }

    /// Extension of its sources.
    #[must_use]
    pub fn extension(self) -> &'static str {
        self.name().split_once('_').map_or("", |(language, _)| language)
    }

    /// Whether the result is a core module for WASI p1, and no component.
    #[must_use]
    pub fn is_core_module(self) -> bool {
        self.name().ends_with("_p1")
    }

    /// The set of tools that builds it.
    fn tools(self) -> &'static str {
        match self {
            Self::CP1 | Self::CP2 | Self::CAdapted | Self::RustP1 | Self::RustP2 => "wasm-native",
            Self::GoP1 => "wasm-go",
            Self::JavaScriptP2 => "wasm-js",
            Self::PythonP2 => "wasm-python",
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Directory of the test programs' sources.
#[must_use]
pub fn directory() -> PathBuf {
    workspace().join("integration/programs")
}

/// Every test program, as [`program`] takes it: the stem of a `.wat`, or STEM.BUILD.
///
/// # Errors
///
/// The directory or a source cannot be read, or a head names no build of its language.
pub fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory()).context("list the programs")? {
        let source = entry.context("list the programs")?.path();
        if source.is_dir() {
            continue;
        }
        let stem = stem(&source)?;
        if source.extension().is_some_and(|extension| extension == "wat") {
            names.push(stem);
        } else {
            let builds = Source::read(&source)?.builds;
            names.extend(builds.iter().map(|build| format!("{stem}.{build}")));
        }
    }
    names.sort();
    Ok(names)
}

/// The test program `name` as a `.wasm` file: the stem of a `.wat`, or STEM.BUILD as in `cat.rs_p1`.
///
/// # Errors
///
/// There is no such program, or it cannot be built.
pub fn program(name: &str) -> Result<PathBuf> {
    let Some((stem, build)) = name.split_once('.') else {
        return assemble(&directory().join(name).with_extension("wat"));
    };
    let build = Build::ALL.into_iter().find(|it| it.name() == build);
    let build = build.with_context(|| format!("'{name}' names no way to build"))?;
    let source = directory().join(stem).with_extension(build.extension());
    ensure!(
        Source::read(&source)?.builds.contains(&build),
        "{} is not for {build}",
        source.display()
    );
    build_for(&source, build)
}

/// The component of `handlers/NAME.c`, `.js`, `.py` or `.wat`, which handles HTTP requests.
///
/// # Errors
///
/// There is no such program, or it cannot be built.
pub fn handler(name: &str) -> Result<PathBuf> {
    let source = directory().join("handlers").join(name);
    let all = [Build::CP2, Build::JavaScriptP2, Build::PythonP2];
    let found = all.map(|build| (source.with_extension(build.extension()), build));
    match found.into_iter().find(|(source, _)| source.exists()) {
        Some((source, build)) => build_for(&source, build),
        None => assemble(&source.with_extension("wat")),
    }
}

/// Builds the C file `source` as a component for WASI 0.2.
///
/// # Errors
///
/// As [`build_for`].
pub fn build(source: &Path) -> Result<PathBuf> {
    build_for(source, Build::CP2)
}

/// Builds `source`.
///
/// # Errors
///
/// It cannot be built; the compiler's words are in the error.
pub fn build_for(source: &Path, build: Build) -> Result<PathBuf> {
    let read = Source::read(source)?;
    let tree = tools::tree(build.tools())?;
    let recipe = [build.name(), &tree.contents()?, native::RECIPE, interpreted::RECIPE].join("\n");
    let key = [recipe.as_bytes(), &read.text].concat();
    cached(source, build.name(), &key, |work| {
        let bytes = match build {
            Build::CP1 | Build::CP2 | Build::CAdapted | Build::RustP1 | Build::RustP2 => {
                native::build(&tree, source, build, &read.flags, work)
            }
            Build::GoP1 => interpreted::go(&tree, source, work),
            Build::JavaScriptP2 => interpreted::javascript(&tree, &read.text, work),
            Build::PythonP2 => interpreted::python(&tree, source, &read.text, work),
        };
        bytes.with_context(|| format!("build {} for {build}", source.display()))
    })
}

/// The binary of the `.wat` file `source`.
///
/// # Errors
///
/// It cannot be read, or is no text of a module or component.
pub fn assemble(source: &Path) -> Result<PathBuf> {
    let text = fs::read(source).with_context(|| format!("read {}", source.display()))?;
    cached(source, "wat", &text, |_| {
        let bytes = wat::parse_bytes(&text).map(std::borrow::Cow::into_owned);
        bytes.with_context(|| format!("assemble {}", source.display()))
    })
}

/// What the head of a source says, and all of it.
struct Source {
    text: Vec<u8>,
    builds: Vec<Build>,
    flags: Vec<String>,
}

impl Source {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let own = |build: &Build| build.extension() == extension;
        // The adapter is for few: it costs a compilation, and C has a target of its own for 0.2.
        let mut builds: Vec<_> =
            Build::ALL.into_iter().filter(own).filter(|it| *it != Build::CAdapted).collect();
        let mut flags = Vec::new();
        let lossy = String::from_utf8_lossy(&text);
        let head = lossy.lines().map_while(|line| {
            let line = line.trim_start();
            ["//!", "//", "#"].iter().find_map(|mark| line.strip_prefix(mark))
        });
        for line in head {
            if let Some(names) = line.trim_start().strip_prefix("builds:") {
                let named = names.split_whitespace().map(|name| {
                    let build = Build::ALL.into_iter().filter(own).find(|it| it.name() == name);
                    build.with_context(|| format!("{}: no build '{name}'", path.display()))
                });
                builds = named.collect::<Result<_>>()?;
            } else if let Some(words) = line.trim_start().strip_prefix("flags:") {
                flags = words.split_whitespace().map(str::to_owned).collect();
            }
        }
        ensure!(!builds.is_empty(), "{}: no toolchain for this extension", path.display());
        Ok(Self { text, builds, flags })
    }
}

/// The file that `make` writes, made once for each `key`. `make` has an empty directory to work in.
fn cached(
    source: &Path,
    build: &str,
    key: &[u8],
    make: impl FnOnce(&Path) -> Result<Vec<u8>>,
) -> Result<PathBuf> {
    let built = target_directory().join("programs");
    let digest = oci::digest(key);
    let stem = stem(source)?;
    let wasm = built.join(format!("{stem}-{build}-{}.wasm", &digest["sha256:".len()..][..16]));
    if wasm.exists() {
        return Ok(wasm);
    }
    fs::create_dir_all(&built).with_context(|| format!("create {}", built.display()))?;
    // Tests of one binary, and several test runs, ask for the same programs at once.
    let lock = built.join(format!("{build}.lock"));
    let lock = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
    lock.lock().with_context(|| format!("wait for another build for {build}"))?;
    if wasm.exists() {
        return Ok(wasm);
    }
    let work = built.join(format!("{build}.work"));
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("empty {}", work.display()))?;
    }
    fs::create_dir(&work).with_context(|| format!("create {}", work.display()))?;
    let bytes = make(&work)?;
    if bytes.is_empty() {
        bail!("{} became an empty file", source.display());
    }
    // The name appears when the file is whole.
    let partial = work.join("whole");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, &wasm))
        .and_then(|()| fs::remove_dir_all(&work))
        .with_context(|| format!("write {}", wasm.display()))?;
    Ok(wasm)
}

fn stem(source: &Path) -> Result<String> {
    let stem = source.file_stem().context("a source without a name")?;
    Ok(stem.to_string_lossy().into_owned())
}
