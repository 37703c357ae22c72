//! From Task.Create to the first host call: what the shim tells about it, what the VMM process is, and
//! which program it is given.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::HashMap;
use std::fs;

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::programs::program;
use integration::{Node, micro_vms, oci, require_kvm};

fn ctr(node: &Node, arguments: &[&str]) -> String {
    node.ctr(arguments.iter().copied()).unwrap().success().unwrap()
}

/// The line of containerd's log with these words, which may take a moment to come there; without quotes, which the
/// logger writes around values or not.
fn logged(node: &Node, words: &[&str]) -> String {
    let mut found = None;
    let is_there = || {
        let log = node.log().replace('"', "");
        let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
        found = line.map(str::to_owned);
        found.is_some()
    };
    wait_until(&format!("a line with {words:?}"), HANG_LIMIT, is_there)
        .unwrap_or_else(|error| panic!("{error:#}:\n{}", node.log()));
    found.unwrap()
}

/// The numbers of the line that the shim writes when task `id` starts, by their names.
fn steps(node: &Node, id: &str) -> HashMap<String, f64> {
    let line = logged(node, &[&format!("task={id} "), "create_ms="]);
    let fields = line.split(' ').filter_map(|field| field.split_once('='));
    let numbers = fields.filter_map(|(name, value)| {
        Some((name.strip_suffix("_ms")?.to_owned(), value.parse().ok()?))
    });
    numbers.collect()
}

#[test]
fn the_log_tells_what_each_step_of_a_start_took() {
    require_kvm!();
    let node = Node::start().unwrap();
    let reference = node.pull_component("hello", &program("hello").unwrap()).unwrap();
    node.run(&reference, "hello", &[]).unwrap().success().unwrap();

    let steps = steps(&node, "hello");

    // Of the steps that happen in any case; each is a part of the whole.
    for step in ["bundle", "rootfs", "cgroup", "find", "program", "ready", "vmm_boot"] {
        let took = steps.get(step).unwrap_or_else(|| panic!("no {step} in {steps:?}"));
        assert!(*took > 0.0 && *took <= steps["create"], "{step} in {steps:?}");
    }
    for step in ["spawn", "vmm_confine", "vmm_join", "vmm_cpu", "cpu"] {
        assert!(steps.get(step).is_some_and(|took| *took >= 0.0), "{step} in {steps:?}");
    }
    // A whole process and a whole micro-VM cannot be made for nothing.
    assert!(steps["vmm_cpu"] > 0.1 && steps["cpu"] > 0.1, "{steps:?}");
}

#[test]
fn a_vmm_process_has_a_name_and_holds_what_its_task_needs() {
    require_kvm!();
    let node = Node::start().unwrap();
    let reference = node.pull_component("spin", &program("spin").unwrap()).unwrap();
    let running = process::start(&mut node.run_command(&reference, "spin", &[], &[])).unwrap();
    let runs = || ctr(&node, &["task", "ls"]).contains("RUNNING");
    wait_until("the task to run", HANG_LIMIT, runs).unwrap();
    let vm = micro_vms().pop().unwrap();
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", vm.pid)).unwrap();
    assert_eq!(read("comm"), "hyperlight-vmm\n");
    assert!(read("cmdline").starts_with("hyperlight-vmm\0"), "{}", read("cmdline"));
    assert_eq!(read("environ"), "", "the environment is the shim's");

    // Its root is that of the container; its streams are FIFOs and pipes; it starts from a snapshot and asks
    // the kernel which pages it has written; it was given the roots for TLS and a /dev/null, which the root
    // need not have; the rest is KVM's, memory, and the file system that says which processes there are.
    let needed = |target: &str| {
        ["/dev/kvm", "pipe:[", "anon_inode:kvm-", "anon_inode:[eventfd]", "/memfd:"]
            .iter()
            .any(|start| target.starts_with(start))
            || ["/", "/null", "/etc/ssl/certs/ca-certificates.crt"].contains(&target)
            || ["spin-stdout", "spin-stderr", ".snapshot", "/pagemap"]
                .iter()
                .any(|end| target.ends_with(end))
    };
    let open = fs::read_dir(format!("/proc/{}/fd", vm.pid)).unwrap();
    let open = open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    let open: Vec<_> = open.map(|target| target.display().to_string()).collect();
    let stray: Vec<_> = open.iter().filter(|target| !needed(target)).collect();
    assert_eq!(stray, [""; 0], "of {open:?}");

    ctr(&node, &["task", "kill", "-s", "KILL", "spin"]);
    assert_eq!(process::finish(running).unwrap().code(), 137);
}

#[test]
fn a_tag_that_has_moved_gives_the_new_program() {
    require_kvm!();
    let node = Node::start().unwrap();
    let image = |name: &str| {
        oci::runwasi(&format!("{name}.wasm"), &fs::read(program(name).unwrap()).unwrap()).unwrap()
    };
    let first = node.pull("moving", &image("hello")).unwrap();
    assert_eq!(node.run(&first, "first", &[]).unwrap().stdout, "hello, world\n");

    let second = node.pull("moving", &image("exit_with_code")).unwrap();
    let outcome = node.run(&second, "second", &["exit", "7"]).unwrap();

    assert_eq!(first, second, "the same tag");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (7, ""), "{outcome:?}");
}

#[test]
fn a_creation_that_fails_leaves_no_vmm_process() {
    require_kvm!();
    let node = Node::start().unwrap();
    let image = oci::rootfs(&[("bin/app", b"no wasm")], "/bin/app").unwrap();
    let reference = node.pull("no-wasm", &image).unwrap();

    assert_ne!(node.run(&reference, "refused", &[]).unwrap().code(), 0);

    // Processes, mounts, cgroups and network namespaces are compared with those before.
    node.nothing_left().unwrap();
}

#[test]
fn a_network_namespace_that_is_gone_is_named() {
    require_kvm!();
    let node = Node::start().unwrap();
    let reference = node.pull_component("hello", &program("hello").unwrap()).unwrap();
    let options = ["--with-ns", "network:/nonexistent/netns"];

    let outcome = process::run(&mut node.run_command(&reference, "lost", &options, &[])).unwrap();

    assert_ne!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stderr.contains("/nonexistent/netns"), "{outcome:?}");
    node.nothing_left().unwrap();
}

#[test]
fn the_log_tells_what_was_counted_at_the_end_of_a_task_and_of_a_shim() {
    require_kvm!();
    let node = Node::start().unwrap();
    let reference = node.pull_component("hello", &program("hello").unwrap()).unwrap();
    let trap = node.pull_component("trap", &program("unreachable").unwrap()).unwrap();
    // Once before, so that there is a snapshot.
    node.run(&reference, "before", &[]).unwrap().success().unwrap();

    node.run(&reference, "counted", &[]).unwrap().success().unwrap();
    assert_eq!(node.run(&trap, "trapped", &[]).unwrap().code(), 134);

    let line = |words: &[&str]| logged(&node, words);
    let end = line(&["task=counted", "micro_vms=1", "status=0"]);
    assert!(end.contains("faults=0") && !end.contains("doorbell_exits=0"), "{end}");
    line(&["task=trapped", "micro_vms=1", "status=134"]);
    line(&["totals", "tasks=1", "snapshot_hits=1", "compilations=0", "killed=0", "micro_vms=1"]);
}
