//! Hooks of a container: programs of the node that are told of its life.
//!
//! | Kind | When | Where | If one fails |
//! |---|---|---|---|
//! | `prestart`, `createRuntime` | namespaces and mounts are made, the process does not see them alone yet | node | the container is not created |
//! | `createContainer` | after those | the container's namespaces, with the node's files | the same |
//! | `startContainer` | | | refused: it would be a Linux program of the container, which runs none |
//! | `poststart` | the program has been started | node | the container is ended, and not started |
//! | `poststop` | everything of the container is gone | node | told to the log |
//!
//! Rule: hooks of a kind run one after another; of those before a failure nothing is taken back but by
//! `poststop`, which runs whenever one of the others could have. A hook gets the state of the container on
//! standard input, and of the environment what its description says. What it leaves running when its
//! time is over is killed with it. Hooks of a Linux container are its OCI runtime's to run.
//!
//! Source: OCI runtime specification 1.2, config.md "POSIX-platform Hooks" and runtime.md "Lifecycle".

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{Hook, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::line;
use crate::leftovers;

/// How long a hook may take that does not say it: containerd waits no longer for a task.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// How much of what a hook says is told when it fails.
const SAID_BYTES_MAX: u64 = 2048;

/// A hook that cannot be run, or has failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It is of a kind that is not run.
    #[error(
        "hooks.startContainer: {} would run as a Linux program of the container, which runs none: use \
         createContainer", path.display()
    )]
    InContainer {
        /// Its program.
        path: PathBuf,
    },
    /// Its path is not absolute.
    #[error("hooks.{kind}: {} is not an absolute path", path.display())]
    Relative {
        /// Its kind.
        kind: Kind,
        /// Its program.
        path: PathBuf,
    },
    /// Its time is none.
    #[error("hooks.{kind}: {} has a timeout of {seconds} s, which has to be above 0", path.display())]
    Timeout {
        /// Its kind.
        kind: Kind,
        /// Its program.
        path: PathBuf,
        /// Its time.
        seconds: i64,
    },
    /// It could not be started, or waited for.
    #[error("run the {kind} hook {}", path.display())]
    Run {
        /// Its kind.
        kind: Kind,
        /// Its program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It has ended badly.
    #[error("the {kind} hook {} has failed ({status}): {said}", path.display())]
    Failed {
        /// Its kind.
        kind: Kind,
        /// Its program.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it has said to standard error.
        said: String,
    },
    /// It has not ended in time.
    #[error("the {kind} hook {} was ended after {} s", path.display(), limit.as_secs())]
    TimedOut {
        /// Its kind.
        kind: Kind,
        /// Its program.
        path: PathBuf,
        /// Its time.
        limit: Duration,
    },
}

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Before the container is entered, by its older name.
    Prestart,
    /// Before the container is entered.
    CreateRuntime,
    /// The same, in its namespaces.
    CreateContainer,
    /// After its program was started.
    Poststart,
    /// After it has gone.
    Poststop,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        })
    }
}

/// The hooks of a container, of which there is one at least, and what they are told of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    hooks: oci_spec::runtime::Hooks,
    oci_version: String,
    id: String,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
}

impl Hooks {
    /// Those of `spec`, whose bundle is `bundle`; none if it has none.
    #[must_use]
    pub fn of(spec: &Spec, bundle: &Path, id: &str) -> Option<Self> {
        let hooks = spec.hooks().clone().filter(|hooks| *hooks != Default::default())?;
        Some(Self {
            hooks,
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            annotations: spec.annotations().clone().unwrap_or_default(),
        })
    }

    /// Whether all of them can be run.
    ///
    /// # Errors
    ///
    /// [`HookError::InContainer`], [`HookError::Relative`], [`HookError::Timeout`].
    pub fn check(&self) -> Result<(), HookError> {
        if let Some(hook) = self.hooks.start_container().iter().flatten().next() {
            return Err(HookError::InContainer { path: hook.path().clone() });
        }
        let kinds = [
            Kind::Prestart,
            Kind::CreateRuntime,
            Kind::CreateContainer,
            Kind::Poststart,
            Kind::Poststop,
        ];
        for kind in kinds {
            for hook in self.of_kind(kind) {
                if !hook.path().is_absolute() {
                    return Err(HookError::Relative { kind, path: hook.path().clone() });
                }
                if let Some(seconds) = hook.timeout().filter(|seconds| *seconds <= 0) {
                    return Err(HookError::Timeout { kind, path: hook.path().clone(), seconds });
                }
            }
        }
        Ok(())
    }

    /// Runs those of the creation of the container whose process is `pid`, which is in its namespaces and still
    /// sees the node's files there. Blocks.
    ///
    /// # Errors
    ///
    /// See [`HookError`]: the first that fails.
    pub fn create(&self, pid: u32) -> Result<(), HookError> {
        self.run(Kind::Prestart, "creating", pid, spawn)?;
        self.run(Kind::CreateRuntime, "creating", pid, spawn)?;
        self.run(Kind::CreateContainer, "creating", pid, |command| spawn_beside(command, pid))
    }

    /// Runs those of its start. Blocks.
    ///
    /// # Errors
    ///
    /// See [`HookError`]: the first that fails.
    pub fn started(&self, pid: u32) -> Result<(), HookError> {
        self.run(Kind::Poststart, "running", pid, spawn)
    }

