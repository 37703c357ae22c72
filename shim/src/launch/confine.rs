//! Where a VMM process lives: its namespaces, and the root file system that it sees.
//!
//! Rule: the process goes there by itself, while it has one thread and has read nothing of its work. It
//! comes from the shim's binary and the shim's namespaces, so it may do what the shim may do, until it is
//! locked ([`crate::jail`]). Its pid namespace alone is made by the shim, as no process can change its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::bundle::{Namespace, Namespaces};
use crate::jail::root::RootError;
use crate::jail::{self, JailError, Lock, ResourceLimit, Root, User};

/// Ports below this one are for the privileged, unless a network namespace says otherwise.
const FIRST_FREE_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// The stack of a thread that spawns one process.
const STACK_BYTES: usize = 256 << 10;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
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
    /// The host name could not be set.
    #[error("set the host name to {name:?}")]
    Hostname {
        /// The name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The root file system could not be made or entered.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Something of the host that is needed later could not be opened.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// The shim did not say that the hooks have run.
    #[error("wait for the hooks of the container")]
    Wait(#[source] io::Error),
    /// The process could not find out its own id.
    #[error("read /proc/self: mount proc at /proc")]
    Pid(#[source] io::Error),
}

/// Where a VMM process is to live, and what it is left with there. Any number of processes can be sent to
/// the same place.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Confinement {
    /// Its namespaces, beside a mount namespace.
    pub namespaces: Namespaces,
    /// The host name in a new uts namespace.
    pub hostname: Option<String>,
    /// Whether the ports below 1024 of a new network namespace are for everyone in it.
    pub all_ports: bool,
    /// What it sees.
    pub view: View,
    /// Whose files it uses.
    pub user: User,
    /// Its resource limits.
    pub limits: Vec<ResourceLimit>,
    /// Whether it waits, with its namespaces and mounts made, before it sees them alone: for hooks.
    pub waits: bool,
}

/// What a process sees of file systems.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// A root file system, in a mount namespace of its own.
    Root(Root),
    /// What the process sees whose mount namespace this is: `/proc/PID/ns/mnt`.
    Of(PathBuf),
}

impl Default for View {
    fn default() -> Self {
        Self::Root(Root::default())
    }
}

impl Confinement {
    /// The place of the process `pid`, which was sent to this one: the same namespaces and mounts.
    #[must_use]
    pub fn shared_with(&self, pid: u32) -> Self {
        let file = |name: &str| PathBuf::from(format!("/proc/{pid}/ns/{name}"));
        let join = |name| Some(Namespace::Join(file(name)));
        Self {
            namespaces: Namespaces {
                network: join("net"),
                ipc: join("ipc"),
                uts: join("uts"),
                pid: join("pid"),
            },
            hostname: None,
            all_ports: false,
            waits: false,
            view: View::Of(file("mnt")),
            ..self.clone()
        }
    }

    /// Moves this process, which has one thread, into the namespaces, and has it see nothing but what it is
    /// to see. What it needs of the host is opened before; the host's control groups are out of its sight
    /// afterwards. If it is to wait in between, it does so by `wait`.
    ///
    /// # Errors
    ///
    /// See [`ConfineError`]; the process may then be anywhere, and should end.
    pub(crate) fn enter(self, wait: impl FnOnce() -> io::Result<()>) -> Result<Lock, ConfineError> {
        let Self { namespaces, hostname, all_ports, view, user, limits, waits } = self;
        // In a pid namespace of its own the process does not know what others call it.
        let pid = fs::read_link("/proc/self").map_err(ConfineError::Pid)?;
        let pid = pid.to_str().and_then(|pid| pid.parse().ok());
        let pid = pid.ok_or_else(|| ConfineError::Pid(io::ErrorKind::InvalidData.into()))?;
        enter(&namespaces, matches!(view, View::Root(_)))?;
        if namespaces.uts == Some(Namespace::New)
            && let Some(name) = hostname
        {
            nix::unistd::sethostname(&name)
                .map_err(|errno| ConfineError::Hostname { name, source: errno.into() })?;
        }
        if namespaces.network == Some(Namespace::New)
            && all_ports
            && let Err(error) = fs::write(FIRST_FREE_PORT, "0")
        {
            log::warn!("the ports below 1024 cannot be bound: write {FIRST_FREE_PORT}: {error}");
        }
        jail::open_ahead()?;
        match view {
            View::Root(root) => {
                let made = root.make()?;
                if waits {
                    wait().map_err(ConfineError::Wait)?;
                }
                made.enter()?;
            }
            View::Of(path) => join("mount", CloneFlags::CLONE_NEWNS, &path)?,
        }
        Ok(Lock { user, pid, limits })
    }
}

/// Spawns `command` in a pid namespace. A process cannot change its own, and a thread can only say where its
/// children go: so a thread that does nothing else says it. Needs a tokio runtime.
///
/// # Errors
///
/// There is no such namespace, or the process cannot be started.
pub(super) fn spawn_in(mut command: Command, pid: &Namespace) -> io::Result<Child> {
    let runtime = Handle::current();
    thread::scope(|scope| {
        let spawn = || {
            match pid {
                Namespace::New => unshare(CloneFlags::CLONE_NEWPID)?,
                Namespace::Join(path) => setns(File::open(path)?, CloneFlags::CLONE_NEWPID)?,
            }
            let _entered = runtime.enter();
            command.spawn()
        };
        let thread = thread::Builder::new().name("spawn".to_owned()).stack_size(STACK_BYTES);
        let spawned = thread.spawn_scoped(scope, spawn)?;
        spawned.join().map_err(|_panicked| io::Error::other("the thread ended"))?
    })
}

/// Moves the calling thread into the namespaces asked for, and into a mount namespace of its own if it is to
/// have one.
fn enter(namespaces: &Namespaces, own_mounts: bool) -> Result<(), ConfineError> {
    let wanted = [
        ("network", CloneFlags::CLONE_NEWNET, &namespaces.network),
        ("ipc", CloneFlags::CLONE_NEWIPC, &namespaces.ipc),
        ("uts", CloneFlags::CLONE_NEWUTS, &namespaces.uts),
    ];
    let mut fresh = if own_mounts { CloneFlags::CLONE_NEWNS } else { CloneFlags::empty() };
    for (kind, flag, namespace) in wanted {
        match namespace {
            Some(Namespace::New) => fresh |= flag,
            Some(Namespace::Join(path)) => join(kind, flag, path)?,
            None => {}
        }
    }
    unshare(fresh).map_err(|errno| ConfineError::Unshare(errno.into()))?;
    if !own_mounts {
        return Ok(());
    }
    // Mounts made in here stay in here; what the host does to a bound directory that follows it comes
    // through.
    mount_change(Path::new("/"), MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| ConfineError::Unshare(errno.into()))
}

fn join(kind: &'static str, flag: CloneFlags, path: &Path) -> Result<(), ConfineError> {
    let enter = |source| ConfineError::Enter { kind, path: path.to_owned(), source };
    let file = File::open(path).map_err(enter)?;
    setns(file.as_fd(), flag).map_err(|errno| enter(errno.into()))
}
