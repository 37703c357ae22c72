//! Compiling in a child process, because the compiler parses what strangers wrote.
//!
//! Rule: whatever the input does to the compiler (crash, memory, time) ends the child and is a
//! [`CompileError`] of the parent. The child is this executable again with [`CHILD_SUBCOMMAND`]: it
//! reads the file from descriptor 0, writes the program to descriptor 1 and, if it refuses, the
//! [`Refusal`] as JSON to descriptor 2. It has no other descriptors, no environment of ours, cannot
//! gain privileges, and dies with its parent.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, set_parent_process_death_signal,
    setrlimit,
};

use super::refusal::one_line;
use super::{Refusal, WASM_BYTES_MAX, compile};
use crate::aot::{Wasm, sha256_hex};

/// The hidden subcommand that an executable answers with [`child_main`].
pub const CHILD_SUBCOMMAND: &str = "__compile";

/// Most address space of the compiler: 64 times the largest input, beside which the heaps that
/// [`THREADS_MAX`] threads reserve (64 MiB each) and their stacks are small.
pub(super) const ADDRESS_SPACE_BYTES_MAX: u64 = 8 << 30;
/// Most CPU time of one compilation, in seconds: seven for each MiB of the largest input. QuickJS takes
/// 1.2 for each of its own.
const CPU_SECONDS_MAX: u64 = 900;
/// Longest time of one compilation by the clock, which a machine with few CPUs and many containers needs.
pub(crate) const WALL_TIME_MAX: Duration = Duration::from_secs(1800);
/// Most threads of the compiler; more hardly help a single program.
const THREADS_MAX: usize = 8;
/// Most descriptors of the child: its three, and a few that the runtime opens and closes.
const OPEN_FILES_MAX: u64 = 32;
/// Exit status of a child that wrote a [`Refusal`].
const REFUSED: u8 = 3;
/// Most bytes of the child's standard error that are kept.
const STDERR_BYTES_MAX: usize = 64 << 10;
/// When a person who waits is told what for.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// Why there is no compiled program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The file is not what can run here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The compiler took too much time.
    #[error("compiling took more than {} s of CPU time, or {} s in all, and was stopped", CPU_SECONDS_MAX, WALL_TIME_MAX.as_secs())]
    TooLong,
    /// The compiler took too much memory.
    #[error("compiling took more than {} GiB of memory and was stopped", ADDRESS_SPACE_BYTES_MAX >> 30)]
    TooMuchMemory,
    /// The compiler crashed.
    #[error("the compiler failed ({status}){}{said}", if said.is_empty() { "" } else { ": " })]
    Crashed {
        /// How it ended.
        status: ExitStatus,
        /// What it said last, one line.
        said: String,
    },
    /// Memory for the result could not be had.
    #[error("create memory for the compiled program")]
    CreateMemory(#[source] io::Error),
    /// The child could not be started.
    #[error("start the compiler ({})", program.display())]
    Start {
        /// The executable.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The child could not be watched.
    #[error("wait for the compiler")]
    Wait(#[source] io::Error),
}

/// Runs [`compile`](super::compile) in child processes.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
}

impl Compiler {
    /// This executable again, which answers [`CHILD_SUBCOMMAND`] with [`child_main`].
    #[must_use]
    pub fn this_executable() -> Self {
        Self { program: "/proc/self/exe".into() }
    }

    /// Another executable that answers [`CHILD_SUBCOMMAND`].
    #[must_use]
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// Compiles `wasm` into sealed memory. `waiting` is called once if that takes longer than a second.
    ///
    /// # Errors
    ///
    /// [`CompileError`].
    pub fn compile(&self, wasm: &Wasm, waiting: &dyn Fn()) -> Result<File, CompileError> {
        let create = |error: rustix::io::Errno| CompileError::CreateMemory(error.into());
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let program = File::from(memfd_create("program", flags).map_err(create)?);
        let start = |source| CompileError::Start { program: self.program.clone(), source };
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
        let mut child = Command::new(&self.program)
            .arg(CHILD_SUBCOMMAND)
            .arg(wasm.sha256())
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .current_dir("/")
            .stdin(wasm.file().try_clone().map_err(start)?)
            .stdout(program.try_clone().map_err(start)?)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let ended = watch(&mut child, waiting);
        if ended.is_err() {
            // It may have ended by itself meanwhile; what counts is the reason already at hand.
            let _ = child.kill();
        }
        let status = child.wait().map_err(CompileError::Wait)?;
        let stderr = ended?;
        if !status.success() {
            return Err(failure(status, &stderr));
        }
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&program, seals).map_err(create)?;
        Ok(program)
    }
}

