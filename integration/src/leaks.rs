//! Nothing is left over: the state of the machine before a test and after it must be the same.
//!
//! Compared are the descendants of this process (it is their subreaper, so a daemon cannot slip away
//! to init), mounts, cgroups, named network namespaces, network interfaces of runs, and files in the places where a
//! runtime keeps its state. Tests that are watched take turns, so that none sees another's traces. What belongs to
//! another run on the same machine, known by the run's name, is left out, and what other services of the machine do
//! with their cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};

/// How long what was ended may take to disappear: containerd and the kernel clean up in the
/// background, on a machine that is busy with the next thing.
const SETTLE: Duration = Duration::from_secs(20);

/// Beginning of the name of each run's directory, containerd namespace and cgroup.
pub(crate) const RUN_PREFIX: &str = "hyperlight-test-";

/// Beginning of the name of a run's bridge, whose end is that of the run's name.
pub(crate) const BRIDGE_PREFIX: &str = "hl-";

/// Directories that a runtime, its containerd or its clients write to besides the run's own.
const STATE_DIRECTORIES: &[&str] = &["/run", "/var/lib", "/dev/shm", "/tmp"];

/// Directories that stay, with those below them down to a depth: what is there for good once something was run. The
/// runtime has one for each kind of state, and in it one for each namespace of containerd.
const PLACES: &[(&str, usize)] = &[("/run/containerd", 1), ("/run/hyperlight", 2)];

/// What of those directories counts: names that begin so, and everything below them.
const STATE_NAMES: &[&str] = &["containerd", "hyperlight", "shim", "wasmtime", "memfd"];

static TURN: Mutex<()> = Mutex::new(());

/// Watches one test: made at its start, compares when dropped.
///
/// Dropping it panics with the list of what is left, unless the test is panicking already.
#[derive(Debug)]
pub struct Watch {
    before: Traces,
    _turn: MutexGuard<'static, ()>,
}

/// Starts to watch; waits for its turn.
///
/// # Errors
///
/// This process cannot become the subreaper of its descendants.
pub fn watch() -> Result<Watch> {
    // A test that failed has poisoned the lock and said so; the next one starts from what is there.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    adopt_orphans()?;
    Ok(Watch { before: Traces::now(&[]), _turn: turn })
}

/// Makes this process the parent of what its descendants leave behind.
pub(crate) fn adopt_orphans() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("prctl(PR_SET_CHILD_SUBREAPER)")
}

impl Watch {
    /// Compares with the start.
    ///
    /// # Errors
    ///
    /// Lists what is left over, one thing a line.
    pub fn check(&self) -> Result<()> {
        self.before.nothing_more(&[])
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The failure has its message; the next test shall not suffer from it.
            self.before.kill_what_came();
        } else if let Err(left) = self.check() {
            self.before.kill_what_came();
            panic!("{left}");
        }
    }
}

