//! The jail: what a process that runs micro-VMs gives up before it looks at anything of a tenant's.
//!
//! Rule: what the process needs is open before (`open_ahead`), then it goes to its place and is locked (`Lock`), and only then
//! are the program, its snapshot and its directories opened, and guests run. Locking cannot be undone. It
//! happens while the process has one thread, because credentials and filters are those of threads; threads
//! that are made later have them too.
//!
//! | Wall | Of a task | Of `hyperlight run`, `serve` |
//! |---|---|---|
//! | mount, pid, ipc, uts, network namespaces ([`Confinement`](crate::launch::Confinement)) | yes | no |
//! | the container's root file system only (`root`) | yes | no |
//! | ids of its own, no capabilities (`privileges`) | yes | the person's, and for root the file capabilities |
//! | no new privileges, no core dump, not dumpable | yes | yes |
//! | Landlock (`files`) | where the kernel has it | where the kernel has it |
//! | list of system calls (`jail/syscalls.rs`) | yes | yes |

mod files;
mod privileges;
pub(crate) mod root;
mod syscalls;

use std::fmt;
use std::io;
use std::path::PathBuf;

use landlock::RulesetError;
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};

use self::files::Opened;
use self::syscalls::Duty;
use crate::workload::Workload;

pub use self::privileges::{ResourceLimit, User};
pub use self::root::{Mount, MountKind, Root};

/// Threads of a process beside those that handle requests: the vCPU's, the resolver's, the HTTP client's,
/// those that wait for a run to end or to be dropped, and what the event loops keep for blocking calls.
const THREADS: u64 = 576;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// Something that is needed later cannot be opened.
    #[error("open what the VMM process needs of the host")]
    OpenAhead(#[source] io::Error),
    /// A limit cannot be set.
    #[error("set {name} to {soft}, at most {hard}")]
    Limit {
        /// Which.
        name: String,
        /// The limit in force.
        soft: u64,
        /// The highest that it could be.
        hard: u64,
        /// Why not.
        source: io::Error,
    },
    /// Privileges cannot be given up.
    #[error("give up the VMM process's privileges")]
    Privileges(#[source] io::Error),
    /// The kernel does not take the list of system calls.
    #[error("restrict the VMM process to its system calls")]
    Syscalls(#[from] seccompiler::Error),
}

/// What a process may do with sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// Nothing: it can make none.
    None,
    /// Take connections at a port that was bound before.
    Serve,
    /// Make sockets of IPv4 and IPv6, and use them.
    All,
}

impl Sockets {
    /// What `workload` needs.
    #[must_use]
    pub(crate) const fn of(workload: &Workload) -> Self {
        match (&workload.network, &workload.serving) {
            (Some(_), _) => Self::All,
            (None, Some(_)) => Self::Serve,
            (None, None) => Self::None,
        }
    }
}

/// Opens what a locked process cannot open any more.
///
/// # Errors
///
/// [`JailError::OpenAhead`].
pub(crate) fn open_ahead() -> Result<(), JailError> {
    vmm::open_ahead().map_err(JailError::OpenAhead)?;
    crate::http::open_ahead();
    Ok(())
}

/// A process that is about to be locked.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Whose files it uses.
    pub(crate) user: User,
    /// Its process id in the initial namespace.
    pub(crate) pid: u32,
    /// Limits that were asked for.
    pub(crate) limits: Vec<ResourceLimit>,
}

impl Lock {
    /// Locks this process, which has one thread, for `workload`.
    ///
    /// # Errors
    ///
    /// See [`JailError`]; the process is locked in part then, and should end.
    pub(crate) fn lock(self, workload: &Workload) -> Result<(), JailError> {
        let Self { user, pid, limits } = self;
        for limit in &limits {
            limit.set().map_err(|source| {
                let ResourceLimit { name, soft, hard } = limit.clone();
                JailError::Limit { name, soft, hard, source }
            })?;
        }
        let sockets = Sockets::of(workload);
        privileges::become_nobody(&user, pid, threads(workload)).map_err(JailError::Privileges)?;
        privileges::keep_memory_private().map_err(JailError::Privileges)?;
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| JailError::Privileges(errno.into()))?;
        let everything = [Opened { path: PathBuf::from("/"), read_only: false }];
        if let Err(error) = files::restrict(&everything, sockets == Sockets::All) {
            note_no_landlock(&error);
        }
        Ok(syscalls::install(Duty::Run(sockets))?)
    }
}

