//! Hooks of the OCI specification, by programs of the node.

use std::fs;
use std::path::PathBuf;

use integration::process::{self, HANG_LIMIT, Outcome, wait_until};
use integration::programs::program;
use integration::{Code, Node, RUNTIME, Tasks, require_kvm};
use serde_json::{Value, json};

/// A node with a container's root file system, and a directory to which hooks write.
struct Fixture {
    said: PathBuf,
    node: Node,
}

impl Fixture {
    fn new() -> Self {
        let node = Node::start().unwrap();
        let said = node.directory().join("hooks");
        fs::create_dir_all(&said).unwrap();
        fs::create_dir_all(node.directory().join("root")).unwrap();
        for name in ["hello", "spin"] {
            let file = node.directory().join(format!("root/{name}.wasm"));
            fs::copy(program(name).unwrap(), file).unwrap();
        }
        Self { said, node }
    }

    /// A hook that runs `script` by a shell in the directory.
    fn hook(&self, script: &str) -> Value {
        let script = format!("cd {}; {script}", self.said.display());
        json!({
            "path": "/bin/sh", "args": ["sh", "-c", script],
            "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"], "timeout": 60,
        })
    }

    /// A hook that notes its kind.
    fn note(&self, kind: &str) -> Value {
        self.hook(&format!("cat >{kind}.json; echo {kind} >>order"))
    }

    /// Runs a container of `app` with `hooks`; `options` are those of `ctr run`.
    fn run(&self, app: &str, hooks: &Value, options: &[&str]) -> Outcome {
        let file = self.node.directory().join("tmp/config.json");
        let specification = json!({
            "ociVersion": "1.1.0",
            "process": {"args": [app], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": self.node.directory().join("root")},
            "hostname": "within",
            "hooks": hooks,
            "annotations": {"example.com/color": "blue"},
            "linux": {
                "cgroupsPath": format!("/{}/hooked", self.node.namespace()),
                "namespaces": [
                    {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "pid"},
                    {"type": "network"},
                ],
            },
        });
        fs::write(&file, specification.to_string()).unwrap();
        let mut command = self.node.ctr_command(["run", "--runtime", RUNTIME]);
        command.arg("--fifo-dir").arg(self.node.directory().join("fifo")).args(options);
        let outcome = process::run(command.arg("--config").arg(&file).arg("hooked")).unwrap();
        fs::remove_file(file).unwrap();
        outcome
    }

    fn read(&self, name: &str) -> String {
        let file = self.said.join(name);
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    fn state(&self, kind: &str) -> Value {
        serde_json::from_str(&self.read(&format!("{kind}.json"))).unwrap()
    }
}

#[test]
fn hooks_run_in_the_order_of_a_life_and_are_told_the_state() {
    require_kvm!();
    let it = Fixture::new();
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: Value =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!([it.note(kind)]))).collect();

    let outcome = it.run("/hello.wasm", &hooks, &["--rm"]);

    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
    assert_eq!(it.read("order").lines().collect::<Vec<_>>(), kinds);
    let statuses = ["creating", "creating", "creating", "running", "stopped"];
    for (kind, status) in kinds.iter().zip(statuses) {
        let state = it.state(kind);
        assert_eq!((&state["id"], &state["status"]), (&json!("hooked"), &json!(status)), "{state}");
        assert_eq!(state["annotations"]["example.com/color"], "blue");
        assert_eq!(state["ociVersion"], "1.1.0");
        assert!(state["bundle"].as_str().unwrap().ends_with("/hooked"), "{state}");
        assert_eq!(state["pid"].is_number(), *kind != "poststop", "{state}");
    }
}

#[test]
fn a_hook_of_the_runtime_sets_up_the_network_namespace_before_the_program_sees_it() {
    require_kvm!();
    let it = Fixture::new();
    let script = r#"pid=$(sed -E 's/.*"pid":([0-9]+).*/\1/')
        nsenter --net=/proc/$pid/ns/net ip link set lo up &&
        nsenter --net=/proc/$pid/ns/net ip -o link show lo >link; hostname >runtime"#;
    let inside = "hostname >container; ls $(pwd)/../root >files; readlink /proc/self/ns/net >net";
    let hooks = json!({
        "createRuntime": [it.hook(script)], "createContainer": [it.hook(inside)],
    });

    let outcome = it.run("/hello.wasm", &hooks, &["--rm"]);

    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
    assert!(it.read("link").contains("LOOPBACK,UP"), "{}", it.read("link"));
    // The one in the namespaces of the node, the other in the container's, with the node's files.
    assert_eq!(it.read("container"), "within\n");
    assert_ne!(it.read("runtime"), "within\n");
    assert!(it.read("files").contains("hello.wasm"));
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(it.read("net").trim(), ours.to_str().unwrap());
}

