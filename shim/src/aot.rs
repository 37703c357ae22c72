//! The cache of compiled programs: one per node, filled by whoever needs a program first.
//!
//! Rule: a file in the cache is run only if it is whole and ours. Its name is a digest of the wasm
//! bytes and of everything that the compiler's output depends on (`key`); its last bytes repeat that
//! key and hold a checksum (`trailer`, `checksum`); it belongs to this user and nobody else may write
//! it (`entry`). Anything else by that name is made anew and replaced. A file gets its name only when it
//! is complete and on the medium, by rename (`store`). It is read and summed when it is first used after
//! a boot or a change, not at every start (`identity`, `seen`, `digests`).
//!
//! Beside a program lies the snapshot of a guest that has loaded it (`snapshot`). One process at a time
//! makes the files of a key (`lock`); the others wait for the result. The size of all is bounded
//! (`space`). A cache that cannot be used costs time, never the run: the program is then compiled into
//! memory, and [`Origin::Uncached`] says why.

mod checksum;
mod digests;
mod entry;
mod error;
mod identity;
mod key;
mod lock;
mod seen;
mod snapshot;
mod space;
mod store;
mod trailer;
mod wasm;

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use self::entry::{Kind, Stored};
pub use self::error::CacheError;
use self::key::Key;
use self::lock::Lock;
pub use self::space::{CACHE_SIZE_VARIABLE, CacheEntry, Cleared, Usage};
use self::store::About;
pub(crate) use self::wasm::sha256_hex;
pub use self::wasm::{Wasm, WasmError};
use crate::compile::{CompileCost, CompileError, CompiledFile, Compiler, Entry, EntryPoints};
use crate::settings::Settings;

/// Where the cache of a node is.
pub const CACHE_DIR: &str = "/var/cache/hyperlight";

/// How the cache's directory is opened.
const DIR_FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// A program, ready to be given to a micro-VM.
#[derive(Debug)]
pub struct CompiledProgram {
    /// The file. Behind the program it may have a trailer, which the engine in the guest passes over.
    pub file: File,
    /// Bytes of the program.
    pub bytes: u64,
    /// Where it can begin; what it exports can be called either way.
    pub entry_points: EntryPoints,
    /// Where it came from.
    pub origin: Origin,
    key: Key,
    name: String,
}

impl CompiledProgram {
    /// A path by which this process and its children can open the program as long as this value lives,
    /// also if it exists only in memory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}

/// Where a [`CompiledProgram`] came from.
#[derive(Debug)]
pub enum Origin {
    /// It was in the cache.
    Cached {
        /// The file.
        path: PathBuf,
    },
    /// It was compiled and put into the cache.
    Compiled {
        /// The file.
        path: PathBuf,
        /// What the compiler took.
        cost: CompileCost,
    },
    /// It was compiled and exists only in memory, because the cache could not be used.
    Uncached {
        /// What is wrong with the cache.
        cause: CacheError,
        /// What the compiler took.
        cost: CompileCost,
    },
}

/// The cache in one directory.
#[derive(Clone, Debug)]
pub struct AotCache {
    path: PathBuf,
    compiler: Compiler,
    /// Most bytes on the disk, if somebody said so.
    size: Option<u64>,
}

impl AotCache {
    /// The cache in the directory `path`, which is made when it is first needed (mode 0700, and its
    /// parents). Programs that are not in it are compiled by `compiler`. Its size is bounded by
    /// [`CACHE_SIZE_VARIABLE`], else by 4 GiB or a tenth of its file system, whichever is less.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, compiler: Compiler) -> Self {
        Self {
            path: path.into(),
            compiler,
            size: space::size_from_environment().or(Settings::of_node().cache_bytes),
        }
    }