/// What can be left over, one line each.
#[derive(Clone, Debug)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// The state of this moment, with everything below the directories `also`.
    pub(crate) fn now(also: &[PathBuf]) -> Self {
        let mut lines = BTreeSet::new();
        for process in descendants().iter().filter(|it| is_watched(it)) {
            lines.insert(format!("process {} {}", process.pid, process.name));
        }
        for line in text("/proc/self/mountinfo").lines() {
            // Field 5 of proc_pid_mountinfo(5): the mount point.
            let point = line.split(' ').nth(4).unwrap_or(line);
            // The first `ip netns add` since boot mounts the directory of names on itself, for good.
            if point != "/run/netns" {
                lines.insert(format!("mount {point}"));
            }
        }
        for directory in directories("/sys/fs/cgroup".as_ref()) {
            // A run's own directory is for the node to remove; what is below it is a container's.
            if !name_of(&directory).starts_with(RUN_PREFIX) && !is_of_others(&directory) {
                lines.insert(format!("cgroup {}", directory.display()));
            }
        }
        for name in names("/run/netns".as_ref()).into_iter().chain(names("/var/run/netns".as_ref()))
        {
            lines.insert(format!("network namespace {}", name.display()));
        }
        for Interface { name, run } in interfaces() {
            lines.insert(format!("network interface {name} of {run}"));
        }
        for place in STATE_DIRECTORIES {
            for path in names(place.as_ref()) {
                let name = name_of(&path);
                if name.starts_with(RUN_PREFIX) {
                    // What is in a run's directory is for the node to say (`also`).
                    lines.insert(format!("file {}", path.display()));
                } else if STATE_NAMES
                    .iter()
                    .any(|state| name.trim_start_matches('.').starts_with(state))
                {
                    add_files(&path, &mut lines);
                }
            }
        }
        for directory in also {
            add_files(directory, &mut lines);
        }
        let own = format!("{RUN_PREFIX}{}-", std::process::id());
        lines.retain(|line| !line.contains(RUN_PREFIX) || line.contains(&own));
        Self(lines)
    }

    /// Waits for everything to be gone that was not there at `self`.
    pub(crate) fn nothing_more(&self, also: &[PathBuf]) -> Result<()> {
        let since = Instant::now();
        loop {
            reap_orphans();
            let left: Vec<_> = Self::now(also).0.difference(&self.0).cloned().collect();
            if left.is_empty() {
                return Ok(());
            }
            if since.elapsed() > SETTLE {
                bail!("left over after {} s:\n  {}", SETTLE.as_secs(), left.join("\n  "));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has process `pid`, called `name`, belong to it.
    pub(crate) fn add_process(&mut self, pid: i32, name: &str) {
        self.0.insert(format!("process {pid} {name}"));
    }

    /// Every descendant that was not there at `self`.
    pub(crate) fn processes_that_came(&self) -> Vec<i32> {
        let is_new = |it: &Process| !self.0.contains(&format!("process {} {}", it.pid, it.name));
        let came = descendants().into_iter().filter(|it| is_watched(it) && is_new(it));
        came.map(|process| process.pid).collect()
    }

    /// Kills every descendant that was not there at `self`.
    pub(crate) fn kill_what_came(&self) {
        self.processes_that_came().into_iter().for_each(kill);
    }
}

/// Whether a cgroup is in one of those that were at the top of a hierarchy before any test, which is a service's of
/// this machine.
fn is_of_others(cgroup: &Path) -> bool {
    static OTHERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let others = OTHERS.get_or_init(|| {
        let table = text("/proc/self/mountinfo");
        let hierarchies = table.lines().filter(|line| line.contains(" - cgroup"));
        let roots = hierarchies.filter_map(|line| line.split(' ').nth(4));
        let tops = roots.flat_map(|root| names(root.as_ref())).filter(|path| path.is_dir());
        tops.filter(|path| !name_of(path).starts_with(RUN_PREFIX)).collect()
    });
    others.iter().any(|other| cgroup.starts_with(other))
}

/// Waits for processes of pid namespaces that have come to this one, as a node's init does: the first process of
/// such a namespace stays until those of the others that have ended are waited for (pid_namespaces(7)). What this
/// process starts itself is in none.
fn reap_orphans() {
    let own = getpid().as_raw_nonzero().get();
    let is_orphan = |process: &&Process| process.parent == own && is_in_pid_namespace(process.pid);
    for orphan in every_process().iter().filter(is_orphan) {
        if let Some(pid) = Pid::from_raw(orphan.pid) {
            // One that lives is none to wait for.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// Whether a process, which may have ended, is in a pid namespace below this one's.
fn is_in_pid_namespace(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // proc_pid_status(5): its ids from the namespace of this mount of /proc to the innermost.
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().nth(1).is_some())
}

/// Ends a process by force, if it is still there.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Gone is as good as killed.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A running process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// Process id.
    pub(crate) pid: i32,
    /// Parent's process id.
    pub(crate) parent: i32,
    /// Name, up to 15 bytes.
    pub(crate) name: String,
    /// Whether it has ended, and is not waited for yet.
    is_zombie: bool,
}

/// Every process below this one that has not ended. A zombie of this process has: it is only not
/// waited for.
pub(crate) fn descendants() -> Vec<Process> {
    let all = processes();
    let own = getpid().as_raw_nonzero().get();
    let mut family = BTreeSet::from([own]);
    // A parent may have a higher number than its child, so once through is not enough.
    while all.iter().any(|process| family.contains(&process.parent) && family.insert(process.pid)) {
    }
    all.into_iter().filter(|process| process.pid != own && family.contains(&process.pid)).collect()
}

/// Says in the environment of a process, and so of those that it starts, that it is none of a watched test's: a
/// compiler that builds a program for one test while another one is watched, or what a test runs that takes no turn.
pub const NOT_WATCHED: &str = "HYPERLIGHT_TEST_TOOL";

/// Whether a process or its starter was given [`NOT_WATCHED`].
fn is_watched(process: &Process) -> bool {
    // Gone, or about to go: the list of what there is tells the rest.
    let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
    !environment.split(|&byte| byte == 0).any(|it| it.starts_with(NOT_WATCHED.as_bytes()))
}

/// Every process but the zombies of this one.
pub(crate) fn processes() -> Vec<Process> {
    let own = getpid().as_raw_nonzero().get();
    let mut processes = every_process();
    processes.retain(|it| !(it.is_zombie && it.parent == own));
    processes
}

fn every_process() -> Vec<Process> {
    let parse = |path: &Path| {
        let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
        // proc_pid_stat(5): "pid (name) state ppid ...", the name may hold spaces and parentheses.
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let mut fields = tail.split(' ');
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let name = head.split_once('(')?.1.to_owned();
        Some(Process { pid, parent, name, is_zombie: state == "Z" })
    };
    names("/proc".as_ref()).iter().filter_map(|path| parse(path)).collect()
}

/// A network interface that belongs to a run.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: String,
    /// The run's name.
    pub(crate) run: String,
}

/// Every interface of a run: its bridge, and those that are on it.
pub(crate) fn interfaces() -> Vec<Interface> {
    let of_run = |path: PathBuf| {
        let name = name_of(&path);
        let bridge = fs::read_link(path.join("master"))
            .map_or_else(|_| name.clone(), |bridge| name_of(&bridge));
        let run = format!("{RUN_PREFIX}{}", bridge.strip_prefix(BRIDGE_PREFIX)?);
        Some(Interface { name, run })
    };
    names("/sys/class/net".as_ref()).into_iter().filter_map(of_run).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Entries of a directory; none if it is not there.
pub(crate) fn names(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Every directory below `root`.
pub(crate) fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for path in names(&directory) {
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                found.push(path.clone());
                pending.push(path);
            }
        }
    }
    found
}

fn add_files(path: &Path, lines: &mut BTreeSet<String>) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    let is_place = |(place, depth): &(&str, usize)| {
        path.strip_prefix(place).is_ok_and(|below| below.iter().count() <= *depth)
    };
    if !(metadata.is_dir() && PLACES.iter().any(is_place)) {
        lines.insert(format!("file {}", path.display()));
    }
    if metadata.is_dir() {
        names(path).iter().for_each(|path| add_files(path, lines));
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn an_orphaned_process_is_reported() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        set_child_subreaper(Some(getpid())).unwrap();
        let before = Traces::now(&[]);
        // The shell ends at once and leaves its child behind, with no parent but the subreaper.
        Command::new("sh").args(["-c", "sleep 1000 & exit 0"]).status().unwrap();

        let left: Vec<_> = Traces::now(&[]).0.difference(&before.0).cloned().collect();
        before.kill_what_came();

        assert!(left.iter().any(|line| line.starts_with("process ")), "{left:?}");
        before.nothing_more(&[]).unwrap();
    }

    #[test]
    fn a_file_below_a_watched_directory_is_reported() {
        let directory = std::env::temp_dir().join(format!("watched-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let also = [directory.clone()];
        let before = Traces::now(&also);
        fs::write(directory.join("left"), "").unwrap();

        let after = Traces::now(&also);
        fs::remove_dir_all(&directory).unwrap();

        assert!(after.0.difference(&before.0).any(|line| line.ends_with("/left")), "{after:?}");
    }
}
