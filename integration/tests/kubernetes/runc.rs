//! The same under runc, on the same node: what is asked of this runtime is what Kubernetes does.

use integration::kubernetes::{Cluster, linux};
use serde_json::json;

use crate::services::client;
use crate::{Test, ending, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_linux_pod_prints_to_its_log_and_succeeds,
    the_exit_code_of_a_linux_program_is_that_of_its_container,
    a_linux_program_beyond_its_memory_limit_is_oom_killed,
    a_command_is_executed_in_a_linux_pod,
];

fn a_linux_pod_prints_to_its_log_and_succeeds(cluster: &Cluster) {
    let space = cluster.space("runc-hello").unwrap();
    space.create_object(&client(cluster, "hello", "echo hello, world")).unwrap();
    assert_eq!(space.ended("hello").unwrap()["status"]["phase"], "Succeeded");
    assert_eq!(space.text(&["logs", "hello"]).unwrap(), "hello, world\n");
}

fn the_exit_code_of_a_linux_program_is_that_of_its_container(cluster: &Cluster) {
    let space = cluster.space("runc-code").unwrap();
    space.create_object(&client(cluster, "exit", "exit 42")).unwrap();
    let pod = space.ended("exit").unwrap();
    assert_eq!(ending(&pod, "exit"), (42, "Error".to_owned()));
}

fn a_linux_program_beyond_its_memory_limit_is_oom_killed(cluster: &Cluster) {
    let space = cluster.space("runc-hungry").unwrap();
    // All of it is one line, which is kept until it ends.
    let script = "exec /bin/busybox tail -c 200000000 /dev/zero";
    let mut pod = client(cluster, "hungry", script);
    pod["spec"]["containers"][0] = linux("hungry", &cluster.busybox().unwrap(), script);
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "32Mi" } });
    space.create_object(&pod).unwrap();
    assert_eq!(ending(&space.ended("hungry").unwrap(), "hungry"), (137, "OOMKilled".to_owned()));
}

fn a_command_is_executed_in_a_linux_pod(cluster: &Cluster) {
    let space = cluster.space("runc-exec").unwrap();
    space.create_object(&client(cluster, "sleep", "exec /bin/busybox sleep 100000")).unwrap();
    space.ready("sleep").unwrap();
    let said = space.text(&["exec", "sleep", "--", "/bin/busybox", "echo", "two words"]).unwrap();
    assert_eq!(said, "two words\n");
}
