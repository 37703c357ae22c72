//! Update: other limits for a task that runs; and metrics against the files they come from.

use integration::{Code, require_kvm};
use serde_json::json;

use super::Fixture;

const MIB: u64 = 1 << 20;

#[test]
fn limits_are_changed_and_what_is_not_mentioned_stays() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    let limit = (512 * MIB).to_string();
    it.run("u", &["--null-io", "--memory-limit", &limit]);
    let memory = || it.control("u", "memory/memory.limit_in_bytes", "memory.max");
    let pids = || it.control("u", "pids/pids.max", "pids.max");
    assert_eq!(memory(), limit);

    it.tasks.update("u", &json!({"pids": {"limit": 77}})).unwrap();
    assert_eq!((memory(), pids()), (limit, "77".to_owned()));

    it.tasks
        .update("u", &json!({"memory": {"limit": 600 * MIB, "reservation": 64 * MIB}}))
        .unwrap();
    assert_eq!((memory(), pids()), ((600 * MIB).to_string(), "77".to_owned()));
    let soft = it.control("u", "memory/memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(soft, (64 * MIB).to_string());

    it.tasks.update("u", &json!({"cpu": {"shares": 512}})).unwrap();
    assert!(["512", "20"].contains(&it.control("u", "cpu/cpu.shares", "cpu.weight").as_str()));
    it.remove("u");
}

#[test]
fn a_quota_and_its_period_can_both_go_up_and_down() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("u", &["--null-io"]);
    for (quota, period) in [(50_000, 100_000), (5_000, 10_000), (200_000, 1_000_000)] {
        it.tasks.update("u", &json!({"cpu": {"quota": quota, "period": period}})).unwrap();

        let v1_quota = it.control("u", "cpu/cpu.cfs_quota_us", "cpu.max");
        let both = format!("{quota} {period}");
        assert!([quota.to_string(), both.clone()].contains(&v1_quota), "{v1_quota}");
        let v1_period = it.control("u", "cpu/cpu.cfs_period_us", "cpu.max");
        assert!([period.to_string(), both].contains(&v1_period), "{v1_period}");
    }
    // The one alone keeps the other.
    it.tasks.update("u", &json!({"cpu": {"quota": 100_000}})).unwrap();
    let period = it.control("u", "cpu/cpu.cfs_period_us", "cpu.max");
    assert!(["1000000", "100000 1000000"].contains(&period.as_str()), "{period}");
    it.remove("u");
}

#[test]
fn the_cpus_are_changed() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("u", &["--null-io"]);

    it.tasks.update("u", &json!({"cpu": {"cpus": "0"}})).unwrap();

    assert_eq!(it.control("u", "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    it.remove("u");
}

#[test]
fn an_update_that_is_refused_changes_nothing() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("u", &["--null-io"]);
    it.tasks.update("u", &json!({"pids": {"limit": 77}, "cpu": {"shares": 512}})).unwrap();
    let seen = || {
        let pids = it.control("u", "pids/pids.max", "pids.max");
        (pids, it.control("u", "cpu/cpu.shares", "cpu.weight"))
    };
    let before = seen();

    for (resources, word) in [
        (json!({"cpu": {"shares": 300, "cpus": "4000"}, "pids": {"limit": 5}}), "cpuset.cpus"),
        (json!({"cpu": {"shares": "many"}}), "resources"),
        (json!(["cpu"]), "resources"),
    ] {
        let (code, message) = it.tasks.update("u", &resources).unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.contains(word), "{message}");
        assert_eq!(seen(), before, "{resources}");
    }
    it.remove("u");
    assert_eq!(it.tasks.update("u", &json!({})).unwrap_err().0, Code::NotFound);
}

#[test]
fn metrics_are_what_the_control_group_counts() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("m", &["--null-io", "--memory-limit", &(512 * MIB).to_string()]);
    it.tasks.update("m", &json!({"pids": {"limit": 77}})).unwrap();
    // Paused, so that two looks see the same.
    it.tasks.pause("m").unwrap();

    let kind = it.tasks.metrics("m").unwrap().kind;
    let text = it.ctr(&["task", "metrics", "--format", "json", "m"]);

    let is_v1 = kind == "io.containerd.cgroups.v1.Metrics";
    assert!(is_v1 || kind == "io.containerd.cgroups.v2.Metrics", "{kind}");
    let metrics: serde_json::Value = serde_json::from_str(&text).unwrap();
    let told = |v1: &str, v2: &str| {
        // ctr leaves out what is 0.
        metrics
            .pointer(if is_v1 { v1 } else { v2 })
            .map_or_else(|| "0".to_owned(), ToString::to_string)
    };
    let keyed = |v1: &str, v2: &str, key: &str| {
        let text = it.control("m", v1, v2);
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} ")));
        line.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
    };
    let cpu = match is_v1 {
        true => it.control("m", "cpuacct/cpuacct.usage", ""),
        false => keyed("none/none", "cpu.stat", "usage_usec"),
    };
    assert_eq!(told("/cpu/usage/total", "/cpu/usage_usec"), cpu);
    assert!(cpu.parse::<u64>().unwrap() > 0);
    let memory = it.control("m", "memory/memory.usage_in_bytes", "memory.current");
    assert_eq!(told("/memory/usage/usage", "/memory/usage"), memory);
    assert_eq!(told("/memory/usage/limit", "/memory/usage_limit"), (512 * MIB).to_string());
    let inactive = if is_v1 { "total_inactive_file" } else { "inactive_file" };
    assert_eq!(
        told("/memory/total_inactive_file", "/memory/inactive_file"),
        keyed("memory/memory.stat", "memory.stat", inactive)
    );
    assert_eq!(told("/pids/limit", "/pids/limit"), "77");
    let pids = it.control("m", "pids/pids.current", "pids.current");
    assert_eq!(told("/pids/current", "/pids/current"), pids);
    it.remove("m");
}
