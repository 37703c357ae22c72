//! The counters of a cgroup as `io.containerd.cgroups.{v1,v2}.Metrics`, in the units containerd
//! reads.
//!
//! v1 CPU times are nanoseconds (cpuacct), v2 ones microseconds; memory is bytes. A counter whose
//! file is missing is 0: which files exist depends on how the kernel was configured. A controller's
//! directory that cannot be read is an error: the cgroup is gone.

mod devices;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use containerd_shim_protos::{cgroups::metrics as v1, cgroups_v2::metrics as v2};

use super::{Cgroup, CgroupError, Version};

/// Nanoseconds in a second.
const NANOS: u64 = 1_000_000_000;

/// The counters in containerd's type for the cgroup version of this host.
#[derive(Debug)]
pub enum Metrics {
    /// `io.containerd.cgroups.v1.Metrics`
    V1(Box<v1::Metrics>),
    /// `io.containerd.cgroups.v2.Metrics`
    V2(Box<v2::Metrics>),
}

pub(super) fn metrics(cgroup: &Cgroup) -> Result<Metrics, CgroupError> {
    for node in &cgroup.nodes {
        fs::metadata(&node.dir)
            .map_err(|source| CgroupError::Read { file: node.dir.clone(), source })?;
    }
    Ok(match cgroup.version {
        Version::V1 => Metrics::V1(Box::new(metrics_v1(cgroup))),
        Version::V2 => Metrics::V2(Box::new(metrics_v2(cgroup))),
    })
}

pub(super) fn oom_kills(cgroup: &Cgroup) -> u64 {
    let file = match cgroup.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    let Some(dir) = cgroup.controller_dir("memory") else { return 0 };
    keyed(dir, file).get("oom_kill").copied().unwrap_or(0)
}

fn metrics_v1(cgroup: &Cgroup) -> v1::Metrics {
    let mut metrics = v1::Metrics::new();
    if let Some(dir) = cgroup.controller_dir("cpuacct") {
        let mut usage = v1::CPUUsage::new();
        usage.total = number(dir, "cpuacct.usage");
        usage.user = number(dir, "cpuacct.usage_user");
        usage.kernel = number(dir, "cpuacct.usage_sys");
        if usage.user == 0 && usage.kernel == 0 {
            let ticks = keyed(dir, "cpuacct.stat");
            usage.user = ticks_to_nanos(ticks.get("user"));
            usage.kernel = ticks_to_nanos(ticks.get("system"));
        }
        usage.per_cpu = text(dir, "cpuacct.usage_percpu")
            .split_whitespace()
            .filter_map(|value| value.parse().ok())
            .collect();
        let mut throttling = v1::Throttle::new();
        if let Some(dir) = cgroup.controller_dir("cpu") {
            let stat = keyed(dir, "cpu.stat");
            let get = |key| stat.get(key).copied().unwrap_or(0);
            throttling.periods = get("nr_periods");
            throttling.throttled_periods = get("nr_throttled");
            throttling.throttled_time = get("throttled_time");
        }
        let mut cpu = v1::CPUStat::new();
        cpu.usage = Some(usage).into();
        cpu.throttling = Some(throttling).into();
        metrics.cpu = Some(cpu).into();
    }
    if let Some(dir) = cgroup.controller_dir("memory") {
        metrics.memory = Some(memory_v1(dir)).into();
        let control = keyed(dir, "memory.oom_control");
        let get = |key| control.get(key).copied().unwrap_or(0);
        let mut oom = v1::MemoryOomControl::new();
        oom.oom_kill_disable = get("oom_kill_disable");
        oom.under_oom = get("under_oom");
        oom.oom_kill = get("oom_kill");
        metrics.memory_oom_control = Some(oom).into();
    }
    if let Some(dir) = cgroup.controller_dir("pids") {
        let mut pids = v1::PidsStat::new();
        pids.current = number(dir, "pids.current");
        // Here, 0 is how containerd's clients write "no limit".
        pids.limit = Some(number(dir, "pids.max")).filter(|limit| *limit != u64::MAX).unwrap_or(0);
        metrics.pids = Some(pids).into();
    }
    if let Some(dir) = cgroup.controller_dir("blkio") {
        metrics.blkio = Some(devices::io_v1(dir)).into();
    }
    if let Some(dir) = cgroup.controller_dir("hugetlb") {
        metrics.hugetlb = devices::huge_pages_v1(dir);
    }
    metrics
}

fn memory_v1(dir: &Path) -> v1::MemoryStat {
    let stat = keyed(dir, "memory.stat");
    let get = |key| stat.get(key).copied().unwrap_or(0);
    let entry = |prefix: &str| {
        let mut entry = v1::MemoryEntry::new();
        entry.usage = number(dir, &format!("{prefix}.usage_in_bytes"));
        entry.max = number(dir, &format!("{prefix}.max_usage_in_bytes"));
        entry.limit = number(dir, &format!("{prefix}.limit_in_bytes"));
        entry.failcnt = number(dir, &format!("{prefix}.failcnt"));
        Some(entry).into()
    };
    let mut memory = v1::MemoryStat::new();
    memory.cache = get("cache");
    memory.rss = get("rss");
    memory.rss_huge = get("rss_huge");
    memory.mapped_file = get("mapped_file");
    memory.dirty = get("dirty");
    memory.writeback = get("writeback");
    memory.pg_pg_in = get("pgpgin");
    memory.pg_pg_out = get("pgpgout");
    memory.pg_fault = get("pgfault");
    memory.pg_maj_fault = get("pgmajfault");
    memory.inactive_anon = get("inactive_anon");
    memory.active_anon = get("active_anon");
    memory.inactive_file = get("inactive_file");
    memory.active_file = get("active_file");
    memory.unevictable = get("unevictable");
    memory.hierarchical_memory_limit = get("hierarchical_memory_limit");
    memory.hierarchical_swap_limit = get("hierarchical_memsw_limit");
    memory.total_cache = get("total_cache");
    memory.total_rss = get("total_rss");
    memory.total_rss_huge = get("total_rss_huge");
    memory.total_mapped_file = get("total_mapped_file");
    memory.total_dirty = get("total_dirty");
    memory.total_writeback = get("total_writeback");
    memory.total_pg_pg_in = get("total_pgpgin");
    memory.total_pg_pg_out = get("total_pgpgout");
    memory.total_pg_fault = get("total_pgfault");
    memory.total_pg_maj_fault = get("total_pgmajfault");
    memory.total_inactive_anon = get("total_inactive_anon");
    memory.total_active_anon = get("total_active_anon");
    memory.total_inactive_file = get("total_inactive_file");
    memory.total_active_file = get("total_active_file");
    memory.total_unevictable = get("total_unevictable");
    memory.usage = entry("memory");
    memory.swap = entry("memory.memsw");
    memory.kernel = entry("memory.kmem");
    memory.kernel_tcp = entry("memory.kmem.tcp");
    memory
}

