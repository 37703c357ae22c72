//! The calls of containerd's Task service beyond a plain run, through a real containerd: what the client
//! sees, which events come, and that nothing is left.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod exec;
mod faults;
mod full_disks;
mod hooks;
mod lifecycles;
mod memory;
mod pause;
mod refusals;
mod specifications;
mod streams;
mod terminal;
mod update;

use std::fs;

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::programs::program;
use integration::{Events, Node, RUNTIME, Tasks, oci};

/// A node with one image, whose program is `/app.wasm`, with other test programs and files beside it.
struct Fixture {
    tasks: Tasks,
    events: Events,
    reference: String,
    // Last: it asserts that nothing is left.
    node: Node,
}

impl Fixture {
    /// An image that runs the test program `app`, with others at paths, which begin without a slash.
    fn new(app: &str, others: &[(&str, &str)]) -> Self {
        let node = Node::start().unwrap();
        let wasm = |name: &str| fs::read(program(name).unwrap()).unwrap();
        let mut files = vec![("app.wasm", wasm(app))];
        files.extend(others.iter().map(|(path, name)| (*path, wasm(name))));
        files.push(("etc/script", b"#!/bin/sh\n".to_vec()));
        let files: Vec<_> = files.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
        let reference = node.pull("tasks", &oci::rootfs(&files, "/app.wasm").unwrap()).unwrap();
        let tasks = Tasks::connect(&node).unwrap();
        let events = Events::listen(&node).unwrap();
        Self { tasks, events, reference, node }
    }

    /// Runs it in the background as `id`; `options` are those of `ctr run`.
    fn run(&self, id: &str, options: &[&str]) {
        let mut command = self.node.ctr_command(["run", "--detach", "--runtime", RUNTIME]);
        let command = command.args(options).args([&self.reference, id]);
        process::run(command).unwrap().success().unwrap();
    }

    /// Makes the container `id` without a task; `options` are those of `ctr container create`.
    fn container(&self, id: &str, options: &[&str]) {
        let mut command = self.node.ctr_command(["container", "create", "--runtime", RUNTIME]);
        let command = command.args(options).args([&self.reference, id]);
        process::run(command).unwrap().success().unwrap();
    }

    /// Ends what runs as `id` and removes it.
    fn remove(&self, id: &str) {
        // It may have ended by itself.
        drop(self.tasks.kill(id, "", 9, true));
        self.wait_for(id, "", "STOPPED");
        self.tasks.delete(id).unwrap();
        self.ctr(&["container", "rm", id]);
    }

    fn wait_for(&self, id: &str, exec: &str, status: &str) {
        let what = format!("{id} {exec} to be {status}");
        wait_until(&what, HANG_LIMIT, || self.tasks.get(id, exec).unwrap().0 == status).unwrap();
    }

    /// As [`wait_for`](Self::wait_for), of a task that may not be there yet.
    fn wait_for_task(&self, id: &str, status: &str) {
        let what = format!("{id} to be {status}");
        let is_it = || self.tasks.get(id, "").is_ok_and(|seen| seen.0 == status);
        wait_until(&what, HANG_LIMIT, is_it).unwrap();
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        self.node.ctr(arguments.iter().copied()).unwrap().success().unwrap()
    }

    /// CPU time of `id` in the unit of its control group.
    fn cpu(&self, id: &str) -> u64 {
        let text = self.ctr(&["task", "metrics", "--format", "json", id]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cpu = ["/cpu/usage/total", "/cpu/usage_usec"].iter().find_map(|at| json.pointer(at));
        cpu.and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{text}"))
    }

    /// A control file of container `id`, whichever hierarchy has it.
    fn control(&self, id: &str, v1: &str, v2: &str) -> String {
        let below = format!("{}/{id}", self.node.namespace());
        let (controller, file) = v1.split_once('/').unwrap();
        let v1 = fs::read_to_string(format!("/sys/fs/cgroup/{controller}/{below}/{file}"));
        let v2 = || fs::read_to_string(format!("/sys/fs/cgroup/{below}/{v2}"));
        v1.or_else(|_| v2()).unwrap().trim().to_owned()
    }
}
