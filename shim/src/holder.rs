//! The holder: the process that a pod's namespaces belong to, and that containerd knows as the pod's pause
//! container.
//!
//! Rule: the namespaces are made and set up by a thread of the shim that ends with it, and the holder, a
//! program of its own (`PROGRAM`), is started in them with no descriptor but `/dev/null` and no rights. Other
//! containers of the pod find them by its process id.
//!
//! Source: OCI runtime specification 1.2, config-linux.md; namespaces(7), pid_namespaces(7).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::bundle::{Namespace, Pod};
use crate::cgroup::{Cgroup, CgroupError};

/// The program, built from `shim/holder/main.rs`.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/holder"));

/// What `ps` shows.
const NAME: &str = "hyperlight-pod";

/// Prefixes of the kernel parameters that a namespace has for itself: network and IPC.
const OF_NETWORK: [&str; 1] = ["net."];
const OF_IPC: [&str; 4] = ["kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."];

/// Why there is no holder.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// A namespace could not be entered.
    #[error("enter the pod's {kind} namespace {}", path.display())]
    Enter {
        /// Which kind.
        kind: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Namespaces could not be made.
    #[error("make the pod's namespaces")]
    Unshare(#[source] io::Error),
    /// The host name could not be set.
    #[error("set the pod's host name to {name:?}")]
    HostName {
        /// The name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A kernel parameter would be set for the whole node.
    #[error(
        "kernel parameter {0} is the node's, not the pod's: a pod may set those of network (net.*) and \
         IPC (kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*) where it has namespaces of its own"
    )]
    NotOfPod(String),
    /// A kernel parameter could not be set.
    #[error("set kernel parameter {name} to {value:?}")]
    Parameter {
        /// Which.
        name: String,
        /// To what.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// The control group could not be entered.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The process could not be started.
    #[error("start the holder of the pod's namespaces")]
    Spawn(#[source] io::Error),
}

/// A holder. Dropping its child ends it.
#[derive(Debug)]
pub struct Holder {
    /// Its process id, in the shim's namespace.
    pub pid: u32,
    /// A descriptor that stands for the process, also after it has ended.
    pub pidfd: OwnedFd,
    /// The process, to be waited for.
    pub child: Child,
}

/// Starts the holder of the namespaces that `pod` asks for, in `cgroup`. Blocks for as long as that takes;
/// `runtime` is the one that waits for the process.
///
/// # Errors
///
/// See [`HolderError`]; then nothing of it is left.
pub fn start(pod: &Pod, cgroup: &Cgroup, runtime: &Handle) -> Result<Holder, HolderError> {
    std::thread::scope(|scope| {
        // A thread that has entered namespaces does not come back, so it ends.
        let thread = std::thread::Builder::new()
            .name("pod".to_owned())
            .spawn_scoped(scope, || start_here(pod, cgroup, runtime))
            .map_err(HolderError::Spawn)?;
        thread.join().unwrap_or_else(|_| Err(HolderError::Spawn(io::ErrorKind::Other.into())))
    })
}

fn start_here(pod: &Pod, cgroup: &Cgroup, runtime: &Handle) -> Result<Holder, HolderError> {
    let program = program().map_err(HolderError::Spawn)?;
    // Before the namespaces: the files of its hierarchies are those of the node.
    cgroup.enter_by_thread()?;
    enter(pod)?;
    if let Some(name) = &pod.host_name {
        let failed = |errno: rustix::io::Errno| HolderError::HostName {
            name: name.clone(),
            source: errno.into(),
        };
        rustix::system::sethostname(name.as_bytes()).map_err(failed)?;
    }
    for (name, value) in &pod.parameters {
        set_parameter(pod, name, value)?;
    }
    let _entered = runtime.enter();
    let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(NAME)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(HolderError::Spawn)?;
    let no_id = || HolderError::Spawn(io::Error::other("no process id"));
    let pid = child.id().ok_or_else(no_id)?;
    cgroup.take(pid)?;
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(no_id)?;
    let pidfd =
        pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| HolderError::Spawn(errno.into()))?;
    Ok(Holder { pid, pidfd, child })
}

/// The program as a file that nobody can change.
fn program() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("hyperlight-pod", flags)?);
    file.write_all(PROGRAM)?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}

/// Moves this thread into the pod's namespaces; its children begin in the new process namespace.
fn enter(pod: &Pod) -> Result<(), HolderError> {
    let namespaces = &pod.namespaces;
    let wanted = [
        ("network", CloneFlags::CLONE_NEWNET, &namespaces.network),
        ("ipc", CloneFlags::CLONE_NEWIPC, &namespaces.ipc),
        ("uts", CloneFlags::CLONE_NEWUTS, &namespaces.uts),
        ("pid", CloneFlags::CLONE_NEWPID, &namespaces.pid),
    ];
    let mut fresh = CloneFlags::CLONE_NEWNS;
    for (kind, flag, namespace) in wanted {
        match namespace {
            Some(Namespace::New) => fresh |= flag,
            Some(Namespace::Join(path)) => {
                let failed = |source| HolderError::Enter { kind, path: path.clone(), source };
                let file = File::open(path).map_err(failed)?;
                setns(file.as_fd(), flag).map_err(|errno| failed(errno.into()))?;
            }
            None => {}
        }
    }
    unshare(fresh).map_err(|errno| HolderError::Unshare(errno.into()))?;
    // Unmounts of the host come through: the holder keeps no file system busy.
    mount_change(Path::new("/"), MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| HolderError::Unshare(errno.into()))
}

/// Sets a parameter of the namespaces that this thread is in.
fn set_parameter(pod: &Pod, name: &str, value: &str) -> Result<(), HolderError> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let is_of_pod = starts(&OF_NETWORK) && pod.namespaces.network.is_some()
        || starts(&OF_IPC) && pod.namespaces.ipc.is_some();
    // Dots are separators, and slashes are dots of a name, such as that of a network device (sysctl(8)).
    let swap = |symbol| match symbol {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let relative: String = name.chars().map(swap).collect();
    if !is_of_pod || relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(HolderError::NotOfPod(name.to_owned()));
    }
    fs::write(Path::new("/proc/sys").join(relative), value).map_err(|source| {
        HolderError::Parameter { name: name.to_owned(), value: value.to_owned(), source }
    })
}

#[cfg(test)]
mod tests;
