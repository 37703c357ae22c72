//! The end of memory: what the kernel kills is told as such.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use integration::{Exec, process, require_kvm};
use rustix::fs::{Advice, fadvise};

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

#[test]
fn compiling_and_the_first_start_are_not_charged_to_the_container() {
    require_kvm!();
    let it = Fixture::new("hello", &[]);
    let mut clear = Command::new(integration::hyperlight().unwrap());
    process::run(clear.args(["cache", "clear"])).unwrap().success().unwrap();
    // The compiler alone takes about as much, and the guest that is loaded for the snapshot beside it.
    limit_the_run(&it, 24 * MIB);

    it.run("first", &["--null-io"]);

    assert_eq!(it.tasks.wait("first", "").unwrap(), 0);
    it.remove("first");
}

/// Has the next start read from the disk what it maps: the shim's program, and what the node has compiled.
fn empty_page_cache() {
    let cached = fs::read_dir("/var/cache/hyperlight").unwrap().map(|entry| entry.unwrap().path());
    let shim = integration::binaries().join("containerd-shim-hyperlight-v1");
    for path in cached.chain([shim]) {
        let file = File::open(&path).unwrap();
        // What is not on the disk stays.
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

#[test]
fn a_volume_in_memory_that_fills_the_limit_ends_the_container() {
    require_kvm!();
    let it = Fixture::new("fill_disk.rs_p1", &[]);
    // Compiles the program; it lacks its volume, and ends.
    it.run("first", &["--null-io"]);
    it.wait_for("first", "", "STOPPED");
    it.remove("first");
    let limit = (96 * MIB).to_string();
    let volume = "type=tmpfs,src=tmpfs,dst=/data,options=mode=755";
    let options = ["--null-io", "--memory-limit", &limit, "--mount", volume];

    // What is in a tmpfs cannot be given up. What the VMM process maps can, if it is charged to the container: then
    // the kernel would do that again and again, and never find that there is no memory.
    empty_page_cache();
    it.run("full", &options);

    it.wait_for("full", "", "STOPPED");
    assert_eq!(it.tasks.get("full", "").unwrap().2, 137);
    it.events.expect("full", &["create", "start", "oom", "exit"]).unwrap();
    it.remove("full");
}