    /// The same, bounded to `bytes` on the disk. What is in use, and what was stored last, is kept even
    /// if it is more.
    #[must_use]
    pub fn with_size(self, bytes: u64) -> Self {
        Self { size: Some(bytes), ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The wasm file at `path`, like [`Wasm::open`]. Its digest is not computed again if the cache has
    /// seen this very file before.
    ///
    /// # Errors
    ///
    /// [`WasmError`].
    pub fn wasm(&self, path: &Path) -> Result<Wasm, WasmError> {
        Wasm::open_known(path, || self.open_dir().ok())
    }

    /// An open wasm file, like [`Wasm::from_file`]. Its digest is not computed again if the cache has
    /// seen this very file before.
    ///
    /// # Errors
    ///
    /// [`WasmError`].
    pub fn wasm_file(&self, name: impl Into<String>, file: File) -> Result<Wasm, WasmError> {
        Wasm::from_file_known(name.into(), file, || self.open_dir().ok())
    }

    /// The program of `wasm`: from the cache, or compiled and put there.
    ///
    /// `waiting` is called, once or twice, when the caller has waited for a second: for the compiler,
    /// or for another process that compiles the same.
    ///
    /// # Errors
    ///
    /// [`CompileError`] if there is no program to run, or none that is what `entry` asks for. Trouble
    /// with the cache is none: see [`Origin::Uncached`].
    pub fn program(
        &self,
        wasm: &Wasm,
        entry: Entry,
        waiting: &dyn Fn(),
    ) -> Result<CompiledProgram, CompileError> {
        let program = self.any_program(wasm, entry, waiting)?;
        if !entry.admits(program.entry_points) {
            // It was compiled when something else would do. What it lacks is in the file.
            let compiled = self.compiler.compile(wasm, entry, key::withheld(), waiting);
            return Err(compiled.err().unwrap_or(CompileError::Changed));
        }
        Ok(program)
    }

    /// The program of `wasm`, if it is in the cache. No program is made or changed.
    ///
    /// # Errors
    ///
    /// [`CompileError`] on a machine without compiler.
    pub fn find(&self, wasm: &Wasm) -> Result<Option<CompiledProgram>, CompileError> {
        let Ok(Some(dir)) = self.open_existing_dir() else { return Ok(None) };
        let key = Key::of(wasm, Some(&dir), &self.compiler)?;
        let stored = entry::read(&dir, &key, Kind::Program).ok().flatten();
        Ok(stored.map(|stored| self.cached(stored, &key)))
    }

    fn any_program(
        &self,
        wasm: &Wasm,
        entry: Entry,
        waiting: &dyn Fn(),
    ) -> Result<CompiledProgram, CompileError> {
        let dir = self.open_dir();
        let key = Key::of(wasm, dir.as_ref().ok(), &self.compiler)?;
        let uncached = |cause| {
            let program = self.compiler.compile(wasm, entry, key::withheld(), waiting)?;
            in_memory(program, cause, key.clone(), wasm)
        };
        let dir = match dir {
            Ok(dir) => dir,
            Err(cause) => return uncached(cause),
        };
        // What is unfit is reported by who replaces it.
        if let Ok(Some(stored)) = entry::read(&dir, &key, Kind::Program) {
            return Ok(self.cached(stored, &key));
        }
        let wait_max = lock::compile_wait_max(&self.compiler);
        let lock = match Lock::take(&dir, &key, wait_max, waiting) {
            Ok(lock) => lock,
            Err(cause) => return uncached(cause),
        };
        match entry::read(&dir, &key, Kind::Program) {
            // Whoever held the lock before has compiled what is needed here.
            Ok(Some(stored)) => return Ok(self.cached(stored, &key)),
            Ok(None) => {}
            Err(error) => log::warn!("compile {} again: {error}", key.name(Kind::Program)),
        }
        lock::sweep(&dir);
        let CompiledFile { file, entry_points, cost } =
            self.compiler.compile(wasm, entry, key::withheld(), waiting)?;
        let about = About { origin: wasm.sha256_bytes(), entry_points, name: wasm.name() };
        let fill = |target: &File| store::copy_program(&file, target);
        let stored = store::write(&dir, &key, Kind::Program, about, fill);
        drop(lock);
        match stored {
            Ok(stored) => {
                self.make_room(&dir);
                let path = self.path.join(key.name(Kind::Program));
                Ok(from_cache(stored, Origin::Compiled { path, cost }, key))
            }
            Err(cause) => in_memory(CompiledFile { file, entry_points, cost }, cause, key, wasm),
        }
    }

    fn cached(&self, stored: Stored, key: &Key) -> CompiledProgram {
        let path = self.path.join(key.name(Kind::Program));
        from_cache(stored, Origin::Cached { path }, key.clone())
    }

    /// Opens the directory, and makes it if need be.
    fn open_dir(&self) -> Result<File, CacheError> {
        if let Some(dir) = self.open_existing_dir()? {
            return Ok(dir);
        }
        let path = || self.path.clone();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| CacheError::CreateDir { path: path(), source })?;
        let gone = || CacheError::OpenDir { path: path(), source: ErrorKind::NotFound.into() };
        self.open_existing_dir()?.ok_or_else(gone)
    }

    /// Opens the directory, if there is one. What is in it is then named relative to the descriptor, so
    /// that it cannot be exchanged behind the check.
    fn open_existing_dir(&self) -> Result<Option<File>, CacheError> {
        let failed =
            |error: Errno| CacheError::OpenDir { path: self.path.clone(), source: error.into() };
        let fd = match rustix::fs::open(&self.path, DIR_FLAGS, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if !entry::is_ours_alone(&stat) {
            let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
            return Err(CacheError::Untrusted { path: self.path.clone(), owner, mode });
        }
        Ok(Some(File::from(fd)))
    }
}

fn from_cache(stored: Stored, origin: Origin, key: Key) -> CompiledProgram {
    let Stored { file, trailer } = stored;
    let (bytes, entry_points, name) = (trailer.bytes, trailer.entry_points, trailer.name);
    CompiledProgram { file, bytes, entry_points, origin, key, name }
}

fn in_memory(
    program: CompiledFile,
    cause: CacheError,
    key: Key,
    wasm: &Wasm,
) -> Result<CompiledProgram, CompileError> {
    let CompiledFile { file, entry_points, cost } = program;
    let bytes = file.metadata().map_err(CompileError::CreateMemory)?.len();
    let (origin, name) = (Origin::Uncached { cause, cost }, wasm.name().to_owned());
    Ok(CompiledProgram { file, bytes, entry_points, origin, key, name })
}
