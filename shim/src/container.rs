//! One container: its VMM process, those that run beside it (execs), and everything that goes with it.
//!
//! Rule: what a container holds (process, control group, mount, FIFOs) is held by values that give
//! it back when they are dropped, so that a creation that fails half-way leaves nothing. Deleting
//! gives it back step by step, reports what cannot be given back, and can be repeated.

mod exec;
mod process;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use oci_spec::runtime::LinuxResources;
use rustix::process::Signal;

use crate::cgroup::{Cgroup, CgroupError, Metrics};
use crate::error::line;
use crate::hooks::Hooks;
use crate::launch::{Launched, ProcessEnd};
use crate::leftovers;
use crate::linux::{LinuxContainer, LinuxError};
use crate::rootfs::{Rootfs, RootfsError};
use crate::sandbox::Steps;
use crate::signal;
use crate::state::{Exit, Refusal, State, Step};
use crate::stdio::{HeldStdio, StdioError, StdioPaths};

pub use self::exec::Exec;
pub use self::process::Process;

/// Why something could not be done to a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Its state does not allow it.
    #[error("{name} {refusal}")]
    State {
        /// Which task, or which of its execs.
        name: String,
        /// Why not.
        refusal: Refusal,
    },
    /// The signal does not exist.
    #[error("{0} is not the number of a signal from 1 to 64")]
    Signal(u32),
    /// The signal could not be sent.
    #[error("send signal {signal} to {name}")]
    Kill {
        /// Which task, or which of its execs.
        name: String,
        /// The signal.
        signal: i32,
        /// Why.
        source: io::Error,
    },
    /// The start could not be given.
    #[error("start {name}: its VMM process ended")]
    Start {
        /// Which task, or which of its execs.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// There is no exec of that name.
    #[error("task {id} has no exec {exec}")]
    NoExec {
        /// The container.
        id: String,
        /// The exec.
        exec: String,
    },
    /// There is an exec of that name.
    #[error("task {id} has an exec {exec} already")]
    ExecExists {
        /// The container.
        id: String,
        /// The exec.
        exec: String,
    },
    /// Its streams failed.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// Its control group failed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its root file system failed.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The node's OCI runtime failed.
    #[error(transparent)]
    Linux(#[from] LinuxError),
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
            log::error!("{}", line(&error));
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
    /// What the node's OCI runtime has of it, if it is a Linux container.
    pub linux: Option<LinuxContainer>,
    /// Programs of the node that are told of its life, unless that is the OCI runtime's to do.
    pub hooks: Option<Hooks>,
}

/// A container with a VMM process, alive or ended.
#[derive(Debug)]
pub struct Container {
    id: String,
    bundle: PathBuf,
    process: Arc<Process>,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    cgroup: Cgroup,
    /// What the container is limited to, where that is no longer what its bundle says.
    limits: Mutex<Option<LinuxResources>>,
    held: Mutex<Option<(OwnedCgroup, Rootfs)>>,
    linux: Option<LinuxContainer>,
    hooks: Option<Hooks>,
    starting: tokio::sync::Mutex<()>,
    is_announced: bool,
    created_at: SystemTime,
    steps: Steps,
    /// SIGKILL has been sent: nothing keeps it from its end.
    doomed: AtomicBool,
    /// How many of its processes are known to have been killed for want of memory.
    oom_kills: AtomicU64,
}

impl Container {
    /// A container whose process is ready, and the end of that, to be watched
    /// ([`Container::ended`]).
    #[must_use]
    pub fn new(
        id: String,
        bundle: PathBuf,
        stdio: StdioPaths,
        launched: Launched,
        held: Held,
        steps: Steps,
    ) -> (Self, ProcessEnd) {
        let process = Process::new(format!("task {id}"), stdio);
        process.launched(launched.pid, launched.pidfd, launched.start, held.stdio);
        let container = Self {
            id,
            bundle,
            process: Arc::new(process),
            execs: Mutex::default(),
            cgroup: held.cgroup.0.clone(),
            limits: Mutex::default(),
            held: Mutex::new(Some((held.cgroup, held.rootfs))),
            linux: held.linux,
            hooks: held.hooks,
            starting: tokio::sync::Mutex::default(),
            is_announced: true,
            created_at: SystemTime::now(),
            steps,
            doomed: AtomicBool::new(false),
            oom_kills: AtomicU64::new(0),
        };
        (container, launched.end)
    }

    /// The same as something that is no task to containerd: no event tells of it.
    #[must_use]
    pub fn unannounced(self) -> Self {
        Self { is_announced: false, ..self }
    }

    /// Whether events tell of it.
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        self.is_announced
    }

    /// When it was ready.
    #[must_use]
    pub const fn created_at(&self) -> SystemTime {
        self.created_at
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
        self.process.stdio()
    }

    /// The process id of its VMM; it stays after the end, until the container is deleted.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What the node's OCI runtime has of it, if it is a Linux container.
    #[must_use]
    pub fn linux(&self) -> Option<&LinuxContainer> {
        self.linux.as_ref()
    }

    /// Its hooks.
    #[must_use]
    pub fn hooks(&self) -> Option<&Hooks> {
        self.hooks.as_ref()
    }

    /// Held while it is started: an end in the meantime is noticed and announced after the start.
    #[must_use]
    pub const fn starting(&self) -> &tokio::sync::Mutex<()> {
        &self.starting
    }

    /// Whether it may be started.
    ///
    /// # Errors
    ///
    /// It has been started before, or has ended.
    pub fn may_start(&self) -> Result<(), ContainerError> {
        self.process.check(Step::Start).map(drop)
    }

    /// What its creation took.
    #[must_use]
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.process.state()
    }

    /// Lets the program run.
    ///
    /// # Errors
    ///
    /// It has been started before, or has ended.
    pub fn start(&self) -> Result<(), ContainerError> {
        self.process.start()
    }

    /// Sends a signal to the container's own process, or to that of `exec` if it names one; to all of them if
    /// `all`. To what has ended it is an error unless `all`: then there is nothing left to signal, which is
    /// what the caller wants. SIGKILL also ends what is paused.
    ///
    /// # Errors
    ///
    /// It has ended, or there is no such signal or exec.
    pub fn kill(&self, exec: &str, signal: u32, all: bool) -> Result<(), ContainerError> {
        let known = signal::of_number(signal).ok_or(ContainerError::Signal(signal))?;
        if known == Signal::KILL && exec.is_empty() {
            self.doomed.store(true, Ordering::SeqCst);
        }
        let process = self.process(exec)?;
        if all && exec.is_empty() {
            // First, as they end with the container's own process, whatever they were sent.
            self.signal_execs(known);
        }
        let sent = match process.signal(known) {
            Err(ContainerError::State { refusal: Refusal::Exited, .. }) if all => Ok(()),
            sent => sent,
        };
        if known == Signal::KILL && self.state() == State::Paused {
            self.cgroup.thaw()?;
        }
        sent
    }

    /// Keeps every process of it from running. Blocks until they stand still.
    ///
    /// # Errors
    ///
    /// It does not run, or cannot be frozen.
    pub fn pause(&self) -> Result<(), ContainerError> {
        self.process.check(Step::Pause)?;
        self.cgroup.freeze()?;
        let paused = self.process.step(Step::Pause);
        // Whoever was killed while it froze waits for that.
        if paused.is_err() || self.doomed.load(Ordering::SeqCst) {
            self.cgroup.thaw()?;
        }
        paused
    }

    /// Lets its processes go on.
    ///
    /// # Errors
    ///
    /// It is not paused, or cannot be thawed.
    pub fn resume(&self) -> Result<(), ContainerError> {
        self.process.check(Step::Resume)?;
        self.cgroup.thaw()?;
        self.process.step(Step::Resume)
    }

    /// Notes the end of the process. `announce` is told before anybody can see the new state.
    pub fn ended(&self, status: io::Result<ExitStatus>, announce: impl FnOnce(Exit)) {
        self.process.ended(status, announce);
    }

    /// Waits for the end. Any number may wait.
    pub async fn wait(&self) -> Exit {
        self.process.wait().await
    }

    /// Whether the kernel has killed one of its processes for want of memory since this was asked last.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        let kills = self.cgroup.oom_kills();
        self.oom_kills.fetch_max(kills, Ordering::SeqCst) < kills
    }

    /// The counters of its control group.
    ///
    /// # Errors
    ///
    /// The control group is gone.
    pub fn metrics(&self) -> Result<Metrics, ContainerError> {
        Ok(self.cgroup.metrics()?)
    }

    /// Sets its limits to what `change` makes of those it has, which are `of_bundle` before the first
    /// change. Blocks.
    ///
    /// # Errors
    ///
    /// It has ended, what the two functions say, or a limit cannot be set; then all are as before.
    pub fn limit<E: From<ContainerError>>(
        &self,
        of_bundle: impl FnOnce() -> Result<LinuxResources, E>,
        change: impl FnOnce(&LinuxResources) -> Result<LinuxResources, E>,
    ) -> Result<(), E> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        self.process.check(Step::Signal)?;
        let present = limits.take().map_or_else(of_bundle, Ok)?;
        let wanted = change(&present);
        let set = wanted.and_then(|wanted| match self.cgroup.limit(Some(&wanted)) {
            Ok(()) => Ok(wanted),
            Err(error) => {
                if let Err(error) = self.cgroup.limit(Some(&present)) {
                    log::error!(task = self.id.as_str(); "restore a limit: {}", line(&error));
                }
                Err(ContainerError::from(error).into())
            }
        });
        let (now, outcome) = match set {
            Ok(wanted) => (wanted, Ok(())),
            Err(error) => (present, Err(error)),
        };
        *limits = Some(now);
        outcome
    }

    /// Its memory limit, in bytes, which was `of_bundle` at first.
    #[must_use]
    pub fn memory_limit(&self, of_bundle: Option<i64>) -> Option<i64> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = limits.as_ref().and_then(|all| all.memory().as_ref()?.limit());
        changed.or(of_bundle)
    }

    /// Takes its streams, to be ended.
    #[must_use]
    pub fn take_stdio(&self) -> Option<HeldStdio> {
        self.process.take_stdio()
    }

    /// Whether it may be deleted.
    ///
    /// # Errors
    ///
    /// It has not ended.
    pub fn may_delete(&self) -> Result<(), ContainerError> {
        self.process.check(Step::Delete).map(drop)
    }

    /// Gives back everything the container holds. Blocks. May be repeated after an error.
    ///
    /// # Errors
    ///
    /// It has not ended, or something cannot be given back.
    pub fn release(&self) -> Result<Exit, ContainerError> {
        let stopped = self.process.check(Step::Delete)?;
        let exit = stopped.exit().ok_or_else(|| self.process.refused(Refusal::Alive))?;
        drop(self.process.take_stdio());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cgroup, rootfs)) = &mut *held {
            if let Some(linux) = &self.linux {
                linux.delete()?;
            }
            cgroup.0.kill_and_remove()?;
            rootfs.unmount()?;
            if let Some(hooks) = &self.hooks {
                hooks.stopped();
            }
            leftovers::forget(&self.bundle, &self.id);
        }
        *held = None;
        Ok(exit)
    }
}

#[cfg(test)]
pub(crate) mod tests;
