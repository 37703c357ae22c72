//! The VMM process of a task: started early, told late.
//!
//! A process is spawned with nothing but a socket ([`Program::spawn`]); while the shim looks for the
//! program, it goes into its namespaces and its control group by itself ([`Idle::confine`],
//! [`Idle::join`]); then it is given the workload and the descriptors ([`Idle::run`]), answers that it is
//! ready, or what is wrong, and waits for the start.
//!
//! It inherits its socket as standard input and nothing else: its standard streams and the compiled
//! program are handed over (`channel`). It is not tied to the life of the shim once it runs: a shim
//! that dies leaves its tasks to the `delete` action, which kills by control group. Before that it ends
//! with its socket.

pub(crate) mod channel;
pub(crate) mod confine;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    waitid,
};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};

use self::channel::{Handed, Order, Report};
use crate::bundle::Namespace;
use crate::counts::Counts;
use crate::microvm::SUBCOMMAND;
use crate::page_cache;
use crate::stdio::TaskStdio;
use crate::workload::Workload;

pub use self::channel::Cost;
pub use self::confine::{Confinement, View};

/// What the process calls itself: argument 0, and the name that `ps` and `top` show.
pub const PROCESS_NAME: &str = "hyperlight-vmm";

/// How long a VMM may take to get ready. It maps files and makes a virtual machine: milliseconds,
/// seconds under load. What takes longer hangs.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Most bytes of counts: four numbers with their names.
const COUNTS_BYTES_MAX: u64 = 4096;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The socket or the thread could not be made.
    #[error("prepare the VMM process")]
    Prepare(#[source] io::Error),
    /// The process could not be started.
    #[error("start the VMM process")]
    Spawn(#[source] io::Error),
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
    #[error("the VMM process ended before it was ready ({0})")]
    Died(ExitStatus),
    /// The process hangs.
    #[error("the VMM process was not ready within {} s", READY_LIMIT.as_secs())]
    Hangs,
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub file: PathBuf,
    /// The arguments, without argument 0.
    pub args: Vec<String>,
}

/// What a VMM process is given.
#[derive(Debug)]
pub struct Work {
    /// What it runs; the path of the program is not used.
    pub workload: Workload,
    /// The compiled program.
    pub program: File,
    /// Its snapshot, or an empty file where there is none.
    pub snapshot: File,
    /// The guest image to be mapped; an empty file where the process loads its own.
    pub image: File,
    /// The standard streams.
    pub stdio: TaskStdio,
}

/// A VMM process without work. Dropping it ends it.
#[derive(Debug)]
pub struct Idle {
    pid: u32,
    pidfd: OwnedFd,
    child: Child,
    socket: tokio::net::UnixStream,
    read_in: Option<JoinHandle<()>>,
}

/// A process of a task that is ready to be started, or runs: a VMM, mostly.
#[derive(Debug)]
pub struct Launched {
    /// Its process id.
    pub pid: u32,
    /// A descriptor that stands for the process, also after it has ended.
    pub pidfd: OwnedFd,
    /// What starts it.
    pub start: Starter,
    /// Its end, to be waited for.
    pub end: ProcessEnd,
    /// What getting ready took.
    pub cost: Cost,
}

/// The end of a process. Dropping that of a child ends it.
#[derive(Debug)]
pub enum ProcessEnd {
    /// Of a child that this process has made.
    OfChild(Box<Child>),
    /// Of a VMM process, with the pipe that it leaves its counts in.
    OfVmm(Box<Child>, File),
    /// Of one that another has made and left behind, by its pidfd.
    OfAdopted(OwnedFd),
}

impl ProcessEnd {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// The process is not a child of this one any more.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let pidfd = match self {
            Self::OfChild(child) | Self::OfVmm(child, _) => return child.wait().await,
            Self::OfAdopted(pidfd) => pidfd,
        };
        // Watched from before the first look on.
        let mut children = signal(SignalKind::child())?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        loop {
            if let Some(status) = waitid(WaitId::PidFd(pidfd.as_fd()), options)? {
                return Ok(exit_status(&status));
            }
            children.recv().await;
        }
    }
}

impl ProcessEnd {
    /// What a VMM process that has ended has counted; nothing if it was killed.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        let Self::OfVmm(_, account) = self else { return None };
        let mut told = Vec::new();
        // A process that was taken over may say anything, or keep the pipe, which is not waited for.
        let _ = account.take(COUNTS_BYTES_MAX).read_to_end(&mut told);
        serde_json::from_slice(&told).ok()
    }
}

