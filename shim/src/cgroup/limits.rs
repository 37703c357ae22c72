//! `linux.resources` of the OCI spec as writes to cgroup files, in the order the kernel accepts
//! them.
//!
//! Memory, swap, CPU, cpuset, pids, huge pages and, on v2, `unified`. Block I/O, network classes
//! and RDMA concern devices a micro-VM has none of; device rules are left out (see the parent
//! module). The conversions v1 → v2 (CPU shares to weight, memory+swap to swap) are those of the
//! OCI runtimes.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::Version;

/// One write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// The controller that must be there.
    pub(super) controller: &'static str,
    /// The file in the controller's directory.
    pub(super) file: String,
    /// What to write.
    pub(super) value: String,
    /// Whether a missing file means that there is nothing to limit.
    pub(super) optional: bool,
}

fn limit(controller: &'static str, file: &str, value: impl ToString) -> Limit {
    Limit { controller, file: file.to_owned(), value: value.to_string(), optional: false }
}

/// The writes that `resources` asks for.
pub(super) fn of(resources: &LinuxResources, version: Version) -> Vec<Limit> {
    let mut limits = Vec::new();
    if let Some(memory) = resources.memory() {
        match version {
            Version::V1 => memory_v1(memory, &mut limits),
            Version::V2 => memory_v2(memory, &mut limits),
        }
    }
    if let Some(cpu) = resources.cpu() {
        match version {
            Version::V1 => cpu_v1(cpu, &mut limits),
            Version::V2 => cpu_v2(cpu, &mut limits),
        }
        if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
            limits.push(limit("cpuset", "cpuset.cpus", cpus));
        }
        if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
            limits.push(limit("cpuset", "cpuset.mems", mems));
        }
    }
    if let Some(pids) = resources.pids() {
        let max = pids.limit();
        // OCI: a limit of 0 or below is none.
        let max = if max > 0 { max.to_string() } else { "max".to_owned() };
        limits.push(limit("pids", "pids.max", max));
    }
    for page in resources.hugepage_limits().iter().flatten() {
        let file = match version {
            Version::V1 => format!("hugetlb.{}.limit_in_bytes", page.page_size()),
            Version::V2 => format!("hugetlb.{}.max", page.page_size()),
        };
        limits.push(Limit { optional: true, ..limit("hugetlb", &file, page.limit()) });
    }
    if version == Version::V2 {
        for (file, value) in resources.unified().iter().flatten() {
            limits.extend(unified(file, value));
        }
    }
    limits
}

/// Names in the log what `resources` ask for and nothing is done about.
pub(super) fn tell_left_out(resources: &LinuxResources) {
    let left_out = left_out(resources);
    if !left_out.is_empty() {
        log::warn!("linux.resources: not applied to a micro-VM: {}", left_out.join(", "));
    }
}

