//! Containers: a real containerd runs the shim, `ctr` is the person.
//!
//! Every test has a node of its own, and dropping it asserts that no process, mount, cgroup, network
//! namespace or file is left.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::process::{self, HANG_LIMIT, Outcome, Running, wait_until};
use integration::programs::program;
use integration::{Node, micro_vms, oci, require_kvm, say};

fn wasm(name: &str) -> Vec<u8> {
    fs::read(program(name).unwrap()).unwrap()
}

/// A node with the test program `name` pulled and adapted.
fn node_with(name: &str) -> (Node, String) {
    let node = Node::start().unwrap();
    let reference = node.pull_component(name, &program(name).unwrap()).unwrap();
    (node, reference)
}

/// The container ended well and said nothing to standard error.
fn output(outcome: Outcome) -> String {
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    outcome.stdout
}

/// Starts a container in the foreground and waits until it runs, in its micro-VM.
fn start(node: &Node, reference: &str, id: &str) -> Running {
    let running = process::start(&mut node.run_command(reference, id, &[], &[])).unwrap();
    // Its virtual machine is there before the task is, which can be killed only then.
    let runs = || ctr(node, &["task", "ls"]).contains("RUNNING");
    wait_until("the task to run", HANG_LIMIT, runs).unwrap();
    let vcpus: Vec<_> = micro_vms().iter().map(|vm| vm.vcpus).collect();
    assert_eq!(vcpus, [1], "one micro-VM with one vCPU");
    running
}

/// Starts a container in the background, without standard streams.
fn start_detached(node: &Node, reference: &str, id: &str) {
    let runtime = ["--runtime", integration::RUNTIME];
    let mut command = node.ctr_command(["run", "--detach", "--null-io"]);
    process::run(command.args(runtime).args([reference, id])).unwrap().success().unwrap();
}

fn ctr(node: &Node, arguments: &[&str]) -> String {
    node.ctr(arguments.iter().copied()).unwrap().success().unwrap()
}

#[test]
fn an_artifact_of_wkg_runs_after_image_adapt() {
    require_kvm!();
    let (node, reference) = node_with("hello");
    assert_eq!(output(node.run(&reference, "hello", &[]).unwrap()), "hello, world\n");
}

#[test]
fn an_image_of_runwasi_runs_as_it_is() {
    require_kvm!();
    let node = Node::start().unwrap();
    let image = oci::runwasi("hello.wasm", &wasm("hello")).unwrap();
    let reference = node.pull("runwasi", &image).unwrap();
    assert_eq!(output(node.run(&reference, "hello", &[]).unwrap()), "hello, world\n");
}

#[test]
fn a_wasm_file_in_an_ordinary_image_runs_with_the_files_of_the_image() {
    require_kvm!();
    let node = Node::start().unwrap();
    let program = wasm("files.rs_p2");
    let files =
        [("app/files.wasm", program.as_slice()), ("data/from-host", b"a line of the image\n")];
    let reference = node.pull("rootfs", &oci::rootfs(&files, "/app/files.wasm").unwrap()).unwrap();
    // Several times: mounting and looking for the program are done side by side.
    for _ in 0..10 {
        assert_eq!(output(node.run(&reference, "files", &[]).unwrap()), "ok\n");
    }
}

#[test]
fn arguments_and_environment_reach_the_program() {
    require_kvm!();
    let (node, reference) = node_with("arguments_and_environment.c_p2");
    let mut command =
        node.run_command(&reference, "echo", &["--env", "FIRST=one"], &["echo", "a", "-b", "ü"]);
    let text = output(process::run(&mut command).unwrap());
    let arguments: Vec<_> = text.lines().filter(|line| line.starts_with("argument ")).collect();
    // The words after the id are the whole command, its name included.
    assert_eq!(arguments, ["argument a", "argument -b", "argument ü"], "{text}");
    assert!(text.lines().any(|line| line == "environment FIRST=one"), "{text}");
}

#[test]
fn standard_input_reaches_the_program_and_ends() {
    require_kvm!();
    let (node, reference) = node_with("cat.rs_p1");
    let input: String = (0..20_000).map(|line| format!("{line}\n")).collect();
    let mut command = node.run_command(&reference, "cat", &[], &[]);
    let outcome = process::run_with_input(&mut command, input.as_bytes()).unwrap();
    assert!(output(outcome) == input, "the copy differs");
}

#[test]
fn large_output_arrives_whole_and_standard_error_apart() {
    require_kvm!();
    let (node, reference) = node_with("large_output.c_adapted");
    let expected: String = (0..100_000).map(|line| format!("line {line}\n")).collect();
    assert!(
        output(node.run(&reference, "large", &[]).unwrap()) == expected,
        "some lines are wrong"
    );

    let reference =
        node.pull_component("standard_error", &program("standard_error.go_p1").unwrap()).unwrap();
    let outcome = node.run(&reference, "both", &[]).unwrap();
    assert_eq!(outcome.stdout, "to standard output\n");
    assert_eq!(outcome.stderr, "to standard error\n");
}

