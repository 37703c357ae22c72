//! The compiler as the rest of the shim sees it: a child process per job.
//!
//! Rule: whatever the input does to the compiler (crash, memory, time) ends the child and is a
//! [`CompileError`] here. What the child writes is believed only as far as it was asked for: a program
//! goes to a micro-VM that does not trust it either, everything else is parsed and bounded.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::num::NonZero;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::child::{INSPECTION_BYTES_MAX, Job, JobLimits, OTHER_BUILD, REFUSED, Told};
use super::inspection::Inspection;
use super::refusal::one_line;
use super::turn::{self, Turn};
use super::{BUILD, Entry, EntryPoints, Refusal, Withheld};
use crate::aot::{Wasm, sha256_hex};
use crate::settings::Settings;
use crate::workload::size;

/// Most threads of the compiler; more hardly help a single program.
const THREADS_MAX: usize = 8;
/// Most bytes of the child's standard error that are kept.
const STDERR_BYTES_MAX: usize = 64 << 10;
/// Most bytes of settings.
const SETTINGS_BYTES_MAX: usize = 1 << 20;
/// Name of the command whose file has the compiler.
const COMMAND: &str = "hyperlight";
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
    #[error(
        "{} took more than {} s of CPU time, or {} s in all, and was stopped",
        .0.doing(), .1.cpu_seconds, .1.wall_time.as_secs()
    )]
    TooLong(Job, JobLimits),
    /// The compiler took too much memory.
    #[error(
        "{} took more than {} of memory and was stopped",
        .0.doing(), size(.1.address_space_bytes)
    )]
    TooMuchMemory(Job, JobLimits),
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
    /// The compiler is of another release, or one that was built apart.
    #[error(
        "the compiler ({}) is not of the same build as this program: install both of one release",
        .0.display()
    )]
    OtherBuild(PathBuf),
    /// The child could not be started.
    #[error("start the compiler ({})", program.display())]
    Start {
        /// The executable.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The child said something else than what it was asked.
    #[error("the compiler's answer makes no sense")]
    Nonsense(#[source] serde_json::Error),
    /// What was a library when it was compiled is none.
    #[error("the file changed while it was read")]
    Changed,
    /// The child could not be watched.
    #[error("wait for the compiler")]
    Wait(#[source] io::Error),
}

impl CompileError {
    /// Whether another file would fare better.
    #[must_use]
    pub const fn is_about_the_file(&self) -> bool {
        match self {
            Self::Refused(_) | Self::TooLong(..) | Self::TooMuchMemory(..) => true,
            Self::Crashed { .. }
            | Self::CreateMemory(_)
            | Self::OtherBuild(_)
            | Self::Start { .. }
            | Self::Nonsense(_)
            | Self::Changed
            | Self::Wait(_) => false,
        }
    }
}

/// What a compilation took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileCost {
    /// By the clock.
    pub time: Duration,
    /// Most memory of the compiler's process, in bytes; `None` if it could not find out.
    pub peak_bytes: Option<u64>,
}

impl fmt::Display for CompileCost {
    /// `8.3s with 331.7 MiB of memory`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?}", self.time)?;
        match self.peak_bytes {
            Some(bytes) => write!(f, " with {} of memory", size(bytes)),
            None => Ok(()),
        }
    }
}

/// A program fresh from the compiler.
#[derive(Debug)]
pub struct CompiledFile {
    /// Sealed memory with the program and nothing else.
    pub file: File,
    /// Where it can begin.
    pub entry_points: EntryPoints,
    /// What it took.
    pub cost: CompileCost,
}

/// Runs [`compile`](super::compile) in child processes.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    /// The same file, if it is held open.
    held: Option<Arc<OwnedFd>>,
    /// Where compilations take turns, and how many have one.
    turns: Option<(PathBuf, usize)>,
    /// What one compilation may use.
    limits: JobLimits,
}

impl Compiler {
    /// This executable again, which answers with [`child_main`](super::child_main).
    #[must_use]
    pub fn this_executable() -> Self {
        Self::at("/proc/self/exe")
    }

