//! One container: its VMM process and everything that goes with it.
//!
//! Rule: what a container holds (process, control group, mount, FIFOs) is held by values that give
//! it back when they are dropped, so that a creation that fails half-way leaves nothing. Deleting
//! gives it back step by step, reports what cannot be given back, and can be repeated.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::process::Child;
use tokio::sync::watch;

use crate::cgroup::{Cgroup, CgroupError, Metrics};
use crate::launch::{Starter, Vmm};
use crate::rootfs::{Rootfs, RootfsError};
use crate::sandbox::Steps;
use crate::state::{Exit, Refusal, State, Step};
use crate::stdio::{HeldStdio, StdioPaths};

/// Exit status of a process that was killed by signal 0 + this.
const SIGNAL_STATUS: i32 = 128;

/// Exit status when the process' own cannot be had.
const UNKNOWN_STATUS: u32 = 255;

/// Why something could not be done to a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Its state does not allow it.
    #[error("task {id} {refusal}")]
    State {
        /// The container.
        id: String,
        /// Why not.
        refusal: Refusal,
    },
    /// The signal does not exist.
    #[error("{0} is not the number of a signal from 1 to 31")]
    Signal(u32),
    /// The signal could not be sent.
    #[error("send signal {signal} to task {id}")]
    Kill {
        /// The container.
        id: String,
        /// The signal.
        signal: u32,
        /// Why.
        source: io::Error,
    },
    /// The start could not be given.
    #[error("start task {id}: its VMM process ended")]
    Start {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// Its control group failed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its root file system failed.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
}

/// A control group that goes when it is dropped, with what is in it.
#[derive(Debug)]
pub struct OwnedCgroup(Cgroup);

impl OwnedCgroup {
    /// Takes responsibility for `cgroup`, which this shim has made.
    #[must_use]
    pub fn new(cgroup: Cgroup) -> Self {
        Self(cgroup)
    }

    /// The control group.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.0
    }

    /// The files by which a process joins it.
    #[must_use]
    pub fn join_files(&self) -> Vec<PathBuf> {
        self.0.join_files()
    }
}

impl Drop for OwnedCgroup {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill_and_remove() {
            log::error!("{}", crate::error::line(&error));
        }
    }
}

/// What a container holds besides its process, in the order in which it is given back.
#[derive(Debug)]
pub struct Held {
    /// Its FIFOs.
    pub stdio: HeldStdio,
    /// Its control group.
    pub cgroup: OwnedCgroup,
    /// Its root file system.
    pub rootfs: Rootfs,
}

/// A container with a VMM process, alive or ended.
#[derive(Debug)]
pub struct Container {
    id: String,
    bundle: PathBuf,
    stdio: StdioPaths,
    pid: u32,
    pidfd: OwnedFd,
    state: watch::Sender<State>,
    start: Mutex<Option<Starter>>,
    cgroup: Cgroup,
    held: Mutex<Option<Held>>,
    steps: Steps,
}

impl Container {
    /// A container whose VMM process is ready, and the process, to be watched
    /// ([`Container::ended`]).
    #[must_use]
    pub fn new(
        id: String,
        bundle: PathBuf,
        stdio: StdioPaths,
        vmm: Vmm,
        held: Held,
        steps: Steps,
    ) -> (Self, Child) {
        let container = Self {
            id,
            bundle,
            stdio,
            pid: vmm.pid,
            pidfd: vmm.pidfd,
            state: watch::Sender::new(State::Created),
            start: Mutex::new(Some(vmm.start)),
            cgroup: held.cgroup.0.clone(),
            held: Mutex::new(Some(held)),
            steps,
        };
        (container, vmm.child)
    }

    /// Its name in containerd.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its bundle directory.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Its FIFOs.
    #[must_use]
    pub fn stdio(&self) -> &StdioPaths {
        &self.stdio
    }

