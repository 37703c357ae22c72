//! Linux containers of a pod: sidecars, whose image has no wasm.
//!
//! Rule: this shim is no container runtime. Such a container is made, started and removed by the node's own
//! ([`OciRuntime`]: runc, else crun, of the shim's `PATH`), from the bundle as containerd wrote it; what the
//! shim does is what containerd's shim for runc does: it opens the streams, adopts the process and tells of
//! its end. Outside a pod there are none: who asks for this runtime by name wants a micro-VM.
//!
//! Source: OCI runtime specification 1.2, runtime.md; runc(8).

mod bound;
mod orphans;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open, set_child_subreaper};
use serde::Deserialize;
use tokio::process::Command;

use crate::launch::{Cost, Launched, ProcessEnd, Starter};
use crate::stdio::TaskStdio;

/// Programs that can be asked, the one to be preferred first.
const PROGRAMS: [&str; 2] = ["runc", "crun"];

/// Where they keep what they know of containers, one directory for each namespace of containerd.
const STATE: &str = "/run/hyperlight/linux";

/// Files in the bundle.
const PID_FILE: &str = "linux.pid";
const LOG_FILE: &str = "linux.log";

/// How long one call may take: a node that is busy takes seconds. What takes longer hangs.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// There is nothing to run it by.
    #[error(
        "the image has no wasm, so this is a Linux container, and neither runc nor crun is in the shim's \
         PATH: install one of them"
    )]
    NoRuntime,
    /// The OCI runtime could not be called.
    #[error("call {} to {action} the Linux container", program.display())]
    Call {
        /// Its program.
        program: PathBuf,
        /// What it was to do.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The OCI runtime says no.
    #[error("{} could not {action} the Linux container: {message}", program.display())]
    Refused {
        /// Its program.
        program: PathBuf,
        /// What it was to do.
        action: &'static str,
        /// What it says.
        message: String,
    },
    /// The process that it made could not be adopted.
    #[error("adopt the process of the Linux container")]
    Adopt(#[source] io::Error),
}

/// The node's OCI runtime.
#[derive(Clone, Debug)]
pub struct OciRuntime {
    program: PathBuf,
    state: PathBuf,
}

/// A Linux container of this shim.
#[derive(Clone, Debug)]
pub struct LinuxContainer {
    runtime: OciRuntime,
    id: String,
    bundle: PathBuf,
}

impl OciRuntime {
    /// What there is on this node, for containers of containerd's `namespace`.
    ///
    /// # Errors
    ///
    /// [`LinuxError::NoRuntime`].
    pub fn of_this_node(namespace: &str) -> Result<Self, LinuxError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let program = find(&path).ok_or(LinuxError::NoRuntime)?;
        Ok(Self { program, state: Path::new(STATE).join(namespace) })
    }

    /// Makes container `id` of the bundle in `bundle`, up to its process that waits for the start. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`LinuxError`]; then nothing of it is left.
    pub async fn create(
        &self,
        id: &str,
        bundle: &Path,
        stdio: TaskStdio,
    ) -> Result<(LinuxContainer, Launched), LinuxError> {
        // Its parent ends before it does; this process is then the next.
        set_child_subreaper(Some(Pid::INIT)).map_err(|errno| LinuxError::Adopt(errno.into()))?;
        orphans::reap();
        let container =
            LinuxContainer { runtime: self.clone(), id: id.to_owned(), bundle: bundle.to_owned() };
        let pid_file = bundle.join(PID_FILE);
        let mut command = container.command("create");
        command.arg("--bundle").arg(bundle).arg("--pid-file").arg(&pid_file).arg(id);
        command.stdin(stdio.stdin).stdout(stdio.stdout).stderr(stdio.stderr);
        let called = container.call("create", command).await;
        match called.and_then(|()| adopt(&pid_file).map_err(LinuxError::Adopt)) {
            Ok(launched) => Ok((container, launched)),
            Err(error) => {
                // An OCI runtime that was killed leaves what it has made. The first error says more.
                let _ = tokio::task::spawn_blocking(move || container.delete()).await;
                Err(error)
            }
        }
    }
}

impl LinuxContainer {
    /// The container `id` of a bundle, as another process left it.
    #[must_use]
    pub fn left(runtime: OciRuntime, id: &str, bundle: &Path) -> Self {
        Self { runtime, id: id.to_owned(), bundle: bundle.to_owned() }
    }

    /// Starts its program.
    ///
    /// # Errors
    ///
    /// See [`LinuxError`].
    pub async fn start(&self) -> Result<(), LinuxError> {
        let mut command = self.command("start");
        command.arg(&self.id);
        self.call("start", command).await
    }