    /// The `hyperlight` command in the directory of this executable, as it is at this moment: it is held open, so
    /// that a release that replaces both serves those that start later.
    #[must_use]
    pub fn beside_this_executable() -> Self {
        let own = std::env::current_exe().unwrap_or_default();
        let program = own.with_file_name(COMMAND);
        // Where there is none, the first that needs it is told so.
        let held = open(&program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
        Self { held: held.map(Arc::new), ..Self::at(program) }
    }

    /// Another executable that answers with [`child_main`](super::child_main). What it may use, and how many
    /// compile at once, is as the node's [`Settings`] have it.
    #[must_use]
    pub fn at(program: impl Into<PathBuf>) -> Self {
        let node = Settings::of_node();
        let turns = node.aot_parallel.map_or_else(turn::default_turns, NonZero::get);
        let turns = turn::default_dir().map(|dir| (dir, turns));
        let limits = JobLimits::of_compilation(node.aot_memory_bytes, node.aot_cpu_seconds);
        Self { program: program.into(), held: None, turns, limits }
    }

    /// A path of the executable in this process.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.held {
            Some(held) => format!("/proc/self/fd/{}", held.as_raw_fd()).into(),
            None => self.program.clone(),
        }
    }

    /// The same, taking turns with all that were given the directory `dir`: `turns` compile at once. If
    /// nothing is said, root's processes and those of a user's session take turns with one another, and
    /// as many compile as there are CPUs, or as the node's owner has chosen.
    #[must_use]
    pub fn with_turns(self, dir: impl Into<PathBuf>, turns: NonZero<usize>) -> Self {
        Self { turns: Some((dir.into(), turns.get())), ..self }
    }

    /// Longest time of a compilation by the clock, which is also the longest wait for a turn.
    pub(crate) const fn wall_time_max(&self) -> Duration {
        self.limits.wall_time
    }

    /// Compiles `wasm` into sealed memory, for this CPU without what is `withheld`. `waiting` is called
    /// when that takes longer than a second: once for others that compile, once for this compilation.
    ///
    /// # Errors
    ///
    /// [`CompileError`].
    pub fn compile(
        &self,
        wasm: &Wasm,
        entry: Entry,
        withheld: Withheld,
        waiting: &dyn Fn(),
    ) -> Result<CompiledFile, CompileError> {
        let wait_max = self.wall_time_max();
        let turn =
            self.turns.as_ref().map(|(dir, turns)| Turn::take(dir, *turns, wait_max, waiting));
        let started = Instant::now();
        let [memory_bytes, cpu_seconds] = &self.limits.args();
        let withheld = withheld.to_string();
        let args = [wasm.sha256(), entry.word(), &withheld, memory_bytes, cpu_seconds];
        let (file, told) = self.child(Job::Compile, wasm.file(), &args, waiting)?;
        drop(turn);
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).map_err(|error| CompileError::CreateMemory(error.into()))?;
        let cost = CompileCost { time: started.elapsed(), peak_bytes: told.peak_bytes };
        Ok(CompiledFile { file, entry_points: told.entry_points, cost })
    }

    /// Everything that a program depends on beside its file: what [`settings`](super::settings) says.
    ///
    /// # Errors
    ///
    /// [`CompileError`].
    pub(crate) fn settings(&self, withheld: Withheld) -> Result<Vec<u8>, CompileError> {
        let nothing = File::open("/dev/null").map_err(CompileError::CreateMemory)?;
        let args = [sha256_hex(b""), withheld.to_string()];
        let (file, _) =
            self.child(Job::Settings, &nothing, &args.each_ref().map(String::as_str), &|| {})?;
        answer(&file, SETTINGS_BYTES_MAX)
    }

    /// Says what `wasm` is.
    ///
    /// # Errors
    ///
    /// [`CompileError`]: the file cannot be parsed. That it cannot run is no error, but told.
    pub fn inspect(&self, wasm: &Wasm, waiting: &dyn Fn()) -> Result<Inspection, CompileError> {
        let (file, _) = self.child(Job::Inspect, wasm.file(), &[wasm.sha256()], waiting)?;
        let json = answer(&file, INSPECTION_BYTES_MAX)?;
        serde_json::from_slice(&json).map_err(CompileError::Nonsense)
    }

    /// Runs a child to its end. Its result is in the file.
    fn child(
        &self,
        job: Job,
        input: &File,
        args: &[&str],
        waiting: &dyn Fn(),
    ) -> Result<(File, Told), CompileError> {
        let limits = match job {
            Job::Compile => self.limits,
            Job::Inspect | Job::Settings => job.limits(),
        };
        let create = |error: rustix::io::Errno| CompileError::CreateMemory(error.into());
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let result = File::from(memfd_create("program", flags).map_err(create)?);
        let start = |source| CompileError::Start { program: self.program.clone(), source };
        let failed = |status: ExitStatus, said: &[u8]| match status.code() {
            Some(code) if code == i32::from(OTHER_BUILD) => {
                CompileError::OtherBuild(self.program.clone())
            }
            _ => failure(job, limits, status, said),
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
        let mut child = Command::new(self.file())
            .args([job.subcommand(), BUILD])
            .args(args)
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .current_dir("/")
            .stdin(input.try_clone().map_err(start)?)
            .stdout(result.try_clone().map_err(start)?)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let ended = watch(&mut child, job, limits, waiting);
        if ended.is_err() {
            // It may have ended by itself meanwhile; what counts is the reason already at hand.
            let _ = child.kill();
        }
        let status = child.wait().map_err(CompileError::Wait)?;
        let stderr = ended?;
        if !status.success() {
            return Err(failed(status, &stderr));
        }
        Ok((result, serde_json::from_slice(last_line(&stderr)).map_err(CompileError::Nonsense)?))
    }
}