#[test]
fn a_container_whose_creation_a_hook_fails_is_none_and_its_last_hooks_run() {
    require_kvm!();
    let it = Fixture::new();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let failing = it.hook("echo this will not do >&2; exit 3");
        let hooks = json!({kind: [failing, it.note("never")], "poststop": [it.note("poststop")]});

        let outcome = it.run("/hello.wasm", &hooks, &["--rm"]);

        assert_ne!(outcome.code(), 0);
        assert_eq!(outcome.stdout, "");
        let words = [format!("the {kind} hook /bin/sh has failed"), "this will not do".to_owned()];
        for word in words {
            assert!(outcome.stderr.contains(&word), "no {word:?} in {}", outcome.stderr);
        }
        it.node.nothing_left().unwrap();
        assert_eq!(it.read("order"), "poststop\n", "once");
        fs::remove_file(it.said.join("order")).unwrap();
    }
}

#[test]
fn a_container_whose_start_a_hook_fails_is_ended() {
    require_kvm!();
    let it = Fixture::new();
    let hooks = json!({
        "poststart": [it.hook("echo not started >&2; exit 1")], "poststop": [it.note("poststop")],
    });

    let outcome = it.run("/spin.wasm", &hooks, &["--rm", "--null-io"]);

    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("the poststart hook /bin/sh has failed"), "{outcome:?}");
    assert_eq!(it.read("order"), "poststop\n");
    it.node.nothing_left().unwrap();
}

#[test]
fn a_hook_that_takes_too_long_is_ended_and_named() {
    require_kvm!();
    let it = Fixture::new();
    let mut slow = it.hook("sleep 1000");
    slow["timeout"] = json!(1);

    let outcome = it.run("/hello.wasm", &json!({"createRuntime": [slow]}), &["--rm"]);

    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("was ended after 1 s"), "{outcome:?}");
    it.node.nothing_left().unwrap();
}

#[test]
fn a_last_hook_that_fails_keeps_nothing_from_its_end() {
    require_kvm!();
    let it = Fixture::new();
    let hooks = json!({"poststop": [it.hook("exit 1"), it.note("second")]});

    let outcome = it.run("/hello.wasm", &hooks, &["--rm"]);

    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
    assert_eq!(it.read("order"), "second\n");
    let is_told = || it.node.log().contains("the poststop hook /bin/sh has failed");
    wait_until("the log to tell it", HANG_LIMIT, is_told).unwrap();
}

#[test]
fn a_hook_of_the_container_itself_is_refused_by_name() {
    require_kvm!();
    let it = Fixture::new();
    let hooks = json!({
        "startContainer": [{"path": "/bin/true"}], "createRuntime": [it.note("createRuntime")],
    });

    let outcome = it.run("/hello.wasm", &hooks, &["--rm"]);

    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("hooks.startContainer: /bin/true"), "{outcome:?}");
    assert!(!it.said.join("order").exists(), "a hook has run");
    it.node.nothing_left().unwrap();
}

#[test]
fn the_last_hooks_of_a_task_run_once_when_its_shim_was_killed() {
    require_kvm!();
    let it = Fixture::new();
    let hooks = json!({"poststop": [it.note("poststop")]});
    let outcome = it.run("/spin.wasm", &hooks, &["--detach", "--null-io"]);
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    let tasks = Tasks::connect(&it.node).unwrap();

    it.node.shims().into_iter().for_each(super::faults::kill);

    let gone = || tasks.get("hooked", "").is_err_and(|(code, _)| code == Code::NotFound);
    wait_until("the task to be gone", HANG_LIMIT, gone).unwrap();
    it.node.ctr(["container", "rm", "hooked"]).unwrap().success().unwrap();
    it.node.nothing_left().unwrap();
    assert_eq!(it.read("order"), "poststop\n", "once");
}

#[test]
fn nothing_stays_of_a_task_that_is_being_created_as_containerd_is_killed() {
    require_kvm!();
    let mut it = Fixture::new();
    let hooks = json!({
        "createRuntime": [it.hook("touch begun; sleep 3")], "poststop": [it.note("poststop")],
    });
    std::thread::scope(|scope| {
        let (it, hooks) = (&it, &hooks);
        let client = scope.spawn(move || it.run("/hello.wasm", hooks, &["--null-io"]));
        let has_begun = || it.said.join("begun").exists();
        wait_until("the creation to go on", HANG_LIMIT, has_begun).unwrap();
        super::faults::kill(it.node.containerd());
        let outcome = client.join().unwrap();
        assert_ne!(outcome.code(), 0, "{outcome:?}");
    });

    it.node.restart_containerd().unwrap();

    // containerd 2.1 has deleted it, later ones keep it for their clients.
    let tasks = Tasks::connect(&it.node).unwrap();
    let gone = || super::lifecycles::is_removed(&tasks, "hooked");
    wait_until("the task to be gone", HANG_LIMIT, gone).unwrap();
    it.node.ctr(["container", "rm", "hooked"]).unwrap().success().unwrap();
    it.node.nothing_left().unwrap();
    assert_eq!(it.read("order"), "poststop\n", "once");
}
