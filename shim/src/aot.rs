//! The cache of compiled programs: one per node, filled by whoever needs a program first.
//!
//! Rule: a file in the cache is run only if it is whole and ours. Its name is a digest of the wasm
//! bytes and of everything that the compiler's output depends on (`key`); its last bytes repeat that
//! key and hold a checksum (`entry`); it belongs to this user and nobody else may write it. Anything
//! else by that name is compiled anew and replaced. A file gets its name only when it is complete and
//! on the medium, by rename.
//!
//! One process compiles a key at a time (`lock`); the others wait for its result. A cache that cannot
//! be used costs time, never the run: the program is then compiled into memory, and
//! [`Origin::Uncached`] says why.

mod entry;
mod key;
mod lock;
mod wasm;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;

use self::entry::Stored;
use self::key::Key;
use self::lock::Lock;
pub(crate) use self::wasm::sha256_hex;
pub use self::wasm::{Wasm, WasmError};
use crate::compile::{CompileCost, CompileError, CompiledFile, Compiler, Entry};

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
    /// Whether it is a command; what it exports can be called either way.
    pub is_command: bool,
    /// Where it came from.
    pub origin: Origin,
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

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// There is no directory, and none could be made.
    #[error("create the cache directory {}", path.display())]
    CreateDir {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be opened.
    #[error("open the cache directory {}", path.display())]
    OpenDir {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could put programs into the directory.
    #[error(
        "the cache directory {} must belong to user {} and be writable by nobody else; it belongs \
         to user {owner} and has mode {mode:o}",
        path.display(), geteuid().as_raw()
    )]
    Untrusted {
        /// Its path.
        path: PathBuf,
        /// Its owner's user number.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// The lock of a key cannot be taken.
    #[error("lock {name} in the cache directory")]
    Lock {
        /// Name of the lock file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the lock for longer than a compilation may take.
    #[error("another process has held {name} in the cache directory for {} s", waited.as_secs())]
    Busy {
        /// Name of the lock file.
        name: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The program could not be written: the disk is full, or read-only.
    #[error("write {name} to the cache directory")]
    Write {
        /// Name of the file.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// The cache in one directory.
#[derive(Clone, Debug)]
pub struct AotCache {
    path: PathBuf,
    compiler: Compiler,
}

impl AotCache {
    /// The cache in the directory `path`, which is made when it is first needed (mode 0700, and its
    /// parents). Programs that are not in it are compiled by `compiler`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, compiler: Compiler) -> Self {
        Self { path: path.into(), compiler }
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
        if entry == Entry::Command && !program.is_command {
            // It was compiled when a library would do. What it lacks is in the file.
            let refusal = self.compiler.inspect(wasm, waiting)?.refusal;
            return Err(refusal.map_or(CompileError::Changed, CompileError::Refused));
        }
        Ok(program)
    }

    /// The program of `wasm`, if it is in the cache. Nothing is made or changed.
    ///
    /// # Errors
    ///
    /// [`CompileError`] on a machine without compiler.
    pub fn find(&self, wasm: &Wasm) -> Result<Option<CompiledProgram>, CompileError> {
        let key = Key::of(wasm)?;
        let dir = rustix::fs::open(&self.path, DIR_FLAGS, Mode::empty()).ok().map(File::from);
        Ok(dir.and_then(|dir| self.cached(&dir, &key)))
    }

    fn any_program(
        &self,
        wasm: &Wasm,
        entry: Entry,
        waiting: &dyn Fn(),
    ) -> Result<CompiledProgram, CompileError> {
        let key = Key::of(wasm)?;
        let uncached = |cause| {
            let program = self.compiler.compile(wasm, entry, waiting)?;
            in_memory(program, cause)
        };
        let dir = match self.open_dir() {
            Ok(dir) => dir,
            Err(cause) => return uncached(cause),
        };
        if let Some(program) = self.cached(&dir, &key) {
            return Ok(program);
        }
        let _lock = match Lock::take(&dir, &key, waiting) {
            Ok(lock) => lock,
            Err(cause) => return uncached(cause),
        };
        // Whoever held the lock before has most likely compiled what is needed here.
        if let Some(program) = self.cached(&dir, &key) {
            return Ok(program);
        }
        lock::sweep(&dir);
        let program = self.compiler.compile(wasm, entry, waiting)?;
        match entry::write(&dir, &key, &program.file, program.is_command) {
            Ok(stored) => {
                let path = self.path.join(key.program_name());
                Ok(from_cache(stored, Origin::Compiled { path, cost: program.cost }))
            }
            Err(cause) => in_memory(program, cause),
        }
    }

    fn cached(&self, dir: &File, key: &Key) -> Option<CompiledProgram> {
        let path = self.path.join(key.program_name());
        entry::read(dir, key).map(|stored| from_cache(stored, Origin::Cached { path }))
    }

    /// Opens the directory, and makes it if need be. What is in it is then named relative to the
    /// descriptor, so that it cannot be exchanged behind the check.
    fn open_dir(&self) -> Result<File, CacheError> {
        let path = || self.path.clone();
        let open = || rustix::fs::open(&self.path, DIR_FLAGS, Mode::empty());
        let fd = match open() {
            Err(rustix::io::Errno::NOENT) => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&self.path)
                    .map_err(|source| CacheError::CreateDir { path: path(), source })?;
                open()
            }
            other => other,
        }
        .map_err(|error| CacheError::OpenDir { path: path(), source: error.into() })?;
        let stat = rustix::fs::fstat(&fd)
            .map_err(|error| CacheError::OpenDir { path: path(), source: error.into() })?;
        if !entry::is_ours_alone(&stat) {
            let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
            return Err(CacheError::Untrusted { path: path(), owner, mode });
        }
        Ok(File::from(fd))
    }
}

fn from_cache(stored: Stored, origin: Origin) -> CompiledProgram {
    let Stored { file, bytes, is_command } = stored;
    CompiledProgram { file, bytes, is_command, origin }
}

fn in_memory(program: CompiledFile, cause: CacheError) -> Result<CompiledProgram, CompileError> {
    let CompiledFile { file, is_command, cost } = program;
    let bytes = file.metadata().map_err(CompileError::CreateMemory)?.len();
    Ok(CompiledProgram { file, bytes, is_command, origin: Origin::Uncached { cause, cost } })
}
