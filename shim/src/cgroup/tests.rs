//! The cgroup file system, faked by plain directories: what is written where, and which file feeds
//! which counter. The kernel's side of it is tested with real containers.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;

fn v2(root: &Path) -> Hierarchies {
    let mounts = vec![Mount { controllers: Vec::new(), point: root.to_owned() }];
    Hierarchies { version: Version::V2, mounts, unified: None }
}

fn v1(root: &Path, controllers: &[&str]) -> Hierarchies {
    let mount = |name: &&str| {
        let point = root.join(name);
        fs::create_dir_all(&point).unwrap();
        Mount { controllers: vec![(*name).to_owned()], point }
    };
    let mounts = controllers.iter().map(mount).collect();
    Hierarchies { version: Version::V1, mounts, unified: None }
}

fn put(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    for (file, text) in files {
        fs::write(dir.join(file), text).unwrap();
    }
}

fn resources(value: serde_json::Value) -> Option<LinuxResources> {
    Some(serde_json::from_value(value).unwrap())
}

#[test]
fn what_runc_makes_in_the_other_tree_of_a_hybrid_host_is_removed_and_no_more() {
    let root = TempDir::new().unwrap();
    let unified = root.path().join("unified");
    let host = Hierarchies { unified: Some(unified.clone()), ..v1(root.path(), &["memory"]) };
    let cgroup = host.cgroup(Path::new("pod/a"), "ns");
    cgroup.create(None).unwrap();
    assert!(!unified.exists());
    fs::create_dir_all(unified.join("pod/a")).unwrap();

    cgroup.kill_and_remove().unwrap();

    assert!(unified.join("pod").is_dir());
    assert!(!unified.join("pod/a").exists());
    assert!(!root.path().join("memory/pod/a").exists());
}

#[test]
fn a_cgroup_that_is_in_use_in_the_other_tree_of_a_hybrid_host_is_not_taken_over() {
    let root = TempDir::new().unwrap();
    let unified = root.path().join("unified");
    let host = Hierarchies { unified: Some(unified.clone()), ..v1(root.path(), &["memory"]) };
    put(&unified.join("a"), &[("cgroup.procs", "1\n")]);

    let refused = host.cgroup(Path::new("a"), "ns").refuse_if_in_use();

    assert!(matches!(refused, Err(CgroupError::InUse { count: 1, .. })), "{refused:?}");
}

#[test]
fn creating_makes_the_directory_in_every_v1_hierarchy() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["memory", "pids"]).cgroup(Path::new("a/b"), "ns");

    cgroup.create(None).unwrap();

    assert!(root.path().join("memory/a/b").is_dir());
    assert!(root.path().join("pids/a/b").is_dir());
}

#[test]
fn a_limit_is_written_to_its_controller() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["memory", "pids"]).cgroup(Path::new("a"), "ns");

    cgroup
        .create(resources(json!({"memory": {"limit": 4096}, "pids": {"limit": 3}})).as_ref())
        .unwrap();

    let read = |file: &str| fs::read_to_string(root.path().join(file)).unwrap();
    assert_eq!(read("memory/a/memory.limit_in_bytes"), "4096");
    assert_eq!(read("pids/a/pids.max"), "3");
}

#[test]
fn a_limit_without_its_controller_is_refused_and_leaves_no_directory() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["pids"]).cgroup(Path::new("a"), "ns");

    let error = cgroup.create(resources(json!({"memory": {"limit": 4096}})).as_ref()).unwrap_err();

    assert!(matches!(error, CgroupError::NoController { controller: "memory", .. }), "{error}");
    assert!(!root.path().join("pids/a").exists());
}

#[test]
fn a_cgroup_with_processes_is_refused() {
    let root = TempDir::new().unwrap();
    put(&root.path().join("a"), &[("cgroup.procs", "12\n13\n")]);

    let error = v2(root.path()).cgroup(Path::new("a"), "ns").refuse_if_in_use().unwrap_err();

    assert!(matches!(error, CgroupError::InUse { count: 2, .. }), "{error}");
}

