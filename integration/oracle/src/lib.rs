//! Runs a WASI program in a process of the host, in two ways: over the library OS of the guest
//! ([`Wasi::Ours`]) and over Wasmtime's own WASI ([`Wasi::Theirs`]), which is the oracle.
//!
//! Both run the same compiled program in the same Wasmtime, with the settings of the guest's engine. Ours
//! makes its host calls to [`vmm::host::Host`] through the codec of [`abi`], as a micro-VM does, but
//! without one: no KVM, and a debugger reaches everything.
//!
//! A run leaves an exit status, what was written to standard output and error, and directories, which
//! [`Tree`] describes so that two of them compare.

mod calls;
mod ours;
mod program;
mod theirs;
mod tree;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use wasmtime::Result;

pub use calls::{Call, CallLog};
pub use ours::{Prepared, World};
pub use program::Program;
pub use tree::{Kind, Node, Time, Tree};

/// Status of a program that trapped, as a micro-VM reports it.
pub const TRAPPED: i32 = 134;

/// Whose WASI a program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi {
    /// The guest's library OS.
    Ours,
    /// Wasmtime's.
    Theirs,
}

/// What a program is given beside its standard streams. Nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Arguments, argument 0 first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Where the program should think it is.
    pub cwd: Option<String>,
    /// Directories.
    pub directories: Vec<Directory>,
    /// The network of the calling thread, all of it.
    pub network: bool,
}

/// A directory that is open when a program starts.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The directory.
    pub host: PathBuf,
    /// The path under which the program sees it.
    pub guest: String,
    /// Whether something can be changed in it.
    pub writable: bool,
}

/// The standard streams of a program.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// Runs `program` to its end and returns its exit status, [`TRAPPED`] if it trapped. The host calls that
/// ours makes are told to `log`.
///
/// # Errors
///
/// The program cannot run at all: an import that is not provided, no entry point.
pub fn run(
    wasi: Wasi,
    program: &Program,
    grants: &Grants,
    streams: Streams,
    log: &CallLog,
) -> Result<i32> {
    match wasi {
        Wasi::Ours => ours::run(program, grants, streams, log),
        Wasi::Theirs => theirs::run(program, grants, streams),
    }
}

/// What a run left beside directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status.
    pub status: i32,
    /// What was written to standard output.
    pub stdout: Vec<u8>,
    /// What was written to standard error; of ours, the report of a trap too.
    pub stderr: Vec<u8>,
}

/// Runs `program` with `stdin` and files for its output, and gathers what it wrote.
///
/// # Errors
///
/// As [`run`], and what files in memory may fail with.
pub fn capture(
    wasi: Wasi,
    program: &Program,
    grants: &Grants,
    stdin: &[u8],
    log: &CallLog,
) -> Result<Outcome> {
    let [input, output, error] = [memory_file()?, memory_file()?, memory_file()?];
    input.write_all_at(stdin, 0)?;
    let (stdout, stderr) = (output.try_clone()?.into(), error.try_clone()?.into());
    let streams = Streams { stdin: input.into(), stdout, stderr };
    let status = run(wasi, program, grants, streams, log)?;
    Ok(Outcome { status, stdout: content(output)?, stderr: content(error)? })
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("stream", MemfdFlags::CLOEXEC)?.into())
}

fn content(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
