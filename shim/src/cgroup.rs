//! The control group of one task, on cgroup v1 (every mounted controller) and on cgroup v2.
//!
//! The shim writes the cgroup file system itself, whatever driver the path was written for, because
//! a task is one process: it needs a directory, a few limits, its pid in `cgroup.procs` and its
//! removal. Invariants: a cgroup that holds processes is never taken over, so that killing by
//! cgroup kills only what this shim put there; device rules are not applied, because the only
//! process inside is the VMM, which opens `/dev/kvm` and nothing else.
//!
//! Sources: Linux `Documentation/admin-guide/cgroup-v1`, `cgroup-v2.rst`; OCI runtime spec,
//! config-linux.

mod freezer;
mod limits;
mod path;
mod stats;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal, kill_process};

pub use path::{PathError, parse as parse_path};
pub use stats::Metrics;

/// How long [`Cgroup::kill_and_remove`] waits for killed processes to leave: a process in an
/// uninterruptible call leaves late, one that never does is reported.
const DEPARTURE_LIMIT: Duration = Duration::from_secs(10);

/// Pause between two looks at a cgroup whose processes are leaving.
const DEPARTURE_POLL: Duration = Duration::from_millis(5);

/// How often a directory is made whose parent disappears meanwhile.
const CREATE_ATTEMPTS: u32 = 100;

/// What failed on the cgroup file system.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mount table could not be read.
    #[error("read the cgroup mounts from /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    /// Neither cgroup v1 nor v2 is mounted.
    #[error("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// Someone else's processes are in the cgroup.
    #[error(
        "cgroup {} holds {count} process(es) already: give the container a cgroup of its own",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// How many processes.
        count: usize,
    },
    /// The directory could not be made.
    #[error("create cgroup {}", dir.display())]
    Create {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not move in.
    #[error("join the cgroup of {}", file.display())]
    Join {
        /// The file it is joined by.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A limit could not be set.
    #[error("set {} to {value}", file.display())]
    Limit {
        /// The cgroup file.
        file: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// A limit needs a controller that is not mounted or not enabled.
    #[error("{file} = {value} needs the cgroup controller {controller:?}, which is not available")]
    NoController {
        /// The controller.
        controller: &'static str,
        /// The cgroup file.
        file: String,
        /// The value.
        value: String,
    },
    /// Processes cannot be kept from running.
    #[error(
        "no cgroup freezer is available: mount the cgroup v1 controller \"freezer\", or cgroup2"
    )]
    NoFreezer,
    /// The processes did not stand still.
    #[error("the processes of cgroup {} did not stand still within {seconds} s", dir.display())]
    NotFrozen {
        /// The directory.
        dir: PathBuf,
        /// How long it was waited.
        seconds: u64,
    },
    /// A counter could not be read.
    #[error("read {}", file.display())]
    Read {
        /// The cgroup file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Killed processes did not leave.
    #[error(
        "{count} process(es) did not leave cgroup {} within {seconds} s of SIGKILL",
        dir.display()
    )]
    StillInUse {
        /// The directory.
        dir: PathBuf,
        /// How many processes.
        count: usize,
        /// How long it was waited.
        seconds: u64,
    },
    /// The directory could not be removed.
    #[error("remove cgroup {}", dir.display())]
    Remove {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The cgroup file systems of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    version: Version,
    mounts: Vec<Mount>,
    /// Where the v2 tree without controllers of a hybrid host is mounted.
    unified: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// v1: the controllers bound to this mount (`name=systemd` for a named one). v2: empty.
    controllers: Vec<String>,
    point: PathBuf,
}