#[test]
fn joining_v1_moves_the_thread_in_every_hierarchy_and_v2_the_process() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["memory", "pids"]).cgroup(Path::new("a"), "ns");
    cgroup.create(None).unwrap();

    join(&cgroup.join_files()).unwrap();

    let read = |file: &str| fs::read_to_string(root.path().join(file)).unwrap();
    assert_eq!(read("memory/a/tasks"), "0");
    assert_eq!(read("pids/a/tasks"), "0");
    let files = v2(root.path()).cgroup(Path::new("b"), "ns").join_files();
    assert_eq!(files, [root.path().join("b/cgroup.procs")]);
}

#[test]
fn a_cgroup_that_cannot_be_joined_is_named() {
    let error = join(&["/nonexistent/tasks".into()]).unwrap_err();
    assert_eq!(error.to_string(), "join the cgroup of /nonexistent/tasks");
}

#[test]
fn removing_a_cgroup_that_is_gone_succeeds() {
    let root = TempDir::new().unwrap();

    v1(root.path(), &["memory"]).cgroup(Path::new("a"), "ns").kill_and_remove().unwrap();
}

#[test]
fn a_directory_named_after_the_namespace_goes_with_its_last_container() {
    let root = TempDir::new().unwrap();
    let hierarchies = v1(root.path(), &["memory"]);
    let cgroups = ["ns/a", "ns/b"].map(|path| hierarchies.cgroup(Path::new(path), "ns"));
    cgroups.iter().for_each(|cgroup| cgroup.create(None).unwrap());

    cgroups[0].kill_and_remove().unwrap();
    assert!(root.path().join("memory/ns/b").is_dir());
    cgroups[1].kill_and_remove().unwrap();

    assert!(!root.path().join("memory/ns").exists());
}

#[test]
fn any_other_parent_stays() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["memory"]).cgroup(Path::new("kubepods/pod1/a"), "k8s.io");
    cgroup.create(None).unwrap();

    cgroup.kill_and_remove().unwrap();

    assert!(root.path().join("memory/kubepods/pod1").is_dir());
}

#[test]
fn v1_cpu_time_is_in_nanoseconds() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["cpuacct", "memory"]).cgroup(Path::new("a"), "ns");
    let files = [("cpuacct.usage", "1234567890\n"), ("cpuacct.stat", "user 5\nsystem 7\n")];
    put(&root.path().join("cpuacct/a"), &files);
    put(&root.path().join("memory/a"), &[]);

    let Metrics::V1(metrics) = cgroup.metrics().unwrap() else { panic!("v2 metrics") };

    assert_eq!(metrics.cpu.usage.total, 1_234_567_890);
    assert_eq!(metrics.cpu.usage.user, 50_000_000);
    assert_eq!(metrics.cpu.usage.kernel, 70_000_000);
}

#[test]
fn v1_memory_is_read_from_its_files() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["memory"]).cgroup(Path::new("a"), "ns");
    put(
        &root.path().join("memory/a"),
        &[
            ("memory.usage_in_bytes", "100\n"),
            ("memory.limit_in_bytes", "200\n"),
            ("memory.stat", "rss 11\ntotal_inactive_file 12\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ],
    );

    let Metrics::V1(metrics) = cgroup.metrics().unwrap() else { panic!("v2 metrics") };

    assert_eq!((metrics.memory.usage.usage, metrics.memory.usage.limit), (100, 200));
    assert_eq!((metrics.memory.rss, metrics.memory.total_inactive_file), (11, 12));
    assert_eq!(metrics.memory_oom_control.oom_kill, 2);
    assert_eq!(cgroup.oom_kills(), 2);
}

#[test]
fn v2_cpu_time_is_in_microseconds_and_an_unlimited_value_is_the_largest() {
    let root = TempDir::new().unwrap();
    let cgroup = v2(root.path()).cgroup(Path::new("a"), "ns");
    put(
        &root.path().join("a"),
        &[
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cpu.stat", "usage_usec 42\nuser_usec 40\nsystem_usec 2\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 7\n"),
            ("memory.events", "oom_kill 1\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
        ],
    );

    let Metrics::V2(metrics) = cgroup.metrics().unwrap() else { panic!("v1 metrics") };

    assert_eq!(metrics.cpu.usage_usec, 42);
    assert_eq!((metrics.memory.usage, metrics.memory.usage_limit), (4096, u64::MAX));
    assert_eq!((metrics.memory.anon, metrics.memory_events.oom_kill), (7, 1));
    assert_eq!((metrics.pids.current, metrics.pids.limit), (3, u64::MAX));
}

#[test]
fn the_counters_of_a_cgroup_that_is_gone_are_an_error() {
    let root = TempDir::new().unwrap();

    let error = v2(root.path()).cgroup(Path::new("a"), "ns").metrics().unwrap_err();

    assert!(matches!(error, CgroupError::Read { .. }), "{error}");
}

#[test]
fn v1_is_frozen_by_its_own_hierarchy() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["memory", "freezer"]).cgroup(Path::new("a"), "ns");
    cgroup.create(None).unwrap();
    let state = || fs::read_to_string(root.path().join("freezer/a/freezer.state")).unwrap();

    cgroup.freeze().unwrap();
    assert_eq!(state(), "FROZEN");
    cgroup.thaw().unwrap();
    assert_eq!(state(), "THAWED");
}

