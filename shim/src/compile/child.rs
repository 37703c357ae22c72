//! Compiling and inspecting in a child process, because both parse what strangers wrote.
//!
//! Rule: the child is the `hyperlight` command with [`Job::subcommand`] and the [`BUILD`] of who starts it: one
//! of another build does nothing. It reads the file from descriptor
//! 0, writes the program or the inspection to descriptor 1, and to descriptor 2, as JSON, what it has
//! to tell or, if it refuses, the [`Refusal`]. It has no other descriptors, no environment of ours,
//! no privileges, can open no file and make no socket ([`jail::lock_compiler`]), has limits on memory and
//! time that its parent tells it, and dies with its parent. Nothing else in a process of the shim touches Wasmtime, so that a linker leaves the
//! compiler out of a binary that does not answer with [`child_main`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};

use super::inspection::Inspection;
use super::{BUILD, Entry, EntryPoints, Refusal, WASM_BYTES_MAX, compile, settings};
use crate::aot::sha256_hex;
use crate::jail::{self, JailError};

/// Most descriptors of the child: its three, and a few that the runtime opens and closes.
const OPEN_FILES_MAX: u64 = 32;
/// Exit status of a child that wrote a [`Refusal`].
pub(super) const REFUSED: u8 = 3;
/// Exit status of a child that is of another build than its parent.
pub(super) const OTHER_BUILD: u8 = 4;
/// Most bytes of an inspection.
pub(super) const INSPECTION_BYTES_MAX: usize = 16 << 20;

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// It compiles.
    Compile,
    /// It says what the file is.
    Inspect,
    /// It says what its programs depend on beside their files. Its own has no bytes.
    Settings,
}

/// What a child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// Most address space, in bytes.
    pub(super) address_space_bytes: u64,
    /// Most CPU time, in seconds.
    pub(super) cpu_seconds: u64,
    /// Longest time by the clock, which a machine with few CPUs and many containers needs.
    pub(super) wall_time: Duration,
}

impl JobLimits {
    /// Those of one compilation: `memory_bytes` of address space, and `cpu_seconds` of CPU time, within twice that
    /// by the clock; for what is `None`, as [`Job::limits`] has it.
    pub(super) fn of_compilation(
        memory_bytes: Option<NonZero<u64>>,
        cpu_seconds: Option<NonZero<u64>>,
    ) -> Self {
        let default = Job::Compile.limits();
        let cpu_seconds = cpu_seconds.map_or(default.cpu_seconds, NonZero::get);
        Self {
            address_space_bytes: memory_bytes.map_or(default.address_space_bytes, NonZero::get),
            cpu_seconds,
            wall_time: Duration::from_secs(cpu_seconds.saturating_mul(2)),
        }
    }

    /// The arguments that tell a child, which [`JobLimits::from_args`] reads.
    pub(super) fn args(self) -> [String; 2] {
        [self.address_space_bytes.to_string(), self.cpu_seconds.to_string()]
    }

    fn from_args(memory_bytes: &str, cpu_seconds: &str) -> Option<Self> {
        let [memory_bytes, cpu_seconds] = [memory_bytes, cpu_seconds].map(|it| it.parse().ok());
        Some(Self::of_compilation(Some(memory_bytes?), Some(cpu_seconds?)))
    }
}

impl Job {
    /// The hidden subcommand that an executable answers with [`child_main`].
    #[must_use]
    pub const fn subcommand(self) -> &'static str {
        match self {
            Self::Compile => "__compile",
            Self::Inspect => "__inspect",
            Self::Settings => "__settings",
        }
    }

    fn from_subcommand(word: &str) -> Option<Self> {
        [Self::Compile, Self::Inspect, Self::Settings]
            .into_iter()
            .find(|it| it.subcommand() == word)
    }

    /// The word for it.
    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Compile => "compiling",
            Self::Inspect => "inspecting",
            Self::Settings => "asking for the compiler's settings",
        }
    }

    /// Compiling: 64 times the largest input, of which components of 13 to 18 MiB (JavaScript, Python)
    /// take 19 to 30 times their size, and beside which the heaps that threads reserve (64 MiB each) and
    /// their stacks are small; seven seconds of CPU for each MiB of the largest input, of which those
    /// components take one at most. The node's owner may choose others
    /// ([`Settings`](crate::settings::Settings)). Inspecting reads the input some ten times and builds nothing.
    pub(crate) const fn limits(self) -> JobLimits {
        match self {
            Self::Compile => JobLimits {
                address_space_bytes: 8 << 30,
                cpu_seconds: 900,
                wall_time: Duration::from_secs(1800),
            },
            Self::Inspect | Self::Settings => JobLimits {
                address_space_bytes: 4 << 30,
                cpu_seconds: 30,
                wall_time: Duration::from_secs(120),
            },
        }
    }
}

/// What a child that has succeeded tells.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Told {
    /// Most memory that it used, in bytes; `None` if it could not find out.
    pub(super) peak_bytes: Option<u64>,
    /// Where the program can begin.
    pub(super) entry_points: EntryPoints,
}

