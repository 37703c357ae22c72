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

mod error;
mod freezer;
mod hierarchies;
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
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

pub use error::CgroupError;
pub use hierarchies::Hierarchies;
use hierarchies::{Mount, Version};
pub use path::{PathError, parse as parse_path};
pub use stats::Metrics;

/// How long [`Cgroup::kill_and_remove`] waits for killed processes to leave: a process in an
/// uninterruptible call leaves late, one that never does is reported.
const DEPARTURE_LIMIT: Duration = Duration::from_secs(10);

/// Pause between two looks at a cgroup whose processes are leaving.
const DEPARTURE_POLL: Duration = Duration::from_millis(5);

/// How often a directory is made whose parent disappears meanwhile.
const CREATE_ATTEMPTS: u32 = 100;

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
                // A parent that goes with its last container may go while this one comes: then it is not there, or a
                // file of it that was opened before is no cgroup's any more.
                let errno = Errno::from_io_error(&source);
                let is_gone = matches!(errno, Some(Errno::NOENT | Errno::NODEV));
                if !is_gone || attempt == CREATE_ATTEMPTS {
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