    /// The process id of its VMM; it stays after the end, until the container is deleted.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What its creation took.
    #[must_use]
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Lets the program run.
    ///
    /// # Errors
    ///
    /// It has been started before, or has ended.
    pub fn start(&self) -> Result<(), ContainerError> {
        let next = self.check(Step::Start)?;
        let starter = self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let starter = starter.ok_or_else(|| self.refused(Refusal::Started))?;
        starter.start().map_err(|source| ContainerError::Start { id: self.id.clone(), source })?;
        self.state.send_replace(next);
        Ok(())
    }

    /// Sends a signal. To a container that has ended it is an error unless `all`: then there is
    /// nothing left to signal, which is what the caller wants.
    ///
    /// # Errors
    ///
    /// It has ended, or there is no such signal.
    pub fn kill(&self, signal: u32, all: bool) -> Result<(), ContainerError> {
        let known = i32::try_from(signal).ok().and_then(Signal::from_named_raw);
        let known = known.ok_or(ContainerError::Signal(signal))?;
        match self.check(Step::Signal) {
            Ok(_) => {}
            Err(_) if all => return Ok(()),
            Err(error) => return Err(error),
        }
        match pidfd_send_signal(&self.pidfd, known) {
            Ok(()) => Ok(()),
            // It has ended and is about to be noticed.
            Err(rustix::io::Errno::SRCH) if all => Ok(()),
            Err(rustix::io::Errno::SRCH) => Err(self.refused(Refusal::Exited)),
            Err(errno) => {
                Err(ContainerError::Kill { id: self.id.clone(), signal, source: errno.into() })
            }
        }
    }

    /// Notes the end of the process. `announce` is told before anybody can see the new state.
    pub fn ended(&self, status: io::Result<ExitStatus>, announce: impl FnOnce(Exit)) {
        let status = match status {
            Ok(status) => exit_status(status),
            Err(error) => {
                log::error!(task = self.id.as_str(); "wait for the VMM process: {error}");
                UNKNOWN_STATUS
            }
        };
        let exit = Exit { status, at: SystemTime::now() };
        announce(exit);
        self.state.send_modify(|state| {
            // An end is possible in every state.
            *state = state.after(Step::End(exit)).unwrap_or(State::Stopped(exit));
        });
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
        if let Some(held) = &*self.held.lock().unwrap_or_else(PoisonError::into_inner) {
            held.stdio.close_stdin();
        }
    }

    /// Whether the kernel killed it for want of memory.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        self.cgroup.oom_kills() > 0
    }

    /// The counters of its control group.
    ///
    /// # Errors
    ///
    /// The control group is gone.
    pub fn metrics(&self) -> Result<Metrics, ContainerError> {
        Ok(self.cgroup.metrics()?)
    }

    /// Whether it may be deleted.
    ///
    /// # Errors
    ///
    /// It has not ended.
    pub fn may_delete(&self) -> Result<(), ContainerError> {
        self.check(Step::Delete).map(drop)
    }

    /// Gives back everything the container holds. Blocks. May be repeated after an error.
    ///
    /// # Errors
    ///
    /// It has not ended, or something cannot be given back.
    pub fn release(&self) -> Result<Exit, ContainerError> {
        let exit = self.check(Step::Delete)?.exit().ok_or_else(|| self.refused(Refusal::Alive))?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = &mut *held {
            held.cgroup.0.kill_and_remove()?;
            held.rootfs.unmount()?;
        }
        *held = None;
        Ok(exit)
    }

    fn check(&self, step: Step) -> Result<State, ContainerError> {
        self.state().after(step).map_err(|refusal| self.refused(refusal))
    }

    fn refused(&self, refusal: Refusal) -> ContainerError {
        ContainerError::State { id: self.id.clone(), refusal }
    }
}

/// The status that containerd reports: as a shell does.
fn exit_status(status: ExitStatus) -> u32 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNAL_STATUS + signal));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(UNKNOWN_STATUS)
}

#[cfg(test)]
pub(crate) mod tests;