/// What a child has written, at most `max` bytes of it.
fn answer(file: &File, max: usize) -> Result<Vec<u8>, CompileError> {
    let bytes = file.metadata().map_err(CompileError::Wait)?.len();
    let mut answer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(max)];
    file.read_exact_at(&mut answer, 0).map_err(CompileError::Wait)?;
    Ok(answer)
}

/// Reads what the child says until it has ended.
fn watch(
    child: &mut Child,
    job: Job,
    limits: JobLimits,
    waiting: &dyn Fn(),
) -> Result<Vec<u8>, CompileError> {
    let started = Instant::now();
    let failed = |error: rustix::io::Errno| CompileError::Wait(error.into());
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).map_err(failed)?;
    let mut stderr = child.stderr.take();
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    let mut told = false;
    loop {
        let limit = if told { limits.wall_time } else { PROGRESS_AFTER };
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
            return Err(CompileError::TooLong(job, limits));
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

/// What the child says in the end: libraries may have said something before.
fn last_line(said: &[u8]) -> &[u8] {
    said.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// What a child that did not succeed means.
fn failure(job: Job, limits: JobLimits, status: ExitStatus, stderr: &[u8]) -> CompileError {
    if status.code() == Some(REFUSED.into())
        && let Ok(refusal) = serde_json::from_slice(last_line(stderr))
    {
        return CompileError::Refused(refusal);
    }
    let said = String::from_utf8_lossy(stderr);
    if status.signal() == Some(Signal::XCPU.as_raw()) {
        CompileError::TooLong(job, limits)
    } else if said.contains("memory allocation of") || said.contains("Cannot allocate memory") {
        CompileError::TooMuchMemory(job, limits)
    } else {
        CompileError::Crashed { status, said: one_line(&said) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(signal: Signal, said: &[u8]) -> CompileError {
        let job = Job::Inspect;
        failure(job, job.limits(), ExitStatus::from_raw(signal.as_raw()), said)
    }

    #[test]
    fn a_child_at_its_limits_is_about_the_file_and_a_crash_is_not() {
        let too_long = ended(Signal::XCPU, b"");
        assert!(too_long.to_string().starts_with("inspecting took more than 30 s"), "{too_long}");
        let too_much = ended(Signal::ABORT, b"memory allocation of 4096 bytes failed");
        assert!(too_much.to_string().contains("4.0 GiB"), "{too_much}");
        let crash = ended(Signal::SEGV, b"last\nwords");
        assert!(crash.to_string().ends_with(": last; words"), "{crash}");
        let about = [too_long, too_much, crash].map(|error| error.is_about_the_file());
        assert_eq!(about, [true, true, false]);
    }

    #[test]
    fn a_refusal_is_understood_behind_what_libraries_say() {
        let said = b"thread main panicked at x.rs\n\n\"Empty\"\n";
        let status = ExitStatus::from_raw(i32::from(REFUSED) << 8);
        let error = failure(Job::Compile, Job::Compile.limits(), status, said);
        assert!(matches!(error, CompileError::Refused(Refusal::Empty)), "{error}");
    }
}