/// What a child does not come to an end for.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("limit the compiler")]
    Confine(#[source] io::Error),
    #[error("read the file")]
    Read(#[source] io::Error),
    #[error("write the result")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The child, if the arguments (behind the program's name) ask for one: limits itself, reads, works,
/// writes. The arguments are a [`Job::subcommand`], the parent's [`BUILD`], the digest that it expects the bytes
/// to have, in hexadecimal, for compiling an [`Entry::word`], what is [`Withheld`](super::Withheld) for compiling
/// and for the settings, and for compiling the limits: most bytes of memory, most seconds of CPU time.
#[must_use]
pub fn child_main(args: &[OsString]) -> Option<ExitCode> {
    let args: Vec<_> = args.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
    let [word, build, ref rest @ ..] = args[..] else { return None };
    let job = Job::from_subcommand(word)?;
    if build != BUILD {
        return Some(ExitCode::from(OTHER_BUILD));
    }
    let done = match (job, rest) {
        (Job::Compile, [digest, entry, withheld, memory_bytes, cpu_seconds]) => {
            let (entry, withheld) = (Entry::from_word(entry)?, withheld.parse().ok()?);
            let limits = JobLimits::from_args(memory_bytes, cpu_seconds)?;
            work(limits, digest, |wasm| {
                let compiled = compile(wasm, entry, withheld)?;
                Ok((compiled.program, compiled.entry_points))
            })
        }
        (Job::Inspect, [digest]) => work(job.limits(), digest, |wasm| {
            let inspection = Inspection::of(wasm)?;
            let entry_points = inspection.entry_points;
            let json = serde_json::to_vec(&inspection).unwrap_or_default();
            match json.len() <= INSPECTION_BYTES_MAX {
                true => Ok((json, entry_points)),
                false => Err(Refusal::TooManyNames),
            }
        }),
        (Job::Settings, [digest, withheld]) => {
            let withheld = withheld.parse().ok()?;
            let none = EntryPoints::default();
            work(job.limits(), digest, |_empty| Ok((settings(withheld)?, none)))
        }
        _ => return None,
    };
    Some(match done {
        Ok(told) => tell(&told).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err(ChildError::Refused(refusal)) => {
            tell(&refusal).map_or(ExitCode::FAILURE, |()| ExitCode::from(REFUSED))
        }
        Err(error) => {
            // Nobody is left to tell if this fails; the status says it too.
            let _ = writeln!(io::stderr(), "{}", crate::error::line(&error));
            ExitCode::FAILURE
        }
    })
}

/// As [`child_main`], but instead of compiling `instead` is done: what a file could do that has taken the compiler
/// over. For the tests of the jail; no program that is deployed calls it.
#[must_use]
pub fn taken_over_main(instead: impl FnOnce() -> u8) -> ExitCode {
    let locked = confine(Job::Compile.limits())
        .map_err(ChildError::Confine)
        .and_then(|()| Ok(jail::lock_compiler()?));
    match locked {
        Ok(()) => ExitCode::from(instead()),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", crate::error::line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Writes the line of JSON that the parent reads: the last.
fn tell(what: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(what)?;
    writeln!(io::stderr(), "\n{json}")
}

/// Does a job within `limits` on descriptor 0: `result` makes the bytes for descriptor 1 out of those read, and says
/// where they can begin.
fn work(
    limits: JobLimits,
    expected: &str,
    result: impl FnOnce(&[u8]) -> Result<(Vec<u8>, EntryPoints), Refusal>,
) -> Result<Told, ChildError> {
    confine(limits).map_err(ChildError::Confine)?;
    // Read at the end, when no file can be opened any more.
    let status = File::open("/proc/self/status").ok();
    jail::lock_compiler()?;
    let wasm = read().map_err(ChildError::Read)?;
    let found = sha256_hex(&wasm);
    if found != expected {
        let expected = expected.to_owned();
        return Err(Refusal::OtherContent { found, expected }.into());
    }
    let (bytes, entry_points) = result(&wasm)?;
    let write = || File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(&bytes);
    write().map_err(ChildError::Write)?;
    Ok(Told { peak_bytes: status.and_then(peak_bytes), entry_points })
}

fn read() -> io::Result<Vec<u8>> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let length = input.metadata()?.len().min(WASM_BYTES_MAX);
    let mut wasm = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    input.read_exact_at(&mut wasm, 0)?;
    Ok(wasm)
}

/// Most memory that this process has used (proc(5), `VmHWM`). What the kernel tells the parent
/// (getrusage(2), `ru_maxrss`) can be the parent's own, from before the child's exec.
fn peak_bytes(mut file: File) -> Option<u64> {
    let mut status = String::new();
    file.read_to_string(&mut status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Gives up what the job does not need.
fn confine(limits: JobLimits) -> io::Result<()> {
    let cpu = limits.cpu_seconds;
    // Behind the first limit of CPU time comes SIGXCPU, which tells the parent why; behind the second,
    // SIGKILL, which does not.
    jail::end_with_parent_within(&[
        (Resource::As, limits.address_space_bytes, limits.address_space_bytes),
        (Resource::Cpu, cpu, cpu.saturating_add(1)),
        (Resource::Nofile, OPEN_FILES_MAX, OPEN_FILES_MAX),
        (Resource::Core, 0, 0),
    ])
}
