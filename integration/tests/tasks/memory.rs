//! The end of memory: what the kernel kills is told as such.

use std::fs;
use std::path::Path;

use integration::{Exec, require_kvm};

use super::Fixture;

const MIB: u64 = 1 << 20;

/// Limits all containers of the run together, before there is one. The shim removes the control group with
/// the last of them.
fn limit_the_run(it: &Fixture, bytes: u64) {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    let (root, file) = match v1.exists() {
        true => (v1, "memory.limit_in_bytes"),
        false => (Path::new("/sys/fs/cgroup"), "memory.max"),
    };
    if !v1.exists() {
        fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
    }
    let run = root.join(it.node.namespace());
    fs::create_dir(&run).unwrap();
    fs::write(run.join(file), bytes.to_string()).unwrap();
}

#[test]
fn a_task_that_the_kernel_kills_for_want_of_memory_is_told_as_such() {
    require_kvm!();
    let it = Fixture::new("fill_memory", &[]);
    limit_the_run(&it, 48 * MIB);

    it.run("hungry", &["--null-io"]);

    assert_eq!(it.tasks.wait("hungry", "").unwrap(), 137);
    let events = it.events.expect("hungry", &["create", "start", "oom", "exit"]).unwrap();
    assert_eq!(events[3].content["exit_status"], 137);
    it.remove("hungry");
}

#[test]
fn an_exec_that_the_kernel_kills_for_want_of_memory_is_told_as_such() {
    require_kvm!();
    let it = Fixture::new("spin", &[("fill.wasm", "fill_memory")]);
    limit_the_run(&it, 48 * MIB);
    it.run("c", &["--null-io"]);
    it.tasks.exec(Exec::of("c", "e", &["/fill.wasm"])).unwrap();

    it.tasks.start("c", "e").unwrap();

    assert_eq!(it.tasks.wait("c", "e").unwrap(), 137);
    let topics = ["create", "start", "exec-added", "exec-started", "oom", "exit"];
    let events = it.events.expect("c", &topics).unwrap();
    assert_eq!(events[5].content["id"], "e");
    assert_eq!(it.tasks.get("c", "").unwrap().0, "RUNNING");
    it.remove("c");
}