/// Reads what the child says until it has ended.
fn watch(child: &mut Child, waiting: &dyn Fn()) -> Result<Vec<u8>, CompileError> {
    let started = Instant::now();
    let failed = |error: rustix::io::Errno| CompileError::Wait(error.into());
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).map_err(failed)?;
    let mut stderr = child.stderr.take();
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    let mut told = false;
    loop {
        let limit = if told { WALL_TIME_MAX } else { PROGRESS_AFTER };
        let left = limit.saturating_sub(started.elapsed());
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(stderr.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let ready = match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error)),
        };
        let has_ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        let has_said = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if ready == 0 && told {
            return Err(CompileError::TooLong);
        }
        if ready == 0 {
            told = true;
            waiting();
        }
        if has_said && let Some(pipe) = &mut stderr {
            match pipe.read(&mut chunk) {
                Ok(0) => stderr = None,
                Ok(n) => {
                    let room = STDERR_BYTES_MAX.saturating_sub(said.len()).min(n);
                    said.extend_from_slice(chunk.get(..room).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CompileError::Wait(error)),
            }
        } else if has_ended {
            return Ok(said);
        }
    }
}

/// What a child that did not succeed means.
fn failure(status: ExitStatus, stderr: &[u8]) -> CompileError {
    if status.code() == Some(REFUSED.into())
        && let Ok(refusal) = serde_json::from_slice(stderr)
    {
        return CompileError::Refused(refusal);
    }
    let said = String::from_utf8_lossy(stderr);
    if status.signal() == Some(Signal::XCPU.as_raw()) {
        CompileError::TooLong
    } else if said.contains("memory allocation of") || said.contains("Cannot allocate memory") {
        CompileError::TooMuchMemory
    } else {
        CompileError::Crashed { status, said: one_line(&said) }
    }
}

/// The child: limits itself, reads, compiles, writes. `expected_sha256` is the digest that the parent
/// expects the bytes to have, in hexadecimal.
#[must_use]
pub fn child_main(expected_sha256: &str) -> ExitCode {
    match compile_stdin(expected_sha256) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(refusal)) => match serde_json::to_writer(io::stderr(), &refusal) {
            Ok(()) => ExitCode::from(REFUSED),
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // Nobody is left to tell if this fails; the status says it too.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn compile_stdin(expected: &str) -> io::Result<Result<(), Refusal>> {
    confine()?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let length = input.metadata()?.len().min(WASM_BYTES_MAX);
    let mut wasm = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    input.read_exact_at(&mut wasm, 0)?;
    let found = sha256_hex(&wasm);
    if found != expected {
        return Ok(Err(Refusal::OtherContent { found, expected: expected.to_owned() }));
    }
    match compile(&wasm) {
        Ok(program) => output.write_all(&program).map(Ok),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Gives up what compiling does not need. The limits bind the rest of this process' life.
fn confine() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    let limits = [
        (Resource::As, ADDRESS_SPACE_BYTES_MAX),
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Core, 0),
    ];
    for (resource, limit) in limits {
        // A limit that is lower already cannot be raised, and need not be.
        let old = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Some(limit.min(old));
        setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    Ok(())
}