/// The status as wait(2) has it: the code in the second byte, or the signal in the first.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let code = status.exit_status().map(|code| (code & 0xff) << 8);
    ExitStatus::from_raw(code.or(status.terminating_signal()).unwrap_or_default())
}

/// Starts the program of a VMM process. If it is dropped instead, the process ends.
#[derive(Debug)]
pub struct Starter(Option<tokio::net::UnixStream>);

impl Program {
    /// The VMM: this binary with its hidden subcommand.
    #[must_use]
    pub fn vmm() -> Self {
        Self { file: PathBuf::from("/proc/self/exe"), args: vec![SUBCOMMAND.to_owned()] }
    }

    /// Starts a VMM process, which then waits for what [`Idle`] tells it. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// The process cannot be started.
    pub fn spawn(&self) -> Result<Idle, LaunchError> {
        self.spawn_by(|mut command| command.spawn())
    }

    /// As [`spawn`](Self::spawn), in a pid namespace: a new one, of which it is the first process, or an
    /// existing one.
    ///
    /// # Errors
    ///
    /// There is no such namespace, or the process cannot be started.
    pub fn spawn_in(&self, pid: &Namespace) -> Result<Idle, LaunchError> {
        self.spawn_by(|command| confine::spawn_in(command, pid))
    }

    fn spawn_by(
        &self,
        spawn: impl FnOnce(Command) -> io::Result<Child>,
    ) -> Result<Idle, LaunchError> {
        let (ours, theirs) = UnixStream::pair().map_err(LaunchError::Prepare)?;
        ours.set_nonblocking(true).map_err(LaunchError::Prepare)?;
        let socket = tokio::net::UnixStream::from_std(ours).map_err(LaunchError::Prepare)?;
        // Nothing is asked for that would have to run between fork and exec: so the memory of the shim
        // is not copied for the moment until exec (posix_spawn).
        let mut command = Command::new(&self.file);
        command
            .arg0(PROCESS_NAME)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let child = spawn(command).map_err(LaunchError::Spawn)?;
        let file = self.file.clone();
        let read_in = Some(spawn_blocking(move || read_in(&file)));
        let no_id = || LaunchError::Spawn(io::Error::other("no process id"));
        let pid = child.id().ok_or_else(no_id)?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(no_id)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())
            .map_err(|errno| LaunchError::Spawn(errno.into()))?;
        Ok(Idle { pid, pidfd, child, socket, read_in })
    }
}