    /// Runs those of its end, when everything of it has gone. Blocks. Failures are told to the log.
    pub fn stopped(&self) {
        for hook in self.of_kind(Kind::Poststop) {
            if let Err(error) = self.run_one(hook, Kind::Poststop, "stopped", 0, spawn) {
                log::warn!(task = self.id.as_str(); "{}", line(&error));
            }
        }
    }

    /// Runs those of the end of a container that was not created, of which nothing is left; nobody else does then.
    /// Blocks.
    pub fn given_up(&self) {
        self.stopped();
        leftovers::forget(&self.bundle, &self.id);
    }

    /// Whether there are some for the creation.
    #[must_use]
    pub fn of_creation(&self) -> bool {
        [Kind::Prestart, Kind::CreateRuntime, Kind::CreateContainer]
            .into_iter()
            .any(|kind| !self.of_kind(kind).is_empty())
    }

    fn of_kind(&self, kind: Kind) -> &[Hook] {
        let hooks = match kind {
            Kind::Prestart => self.hooks.prestart(),
            Kind::CreateRuntime => self.hooks.create_runtime(),
            Kind::CreateContainer => self.hooks.create_container(),
            Kind::Poststart => self.hooks.poststart(),
            Kind::Poststop => self.hooks.poststop(),
        };
        hooks.as_deref().unwrap_or_default()
    }

    fn run(
        &self,
        kind: Kind,
        status: &str,
        pid: u32,
        spawn: impl Fn(Command) -> io::Result<Child>,
    ) -> Result<(), HookError> {
        let mut hooks = self.of_kind(kind).iter();
        hooks.try_for_each(|hook| self.run_one(hook, kind, status, pid, &spawn))
    }

    fn run_one(
        &self,
        hook: &Hook,
        kind: Kind,
        status: &str,
        pid: u32,
        spawn: impl Fn(Command) -> io::Result<Child>,
    ) -> Result<(), HookError> {
        let path = hook.path().clone();
        let seconds = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
        let limit = seconds.map_or(TIMEOUT_DEFAULT, Duration::from_secs);
        let ran = self
            .command(hook, status, pid)
            .and_then(|(command, said)| Ok((end(spawn(command)?, limit)?, said)));
        match ran {
            Ok((Some(status), _)) if status.success() => Ok(()),
            Ok((Some(status), said)) => {
                Err(HookError::Failed { kind, path, status, said: beginning(said) })
            }
            Ok((None, _)) => Err(HookError::TimedOut { kind, path, limit }),
            Err(source) => Err(HookError::Run { kind, path, source }),
        }
    }

    /// The command of a hook, and the file that gets what it says to standard error.
    fn command(&self, hook: &Hook, status: &str, pid: u32) -> io::Result<(Command, File)> {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version, "id": self.id, "status": status, "bundle": self.bundle,
            "annotations": self.annotations,
        });
        // A container that is gone has no process.
        if pid != 0 {
            state["pid"] = pid.into();
        }
        // Files, not pipes: a hook need not read the one, and what it starts may keep the other open.
        let mut stdin = file("state")?;
        serde_json::to_writer(&mut stdin, &state)?;
        stdin.rewind()?;
        let said = file("said")?;
        let mut command = Command::new(hook.path());
        command.env_clear().current_dir(&self.bundle).process_group(0);
        if let Some([name, rest @ ..]) = hook.args().as_deref() {
            command.arg0(name).args(rest);
        }
        let environment = hook.env().iter().flatten().filter_map(|entry| entry.split_once('='));
        command.envs(environment);
        command.stdin(stdin).stdout(Stdio::null()).stderr(said.try_clone()?);
        Ok((command, said))
    }
}

fn file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// The beginning of what is in `file`, as one line.
fn beginning(mut file: File) -> String {
    let mut said = Vec::new();
    let read = file.rewind().and_then(|()| file.take(SAID_BYTES_MAX).read_to_end(&mut said));
    let text = String::from_utf8_lossy(&said);
    match (read, text.trim()) {
        (Ok(_), "") | (Err(_), _) => "it said nothing".to_owned(),
        (Ok(_), text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn spawn(mut command: Command) -> io::Result<Child> {
    command.spawn()
}

/// Spawns `command` in the namespaces of process `pid`. A thread that has entered a mount namespace does not
/// come back, so it ends.
fn spawn_beside(mut command: Command, pid: u32) -> io::Result<Child> {
    let process = pidfd(pid)?;
    let spawn = move || {
        // Threads share their root and working directories unless they say otherwise (unshare(2)).
        unshare(CloneFlags::CLONE_FS)?;
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWPID;
        setns(process.as_fd(), namespaces)?;
        command.spawn()
    };
    let thread = thread::Builder::new().name("hook".to_owned()).spawn(spawn)?;
    thread.join().map_err(|_panicked| io::Error::other("the thread ended"))?
}

/// Waits for the end of a hook for as long as it may take; `None` if it was ended then.
fn end(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let process = pidfd(child.id())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut ended, Some(&timespec(left))) {
            Ok(0) => break,
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It leads its group, and is not waited for yet: the group is its own.
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait().map(|_| None)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(pidfd_open(pid.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests;
