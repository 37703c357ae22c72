//! Running a [`Workload`] in a micro-VM of this process, and the exit status that comes of it.
//!
//! Rule: a process runs one micro-VM and then ends with its status, so that signals, waiting and
//! resource limits are the kernel's business. `hyperlight run` does it in its own process; the shim
//! starts a VMM process per task, which is [`child_main`].
//!
//! | Status | Means |
//! |---|---|
//! | 0 to 255 | the program ended with this status; of a larger one, the low eight bits |
//! | 124 | the time limit of `hyperlight run --timeout` ended it |
//! | 125 | an error of ours: no KVM, no memory on the host |
//! | 126 | the program cannot run here |
//! | 127 | there is no such file (`hyperlight run`) |
//! | 134 | the program trapped, or broke the contract between guest and host |
//! | 137 | the program did not get along with the micro-VM's memory, or was killed (SIGKILL) |
//! | 143 | the program was asked to end (SIGTERM) |

mod child;
mod signals;
mod source;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use abi::AbortKind;
use vmm::{Exit, Fault, MicroVm, RunStats, Shell};

use crate::http::ServiceError;
use crate::workload::{MEMORY_BYTES_DEFAULT, Workload, size};

pub(crate) use self::child::tell;
pub use self::child::{SUBCOMMAND, child_main, taken_over_main};
pub use self::source::Source;

/// Exit status after a time limit, as timeout(1) has it.
pub const STATUS_TIMED_OUT: u8 = 124;
/// Exit status after an error of ours.
pub const STATUS_ERROR: u8 = 125;
/// Exit status for a program that cannot run here.
pub const STATUS_CANNOT_RUN: u8 = 126;
/// Exit status for a file that does not exist.
pub const STATUS_NOT_FOUND: u8 = 127;
/// Exit status after a trap or a breach of the contract: 128 + SIGABRT.
pub const STATUS_ABORTED: u8 = 134;
/// Exit status when memory ran out, as the kernel's OOM killer gives it: 128 + SIGKILL.
pub const STATUS_OUT_OF_MEMORY: u8 = 137;

/// Why a workload could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A directory cannot be opened.
    #[error("open directory {} for the program", path.display())]
    OpenDir {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host side could not be set up.
    #[error("set up what the program may use")]
    Host(#[from] vmm::host::Error),
    /// The micro-VM failed.
    #[error(transparent)]
    Vmm(#[from] vmm::Error),
    /// Requests cannot be served.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The watch over the time limit could not be started.
    #[error("start the watch over the time limit")]
    Watch(#[source] io::Error),
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What it cost.
    pub stats: RunStats,
}

impl Outcome {
    /// The exit status to end the process with: see the table above.
    #[must_use]
    pub fn status(&self) -> u8 {
        status(&self.exit)
    }
}

/// A virtual machine for whatever will run: can be had before anybody knows that.
#[derive(Debug)]
pub struct Standby(Shell);

impl Standby {
    /// Makes a virtual machine.
    ///
    /// # Errors
    ///
    /// [`RunError::Vmm`].
    pub fn new() -> Result<Self, RunError> {
        Ok(Self(Shell::new()?))
    }
}

/// What the node's cache has for a start, and what saves it.
#[derive(Debug, Default)]
pub struct Cached {
    /// The guest image ([`crate::snapshots::image`]).
    pub image: Option<File>,
    /// The snapshot of the program ([`crate::snapshots::find_or_make`]).
    pub snapshot: Option<File>,
}

/// A micro-VM with its workload.
#[derive(Debug)]
pub enum Booted {
    /// It can run.
    Ready(MicroVm),
    /// The guest has ended while it loaded the program.
    Ended(Exit),
}

/// Starts a micro-VM for `workload`, whose compiled program is `program`, with the standard streams of this
/// process. Everything that the workload names is opened here. It starts from the snapshot that is `cached`, or from one
/// that is made here for this start alone.
///
/// # Errors
///
/// [`RunError`].
pub fn boot(
    workload: &Workload,
    program: &File,
    standby: Standby,
    cached: Cached,
) -> Result<Booted, RunError> {
    Ok(match Source::open(workload, program, cached)? {
        Ok(source) => Booted::Ready(source.start(standby, &source.params(), source.host()?)?),
        Err(exit) => Booted::Ended(exit),
    })
}

impl Booted {
    /// Runs the program to its end, or until `timeout` has passed; the exit is then
    /// [`Fault::Stopped`].
    ///
    /// # Errors
    ///
    /// [`RunError::Vmm`], [`RunError::Watch`].
    pub fn run(self, timeout: Option<Duration>) -> Result<Outcome, RunError> {
        let vm = match self {
            Self::Ready(vm) => vm,
            Self::Ended(exit) => return Ok(Outcome { exit, stats: RunStats::default() }),
        };
        let (ended, watch) = channel::<()>();
        if let Some(timeout) = timeout {
            let kick = vm.kick();
            thread::Builder::new()
                .name("timeout".to_owned())
                .spawn(move || {
                    if watch.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                        kick.stop();
                    }
                })
                .map_err(RunError::Watch)?;
        }
        let (exit, stats) = vm.run()?;
        drop(ended);
        Ok(Outcome { exit, stats })
    }
}

/// The exit status that `exit` becomes.
pub(crate) fn status(exit: &Exit) -> u8 {
    match exit {
        Exit::Status(status) => status.to_le_bytes()[0],
        Exit::Fault(Fault::Stopped) => STATUS_TIMED_OUT,
        Exit::Fault(Fault::Abort { kind: AbortKind::BadProgram, .. }) => STATUS_CANNOT_RUN,
        Exit::Fault(Fault::Abort { kind: AbortKind::OutOfMemory, .. }) => STATUS_OUT_OF_MEMORY,
        // What else there is, and may be added, is the guest's doing.
        Exit::Fault(_) => STATUS_ABORTED,
    }
}

/// The line for the person who started `workload` if it ended by anything but a status of its own.
/// (A trap is one: the guest has reported it already.)
#[must_use]
pub fn message(workload: &Workload, exit: &Exit) -> Option<String> {
    let Exit::Fault(fault) = exit else { return None };
    let name = workload.program_name.as_str();
    let advice = match fault {
        Fault::Abort { kind: AbortKind::OutOfMemory, .. } => {
            let memory = workload.memory.get();
            let more = memory.saturating_mul(4);
            let more = more.clamp(MEMORY_BYTES_DEFAULT, abi::layout::RAM_BYTES_MAX);
            format!(
                "; the micro-VM has {}: try {} (`--memory`, or the container's memory limit)",
                size(memory),
                size(more)
            )
        }
        _ => String::new(),
    };
    Some(format!("hyperlight: {name}: {fault}{advice}"))
}

#[cfg(test)]
mod tests;