#[test]
fn exit_statuses_reach_ctr() {
    require_kvm!();
    let (node, reference) = node_with("exit_with_code");
    for status in [0, 1, 42, 255] {
        let text = status.to_string();
        let outcome = node.run(&reference, &format!("exit-{status}"), &["exit", &text]).unwrap();
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (status, ""), "{outcome:?}");
    }
}

#[test]
fn a_trap_ends_the_task_with_134_and_a_message_that_names_the_functions() {
    require_kvm!();
    let node = Node::start().unwrap();
    let traps = [
        ("unreachable", "`unreachable` instruction", "give_up"),
        ("divide_by_zero", "integer divide by zero", "divide"),
        ("load_past_memory", "out of bounds memory access", "load"),
        ("stack_overflow", "call stack exhausted", "descend"),
        ("null_indirect_call", "uninitialized element", "dispatch"),
    ];
    for (name, trap, function) in traps {
        let reference = node.pull_component(name, &program(name).unwrap()).unwrap();
        let outcome = node.run(&reference, name, &[]).unwrap();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (134, ""), "{outcome:?}");
        assert_eq!(outcome.stderr.matches(trap).count(), 1, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(function), "{}", outcome.stderr);
    }
}

#[test]
fn the_shim_outlives_a_trap() {
    require_kvm!();
    let (node, reference) = node_with("unreachable");
    start_detached(&node, &reference, "trap");
    let stopped = || ctr(&node, &["task", "ls"]).contains("STOPPED");
    wait_until("the task to stop", HANG_LIMIT, stopped).unwrap();
    assert_eq!(node.shims().len(), 1, "{:?}", node.shims());
    let removed = node.ctr(["task", "rm", "trap"]).unwrap();
    assert!(removed.stderr.contains("non-zero exit code 134"), "{removed:?}");
    ctr(&node, &["container", "rm", "trap"]);
}

/// Sends `signal` to a spinning container and returns its outcome and how long its end took.
fn kill_spinning(signal: &str) -> (Outcome, Duration) {
    let (node, reference) = node_with("spin");
    let running = start(&node, &reference, "spin");
    let sent = Instant::now();
    ctr(&node, &["task", "kill", "-s", signal, "spin"]);
    wait_until("the micro-VM's end", HANG_LIMIT, || micro_vms().is_empty()).unwrap();
    let took = sent.elapsed();
    let outcome = process::finish(running).unwrap();
    node.nothing_left().unwrap();
    (outcome, took)
}

#[test]
fn sigkill_ends_a_spinning_container() {
    require_kvm!();
    let (outcome, took) = kill_spinning("KILL");
    say(&format!(
        "ctr task kill -s KILL ended a spinning container within {} ms",
        took.as_millis()
    ));
    assert_eq!(outcome.code(), 137, "{outcome:?}");
}

#[test]
fn sigterm_ends_a_spinning_container() {
    require_kvm!();
    let (outcome, took) = kill_spinning("TERM");
    say(&format!(
        "ctr task kill -s TERM ended a spinning container within {} ms",
        took.as_millis()
    ));
    assert_eq!(outcome.code(), 143, "{outcome:?}");
}

#[test]
fn a_container_whose_shim_was_killed_is_cleaned_up() {
    require_kvm!();
    let (node, reference) = node_with("spin");
    // In the background: a ctr in the foreground leaves its own FIFOs when a shim is gone before it
    // has deleted the task.
    start_detached(&node, &reference, "orphan");
    let shims = node.shims();
    let [shim] = shims.as_slice() else { panic!("not one shim: {shims:?}") };
    assert_eq!(micro_vms().len(), 1);
    let kill = std::process::Command::new("kill").args(["-9", &shim.to_string()]).status();
    assert!(kill.unwrap().success());
    wait_until("the micro-VM's end", HANG_LIMIT, || micro_vms().is_empty()).unwrap();
    // Nobody asked for it: containerd saw the shim go and had the delete action clean up.
    node.nothing_left().unwrap();
    assert!(!ctr(&node, &["task", "ls"]).contains("orphan"));
    ctr(&node, &["container", "rm", "orphan"]);
}

