//! The process in which a snapshot is made.
//!
//! Rule: a snapshot is shared by everyone who runs the program, so it is made by nobody's process: before there is a
//! tenant's file, stream, argument or control group, by a child that reads the compiled program from descriptor 0,
//! writes the snapshot to descriptor 1 and says on descriptor 2 what it could not do. It has no other descriptors, no
//! environment of ours, no privileges, can open no file and make no socket ([`jail::lock_maker`]), has limits on
//! memory and time, and dies with its parent.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, pidfd_open};
use vmm::{Image, Program};

use super::MAKER_MEMORY_BYTES;
use crate::compile::one_line;
use crate::guest_image::GUEST_IMAGE;
use crate::jail::{self, JailError};

/// The hidden subcommand that an executable answers with [`child_main`].
pub const SUBCOMMAND: &str = "__snapshot";

/// Exit status of a child whose guest could not load the program.
const ENDED: u8 = 3;

/// Longest time of making one, by the clock and of CPU: milliseconds for most programs, and at most what start functions and
/// a rehearsal may take; the rest is for a node that is busy. What takes longer hangs.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Limits of the child. Address space: a few times what micro-VMs of [`MAKER_MEMORY_BYTES`] and a compiled program reserve, so
/// that a process that was taken over is bounded. The file: a snapshot's head and all of that memory, which has holes.
const LIMITS: &[(Resource, u64, u64)] = &[
    (Resource::As, 16 << 30, 16 << 30),
    (Resource::Cpu, TIME_MAX.as_secs(), TIME_MAX.as_secs()),
    (Resource::Fsize, 2 * MAKER_MEMORY_BYTES, 2 * MAKER_MEMORY_BYTES),
    (Resource::Nofile, 1024, 1024),
    (Resource::Core, 0, 0),
];

/// Most bytes that are read of what the child says.
const SAID_BYTES_MAX: u64 = 4096;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    /// The child could not be started, or watched.
    #[error("start the process that makes snapshots ({})", program.display())]
    Start {
        /// The executable.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no memory for it.
    #[error("create memory for the snapshot")]
    Memory(#[source] io::Error),
    /// The guest cannot load the program, and says why when it is run.
    #[error("the program cannot be loaded")]
    Ended,
    /// The child did not end.
    #[error("making a snapshot took more than {} s and was stopped", TIME_MAX.as_secs())]
    TooLong,
    /// The child failed.
    #[error("making a snapshot failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said last, one line.
        said: String,
    },
}

/// What a child does not come to an end for.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("limit the process")]
    Limits(#[source] io::Error),
    #[error("use the descriptors of the process")]
    Descriptors(#[source] io::Error),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Vmm(#[from] vmm::Error),
    #[error("write the snapshot")]
    Write(#[source] io::Error),
}

/// Makes a snapshot of the compiled `program` and writes it into `file`, which is empty, by a child process that is
/// the executable at `maker`. Blocks.
///
/// # Errors
///
/// See [`MakeError`]; what is in the file then is no snapshot.
pub(super) fn make(maker: &Path, program: &File, file: &File) -> Result<(), MakeError> {
    let start = |source| MakeError::Start { program: maker.to_owned(), source };
    let mut child = Command::new(maker)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(program.try_clone().map_err(start)?)
        .stdout(file.try_clone().map_err(start)?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let in_time = wait(Pid::from_child(&child));
    if !matches!(in_time, Ok(true)) {
        // It may have ended by itself meanwhile; what counts is the reason already at hand.
        let _ = child.kill();
    }
    let status = child.wait().map_err(start)?;
    if !in_time.map_err(start)? {
        return Err(MakeError::TooLong);
    }
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(ENDED) => Err(MakeError::Ended),
        Some(_) | None => {
            let mut said = Vec::new();
            if let Some(stderr) = child.stderr {
                // What it could not say is not known.
                let _ = stderr.take(SAID_BYTES_MAX).read_to_end(&mut said);
            }
            let said = one_line(&String::from_utf8_lossy(&said));
            Err(MakeError::Failed { status, said })
        }
    }
}

/// Waits until the process has ended; `false` if that takes too long.
fn wait(pid: Pid) -> io::Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec { tv_sec: TIME_MAX.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The child: limits itself, reads, makes, writes.
#[must_use]
pub fn child_main() -> ExitCode {
    match locked(work) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Nobody is left to tell if this fails; the status says it too.
            let _ = writeln!(io::stderr(), "{}", crate::error::line(&error));
            ExitCode::FAILURE
        }
    }
}

/// As [`child_main`], but instead of making a snapshot `instead` is done: what a program could do that has taken the
/// process over. For the tests of the jail; no program that is deployed calls it.
#[must_use]
pub fn taken_over_main(instead: impl FnOnce() -> u8) -> ExitCode {
    locked(|| Ok(instead())).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Gives up what the work does not need, and does it. The limits bind the rest of this process' life.
fn locked(work: impl FnOnce() -> Result<u8, ChildError>) -> Result<u8, ChildError> {
    crate::inherited::close_all().map_err(ChildError::Descriptors)?;
    jail::end_with_parent_within(LIMITS).map_err(ChildError::Limits)?;
    // KVM, and what else cannot be opened any more afterwards.
    let _identity = vmm::machine_identity()?;
    jail::lock_maker()?;
    work()
}

fn work() -> Result<u8, ChildError> {
    let own = |fd: BorrowedFd<'_>| {
        fd.try_clone_to_owned().map(File::from).map_err(ChildError::Descriptors)
    };
    let (program, file) = (own(io::stdin().as_fd())?, own(io::stdout().as_fd())?);
    let image = Image::parse(GUEST_IMAGE)?;
    match super::make(&image, &Program::from_file(&program)?)? {
        Ok(snapshot) => snapshot.write_to(&file).map_err(ChildError::Write).map(|()| 0),
        Err(_exit) => Ok(ENDED),
    }
}