    /// Ends what runs of it, and removes what the OCI runtime keeps of it. Blocks. May be repeated.
    ///
    /// # Errors
    ///
    /// See [`LinuxError`].
    pub fn delete(&self) -> Result<(), LinuxError> {
        let mut command = self.command("delete").into_std();
        command.arg("--force").arg(&self.id);
        let log = self.clear_log();
        let ended = command.status().map_err(|source| self.uncalled("delete", source))?;
        self.outcome("delete", ended, &log)
    }

    /// Makes process `exec` beside its own, which then runs, from its description.
    ///
    /// # Errors
    ///
    /// See [`LinuxError`].
    pub async fn exec(
        &self,
        exec: &str,
        process: &oci_spec::runtime::Process,
        stdio: TaskStdio,
    ) -> Result<Launched, LinuxError> {
        let file = |kind: &str| self.bundle.join(format!("exec-{exec}.{kind}"));
        let (description, pid_file) = (file("json"), file("pid"));
        let described = serde_json::to_vec(process).map_err(io::Error::from);
        described
            .and_then(|json| fs::write(&description, json))
            .map_err(|source| self.uncalled("exec in", source))?;
        let mut command = self.command("exec");
        command.arg("--detach").arg("--process").arg(&description);
        command.arg("--pid-file").arg(&pid_file).arg(&self.id);
        command.stdin(stdio.stdin).stdout(stdio.stdout).stderr(stdio.stderr);
        let called = self.call("exec in", command).await;
        let launched = called.and_then(|()| adopt(&pid_file).map_err(LinuxError::Adopt));
        for file in [description, pid_file] {
            // They go with the bundle at the latest.
            let _ = fs::remove_file(file);
        }
        launched
    }

    /// The command for `action`, without what comes behind it.
    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(&self.runtime.program);
        command.arg("--root").arg(&self.runtime.state);
        if self.is_of_systemd() {
            command.arg("--systemd-cgroup");
        }
        command.arg("--log").arg(self.bundle.join(LOG_FILE)).args(["--log-format", "json", action]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        bound::end_with_caller(&mut command);
        command
    }

    async fn call(&self, action: &'static str, mut command: Command) -> Result<(), LinuxError> {
        let log = self.clear_log();
        let mut child = command.spawn().map_err(|source| self.uncalled(action, source))?;
        // The streams of the container are its own from here on.
        drop(command);
        let ended = tokio::time::timeout(CALL_LIMIT, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let status = ended.map_err(|source| self.uncalled(action, source))?;
        self.outcome(action, status, &log)
    }

    /// Whether its control group is named as systemd's are: `slice:prefix:name`.
    fn is_of_systemd(&self) -> bool {
        let config = fs::read(self.bundle.join("config.json")).unwrap_or_default();
        let config = serde_json::from_slice::<serde_json::Value>(&config).unwrap_or_default();
        let path = config.pointer("/linux/cgroupsPath").and_then(serde_json::Value::as_str);
        path.is_some_and(|path| path.matches(':').count() == 2)
    }

    /// The log, without what an earlier call has said.
    fn clear_log(&self) -> PathBuf {
        let log = self.bundle.join(LOG_FILE);
        let _ = fs::remove_file(&log);
        log
    }

    fn outcome(
        &self,
        action: &'static str,
        status: ExitStatus,
        log: &Path,
    ) -> Result<(), LinuxError> {
        if status.success() {
            return Ok(());
        }
        let program = self.runtime.program.clone();
        let message = last_error(log).unwrap_or_else(|| status.to_string());
        Err(LinuxError::Refused { program, action, message })
    }

    fn uncalled(&self, action: &'static str, source: io::Error) -> LinuxError {
        LinuxError::Call { program: self.runtime.program.clone(), action, source }
    }
}

/// The first of the programs that is a file in `path`.
fn find(path: &OsStr) -> Option<PathBuf> {
    let directories: Vec<_> = env::split_paths(path).filter(|dir| dir.is_absolute()).collect();
    let places = |program: &&str| {
        let program = (*program).to_owned();
        directories.iter().map(move |dir| dir.join(&program)).collect::<Vec<_>>()
    };
    PROGRAMS.iter().flat_map(places).find(|file| file.is_file())
}

/// The process whose id is in `pid_file`, as this one's own.
fn adopt(pid_file: &Path) -> io::Result<Launched> {
    let text = fs::read_to_string(pid_file)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("process id {text:?}"));
    let pid: u32 = text.trim().parse().map_err(|_| invalid())?;
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(invalid)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
    let end = ProcessEnd::OfAdopted(pidfd.try_clone()?);
    let (start, cost) = (Starter::of_running(), Cost::default());
    Ok(Launched { pid, pidfd, start, end, cost })
}

/// A line of the OCI runtime's log.
#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// Its last error.
fn last_error(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    lines.rfind(|line| line.level == "error").map(|line| line.msg)
}

#[cfg(test)]
mod tests;