#[test]
fn v2_is_frozen_by_its_core_and_says_when_it_stands_still() {
    let root = TempDir::new().unwrap();
    let cgroup = v2(root.path()).cgroup(Path::new("a"), "ns");
    cgroup.create(None).unwrap();
    put(&root.path().join("a"), &[("cgroup.events", "populated 1\nfrozen 1\n")]);
    let freeze = || fs::read_to_string(root.path().join("a/cgroup.freeze")).unwrap();

    cgroup.freeze().unwrap();
    assert_eq!(freeze(), "1");
    cgroup.thaw().unwrap();
    assert_eq!(freeze(), "0");
}

#[test]
fn a_host_without_a_freezer_says_so() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["memory"]).cgroup(Path::new("a"), "ns");
    cgroup.create(None).unwrap();

    assert!(matches!(cgroup.freeze(), Err(CgroupError::NoFreezer)));
}

#[test]
fn v2_counts_block_devices_and_huge_pages() {
    let root = TempDir::new().unwrap();
    let cgroup = v2(root.path()).cgroup(Path::new("a"), "ns");
    put(
        &root.path().join("a"),
        &[
            ("cgroup.controllers", "io hugetlb\n"),
            ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:0 \nnonsense\n"),
            ("hugetlb.2MB.current", "4096\n"),
            ("hugetlb.2MB.max", "max\n"),
            ("hugetlb.2MB.events", "max 9\n"),
            ("hugetlb.2MB.rsvd.current", "1\n"),
        ],
    );

    let Metrics::V2(metrics) = cgroup.metrics().unwrap() else { panic!("v1 metrics") };

    let io = &metrics.io.usage;
    assert_eq!((io.len(), io[0].major, io[0].minor), (2, 8, 16));
    assert_eq!((io[0].rbytes, io[0].wbytes, io[0].rios, io[0].wios), (1, 2, 3, 4));
    let [huge] = metrics.hugetlb.as_slice() else { panic!("{:?}", metrics.hugetlb) };
    assert_eq!(
        (huge.pagesize.as_str(), huge.current, huge.max, huge.failcnt),
        ("2MB", 4096, u64::MAX, 9)
    );
}

#[test]
fn v1_counts_block_devices_and_an_unlimited_number_of_processes() {
    let root = TempDir::new().unwrap();
    let cgroup = v1(root.path(), &["blkio", "pids"]).cgroup(Path::new("a"), "ns");
    let bytes = "8:0 Read 4096\n8:0 Write 1\nTotal 4097\n";
    put(&root.path().join("blkio/a"), &[("blkio.throttle.io_service_bytes_recursive", bytes)]);
    put(&root.path().join("pids/a"), &[("pids.current", "2\n"), ("pids.max", "max\n")]);

    let Metrics::V1(metrics) = cgroup.metrics().unwrap() else { panic!("v2 metrics") };

    let bytes = &metrics.blkio.io_service_bytes_recursive;
    let told: Vec<_> = bytes.iter().map(|it| (it.major, it.op.as_str(), it.value)).collect();
    assert_eq!(told, [(8, "Read", 4096), (8, "Write", 1)]);
    assert_eq!((metrics.pids.current, metrics.pids.limit), (2, 0));
}