impl Hierarchies {
    /// Finds the mounted hierarchies. On a hybrid host (v1 controllers and an empty v2 tree) the v1
    /// ones count, as they hold the controllers.
    ///
    /// # Errors
    ///
    /// The mount table cannot be read, or nothing is mounted.
    pub fn of_this_host() -> Result<Self, CgroupError> {
        let table = fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Mounts)?;
        Self::from_mountinfo(&table).ok_or(CgroupError::NotMounted)
    }

    /// Reads a mount table (proc(5), `/proc/pid/mountinfo`).
    fn from_mountinfo(table: &str) -> Option<Self> {
        let mut v1: Vec<Mount> = Vec::new();
        let mut v2 = None;
        for line in table.lines() {
            let Some((mount, superblock)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4).map(unescape) else { continue };
            let mut fields = superblock.split(' ');
            let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup2") => v2 = v2.or(Some(point)),
                Some("cgroup") => {
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|option| {
                            !GENERIC_OPTIONS.contains(option) && !option.contains("release_agent")
                        })
                        .map(str::to_owned)
                        .collect();
                    if !v1.iter().any(|mount| mount.controllers == controllers) {
                        v1.push(Mount { controllers, point });
                    }
                }
                Some(_) | None => {}
            }
        }
        if !v1.is_empty() {
            return Some(Self { version: Version::V1, mounts: v1, unified: v2 });
        }
        v2.map(|point| Self {
            version: Version::V2,
            mounts: vec![Mount { controllers: Vec::new(), point }],
            unified: None,
        })
    }

    /// The cgroup at `path` in every hierarchy; it need not exist. `path` is relative to the root
    /// of the hierarchy and has no `..` ([`parse_path`] makes such a path).
    ///
    /// If it lies in a directory named after containerd's `namespace`, which is where `ctr` puts
    /// containers, that directory goes with its last container. Every other parent is someone's, as
    /// a pod's is the kubelet's, and stays.
    #[must_use]
    pub fn cgroup(&self, path: &Path, namespace: &str) -> Cgroup {
        let nodes = self
            .mounts
            .iter()
            .map(|mount| Node { dir: mount.point.join(path), mount: mount.clone() });
        Cgroup {
            version: self.version,
            nodes: nodes.collect(),
            unified: self
                .unified
                .as_ref()
                .map(|point| point.join(path))
                .filter(|dir| Some(dir) != self.unified.as_ref()),
            parent_goes: path.parent() == Some(Path::new(namespace)),
        }
    }
}

/// Superblock options of a v1 mount that are not controllers.
const GENERIC_OPTIONS: [&str; 7] =
    ["rw", "ro", "xattr", "noprefix", "clone_children", "nsdelegate", "seclabel"];

/// A mount point as mountinfo writes it: space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let replaced = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain));
    PathBuf::from(replaced)
}

/// Moves this process, which has one thread, to where `files` are: those of [`Cgroup::join_files`].
///
/// # Errors
///
/// The kernel refuses.
pub fn join(files: &[PathBuf]) -> Result<(), CgroupError> {
    files.iter().try_for_each(|file| {
        // 0 is whoever writes it.
        fs::write(file, "0").map_err(|source| CgroupError::Join { file: file.clone(), source })
    })
}

/// One cgroup: a directory in each hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    version: Version,
    nodes: Vec<Node>,
    /// Its directory in the v2 tree of a hybrid host. Nothing is done there but to remove it: runc makes one.
    unified: Option<PathBuf>,
    parent_goes: bool,
}

#[derive(Clone, Debug)]
struct Node {
    mount: Mount,
    dir: PathBuf,
}

