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

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use abi::AbortKind;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use vmm::host::{DirAccess, Host, Stdio};
use vmm::{BootParams, Config, Exit, Fault, Image, MicroVm, Program, RunStats};

use crate::error::line;
use crate::guest_image::GUEST_IMAGE;
use crate::workload::{MEMORY_BYTES_DEFAULT, Preopen, Text, Workload, size};

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
    /// The compiled program cannot be opened.
    #[error("open the compiled program {}", path.display())]
    OpenProgram {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
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

/// A booted micro-VM with its workload.
#[derive(Debug)]
pub struct Booted(MicroVm);

/// Boots a micro-VM for `workload`, with the standard streams of this process. Everything that the
/// workload names is opened here.
///
/// # Errors
///
/// [`RunError`].
pub fn boot(workload: &Workload) -> Result<Booted, RunError> {
    let path = &workload.program;
    let program =
        File::open(path).map_err(|source| RunError::OpenProgram { path: path.clone(), source })?;
    let program = Program::from_file(&program)?;
    let image = Image::parse(GUEST_IMAGE)?;
    let config = Config::new(workload.memory.get())?;
    let mut host = Host::new(Stdio::inherit()?)?;
    for preopen in &workload.preopens {
        let access = if preopen.read_only { DirAccess::ReadOnly } else { DirAccess::ReadWrite };
        host.preopen(open_dir(preopen)?, preopen.guest_path.as_str(), access)?;
    }
    let params = boot_params(workload);
    Ok(Booted(MicroVm::boot(&config, &image, &program, &params, host)?))
}

/// What the program is told. Where the workload has nothing, the boot information has no bytes.
fn boot_params(workload: &Workload) -> BootParams {
    let bytes = |text: Option<&Text>| text.map_or_else(Vec::new, |text| text.as_str().into());
    BootParams {
        program_name: workload.program_name.as_str().into(),
        cwd: bytes(workload.cwd.as_ref()),
        invoke: bytes(workload.invoke.as_ref()),
        args: workload.args.iter().map(|arg| arg.as_str().into()).collect(),
        env: workload.env.iter().map(|entry| entry.as_str().into()).collect(),
    }
}

fn open_dir(preopen: &Preopen) -> Result<OwnedFd, RunError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(&preopen.host_path, flags, Mode::empty()).map_err(|error| RunError::OpenDir {
        path: preopen.host_path.clone(),
        source: error.into(),
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
        let (ended, watch) = channel::<()>();
        if let Some(timeout) = timeout {
            let kick = self.0.kick();
            thread::Builder::new()
                .name("timeout".to_owned())
                .spawn(move || {
                    if watch.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                        kick.stop();
                    }
                })
                .map_err(RunError::Watch)?;
        }
        let (exit, stats) = self.0.run()?;
        drop(ended);
        Ok(Outcome { exit, stats })
    }
}

/// The exit status that `exit` becomes.
fn status(exit: &Exit) -> u8 {
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

/// The hidden subcommand that an executable answers with [`child_main`].
pub const SUBCOMMAND: &str = "__microvm";
/// Descriptor from which a VMM process reads its [`Workload`] as JSON, to the end.
pub const WORKLOAD_FD: RawFd = 3;
/// Descriptor on which it reports one line: see [`parse_report`].
pub const REPORT_FD: RawFd = 4;
/// Descriptor on which it waits for [`START`].
pub const START_FD: RawFd = 5;
/// The byte that starts the program. If the pipe ends without it, the process ends.
pub const START: u8 = b'S';
/// Longest workload that is read: arguments and environment have at most 4 MiB, and JSON may take six
/// bytes for one.
const WORKLOAD_BYTES_MAX: u64 = 32 << 20;

/// What a VMM process reports: that the micro-VM stands ready, or why not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Report {
    Ready,
    Error(String),
}

/// Reads the line that a VMM process reports: ready, or what is wrong. `None` if it is no report.
#[must_use]
pub fn parse_report(line: &str) -> Option<Result<(), String>> {
    match serde_json::from_str(line) {
        Ok(Report::Ready) => Some(Ok(())),
        Ok(Report::Error(message)) => Some(Err(message)),
        Err(_) => None,
    }
}

/// Why a VMM process does not come to running its program.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("take the descriptors {WORKLOAD_FD} to {START_FD}")]
    Inherit(#[source] io::Error),
    #[error("read the workload")]
    Read(#[source] io::Error),
    #[error("parse the workload")]
    Parse(#[source] serde_json::Error),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("report to the shim")]
    Report(#[source] io::Error),
}

/// The VMM process of a task.
///
/// Reads a [`Workload`] from [`WORKLOAD_FD`], opens everything it names and boots the micro-VM, reports
/// on [`REPORT_FD`], waits for [`START`] on [`START_FD`], runs the program with the process's standard
/// streams, and returns the status to exit with. Signals keep their default actions. If the start pipe
/// ends without a byte, the status is that of an error.
#[must_use]
pub fn child_main() -> ExitCode {
    let ended = crate::inherited::take([WORKLOAD_FD, REPORT_FD, START_FD])
        .map_err(ChildError::Inherit)
        .and_then(|[work, report, start]| serve(&work.into(), report.into(), start.into()));
    match ended {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            tell(&format!("hyperlight: {}", line(&error)));
            ExitCode::from(STATUS_ERROR)
        }
    }
}

fn serve(work: &File, mut report: File, mut start: File) -> Result<u8, ChildError> {
    let booted = read_workload(work).and_then(|workload| {
        let booted = boot(&workload)?;
        Ok((workload, booted))
    });
    let (workload, booted) = match booted {
        Ok(ready) => ready,
        Err(error) => {
            // The report carries the message; without a reader nobody is left to tell.
            let _ = write_report(&mut report, &Report::Error(line(&error)));
            return Ok(STATUS_ERROR);
        }
    };
    write_report(&mut report, &Report::Ready).map_err(ChildError::Report)?;
    drop(report);
    match start.read_exact(&mut [0]) {
        Ok(()) => {}
        // The shim is gone, or has changed its mind.
        Err(_) => return Ok(STATUS_ERROR),
    }
    drop(start);
    let outcome = booted.run(None)?;
    if let Some(message) = message(&workload, &outcome.exit) {
        tell(&message);
    }
    Ok(outcome.status())
}

fn read_workload(work: &File) -> Result<Workload, ChildError> {
    let mut json = Vec::new();
    work.take(WORKLOAD_BYTES_MAX).read_to_end(&mut json).map_err(ChildError::Read)?;
    serde_json::from_slice(&json).map_err(ChildError::Parse)
}

fn write_report(pipe: &mut File, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    pipe.write_all(&line)
}

/// Writes a line to standard error. A standard error that is gone is no reason to fail.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests;