#[test]
fn metrics_of_a_running_container_are_its_own() {
    require_kvm!();
    let (node, reference) = node_with("spin");
    let running = start(&node, &reference, "spin");
    let measured = || {
        let text = ctr(&node, &["task", "metrics", "--format", "json", "spin"]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        // cgroup v1 and v2 have other names for the same two numbers, the latter in microseconds.
        let number = |paths: [&str; 2]| paths.iter().find_map(|path| json.pointer(path)?.as_u64());
        let cpu = number(["/cpu/usage/total", "/cpu/usage_usec"]);
        let memory = number(["/memory/usage/usage", "/memory/usage"]);
        (cpu.unwrap_or_else(|| panic!("{text}")), memory.unwrap_or_else(|| panic!("{text}")))
    };
    let (cpu, memory) = measured();
    assert!(memory > 100 << 10, "{memory} bytes cannot hold a micro-VM");
    assert!(memory < 1 << 30, "{memory} bytes are more than this one's");
    wait_until("CPU time to pass", HANG_LIMIT, || measured().0 > cpu).unwrap();
    ctr(&node, &["task", "kill", "-s", "KILL", "spin"]);
    assert_eq!(process::finish(running).unwrap().code(), 137);
}

#[test]
fn the_processes_of_a_container_are_listed() {
    require_kvm!();
    let (node, reference) = node_with("spin");
    let running = start(&node, &reference, "spin");
    let vm = micro_vms().pop().unwrap();
    let listed = ctr(&node, &["task", "ps", "spin"]);
    let pids: Vec<_> =
        listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(pids.contains(&vm.pid.to_string().as_str()), "no {} in {listed}", vm.pid);
    ctr(&node, &["task", "kill", "-s", "KILL", "spin"]);
    process::finish(running).unwrap();
}

#[test]
fn the_memory_limit_of_the_container_is_that_of_the_micro_vm() {
    require_kvm!();
    let (node, reference) = node_with("grow_beyond_micro_vm");
    let limit = (128 << 20).to_string();
    let mut command = node.run_command(&reference, "grow", &["--memory-limit", &limit], &[]);
    assert_eq!(output(process::run(&mut command).unwrap()), "");

    let limit = (512 << 20).to_string();
    let mut command = node.run_command(&reference, "grow", &["--memory-limit", &limit], &[]);
    let outcome = process::run(&mut command).unwrap();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (1, ""), "{outcome:?}");
}

#[test]
fn two_hundred_containers_run_one_after_another() {
    require_kvm!();
    let (node, reference) = node_with("hello");
    for number in 0..200 {
        if number % 50 == 0 {
            say(&format!("container {number} of 200 on one containerd"));
        }
        let outcome = node.run(&reference, &format!("hello-{number}"), &[]).unwrap();
        assert_eq!(output(outcome), "hello, world\n", "container {number}");
    }
    node.nothing_left().unwrap();
}

#[test]
fn twenty_containers_run_at_once() {
    require_kvm!();
    let (node, reference) = node_with("exit_with_code");
    say("20 containers at once on one containerd");
    let started: Vec<_> = (0..20)
        .map(|number| {
            let status = (number + 1).to_string();
            let id = format!("exit-{number}");
            process::start(&mut node.run_command(&reference, &id, &[], &["exit", &status])).unwrap()
        })
        .collect();
    for (number, running) in (0..).zip(started) {
        let outcome = process::finish(running).unwrap();
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (number + 1, ""), "{outcome:?}");
    }
    node.nothing_left().unwrap();
}

/// `ctr run` fails with one line that holds `words`, and leaves nothing.
fn refused(node: &Node, reference: &str, words: &[&str]) {
    let outcome = node.run(reference, "refused", &[]).unwrap();
    assert_ne!(outcome.code(), 0, "{outcome:?}");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.lines().count()), ("", 1), "{outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "no {word:?} in: {}", outcome.stderr);
    }
    node.nothing_left().unwrap();
}

#[test]
fn an_image_that_is_not_there_is_refused() {
    let node = Node::start().unwrap();
    refused(&node, "127.0.0.1:1/nowhere:latest", &["127.0.0.1:1/nowhere:latest"]);
}

#[test]
fn an_image_without_wasm_is_refused() {
    require_kvm!();
    let node = Node::start().unwrap();
    let image = oci::rootfs(&[("bin/app", b"#!/bin/sh\necho no wasm\n")], "/bin/app").unwrap();
    let reference = node.pull("no-wasm", &image).unwrap();
    refused(&node, &reference, &["/bin/app"]);
}

#[test]
fn a_corrupt_component_is_refused() {
    require_kvm!();
    let node = Node::start().unwrap();
    let whole = wasm("hello");
    let file = [("app.wasm", &whole[..whole.len() / 2])];
    let reference = node.pull("corrupt", &oci::rootfs(&file, "/app.wasm").unwrap()).unwrap();
    refused(&node, &reference, &["app.wasm"]);
}

#[test]
fn a_core_module_without_start_is_refused() {
    require_kvm!();
    let (node, reference) = node_with("core_module");
    refused(&node, &reference, &["_start"]);
}

#[test]
fn an_unknown_import_is_refused_by_its_name() {
    require_kvm!();
    let (node, reference) = node_with("unknown_import");
    let outcome = node.run(&reference, "unknown", &[]).unwrap();
    assert_ne!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("example:telephone/dial"), "{outcome:?}");
}

#[test]
fn the_example_greets_by_name() {
    require_kvm!();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello.c");
    let node = Node::start().unwrap();
    let reference =
        node.pull_component("example", &integration::programs::build(&source).unwrap()).unwrap();
    let mut command =
        node.run_command(&reference, "example", &["--env", "NAME=ctr"], &["hello", "one"]);
    let text = output(process::run(&mut command).unwrap());
    assert!(text.starts_with("Hello, ctr!\nargument 1 is \"one\"\nit is 20"), "{text}");
    assert!(text.contains("/greeting.txt says \"written inside the micro-VM at 20"), "{text}");
}