fn metrics_v2(cgroup: &Cgroup) -> v2::Metrics {
    let mut metrics = v2::Metrics::new();
    // cpu.stat is there without the controller; the others are not.
    if let Some(node) = cgroup.nodes.first() {
        let stat = keyed(&node.dir, "cpu.stat");
        let get = |key| stat.get(key).copied().unwrap_or(0);
        let mut cpu = v2::CPUStat::new();
        cpu.usage_usec = get("usage_usec");
        cpu.user_usec = get("user_usec");
        cpu.system_usec = get("system_usec");
        cpu.nr_periods = get("nr_periods");
        cpu.nr_throttled = get("nr_throttled");
        cpu.throttled_usec = get("throttled_usec");
        cpu.nr_bursts = get("nr_bursts");
        cpu.burst_usec = get("burst_usec");
        metrics.cpu = Some(cpu).into();
    }
    if let Some(dir) = cgroup.controller_dir("memory") {
        metrics.memory = Some(memory_v2(dir)).into();
        let counts = keyed(dir, "memory.events");
        let get = |key| counts.get(key).copied().unwrap_or(0);
        let mut events = v2::MemoryEvents::new();
        events.low = get("low");
        events.high = get("high");
        events.max = get("max");
        events.oom = get("oom");
        events.oom_kill = get("oom_kill");
        events.oom_group_kill = get("oom_group_kill");
        metrics.memory_events = Some(events).into();
    }
    if let Some(dir) = cgroup.controller_dir("pids") {
        let mut pids = v2::PidsStat::new();
        pids.current = number(dir, "pids.current");
        pids.limit = number(dir, "pids.max");
        metrics.pids = Some(pids).into();
    }
    if let Some(dir) = cgroup.controller_dir("io") {
        metrics.io = Some(devices::io_v2(dir)).into();
    }
    if let Some(dir) = cgroup.controller_dir("hugetlb") {
        metrics.hugetlb = devices::huge_pages_v2(dir);
    }
    metrics
}

fn memory_v2(dir: &Path) -> v2::MemoryStat {
    let stat = keyed(dir, "memory.stat");
    let get = |key| stat.get(key).copied().unwrap_or(0);
    let mut memory = v2::MemoryStat::new();
    memory.anon = get("anon");
    memory.file = get("file");
    memory.kernel_stack = get("kernel_stack");
    memory.slab = get("slab");
    memory.sock = get("sock");
    memory.shmem = get("shmem");
    memory.file_mapped = get("file_mapped");
    memory.file_dirty = get("file_dirty");
    memory.file_writeback = get("file_writeback");
    memory.anon_thp = get("anon_thp");
    memory.inactive_anon = get("inactive_anon");
    memory.active_anon = get("active_anon");
    memory.inactive_file = get("inactive_file");
    memory.active_file = get("active_file");
    memory.unevictable = get("unevictable");
    memory.slab_reclaimable = get("slab_reclaimable");
    memory.slab_unreclaimable = get("slab_unreclaimable");
    memory.pgfault = get("pgfault");
    memory.pgmajfault = get("pgmajfault");
    memory.workingset_refault = get("workingset_refault");
    memory.workingset_activate = get("workingset_activate");
    memory.workingset_nodereclaim = get("workingset_nodereclaim");
    memory.pgrefill = get("pgrefill");
    memory.pgscan = get("pgscan");
    memory.pgsteal = get("pgsteal");
    memory.pgactivate = get("pgactivate");
    memory.pgdeactivate = get("pgdeactivate");
    memory.pglazyfree = get("pglazyfree");
    memory.pglazyfreed = get("pglazyfreed");
    memory.thp_fault_alloc = get("thp_fault_alloc");
    memory.thp_collapse_alloc = get("thp_collapse_alloc");
    memory.usage = number(dir, "memory.current");
    memory.usage_limit = number(dir, "memory.max");
    memory.max_usage = number(dir, "memory.peak");
    memory.swap_usage = number(dir, "memory.swap.current");
    memory.swap_limit = number(dir, "memory.swap.max");
    memory.swap_max_usage = number(dir, "memory.swap.peak");
    memory
}

fn text(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_default()
}

/// A file of one number; `max` is the largest.
fn number(dir: &Path, file: &str) -> u64 {
    match text(dir, file).trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

/// A file of `key value` lines.
fn keyed(dir: &Path, file: &str) -> HashMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text(dir, file).lines().filter_map(pair).collect()
}

fn ticks_to_nanos(ticks: Option<&u64>) -> u64 {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    ticks.copied().unwrap_or(0).saturating_mul(NANOS / per_second)
}
