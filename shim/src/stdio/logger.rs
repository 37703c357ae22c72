//! A logging program (`binary://`): reads what a process writes, and ends after it.
//!
//! Its protocol is containerd's: descriptor 3 is the process's standard output, 4 its standard error, and it
//! closes descriptor 5 when it is ready; `CONTAINER_ID` and `CONTAINER_NAMESPACE` are its environment. To have
//! the descriptors at these numbers, it is started through this executable ([`child_main`]).
//!
//! Rule: it is a program of the node's operator and runs as the shim does. It gets time to write what it has
//! read; then it is asked to end, then killed. It never stays behind.
//!
//! Source: containerd `core/runtime/v2/logging/logging_unix.go`, `cmd/containerd-shim-runc-v2/process/io.go`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::uri::LogProgram;
use super::{Owner, StdioError};

/// The hidden subcommand that becomes a logging program.
pub(crate) const SUBCOMMAND: &str = "__logger";

/// How long a logging program may take to say that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// How long it has to write what it has read, after the end of what it reads.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How long it has to end after it was asked to.
const TERM_LIMIT: Duration = Duration::from_secs(7);

/// Why a logging program does not come up.
#[derive(Debug, thiserror::Error)]
pub enum LoggerError {
    /// Its file is not there, or cannot be executed.
    #[error("look for an executable file")]
    File(#[source] io::Error),
    /// The pipes to it could not be made.
    #[error("make its pipes")]
    Pipes(#[source] io::Error),
    /// The process could not be started.
    #[error("start its process")]
    Spawn(#[source] io::Error),
    /// It has ended.
    #[error("it has ended ({0}) before it was ready")]
    Ended(ExitStatus),
    /// It hangs.
    #[error("it was not ready within {} s", READY_LIMIT.as_secs())]
    Hangs,
}

/// A logging program that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Logger {
    path: PathBuf,
    child: Child,
}

/// The process's ends of the pipes for standard output and standard error.
type Ends = (OwnedFd, OwnedFd);

impl Logger {
    /// Starts `program` for the streams of `owner`.
    pub(super) async fn start(
        program: &LogProgram,
        owner: Owner<'_>,
    ) -> Result<(Self, Ends), StdioError> {
        let failed = |source| StdioError::Logger { path: program.path.clone(), source };
        Self::start_at(program, owner, "/proc/self/exe").await.map_err(failed)
    }

    async fn start_at(
        program: &LogProgram,
        owner: Owner<'_>,
        executable: &str,
    ) -> Result<(Self, Ends), LoggerError> {
        access(&program.path, Access::EXEC_OK).map_err(|errno| LoggerError::File(errno.into()))?;
        let (out_reader, out_writer) = io::pipe().map_err(LoggerError::Pipes)?;
        let (err_reader, err_writer) = io::pipe().map_err(LoggerError::Pipes)?;
        let (ready, is_ready) = io::pipe().map_err(LoggerError::Pipes)?;
        let mut child = Command::new(executable)
            .arg(SUBCOMMAND)
            .arg(&program.path)
            .args(&program.args)
            .env_clear()
            .env("CONTAINER_ID", owner.id)
            .env("CONTAINER_NAMESPACE", owner.namespace)
            .current_dir("/")
            .stdin(out_reader)
            .stdout(err_reader)
            .stderr(is_ready)
            .kill_on_drop(true)
            .spawn()
            .map_err(LoggerError::Spawn)?;
        match tokio::time::timeout(READY_LIMIT, closed(ready)).await {
            Err(_elapsed) => return Err(LoggerError::Hangs),
            Ok(read) => read.map_err(LoggerError::Pipes)?,
        }
        if is_exiting(child.id()) {
            return Err(LoggerError::Ended(child.wait().await.map_err(LoggerError::Pipes)?));
        }
        let logger = Self { path: program.path.clone(), child };
        Ok((logger, (out_writer.into(), err_writer.into())))
    }

    /// Waits until it has ended, now that nothing comes any more; helps it in the end.
    pub(super) async fn finish(mut self) {
        if tokio::time::timeout(WRITE_LIMIT, self.child.wait()).await.is_ok() {
            return;
        }
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // It may end just here.
            let _ = kill_process(id, Signal::TERM);
        }
        if tokio::time::timeout(TERM_LIMIT, self.child.wait()).await.is_err() {
            log::warn!("the logging program {} does not end: killed", self.path.display());
            // The reaping that comes with it can fail only if it is gone.
            let _ = self.child.kill().await;
        }
    }
}

/// Whether a process is on its way out, and has closed its descriptors because of that: the flags in its
/// `stat` (proc_pid_stat(5)) have `PF_EXITING` from before that until it is reaped.
fn is_exiting(pid: Option<u32>) -> bool {
    const PF_EXITING: u32 = 0x4;
    let Some(pid) = pid else { return true };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything: the state, five numbers, the flags.
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse().ok());
    flags.is_none_or(|flags: u32| flags & PF_EXITING != 0)
}

/// Waits for a byte, or the end, of a pipe.
async fn closed(pipe: PipeReader) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe.into())?;
    pipe.read(&mut [0]).await.map(drop)
}

/// Becomes the logging program that `arguments` (without the subcommand) name, with the standard streams of
/// this process as its descriptors 3, 4 and 5. Returns only if it cannot.
#[must_use]
pub(crate) fn child_main(arguments: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = arguments.split_first() else { return ExitCode::FAILURE };
    match become_logger(program, arguments) {
        Ok(never) => match never {},
        // Its standard error is a pipe that is read for its end only.
        Err(_) => ExitCode::from(127),
    }
}

fn become_logger(
    program: &OsString,
    arguments: &[OsString],
) -> io::Result<std::convert::Infallible> {
    crate::inherited::close_all()?;
    // Nothing else is open: each gets the lowest number that is free, from 3 on.
    let streams = [
        pass_on(rustix::stdio::stdin())?,
        pass_on(rustix::stdio::stdout())?,
        pass_on(rustix::stdio::stderr())?,
    ];
    if streams != [3, 4, 5] {
        return Err(io::Error::other("descriptors 3, 4 and 5 are in use"));
    }
    let null = || File::options().read(true).write(true).open("/dev/null").map(Stdio::from);
    Err(std::process::Command::new(program)
        .args(arguments)
        .stdin(null()?)
        .stdout(null()?)
        .stderr(null()?)
        .exec())
}

/// Duplicates a descriptor to one that an exec(2) leaves open.
fn pass_on(stream: impl AsFd) -> io::Result<i32> {
    let duplicate = fcntl_dupfd_cloexec(stream, 3)?;
    fcntl_setfd(&duplicate, FdFlags::empty())?;
    Ok(duplicate.into_raw_fd())
}
