//! The VMM process of a task: [`child_main`].
//!
//! Rule: until it has its work, the process holds a socket to the shim and a virtual machine without memory
//! ([`Standby`]), has one thread and has opened nothing for the task. Whatever fails before the start is reported to the shim; what
//! fails after it goes to the task's standard error. A shim that goes away before the start ends the
//! process; after the start the socket is closed, and nothing of the shim is left in it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::isatty;
use rustix::time::{ClockId, clock_gettime};

use super::{Booted, Cached, RunError, STATUS_ERROR, Source, Standby, boot, message, signals};
use crate::address;
use crate::cgroup::{self, CgroupError};
use crate::counts::Counts;
use crate::error::line;
use crate::http::{Port, Service};
use crate::jail::{JailError, Lock};
use crate::launch::channel::{Order, Orders, Report};
use crate::launch::confine::ConfineError;
use crate::launch::{Cost, PROCESS_NAME};
use crate::workload::Workload;

/// The hidden subcommand that an executable answers with [`child_main`].
pub const SUBCOMMAND: &str = "__microvm";

/// Why a VMM process does not come to running its program.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("put the VMM process's descriptors in order")]
    Descriptors(#[source] io::Error),
    #[error("read the shim's order")]
    Read(#[source] io::Error),
    #[error("the shim gave an order out of turn")]
    OutOfTurn,
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("take signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("report to the shim")]
    Report(#[source] io::Error),
}

/// The VMM process of a task. Its standard input is the socket over which the shim talks to it
/// (`launch/channel.rs`).
///
/// It goes where the shim sends it, takes a workload and its standard streams, boots the micro-VM,
/// reports, waits for the start, runs the program and returns the status to exit with. Signals keep
/// their default actions. If the shim goes away before the start, the status is that of an error.
///
/// `guarded` is the address of the shim: if the shim goes away before it has said anything, containerd does not know
/// of it, and the process removes the socket.
#[must_use]
pub fn child_main(guarded: Option<&Path>) -> ExitCode {
    process(guarded, Standing::run)
}

/// As [`child_main`], but instead of the program `instead` runs: what a guest could do that has taken the
/// process over. For the tests of the jail; no program that is deployed calls it.
#[must_use]
pub fn taken_over_main(instead: impl FnOnce() -> u8) -> ExitCode {
    process(None, |_standing| Ok(instead()))
}

/// The process, which ends with `run`.
fn process(
    guarded: Option<&Path>,
    run: impl FnOnce(Standing) -> Result<u8, ChildError>,
) -> ExitCode {
    // Without a name of its own the process is called after the link it was started by: `exe`.
    let _ = rustix::thread::set_name(&name());
    match take_socket().and_then(|socket| serve(Orders::new(socket), guarded, run)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            tell(&format!("hyperlight: {}", line(&error)));
            ExitCode::from(STATUS_ERROR)
        }
    }
}

fn name() -> std::ffi::CString {
    // Without NUL, as everyone can see.
    std::ffi::CString::new(PROCESS_NAME).unwrap_or_default()
}

fn take_socket() -> Result<UnixStream, ChildError> {
    crate::inherited::close_all().map_err(ChildError::Descriptors)?;
    let socket = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|errno| ChildError::Descriptors(errno.into()))?;
    Ok(UnixStream::from(socket))
}

fn serve(
    mut orders: Orders,
    guarded: Option<&Path>,
    run: impl FnOnce(Standing) -> Result<u8, ChildError>,
) -> Result<u8, ChildError> {
    signals::end_by_default().map_err(ChildError::Signals)?;
    // While the shim looks for the program.
    let standby = Standby::new();
    let (standing, cost) = match prepare(&mut orders, standby, guarded) {
        Ok(Some(ready)) => ready,
        Ok(None) => return Ok(STATUS_ERROR),
        Err(error) => {
            // The report carries the message; without a reader nobody is left to tell.
            let _ = orders.report(&Report::Error(line(&error)));
            return Ok(STATUS_ERROR);
        }
    };
    orders.report(&Report::Ready(cost)).map_err(ChildError::Report)?;
    match orders.next().map_err(ChildError::Read)? {
        Some(Order::Start) => {}
        Some(Order::Confine(_) | Order::Enter | Order::Join(_) | Order::Run(_)) => {
            return Err(ChildError::OutOfTurn);
        }
        // The shim is gone, or has changed its mind.
        None => return Ok(STATUS_ERROR),
    }
    drop(orders);
    run(standing)
}

/// What waits for its start, and the pipe for what is counted of it.
enum Standing {
    /// A program that runs to its end.
    Program(Box<Workload>, Box<Booted>, File),
    /// A component that handles requests, and its port.
    Service(Box<Service>, File),
}

/// Gets ready for the start, as the shim says; `None` if it says no more.
fn prepare(
    orders: &mut Orders,
    standby: Result<Standby, RunError>,
    mut guarded: Option<&Path>,
) -> Result<Option<(Standing, Cost)>, ChildError> {
    let mut cost = Cost::default();
    let mut lock = None;
    let workload = loop {
        let order = orders.next().map_err(ChildError::Read)?;
        // The path means what it meant until the process goes elsewhere.
        let guarded = guarded.take();
        match order {
            Some(Order::Confine(confinement)) => {
                let since = Instant::now();
                lock = Some(confinement.enter(|| wait_for_hooks(orders))?);
                cost.confine = micros(since);
            }
            Some(Order::Join(files)) => {
                let since = Instant::now();
                cgroup::join(&files)?;
                cost.join = micros(since);
            }
            Some(Order::Run(workload)) => break workload,
            Some(Order::Enter | Order::Start) => return Err(ChildError::OutOfTurn),
            None => {
                // Another shim may have the address by now.
                guarded.map(address::is_served);
                return Ok(None);
            }
        }
    };
    let lock = lock.ok_or(ChildError::OutOfTurn)?;
    let since = Instant::now();
    let handed = orders.descriptors().map_err(ChildError::Read)?;
    let [stdin, stdout, stderr] = handed.stdio;
    take_streams(&stdin, &stdout, &stderr).map_err(ChildError::Descriptors)?;
    take_terminal().map_err(ChildError::Descriptors)?;
    let program = File::from(handed.program);
    let cached = Cached { image: given(handed.image)?, snapshot: given(handed.snapshot)? };
    let standby = standby?;
    let port = take_to_jail(lock, &workload)?;
    cost.lock = micros(since);
    let since = Instant::now();
    let account = File::from(handed.account);
    let standing = stand(workload, program, standby, cached, port, account)?;
    cost.boot = micros(since);
    cost.cpu = cpu();
    Ok(Some((standing, cost)))
}

/// The file, unless it is an empty one that stands for none.
fn given(file: OwnedFd) -> Result<Option<File>, ChildError> {
    let file = File::from(file);
    let has_content = file.metadata().map_err(ChildError::Descriptors)?.len() > 0;
    Ok(has_content.then_some(file))
}

/// Says that everything is made, and waits until the shim has run the hooks that come then.
fn wait_for_hooks(orders: &mut Orders) -> io::Result<()> {
    orders.report(&Report::Made)?;
    match orders.next()? {
        Some(Order::Enter) => Ok(()),
        // The shim is gone, or a hook has failed: nobody waits for an answer.
        Some(_) | None => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Binds the port of a service, and locks the process.
fn take_to_jail(lock: Lock, workload: &Workload) -> Result<Option<Port>, ChildError> {
    let port = match &workload.serving {
        Some(serving) => Some(Port::bind(serving).map_err(RunError::from)?),
        None => None,
    };
    lock.lock(workload)?;
    Ok(port)
}

/// Gets a workload to where it waits for its start.
fn stand(
    workload: Box<Workload>,
    program: File,
    standby: Standby,
    cached: Cached,
    port: Option<Port>,
    account: File,
) -> Result<Standing, ChildError> {
    let Some(port) = port else {
        let booted = boot(&workload, &program, standby, cached)?;
        return Ok(Standing::Program(workload, Box::new(booted), account));
    };
    match Source::open(&workload, &program, cached)? {
        Ok(source) => {
            let service = Service::new(source, *workload, port);
            Ok(Standing::Service(Box::new(service), account))
        }
        // Who starts it is told as of any other program.
        Err(exit) => Ok(Standing::Program(workload, Box::new(Booted::Ended(exit)), account)),
    }
}

impl Standing {
    /// Runs it, and returns the status of the task.
    fn run(self) -> Result<u8, ChildError> {
        match self {
            Self::Program(workload, booted, account) => {
                let outcome = booted.run(None)?;
                let mut counts = Counts { micro_vms: 1, ..Counts::default() };
                counts.add_run(&outcome.exit, &outcome.stats);
                tell_counts(account, &counts);
                if let Some(message) = message(&workload, &outcome.exit) {
                    tell(&message);
                }
                Ok(outcome.status())
            }
            Self::Service(service, account) => {
                let costs = service.costs();
                let status = service.serve(signals::leave_to_service)?;
                tell_counts(account, &costs.counts());
                Ok(status)
            }
        }
    }
}

/// Leaves what was counted to the shim, if it is still there.
fn tell_counts(mut account: File, counts: &Counts) {
    let told = serde_json::to_vec(counts).map_err(io::Error::from);
    // They are for the log alone.
    let _ = told.and_then(|told| account.write_all(&told));
}

fn take_streams(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    Ok(dup2_stderr(stderr)?)
}

/// Makes the terminal on standard input, if it is one, that of this process, so that what is typed can send
/// it signals (Ctrl-C: SIGINT) and the end of the terminal does (SIGHUP).
fn take_terminal() -> io::Result<()> {
    if isatty(rustix::stdio::stdin()) {
        setsid()?;
        ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    Ok(())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// CPU time of this process so far, in microseconds.
fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1000).unwrap_or_default()
}

/// Writes a line to standard error. A standard error that is gone is no reason to fail.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests;