/// Walls that could not be put up around a process that a person has started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing(Vec<String>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => f.write_str("files, system calls and privileges are restricted"),
            missing => write!(f, "without {}", missing.join("; without ")),
        }
    }
}

/// Locks this process for `workload`, which a person runs by hand, as far as it can be without privileges.
/// Everything that `workload` names is open already.
///
/// It stays the person's; root keeps the power over files and ports.
pub(crate) fn lock_by_hand(workload: &Workload) -> Missing {
    let mut missing = Missing::default();
    let mut note = |what: &str, error: &dyn std::error::Error| {
        missing.0.push(format!("{what}: {}", crate::error::line(error)));
    };
    if let Err(error) = privileges::keep_file_capabilities() {
        note("dropping capabilities", &error);
    }
    if let Err(error) = privileges::keep_memory_private() {
        note("hiding its memory", &error);
    }
    let sockets = Sockets::of(workload);
    let mut opened: Vec<_> = workload
        .preopens
        .iter()
        .map(|it| Opened { path: it.host_path.clone(), read_only: it.read_only })
        .collect();
    if sockets == Sockets::All {
        opened.extend(files::of_network());
    }
    if let Err(error) = files::restrict(&opened, sockets == Sockets::All) {
        note("restricting files, for which Linux 5.19 is needed, with Landlock", &error);
    }
    if let Err(error) = syscalls::install(Duty::Run(sockets)) {
        note("restricting system calls", &error);
    }
    missing
}

/// Has this process end with its parent, and gives it `limits`: a resource, the limit in force and the highest that it
/// could be. They bind the rest of its life.
///
/// # Errors
///
/// The kernel refuses.
pub(crate) fn end_with_parent_within(limits: &[(Resource, u64, u64)]) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    for &(resource, current, maximum) in limits {
        // A limit that is lower already cannot be raised, and need not be.
        let old = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let [current, maximum] = [current, maximum].map(|limit| Some(limit.min(old)));
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// Locks this process, which has one thread, and from then on turns bytes into bytes: it opens no file, makes
/// no socket, and reaches nobody.
///
/// # Errors
///
/// See [`JailError`].
pub(crate) fn lock_compiler() -> Result<(), JailError> {
    lock_worker(Duty::Compile)
}

/// As [`lock_compiler`], of a process that runs a micro-VM which is granted nothing; KVM is open.
///
/// # Errors
///
/// See [`JailError`].
pub(crate) fn lock_maker() -> Result<(), JailError> {
    vmm::open_ahead().map_err(JailError::OpenAhead)?;
    lock_worker(Duty::MakeSnapshot)
}

fn lock_worker(duty: Duty) -> Result<(), JailError> {
    if rustix::process::geteuid().is_root() {
        let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        privileges::become_nobody(&User::default(), pid, THREADS).map_err(JailError::Privileges)?;
    }
    privileges::keep_memory_private().map_err(JailError::Privileges)?;
    rustix::thread::set_no_new_privs(true).map_err(|errno| JailError::Privileges(errno.into()))?;
    if let Err(error) = files::restrict(&[], false) {
        note_no_landlock(&error);
    }
    Ok(syscalls::install(duty)?)
}

/// Most threads that a process needs for `workload`.
fn threads(workload: &Workload) -> u64 {
    let workers = workload.serving.as_ref().map_or(0, |serving| serving.max_concurrency.get());
    THREADS + u64::from(workers)
}

fn note_no_landlock(error: &RulesetError) {
    log::debug!("without Landlock, which this kernel does not have: {error}");
}
