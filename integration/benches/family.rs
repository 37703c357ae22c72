//! Processes as the kernel accounts for them: their memory, and the CPU time of those that have ended.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, WaitOptions, getpid, waitpid};

/// Bytes of a process's memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Its share of what it shares, and what it has alone.
    pub(crate) pss: f64,
    /// What it has alone and has written.
    pub(crate) private_dirty: f64,
}

/// Memory of a process (proc_pid_smaps(5), smaps_rollup).
pub(crate) fn memory(pid: i32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = |name: &str| kib(&text, name).with_context(|| format!("no {name} in {path}"));
    Ok(Memory { pss: field("Pss:")?, private_dirty: field("Private_Dirty:")? })
}

/// Memory of processes together.
pub(crate) fn memory_of(pids: &[i32]) -> Result<Memory> {
    pids.iter().try_fold(Memory::default(), |sum, pid| {
        let memory = memory(*pid)?;
        Ok(Memory {
            pss: sum.pss + memory.pss,
            private_dirty: sum.private_dirty + memory.private_dirty,
        })
    })
}

/// Bytes of the line `NAME value kB`.
pub(crate) fn kib(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().trim_end_matches(" kB").parse::<f64>().ok()? * 1024.0)
}

/// The process and all below it.
pub(crate) fn below(pid: i32) -> Vec<i32> {
    let all: Vec<_> = stats().into_iter().filter(|it| it.state != 'Z').collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|it| it.parent == parent).map(|it| it.pid));
        next += 1;
    }
    family
}

/// Seconds of CPU that process `pid` has used with all that it has waited for, and this process with what it
/// has; first it waits for the orphans that came to it and have ended. The kernel tells hundredths.
pub(crate) fn cpu_seconds(pid: i32) -> Result<f64> {
    let own = getpid().as_raw_nonzero().get();
    let orphans = stats();
    for orphan in orphans.iter().filter(|it| it.parent == own && it.state == 'Z') {
        // What this process has started itself has no end that is not waited for.
        let _ = waitpid(Pid::from_raw(orphan.pid), WaitOptions::NOHANG);
    }
    let find = |wanted| stats().into_iter().find(|it| it.pid == wanted);
    let (other, own) = (find(pid).context("the process has ended")?, find(own));
    let [user, system, below_user, below_system] = other.ticks;
    let own = own.context("this process is not in /proc")?.ticks;
    let ticks = user + system + below_user + below_system + own[2] + own[3];
    Ok(ticks / f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?))
}

struct Stat {
    pid: i32,
    state: char,
    parent: i32,
    /// Own user and system time, then those of the children waited for.
    ticks: [f64; 4],
}

fn stats() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(&entry.path())).collect()
}

/// proc_pid_stat(5): "pid (name) state ppid ..."; the name may hold anything.
fn stat(directory: &Path) -> Option<Stat> {
    let pid = directory.file_name()?.to_str()?.parse().ok()?;
    let text = fs::read_to_string(directory.join("stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
    let tick = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        ticks: [tick(14)?, tick(15)?, tick(16)?, tick(17)?],
    })
}
