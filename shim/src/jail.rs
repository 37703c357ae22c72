//! The jail: what a process that runs micro-VMs gives up before it looks at anything of a tenant's.
//!
//! Rule: what the process needs is open before ([`open_ahead`]), then it is locked ([`Lock`]), and only then
//! are the program, its snapshot and its directories opened, and guests run. Locking cannot be undone. It
//! happens while the process has one thread, because credentials and filters are those of threads; threads
//! that are made later have them too.
//!
//! | Wall | Of a task | Of `hyperlight run`, `serve` |
//! |---|---|---|
//! | mount, pid, ipc, uts, network namespaces ([`Confinement`](crate::launch::Confinement)) | yes | no |
//! | the container's root file system only ([`root`]) | yes | no |
//! | ids of its own, no capabilities ([`privileges`]) | yes | the person's, and for root the file capabilities |
//! | no new privileges, no core dump, not dumpable | yes | yes |
//! | Landlock ([`files`]) | where the kernel has it | where the kernel has it |
//! | list of system calls ([`syscalls`]) | yes | yes |

mod files;
mod privileges;
pub(crate) mod root;
mod syscalls;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use landlock::RulesetError;
use nix::sched::{CloneFlags, setns};

use self::files::Opened;
use self::root::{Made, RootError};
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
    /// The root file system cannot be made or entered.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The mount namespace of another process cannot be entered.
    #[error("enter the mount namespace of the container's first process")]
    Mounts(#[source] io::Error),
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

/// Opens what a locked process cannot open any more, for `workload`.
///
/// # Errors
///
/// [`JailError::OpenAhead`].
pub(crate) fn open_ahead(workload: &Workload) -> Result<(), JailError> {
    vmm::open_ahead().map_err(JailError::OpenAhead)?;
    crate::http::open_ahead(workload.network.is_some());
    Ok(())
}

/// A process that is about to be locked.
#[derive(Debug)]
pub(crate) struct Lock {
    /// What it is to see of file systems.
    pub(crate) view: Seen,
    /// Whose files it uses.
    pub(crate) user: User,
    /// Its process id in the initial namespace.
    pub(crate) pid: u32,
    /// Limits that were asked for.
    pub(crate) limits: Vec<ResourceLimit>,
}

/// What a process is to see of file systems.
#[derive(Debug)]
pub(crate) enum Seen {
    /// This root file system.
    Root(Made),
    /// What is seen in this mount namespace.
    Mounts(File),
}

impl Lock {
    /// Locks this process, which has one thread, for `workload`.
    ///
    /// # Errors
    ///
    /// See [`JailError`]; the process is locked in part then, and should end.
    pub(crate) fn lock(self, workload: &Workload) -> Result<(), JailError> {
        let Self { view, user, pid, limits } = self;
        for limit in &limits {
            limit.set().map_err(|source| {
                let ResourceLimit { name, soft, hard } = limit.clone();
                JailError::Limit { name, soft, hard, source }
            })?;
        }
        match view {
            Seen::Root(root) => root.enter()?,
            Seen::Mounts(namespace) => setns(namespace, CloneFlags::CLONE_NEWNS)
                .map_err(|errno| JailError::Mounts(errno.into()))?,
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
        Ok(syscalls::install(sockets)?)
    }
}

/// Most threads that a process needs for `workload`.
fn threads(workload: &Workload) -> u64 {
    let workers = workload.serving.as_ref().map_or(0, |serving| serving.max_concurrency.get());
    THREADS + u64::from(workers)
}

fn note_no_landlock(error: &RulesetError) {
    log::debug!("without Landlock, which this kernel does not have: {error}");
}
