//! What `kubectl logs` shows.

use std::time::Duration;

use integration::kubernetes::{Cluster, pod, wasm};
use integration::process::{self, HANG_LIMIT, wait_until};
use serde_json::json;

use crate::{Test, container, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_pod_prints_to_its_log_and_succeeds,
    an_artifact_of_wkg_runs_by_its_command,
    a_log_is_followed_to_the_end_of_its_pod,
    the_log_of_the_previous_run_is_kept,
];

fn a_pod_prints_to_its_log_and_succeeds(cluster: &Cluster) {
    let space = cluster.space("hello").unwrap();
    let hello = cluster.program("hello").unwrap();
    space.create_object(&pod("hello", &[wasm("hello", &hello, &[])])).unwrap();
    let pod = space.ended("hello").unwrap();
    assert_eq!(pod["status"]["phase"], "Succeeded");
    assert_eq!(space.text(&["logs", "hello"]).unwrap(), "hello, world\n");
}

fn an_artifact_of_wkg_runs_by_its_command(cluster: &Cluster) {
    let space = cluster.space("artifact").unwrap();
    let artifact = cluster.artifact("hello").unwrap();
    let mut container = wasm("hello", &artifact, &[]);
    container["command"] = json!(["/hello.wasm"]);
    space.create_object(&pod("artifact", &[container])).unwrap();
    assert_eq!(space.ended("artifact").unwrap()["status"]["phase"], "Succeeded");
    assert_eq!(space.text(&["logs", "artifact"]).unwrap(), "hello, world\n");
}

fn a_log_is_followed_to_the_end_of_its_pod(cluster: &Cluster) {
    let space = cluster.space("follow").unwrap();
    space.create_object(&pod("server", &[serving(cluster)])).unwrap();
    space.ready("server").unwrap();
    let mut running = process::start(&mut space.command(&["logs", "--follow", "server"])).unwrap();
    space.logged("server", "listening").unwrap();
    assert!(!running.has_ended().unwrap(), "the pod runs");
    space.text(&["delete", "pod", "server", "--wait=false"]).unwrap();
    let outcome = process::finish_within(running, Duration::from_secs(120)).unwrap();
    assert_eq!(outcome.stdout, "listening on 0.0.0.0:9000\n", "{outcome:?}");
}

fn the_log_of_the_previous_run_is_kept(cluster: &Cluster) {
    let space = cluster.space("previous").unwrap();
    let trap = cluster.program("write_then_trap.rs_p2").unwrap();
    let mut pod = pod("trap", &[wasm("trap", &trap, &[])]);
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    pod["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "data", "mountPath": "/data" }]);
    space.create_object(&pod).unwrap();
    let restarted = |it: &serde_json::Value| {
        container(it, "trap")["restartCount"].as_i64().is_some_and(|count| count > 0)
    };
    space.wait("pods/trap", "to be restarted", restarted).unwrap();
    // Which run is the previous one changes with each restart.
    let mut said = String::new();
    wait_until("the log of the previous run", HANG_LIMIT, || {
        said = space.kubectl(&["logs", "--previous", "trap"]).unwrap().stdout;
        said.starts_with("to the stream\n") && said.contains("unreachable")
    })
    .unwrap_or_else(|error| panic!("{error:#}: {said}"));
}