fn left_out(resources: &LinuxResources) -> Vec<&'static str> {
    // An empty object asks for nothing.
    let is_set = |part: Option<serde_json::Result<serde_json::Value>>| {
        let part = part.and_then(Result::ok);
        part.as_ref().and_then(|part| part.as_object()).is_some_and(|all| {
            !all.values()
                .all(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty))
        })
    };
    let memory = resources.memory().unwrap_or_default();
    let cpu = resources.cpu().clone().unwrap_or_default();
    [
        ("blockIO", is_set(resources.block_io().as_ref().map(serde_json::to_value))),
        ("network", is_set(resources.network().as_ref().map(serde_json::to_value))),
        ("rdma", is_set(resources.rdma().as_ref().map(serde_json::to_value))),
        ("memory.kernel", memory.kernel().is_some_and(|bytes| bytes != 0)),
        ("memory.kernelTCP", memory.kernel_tcp().is_some_and(|bytes| bytes != 0)),
        ("memory.checkBeforeUpdate", memory.check_before_update() == Some(true)),
        ("cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|value| value != 0)),
        ("cpu.realtimePeriod", cpu.realtime_period().is_some_and(|value| value != 0)),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
    .collect()
}

fn memory_v1(memory: &LinuxMemory, limits: &mut Vec<Limit>) {
    let bytes = memory.limit().filter(|bytes| *bytes != 0);
    if let Some(bytes) = bytes {
        limits.push(limit("memory", "memory.limit_in_bytes", bytes));
    }
    if let Some(bytes) = memory.reservation().filter(|bytes| *bytes != 0) {
        limits.push(limit("memory", "memory.soft_limit_in_bytes", bytes));
    }
    // v1 counts memory and swap together, as OCI does.
    if let Some(bytes) = memory.swap().filter(|bytes| *bytes != 0) {
        let swap = limit("memory", "memory.memsw.limit_in_bytes", bytes);
        limits.push(Limit { optional: true, ..swap });
    }
    if let Some(swappiness) = memory.swappiness().filter(|value| *value <= 100) {
        limits.push(limit("memory", "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer() == Some(true) {
        limits.push(limit("memory", "memory.oom_control", 1));
    }
}

fn memory_v2(memory: &LinuxMemory, limits: &mut Vec<Limit>) {
    let max = |bytes: i64| if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
    let bytes = memory.limit().filter(|bytes| *bytes != 0);
    if let Some(bytes) = bytes {
        limits.push(limit("memory", "memory.max", max(bytes)));
    }
    if let Some(bytes) = memory.reservation().filter(|bytes| *bytes != 0) {
        limits.push(limit("memory", "memory.low", max(bytes)));
    }
    // OCI counts memory and swap together, v2 swap alone.
    let swap = match (memory.swap().filter(|bytes| *bytes != 0), bytes) {
        (Some(both), _) if both < 0 => Some(-1),
        (Some(both), Some(bytes)) if bytes > 0 => Some((both - bytes).max(0)),
        (Some(_), _) | (None, _) => None,
    };
    if let Some(swap) = swap {
        let swap = limit("memory", "memory.swap.max", max(swap));
        limits.push(Limit { optional: true, ..swap });
    }
}

fn cpu_v1(cpu: &LinuxCpu, limits: &mut Vec<Limit>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        limits.push(limit("cpu", "cpu.shares", shares));
    }
    // The period first: the kernel checks the quota against it.
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        limits.push(limit("cpu", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        limits.push(limit("cpu", "cpu.cfs_quota_us", quota));
    }
    if let Some(burst) = cpu.burst() {
        limits.push(limit("cpu", "cpu.cfs_burst_us", burst));
    }
    if let Some(idle) = cpu.idle() {
        limits.push(limit("cpu", "cpu.idle", idle));
    }
}

fn cpu_v2(cpu: &LinuxCpu, limits: &mut Vec<Limit>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        // [2, 262144] onto [1, 10000].
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        limits.push(limit("cpu", "cpu.weight", weight));
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            Some(_) | None => "max".to_owned(),
        };
        // 100 ms is the kernel's default period.
        limits.push(limit("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000))));
    }
    if let Some(burst) = cpu.burst() {
        limits.push(limit("cpu", "cpu.max.burst", burst));
    }
    if let Some(idle) = cpu.idle() {
        limits.push(limit("cpu", "cpu.idle", idle));
    }
}

/// A `unified` entry: a file of a v2 controller. Anything that is not a plain file name of a known
/// controller is left out: `cgroup.procs` or a path would let a spec act outside its cgroup.
fn unified(file: &str, value: &str) -> Option<Limit> {
    let controller = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"]
        .into_iter()
        .find(|name| file.split_once('.').is_some_and(|(prefix, _)| prefix == *name));
    match controller {
        Some(controller) if !file.contains('/') => Some(limit(controller, file, value)),
        Some(_) | None => {
            log::warn!(file; "linux.resources.unified: not a file of a controller, left out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn writes(resources: serde_json::Value, version: Version) -> Vec<(String, String)> {
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        of(&resources, version).into_iter().map(|limit| (limit.file, limit.value)).collect()
    }

    fn pair(file: &str, value: &str) -> (String, String) {
        (file.to_owned(), value.to_owned())
    }

    #[test]
    fn memory_on_v1_counts_swap_together_with_memory() {
        assert_eq!(
            writes(json!({"memory": {"limit": 1000, "swap": 1500}}), Version::V1),
            [pair("memory.limit_in_bytes", "1000"), pair("memory.memsw.limit_in_bytes", "1500")]
        );
    }

    #[test]
    fn memory_on_v2_counts_swap_alone() {
        assert_eq!(
            writes(json!({"memory": {"limit": 1000, "swap": 1500}}), Version::V2),
            [pair("memory.max", "1000"), pair("memory.swap.max", "500")]
        );
    }

    #[test]
    fn an_unlimited_value_on_v2_is_max() {
        assert_eq!(
            writes(json!({"memory": {"limit": -1, "swap": -1}}), Version::V2),
            [pair("memory.max", "max"), pair("memory.swap.max", "max")]
        );
    }

    #[test]
    fn cpu_shares_become_a_weight_on_v2() {
        for (shares, weight) in [(2, "1"), (1024, "39"), (262_144, "10000")] {
            assert_eq!(
                writes(json!({"cpu": {"shares": shares}}), Version::V2),
                [pair("cpu.weight", weight)]
            );
        }
    }

    #[test]
    fn cpu_quota_and_period_are_one_file_on_v2_and_two_on_v1() {
        let cpu = json!({"cpu": {"quota": 50_000, "period": 100_000}});
        assert_eq!(writes(cpu.clone(), Version::V2), [pair("cpu.max", "50000 100000")]);
        assert_eq!(
            writes(cpu, Version::V1),
            [pair("cpu.cfs_period_us", "100000"), pair("cpu.cfs_quota_us", "50000")]
        );
    }

    #[test]
    fn a_pids_limit_of_zero_is_none() {
        assert_eq!(writes(json!({"pids": {"limit": 0}}), Version::V2), [pair("pids.max", "max")]);
        assert_eq!(writes(json!({"pids": {"limit": 7}}), Version::V1), [pair("pids.max", "7")]);
    }

    #[test]
    fn unified_entries_reach_only_files_of_controllers() {
        let unified = json!({"unified": {
            "memory.high": "5", "cgroup.procs": "1", "memory.x/../../y": "1", "memory": "1"
        }});
        assert_eq!(writes(unified, Version::V2), [pair("memory.high", "5")]);
    }

    #[test]
    fn unified_is_ignored_on_v1() {
        assert_eq!(writes(json!({"unified": {"memory.high": "5"}}), Version::V1), []);
    }

    #[test]
    fn what_is_not_applied_is_named() {
        let resources = json!({
            "blockIO": {"weight": 10}, "rdma": {"mlx5": {"hcaHandles": 3}}, "network": {},
            "memory": {"limit": 1, "kernelTCP": 2}, "cpu": {"realtimePeriod": 3},
            "devices": [{"allow": false, "access": "rwm"}],
        });
        let resources = serde_json::from_value(resources).unwrap();

        assert_eq!(
            left_out(&resources),
            ["blockIO", "rdma", "memory.kernelTCP", "cpu.realtimePeriod"]
        );
    }

    #[test]
    fn burst_and_idle_are_written_where_they_are_given() {
        let cpu = json!({"cpu": {"burst": 5, "idle": 1}});
        let written = [pair("cpu.max.burst", "5"), pair("cpu.idle", "1")];
        assert_eq!(writes(cpu.clone(), Version::V2), written);
        assert_eq!(
            writes(cpu, Version::V1),
            [pair("cpu.cfs_burst_us", "5"), pair("cpu.idle", "1")]
        );
    }

    #[test]
    fn empty_resources_write_nothing() {
        assert_eq!(writes(json!({}), Version::V1), []);
        assert_eq!(writes(json!({}), Version::V2), []);
    }
}