impl Cgroup {
    /// A cgroup in no hierarchy: whatever is done to it succeeds. For tests of what holds one.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self { version: Version::V1, nodes: Vec::new(), unified: None, parent_goes: false }
    }

    /// Makes the directories and applies the limits. What lies above is made as needed and stays. Whether others
    /// are in it is the caller's to ask before.
    ///
    /// # Errors
    ///
    /// The cgroup cannot be made, or a limit is refused; then nothing of it is left.
    pub fn create(&self, resources: Option<&LinuxResources>) -> Result<(), CgroupError> {
        let made = self.make_dirs().and_then(|()| self.limit(resources));
        if made.is_err()
            && let Err(error) = self.remove()
        {
            log::warn!("{}", crate::error::line(&error));
        }
        made
    }

    /// The files by which a process with one thread joins: see [`join`].
    #[must_use]
    pub fn join_files(&self) -> Vec<PathBuf> {
        let name = match self.version {
            // A thread that moves itself waits for nobody. To move a process, the kernel waits until no
            // other forks or ends, which takes it up to 20 ms.
            Version::V1 => "tasks",
            // Threads move within a threaded subtree only.
            Version::V2 => "cgroup.procs",
        };
        self.nodes.iter().map(|node| node.dir.join(name)).collect()
    }

    /// Has the children of this thread begin in it, where a thread can move alone; else
    /// [`take`](Self::take) moves them. For a thread that ends with what it does here.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn enter_by_thread(&self) -> Result<(), CgroupError> {
        match self.version {
            Version::V1 => join(&self.join_files()),
            Version::V2 => Ok(()),
        }
    }

    /// Moves a child of a thread that has called [`enter_by_thread`](Self::enter_by_thread), where that did not.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn take(&self, pid: u32) -> Result<(), CgroupError> {
        match self.version {
            Version::V1 => Ok(()),
            Version::V2 => self.join_files().iter().try_for_each(|file| {
                fs::write(file, pid.to_string())
                    .map_err(|source| CgroupError::Join { file: file.clone(), source })
            }),
        }
    }

    /// The processes inside.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.dirs().flat_map(processes_of).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills every process inside and removes the cgroup. A cgroup that does not exist is removed
    /// already.
    ///
    /// # Errors
    ///
    /// Processes do not leave, or a directory cannot be removed.
    pub fn kill_and_remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + DEPARTURE_LIMIT;
        loop {
            let pids = self.processes();
            if pids.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(self.still_in_use(pids.len()));
            }
            for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
                // A process that has exited since the list was read is what is wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
            // They may have been paused. Without a freezer they have not.
            let _ = self.thaw();
            std::thread::sleep(DEPARTURE_POLL);
        }
        self.remove()
    }

    /// How many processes the kernel has killed in here for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        stats::oom_kills(self)
    }

    /// The counters, as containerd's types for the cgroup version of this host.
    ///
    /// # Errors
    ///
    /// The directory of a controller that exists on this host cannot be read.
    pub fn metrics(&self) -> Result<Metrics, CgroupError> {
        stats::metrics(self)
    }

    /// The directory under which `controller` lives, if it is mounted (v1) or enabled (v2).
    fn controller_dir(&self, controller: &str) -> Option<&Path> {
        let node = match self.version {
            Version::V1 => self
                .nodes
                .iter()
                .find(|node| node.mount.controllers.iter().any(|name| name == controller))?,
            Version::V2 => {
                let node = self.nodes.first()?;
                let enabled = fs::read_to_string(node.dir.join("cgroup.controllers")).ok()?;
                enabled.split_whitespace().any(|name| name == controller).then_some(node)?
            }
        };
        Some(&node.dir)
    }

    /// Whether it may be made: nobody is in it, and it is not the whole of a hierarchy.
    ///
    /// # Errors
    ///
    /// It may not.
    pub fn refuse_if_in_use(&self) -> Result<(), CgroupError> {
        for node in &self.nodes {
            let count = processes_of(&node.dir).len();
            if count > 0 || node.dir == node.mount.point {
                return Err(CgroupError::InUse { dir: node.dir.clone(), count });
            }
        }
        if let Some(dir) = &self.unified
            && let count @ 1.. = processes_of(dir).len()
        {
            return Err(CgroupError::InUse { dir: dir.clone(), count });
        }
        Ok(())
    }

    fn make_dirs(&self) -> Result<(), CgroupError> {
        for node in &self.nodes {
            let mut attempt = 1;
            while let Err((dir, source)) = self.make_dir(node) {
                // A parent that goes with its last container may go while this one comes.
                if source.kind() != io::ErrorKind::NotFound || attempt == CREATE_ATTEMPTS {
                    return Err(CgroupError::Create { dir, source });
                }
                attempt += 1;
            }
        }
        Ok(())
    }

    fn make_dir(&self, node: &Node) -> Result<(), (PathBuf, io::Error)> {
        let below = node.dir.strip_prefix(&node.mount.point).unwrap_or(&node.dir);
        let mut dir = node.mount.point.clone();
        for component in below.components() {
            if self.version == Version::V2 {
                enable_controllers(&dir);
            }
            let parent = dir.clone();
            dir.push(component);
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err((dir, error)),
            }
            if node.mount.controllers.iter().any(|name| name == "cpuset") {
                inherit_cpuset(&parent, &dir).map_err(|error| (dir.clone(), error))?;
            }
        }
        Ok(())
    }

    /// Sets limits. What `resources` do not name stays.
    ///
    /// # Errors
    ///
    /// A controller is missing, or the kernel refuses a value; others may be set by then.
    pub fn limit(&self, resources: Option<&LinuxResources>) -> Result<(), CgroupError> {
        let Some(resources) = resources else { return Ok(()) };
        limits::tell_left_out(resources);
        // The kernel checks some limits against others, memory against memory with swap and a quota
        // against its period, whichever comes first: what it refuses may do after the rest.
        let mut refused = Vec::new();
        for limit in limits::of(resources, self.version) {
            match self.write(&limit) {
                Err(CgroupError::Limit { source, .. })
                    if source.kind() == io::ErrorKind::InvalidInput =>
                {
                    refused.push(limit);
                }
                written => written?,
            }
        }
        refused.iter().try_for_each(|limit| self.write(limit))
    }

    fn write(&self, limit: &limits::Limit) -> Result<(), CgroupError> {
        let Some(dir) = self.controller_dir(limit.controller) else {
            return Err(CgroupError::NoController {
                controller: limit.controller,
                file: limit.file.clone(),
                value: limit.value.clone(),
            });
        };
        let file = dir.join(&limit.file);
        match fs::write(&file, &limit.value) {
            Ok(()) => Ok(()),
            // Swap accounting is a boot option of the kernel: without it there is no file, and
            // no swap limit that could be wrong.
            Err(error) if limit.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(CgroupError::Limit { file, value: limit.value.clone(), source }),
        }
    }

    /// Its directory in each hierarchy.
    fn dirs(&self) -> impl Iterator<Item = &Path> {
        let nodes = self.nodes.iter().filter(|node| node.dir != node.mount.point);
        nodes.map(|node| node.dir.as_path()).chain(self.unified.as_deref())
    }

    fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + DEPARTURE_LIMIT;
        for dir in self.dirs() {
            loop {
                match fs::remove_dir(dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // A killed process counts until it has been reaped.
                    Err(error)
                        if error.kind() == io::ErrorKind::ResourceBusy
                            && Instant::now() < deadline =>
                    {
                        std::thread::sleep(DEPARTURE_POLL);
                    }
                    Err(source) => {
                        return Err(CgroupError::Remove { dir: dir.to_owned(), source });
                    }
                }
            }
            if self.parent_goes
                && let Some(parent) = dir.parent()
            {
                // Refused while it holds another container's.
                let _ = fs::remove_dir(parent);
            }
        }
        Ok(())
    }

    fn still_in_use(&self, count: usize) -> CgroupError {
        let dir = self.nodes.first().map(|node| node.dir.clone()).unwrap_or_default();
        CgroupError::StillInUse { dir, count, seconds: DEPARTURE_LIMIT.as_secs() }
    }
}

fn processes_of(dir: &Path) -> Vec<u32> {
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// v2: offers every controller of `dir` to its children. Each by itself, because one that cannot be
/// enabled must not keep the others away; a limit that needs it says so later.
fn enable_controllers(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        if let Err(error) = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))
        {
            log::debug!(controller; "enable in {}: {error}", dir.display());
        }
    }
}

/// v1: a cpuset with no CPUs or memory nodes takes no process; the parent's are inherited.
fn inherit_cpuset(parent: &Path, dir: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(dir.join(file))?.trim().is_empty() {
            fs::write(dir.join(file), fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}
