//! One VMM process of a container: the container's own, or that of an exec.
//!
//! Rule: a process goes from created to stopped by [`State::after`] alone. It may be created before there
//! is a VMM process for it, as an exec is; signals find it once there is one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::watch;

use super::ContainerError;
use crate::launch::Starter;
use crate::state::{Exit, Refusal, State, Step};
use crate::stdio::{HeldStdio, StdioPaths};

/// Exit status of a process that was killed by signal 0 + this.
const SIGNAL_STATUS: i32 = 128;

/// Exit status when the process' own cannot be had.
const UNKNOWN_STATUS: u32 = 255;

/// A process, whether it has begun or ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    paths: StdioPaths,
    vmm: OnceLock<Running>,
    state: watch::Sender<State>,
    stdio: Mutex<Option<HeldStdio>>,
}

#[derive(Debug)]
struct Running {
    pid: u32,
    pidfd: OwnedFd,
    start: Mutex<Option<Starter>>,
}

impl Process {
    /// A process, called `name` in messages, that is not there yet; its streams are to be at `paths`.
    #[must_use]
    pub fn new(name: String, paths: StdioPaths) -> Self {
        Self {
            name,
            paths,
            vmm: OnceLock::new(),
            state: watch::Sender::new(State::Created),
            stdio: Mutex::new(None),
        }
    }

    /// Gives it its VMM process, once.
    pub fn launched(&self, pid: u32, pidfd: OwnedFd, start: Starter, stdio: HeldStdio) {
        let start = Mutex::new(Some(start));
        let given = self.vmm.set(Running { pid, pidfd, start });
        debug_assert!(given.is_ok(), "{} has two VMM processes", self.name);
        *self.held_stdio() = Some(stdio);
    }

    /// Its streams.
    #[must_use]
    pub fn stdio(&self) -> &StdioPaths {
        &self.paths
    }

    /// The process id of its VMM; 0 before there is one. It stays after the end.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.vmm.get().map_or(0, |vmm| vmm.pid)
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Whether its VMM process is there, and has not ended: looked up, not remembered.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let Some(vmm) = self.vmm.get() else { return false };
        // A pidfd can be read once the process has ended (pidfd_open(2)).
        let mut ended = [PollFd::new(&vmm.pidfd, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())) == Ok(0)
    }

    /// Lets the program run.
    ///
    /// # Errors
    ///
    /// It has been started before, or has ended.
    pub fn start(&self) -> Result<(), ContainerError> {
        self.check(Step::Start)?;
        let starter = self.vmm.get().and_then(|vmm| lock(&vmm.start).take());
        let starter = starter.ok_or_else(|| self.refused(Refusal::Started))?;
        starter
            .start()
            .map_err(|source| ContainerError::Start { name: self.name.clone(), source })?;
        self.step(Step::Start)
    }

    /// Notes a step.
    ///
    /// # Errors
    ///
    /// The state does not allow it, and stays.
    pub fn step(&self, step: Step) -> Result<(), ContainerError> {
        let mut refused = Ok(());
        self.state.send_if_modified(|state| match state.after(step) {
            Ok(next) => {
                *state = next;
                true
            }
            Err(refusal) => {
                refused = Err(self.refused(refusal));
                false
            }
        });
        refused
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// It has ended, or is not there yet.
    pub fn signal(&self, signal: Signal) -> Result<(), ContainerError> {
        self.check(Step::Signal)?;
        let vmm = self.vmm.get().ok_or_else(|| self.refused(Refusal::NotStarted))?;
        match pidfd_send_signal(&vmm.pidfd, signal) {
            Ok(()) => Ok(()),
            // It has ended and is about to be noticed.
            Err(rustix::io::Errno::SRCH) => Err(self.refused(Refusal::Exited)),
            Err(errno) => Err(ContainerError::Kill {
                name: self.name.clone(),
                signal: signal.as_raw(),
                source: errno.into(),
            }),
        }
    }

    /// Notes the end of the process. `announce` is told before anybody can see the new state.
    pub fn ended(&self, status: io::Result<ExitStatus>, announce: impl FnOnce(Exit)) {
        let status = match status {
            Ok(status) => exit_status(status),
            Err(error) => {
                log::error!("wait for the VMM process of {}: {error}", self.name);
                UNKNOWN_STATUS
            }
        };
        let exit = Exit { status, at: SystemTime::now() };
        announce(exit);
        self.end(exit);
    }

    /// Notes an end without a process that could have one.
    pub fn end(&self, exit: Exit) {
        // An end is possible in every state.
        let _ = self.step(Step::End(exit));
    }

    /// Waits for the end. Any number may wait.
    pub async fn wait(&self) -> Exit {
        let mut states = self.state.subscribe();
        let stopped = states.wait_for(|state| state.exit().is_some()).await;
        let exit = stopped.ok().and_then(|state| state.exit());
        // The sender lives in `self`: the fallback is not reached.
        exit.unwrap_or(Exit { status: UNKNOWN_STATUS, at: SystemTime::now() })
    }

    /// Ends the program's standard input.
    pub fn close_stdin(&self) {
        if let Some(stdio) = &mut *self.held_stdio() {
            stdio.close_stdin();
        }
    }

    /// Sets the size of its terminal's window.
    ///
    /// # Errors
    ///
    /// It has no terminal, is not there yet, or the kernel refuses.
    pub fn resize(&self, rows: u32, columns: u32) -> Result<(), ContainerError> {
        match &*self.held_stdio() {
            Some(stdio) => Ok(stdio.resize(rows, columns)?),
            None if self.vmm.get().is_none() => Err(self.refused(Refusal::NotStarted)),
            None => Err(self.refused(Refusal::Exited)),
        }
    }

    /// Takes its streams, to be ended.
    pub fn take_stdio(&self) -> Option<HeldStdio> {
        self.held_stdio().take()
    }

    /// Whether a step may be made, and what comes of it.
    ///
    /// # Errors
    ///
    /// The state does not allow it.
    pub fn check(&self, step: Step) -> Result<State, ContainerError> {
        self.state().after(step).map_err(|refusal| self.refused(refusal))
    }

    /// The error of something that its state does not allow.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> ContainerError {
        ContainerError::State { name: self.name.clone(), refusal }
    }

    fn held_stdio(&self) -> MutexGuard<'_, Option<HeldStdio>> {
        lock(&self.stdio)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status that containerd reports: as a shell does.
fn exit_status(status: ExitStatus) -> u32 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNAL_STATUS + signal));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(UNKNOWN_STATUS)
}
