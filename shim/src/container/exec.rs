//! The processes that run in a container beside its own: execs.
//!
//! Rule: an exec is added with what it is to run, has a VMM process from its start on, keeps its exit
//! until it is removed, and does not outlive the container's own process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::{Container, ContainerError, Process};
use crate::cgroup::Cgroup;
use crate::state::{Exit, Refusal, State};
use crate::stdio::StdioPaths;

/// How long a container's end waits for that of its execs, which were sent SIGKILL.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A process beside a container's own.
#[derive(Debug)]
pub struct Exec {
    /// Its name in containerd, among the container's.
    pub id: String,
    /// What it runs.
    pub spec: oci_spec::runtime::Process,
    /// Its VMM process.
    pub process: Arc<Process>,
    begun: AtomicBool,
}

impl Exec {
    /// Whether nobody has begun to start it, from which on somebody has.
    ///
    /// # Errors
    ///
    /// Somebody has.
    pub fn begin(&self) -> Result<(), ContainerError> {
        match self.begun.swap(true, Ordering::SeqCst) {
            false => Ok(()),
            true => Err(self.process.refused(Refusal::Started)),
        }
    }
}

impl Container {
    /// The container's own process, or that of `exec` if it names one.
    ///
    /// # Errors
    ///
    /// There is no such exec.
    pub fn process(&self, exec: &str) -> Result<Arc<Process>, ContainerError> {
        match exec {
            "" => Ok(Arc::clone(&self.process)),
            exec => self.exec(exec).map(|exec| Arc::clone(&exec.process)),
        }
    }

    /// The exec of that name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn exec(&self, id: &str) -> Result<Arc<Exec>, ContainerError> {
        let no_exec = || ContainerError::NoExec { id: self.id.clone(), exec: id.to_owned() };
        self.lock_execs().get(id).cloned().ok_or_else(no_exec)
    }

    /// Adds an exec, to be started.
    ///
    /// # Errors
    ///
    /// The name is taken, or the container is paused or has ended.
    pub fn add_exec(
        &self,
        id: String,
        spec: oci_spec::runtime::Process,
        paths: StdioPaths,
    ) -> Result<(), ContainerError> {
        self.may_exec()?;
        let process = Process::new(format!("exec {id} of task {}", self.id), paths);
        let process = Arc::new(process);
        let exec = Exec { id: id.clone(), spec, process, begun: AtomicBool::new(false) };
        match self.lock_execs().entry(id) {
            std::collections::hash_map::Entry::Occupied(taken) => {
                Err(ContainerError::ExecExists { id: self.id.clone(), exec: taken.key().clone() })
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Arc::new(exec));
                Ok(())
            }
        }
    }

    /// Whether a process may run beside the container's own.
    ///
    /// # Errors
    ///
    /// It is paused or has ended.
    pub fn may_exec(&self) -> Result<(), ContainerError> {
        match self.state() {
            State::Created | State::Running => Ok(()),
            State::Paused => Err(self.process.refused(Refusal::Paused)),
            State::Stopped(_) => Err(self.process.refused(Refusal::Exited)),
        }
    }

    /// Whether `exec` is still one of the container's, which lives.
    #[must_use]
    pub fn keeps(&self, exec: &Arc<Exec>) -> bool {
        self.process.is_alive()
            && self.lock_execs().get(&exec.id).is_some_and(|kept| Arc::ptr_eq(kept, exec))
    }

    /// Removes an exec that has ended or was never started, and returns its exit.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it runs.
    pub fn remove_exec(&self, id: &str) -> Result<(Arc<Exec>, Option<Exit>), ContainerError> {
        let exec = self.exec(id)?;
        let exit = match exec.process.state() {
            State::Created => None,
            State::Stopped(exit) => Some(exit),
            State::Running | State::Paused => return Err(exec.process.refused(Refusal::Alive)),
        };
        self.lock_execs().remove(id);
        Ok((exec, exit))
    }

    /// Ends every exec, and waits until they have.
    pub async fn end_execs(&self) {
        let execs = self.running_execs();
        if execs.is_empty() {
            return;
        }
        self.signal_execs(Signal::KILL);
        // Those that are paused do not end; without a freezer none is.
        let _ = self.cgroup.thaw();
        for exec in execs {
            if tokio::time::timeout(END_LIMIT, exec.process.wait()).await.is_err() {
                log::error!(task = self.id.as_str(), exec = exec.id.as_str(); "survives SIGKILL");
            }
        }
    }

    /// Process ids: of the container's own process, which is always among them, and of its execs.
    #[must_use]
    pub fn pids(&self) -> Vec<(u32, Option<String>)> {
        let execs = self.running_execs().into_iter();
        let execs = execs.map(|exec| (exec.process.pid(), Some(exec.id.clone())));
        [(self.pid(), None)].into_iter().chain(execs).collect()
    }

    /// Its control group, for a process that is to join it.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub(super) fn signal_execs(&self, signal: Signal) {
        for exec in self.running_execs() {
            // One that has ended meanwhile is what is wanted.
            let _ = exec.process.signal(signal);
        }
    }

    fn running_execs(&self) -> Vec<Arc<Exec>> {
        let execs = self.lock_execs();
        let running = |exec: &&Arc<Exec>| exec.process.state() == State::Running;
        let mut running: Vec<_> = execs.values().filter(running).cloned().collect();
        running.sort_by(|a, b| a.id.cmp(&b.id));
        running
    }

    fn lock_execs(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
