//! Specifications that make no sense: each is refused by its reason, and leaves nothing.

use std::fs;

use integration::process::{self, Outcome};
use integration::programs::program;
use integration::{Node, RUNTIME, require_kvm};
use serde_json::{Value, json};

/// A node, and a specification of a container that runs `hello`.
fn fixture() -> (Node, Value) {
    let node = Node::start().unwrap();
    let root = node.directory().join("root");
    fs::create_dir_all(&root).unwrap();
    fs::copy(program("hello").unwrap(), root.join("app.wasm")).unwrap();
    let cgroup = format!("/{}/s", node.namespace());
    let specification = json!({
        "ociVersion": "1.1.0",
        "process": {"args": ["/app.wasm"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": root},
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
        },
    });
    (node, specification)
}

fn run(node: &Node, specification: &Value) -> Outcome {
    let file = node.directory().join("tmp/config.json");
    fs::write(&file, specification.to_string()).unwrap();
    let mut command = node.ctr_command(["run", "--rm", "--runtime", RUNTIME]);
    command.arg("--fifo-dir").arg(node.directory().join("fifo"));
    let outcome = process::run(command.arg("--config").arg(&file).arg("s")).unwrap();
    fs::remove_file(file).unwrap();
    outcome
}

/// `specification` with `value` at `pointer`, whose parent is there.
fn with(specification: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = specification.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(parent).unwrap()[key] = value;
    changed
}

#[test]
fn a_specification_by_hand_runs_with_however_large_annotations() {
    require_kvm!();
    let (node, specification) = fixture();
    let annotations = json!({"example.com/large": "x".repeat(1 << 20)});

    let outcome = run(&node, &with(&specification, "/annotations", annotations));

    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
    fs::remove_dir_all(node.directory().join("root")).unwrap();
}

#[test]
fn a_specification_that_cannot_be_run_is_refused_with_its_reason() {
    require_kvm!();
    let (node, specification) = fixture();
    let cases = [
        ("/root/path", json!("/nonexistent/root"), "/nonexistent/root"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["/other.wasm"]), "\"/other.wasm\" is not in the root"),
        ("/process/terminal", json!(true), "process.terminal is set"),
        ("/linux/cgroupsPath", json!("/../../x"), "contains \"..\""),
        ("/linux/resources", json!({"memory": {"limit": 4096}}), "memory limit of 4096 bytes"),
        ("/linux/resources", json!({"cpu": {"cpus": "4000"}}), "cpuset.cpus"),
        ("/annotations", json!({"io.hyperlight.network": "host"}), "io.hyperlight.network"),
        (
            "/mounts",
            json!([{"destination": "/m", "source": "/nonexistent/source",
            "type": "bind", "options": ["rbind"]}]),
            "/nonexistent/source",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "network", "path": "/nonexistent/netns"}]),
            "/nonexistent/netns",
        ),
    ];
    for (pointer, value, reason) in cases {
        let outcome = run(&node, &with(&specification, pointer, value));
        assert_ne!(outcome.code(), 0, "{pointer}: {outcome:?}");
        assert!(outcome.stderr.contains(reason), "no {reason:?} in {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        node.nothing_left().unwrap();
    }
    fs::remove_dir_all(node.directory().join("root")).unwrap();
}

#[test]
fn a_control_group_that_is_in_use_and_a_name_that_is_taken_are_refused() {
    require_kvm!();
    let (node, specification) = fixture();
    let root = node.directory().join("root");
    fs::copy(program("spin").unwrap(), root.join("spin.wasm")).unwrap();
    let file = node.directory().join("tmp/first.json");
    let first = with(&specification, "/process/args", json!(["/spin.wasm"]));
    fs::write(&file, first.to_string()).unwrap();
    let mut command = node.ctr_command(["run", "--detach", "--null-io", "--runtime", RUNTIME]);
    process::run(command.arg("--config").arg(&file).arg("first")).unwrap().success().unwrap();

    let outcome = run(&node, &specification);
    assert!(outcome.stderr.contains("holds 1 process(es) already"), "{outcome:?}");
    let mut again = node.ctr_command(["task", "start", "--detach", "--null-io"]);
    let taken = process::run(again.arg("first")).unwrap();
    assert!(taken.stderr.contains("already exists"), "{taken:?}");

    let ctr = |arguments: &[&str]| node.ctr(arguments.iter().copied()).unwrap().success().unwrap();
    assert!(ctr(&["task", "ls"]).contains("RUNNING"));
    ctr(&["task", "kill", "-s", "KILL", "first"]);
    let stopped = || ctr(&["task", "ls"]).contains("STOPPED");
    process::wait_until("the end", process::HANG_LIMIT, stopped).unwrap();
    drop(node.ctr(["task", "rm", "first"]).unwrap());
    ctr(&["container", "rm", "first"]);
    fs::remove_file(file).unwrap();
    fs::remove_dir_all(root).unwrap();
}