impl Idle {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it can still be given work.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Has it go where it is to live; whether it could is told by its answer to [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// It cannot be told.
    pub async fn confine(&mut self, confinement: Confinement) -> Result<(), LaunchError> {
        self.tell(Order::Confine(Box::new(confinement))).await
    }

    /// Has it join a control group by `files`; whether it could is told by its answer to
    /// [`run`](Self::run). Not before its program is on its way into the page cache: what it reads in
    /// afterwards is charged to that group.
    ///
    /// # Errors
    ///
    /// It cannot be told.
    pub async fn join(&mut self, files: Vec<PathBuf>) -> Result<(), LaunchError> {
        if let Some(read_in) = self.read_in.take() {
            // It is none the worse for being read later.
            let _ = read_in.await;
        }
        self.tell(Order::Join(files)).await
    }

    /// Waits until its namespaces and mounts are made, where it was told to wait then
    /// ([`Confinement::waits`]).
    ///
    /// # Errors
    ///
    /// They are not, for a reason that the process tells.
    pub async fn made(&mut self) -> Result<(), LaunchError> {
        let report = tokio::time::timeout(READY_LIMIT, channel::report(&mut self.socket)).await;
        match report {
            Ok(Ok(Some(Report::Made))) => Ok(()),
            Ok(Ok(Some(Report::Error(message)))) => Err(LaunchError::NotReady(message)),
            Ok(Ok(Some(Report::Ready(_)))) => Err(LaunchError::Nonsense),
            Ok(Ok(None)) => match self.child.wait().await {
                Ok(status) => Err(LaunchError::Died(status)),
                Err(error) => Err(LaunchError::Spawn(error)),
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(LaunchError::Nonsense)
            }
            Ok(Err(error)) => Err(LaunchError::Give(error)),
            Err(_elapsed) => Err(LaunchError::Hangs),
        }
    }

    /// Has it see nothing else any more.
    ///
    /// # Errors
    ///
    /// It cannot be told.
    pub async fn enter(&mut self) -> Result<(), LaunchError> {
        self.tell(Order::Enter).await
    }

    async fn tell(&mut self, order: Order) -> Result<(), LaunchError> {
        let sent = channel::send(&mut self.socket, &order, &[]).await;
        // One that has ended, or ends for an error of its own, is asked why later.
        sent.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(LaunchError::Give(error)) })
    }

    /// Gives it its work and waits until it is ready.
    ///
    /// # Errors
    ///
    /// See [`LaunchError`]; then the process is gone, and reaped.
    pub async fn run(mut self, work: Work) -> Result<Launched, LaunchError> {
        let (account, writer) = match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok(pipe) => pipe,
            Err(errno) => {
                self.end().await;
                return Err(LaunchError::Prepare(errno.into()));
            }
        };
        let exchanged = exchange(&mut self.socket, work, writer);
        let exchanged = tokio::time::timeout(READY_LIMIT, exchanged).await;
        let outcome = match exchanged {
            Ok(Ok(Some(Report::Ready(cost)))) => {
                let Self { pid, pidfd, child, socket, read_in: _ } = self;
                return Ok(Launched {
                    pid,
                    pidfd,
                    start: Starter(Some(socket)),
                    end: ProcessEnd::OfVmm(Box::new(child), account.into()),
                    cost,
                });
            }
            Ok(Ok(Some(Report::Error(message)))) => LaunchError::NotReady(message),
            Ok(Ok(Some(Report::Made))) => LaunchError::Nonsense,
            Ok(Ok(None)) => match self.child.wait().await {
                Ok(status) => LaunchError::Died(status),
                Err(error) => LaunchError::Spawn(error),
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => LaunchError::Nonsense,
            Ok(Err(error)) => LaunchError::Give(error),
            Err(_elapsed) => LaunchError::Hangs,
        };
        self.end().await;
        Err(outcome)
    }

    /// Its status when the shim's end of the socket closes, for tests.
    #[cfg(test)]
    pub(crate) async fn abandoned(mut self) -> ExitStatus {
        drop(self.socket);
        self.child.wait().await.unwrap()
    }

    /// Ends it, and waits until it is gone.
    pub async fn end(mut self) {
        // Gone already is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.child.wait().await;
    }
}

impl Starter {
    /// Of a process that runs without being told.
    #[must_use]
    pub const fn of_running() -> Self {
        Self(None)
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// The process has ended.
    pub fn start(self) -> io::Result<()> {
        let Some(socket) = self.0 else { return Ok(()) };
        let mut line = serde_json::to_vec(&Order::Start)?;
        line.push(b'\n');
        // The process has read everything before it was ready: there is room for a line.
        match socket.try_write(&line)? {
            written if written == line.len() => Ok(()),
            _less => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// Has the page cache hold a program. Its text is not mapped by large pages.
fn read_in(program: &Path) {
    match File::open(program) {
        Ok(file) => page_cache::begin_to_read_in_data(&file),
        Err(error) => log::debug!("read {} in: {error}", program.display()),
    }
}

/// Hands over the work and takes the answer.
async fn exchange(
    socket: &mut tokio::net::UnixStream,
    work: Work,
    account: OwnedFd,
) -> io::Result<Option<Report>> {
    let Work { workload, program, snapshot, image, stdio } = work;
    let stdio = [stdio.stdin, stdio.stdout, stdio.stderr];
    let (program, snapshot, image) = (program.into(), snapshot.into(), image.into());
    let handed = Handed { program, snapshot, image, account, stdio };
    let order = Order::Run(Box::new(workload));
    let given = channel::send(socket, &order, &handed.borrowed()).await;
    // The program's ends are the VMM's from here on.
    drop(handed);
    // A process that cannot take its work says why, or ends: either explains more than a broken pipe.
    match (given, channel::report(socket).await) {
        (Ok(()), Err(error)) if is_gone(&error) => Ok(None),
        (Ok(()), answer) => answer,
        (Err(_), Ok(Some(Report::Error(message)))) => Ok(Some(Report::Error(message))),
        (Err(error), _) if is_gone(&error) => Ok(None),
        (Err(error), _) => Err(error),
    }
}

/// Whether the error is that of a socket whose other side is closed, read or not.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Lowering the score needs CAP_SYS_RESOURCE; without it the task keeps the shim's, which is a
/// worse choice for the kernel's OOM killer and no reason not to run.
pub(crate) fn adjust_oom_score(pid: u32, score: Option<i32>) {
    let Some(score) = score else { return };
    if let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        log::warn!(pid, score; "set oom_score_adj: {error}");
    }
}
