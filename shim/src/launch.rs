//! Starting the VMM process of a task: one child, confined before it reads the first byte of its
//! work.
//!
//! A thread of its own enters the task's namespaces and spawns the child, which inherits them; the
//! thread ends, the shim stays where it is. The child finds its work on an inherited pipe, and the
//! shim writes it only once the child is in its control group. It answers with one line: ready, or
//! what is wrong. Then it waits for the start byte, or for the pipe to close, which ends it.
//!
//! The child inherits its three standard streams, three pipes and the compiled program, nothing
//! else. It is not tied to the life of the shim: a shim that dies leaves its tasks to the `delete`
//! action, which kills by control group.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::binds::{BindError, bind_files};
use crate::bundle::{Bind, Namespace, Namespaces};
use crate::cgroup::{Cgroup, CgroupError};
use crate::microvm::{REPORT_FD, START_FD, SUBCOMMAND, WORKLOAD_FD};
use crate::stdio::TaskStdio;

/// Descriptor under which the child finds the compiled program.
const PROGRAM_FD: RawFd = 6;

/// That descriptor as a path, for a work that names its program by path. A cached program could be
/// replaced between two openings, and one that is not cached has no other path.
pub const PROGRAM_PATH: &str = "/proc/self/fd/6";

/// How long a VMM may take to get ready. It maps files and makes a virtual machine: milliseconds,
/// seconds under load. What takes longer hangs.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Longest answer that is read from a VMM that is not ready.
const REPORT_BYTES_MAX: u64 = 64 << 10;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The pipes or the thread could not be made.
    #[error("prepare the VMM process")]
    Prepare(#[source] io::Error),
    /// A namespace could not be entered.
    #[error("enter {kind} namespace {}", path.display())]
    Enter {
        /// Which kind.
        kind: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// New namespaces could not be made.
    #[error("make the VMM's namespaces")]
    Unshare(#[source] io::Error),
    /// A file could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The process could not be started.
    #[error("start the VMM process")]
    Spawn(#[source] io::Error),
    /// The process could not be put into its control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The process did not take its work.
    #[error("give the VMM process its work")]
    Give(#[source] io::Error),
    /// The process says what is wrong.
    #[error("{0}")]
    NotReady(String),
    /// The process talks, but not as a VMM does.
    #[error("the VMM process gave an answer that is none: is this shim's binary being replaced?")]
    Nonsense,
    /// The process ended without a word.
    #[error(
        "the VMM process ended before it was ready ({0}); see its messages in containerd's log"
    )]
    Died(ExitStatus),
    /// The process hangs.
    #[error("the VMM process was not ready within {} s", READY_LIMIT.as_secs())]
    Hangs,
}

/// What to start, and where.
#[derive(Debug)]
pub struct Launch {
    /// The program: this binary, or a stand-in in tests.
    pub program: Program,
    /// What the child reads from its work pipe.
    pub work: Vec<u8>,
    /// The compiled program.
    pub compiled: File,
    /// Its standard streams.
    pub stdio: TaskStdio,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Its root file system, and the files of the host that are bound into it.
    pub rootfs: PathBuf,
    /// What is bound; directories among it are left out.
    pub binds: Vec<Bind>,
    /// Its control group, which exists.
    pub cgroup: Cgroup,
    /// Its `oom_score_adj` (proc(5)).
    pub oom_score_adj: Option<i32>,
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub file: PathBuf,
    /// The arguments, without argument 0.
    pub args: Vec<String>,
}

impl Program {
    /// The VMM: this binary with its hidden subcommand.
    #[must_use]
    pub fn vmm() -> Self {
        Self { file: PathBuf::from("/proc/self/exe"), args: vec![SUBCOMMAND.to_owned()] }
    }
}

/// A VMM process that is ready.
#[derive(Debug)]
pub struct Vmm {
    /// Its process id.
    pub pid: u32,
    /// A descriptor that stands for the process, also after it has ended.
    pub pidfd: OwnedFd,
    /// A byte in here starts it.
    pub start: PipeWriter,
    /// The process, to be waited for.
    pub child: Child,
}

impl Launch {
    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    ///
    /// See [`LaunchError`]; then the process is gone, and reaped.
    pub async fn run(self) -> Result<Vmm, LaunchError> {
        let runtime = Handle::current();
        let (send, receive) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("launch".to_owned())
            .spawn(move || {
                // The caller waits for the answer; if it was cancelled, the process goes with its
                // owner.
                let _ = send.send(self.spawn(&runtime));
            })
            .map_err(LaunchError::Prepare)?;
        let lost = || LaunchError::Prepare(io::Error::other("the launching thread ended"));
        let spawned = receive.await.map_err(|_| lost())??;
        let Spawned { mut vmm, report, work } = spawned;
        let answer = tokio::task::spawn_blocking(move || exchange(work, report));
        let outcome = match tokio::time::timeout(READY_LIMIT, answer).await {
            Ok(Ok(Ok(Report::Ready))) => return Ok(vmm),
            Ok(Ok(Ok(Report::Refusal(message)))) => LaunchError::NotReady(message),
            Ok(Ok(Ok(Report::Silence))) => {
                LaunchError::Died(vmm.child.wait().await.map_err(LaunchError::Spawn)?)
            }
            Ok(Ok(Ok(Report::Nonsense))) => LaunchError::Nonsense,
            Ok(Ok(Err(error))) => LaunchError::Give(error),
            Ok(Err(_panicked)) => lost(),
            Err(_elapsed) => LaunchError::Hangs,
        };
        // Gone already is what is wanted.
        let _ = pidfd_send_signal(&vmm.pidfd, Signal::KILL);
        let _ = vmm.child.wait().await;
        Err(outcome)
    }

    /// Everything that must happen in the namespaces, on a thread that ends afterwards.
    fn spawn(self, runtime: &Handle) -> Result<Spawned, LaunchError> {
        let (work_end, work_writer) = io::pipe().map_err(LaunchError::Prepare)?;
        let (report, report_end) = io::pipe().map_err(LaunchError::Prepare)?;
        let (start_end, start) = io::pipe().map_err(LaunchError::Prepare)?;
        let mapping = |fd: OwnedFd, number| FdMapping { parent_fd: fd, child_fd: number };
        let mut command = Command::new(&self.program.file);
        command
            .args(&self.program.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(self.stdio.stdin))
            .stdout(Stdio::from(self.stdio.stdout))
            .stderr(Stdio::from(self.stdio.stderr))
            .fd_mappings(vec![
                mapping(work_end.into(), WORKLOAD_FD),
                mapping(report_end.into(), REPORT_FD),
                mapping(start_end.into(), START_FD),
                mapping(self.compiled.into(), PROGRAM_FD),
            ])
            .map_err(|collision| LaunchError::Prepare(io::Error::other(collision)))?;
        enter(&self.namespaces)?;
        bind_files(&self.rootfs, &self.binds)?;
        let guard = runtime.enter();
        let mut child = command.kill_on_drop(true).spawn().map_err(LaunchError::Spawn)?;
        drop(guard);
        // The shim's copies of the child's ends close here, so that the report ends when the child
        // does.
        drop(command);
        let pid =
            child.id().ok_or_else(|| LaunchError::Spawn(io::Error::other("no process id")))?;
        let confined = self.cgroup.join(pid).map_err(LaunchError::from).and_then(|()| {
            adjust_oom_score(pid, self.oom_score_adj);
            let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let raw = raw.ok_or_else(|| LaunchError::Spawn(io::Error::other("no process id")))?;
            pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| LaunchError::Spawn(errno.into()))
        });
        match confined {
            Ok(pidfd) => Ok(Spawned {
                vmm: Vmm { pid, pidfd, start, child },
                report,
                work: (work_writer, self.work),
            }),
            Err(error) => {
                // kill_on_drop does the rest if this fails.
                let _ = child.start_kill();
                Err(error)
            }
        }
    }
}

struct Spawned {
    vmm: Vmm,
    report: io::PipeReader,
    work: (PipeWriter, Vec<u8>),
}

enum Report {
    Ready,
    Refusal(String),
    Nonsense,
    Silence,
}

/// Hands over the work and takes the answer. Blocks.
fn exchange(work: (PipeWriter, Vec<u8>), report: io::PipeReader) -> io::Result<Report> {
    let (mut writer, bytes) = work;
    let given = writer.write_all(&bytes);
    drop(writer);
    let mut line = String::new();
    BufReader::new(report.take(REPORT_BYTES_MAX)).read_line(&mut line)?;
    // A child that cannot read its work says why, or ends: either explains more than a broken pipe.
    match (crate::microvm::parse_report(line.trim_end()), given) {
        (Some(Ok(())), Ok(())) => Ok(Report::Ready),
        (Some(Err(message)), _) => Ok(Report::Refusal(message)),
        (None, _) if line.is_empty() => Ok(Report::Silence),
        (None, _) => Ok(Report::Nonsense),
        (Some(Ok(())), Err(error)) => Err(error),
    }
}

/// Moves the calling thread into a mount namespace of its own and into the namespaces asked for.
fn enter(namespaces: &Namespaces) -> Result<(), LaunchError> {
    let wanted = [
        ("network", CloneFlags::CLONE_NEWNET, &namespaces.network),
        ("ipc", CloneFlags::CLONE_NEWIPC, &namespaces.ipc),
        ("uts", CloneFlags::CLONE_NEWUTS, &namespaces.uts),
    ];
    let mut fresh = CloneFlags::CLONE_NEWNS;
    let mut joined = Vec::new();
    for (kind, flag, namespace) in wanted {
        match namespace {
            Some(Namespace::New) => fresh |= flag,
            Some(Namespace::Join(path)) => {
                let enter = |source| LaunchError::Enter { kind, path: path.clone(), source };
                joined.push((File::open(path).map_err(enter)?, flag, kind, path));
            }
            None => {}
        }
    }
    for (file, flag, kind, path) in joined {
        setns(file.as_fd(), flag).map_err(|errno| LaunchError::Enter {
            kind,
            path: path.clone(),
            source: errno.into(),
        })?;
    }
    unshare(fresh).map_err(|errno| LaunchError::Unshare(errno.into()))?;
    // Mounts made in here stay in here; unmounts of the host come through, so that a long-lived
    // task does not keep the file systems of others busy.
    mount_change(Path::new("/"), MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| LaunchError::Unshare(errno.into()))
}

/// Lowering the score needs CAP_SYS_RESOURCE; without it the task keeps the shim's, which is a
/// worse choice for the kernel's OOM killer and no reason not to run.
fn adjust_oom_score(pid: u32, score: Option<i32>) {
    let Some(score) = score else { return };
    if let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        log::warn!(pid, score; "set oom_score_adj: {error}");
    }
}
