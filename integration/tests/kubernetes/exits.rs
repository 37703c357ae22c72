//! How pods end, and what is told of it.

use integration::kubernetes::{Cluster, pod, wasm};
use serde_json::{Value, json};

use crate::{Test, answering, container, ending, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    the_exit_code_of_a_program_is_that_of_its_container,
    a_trap_is_told_by_exit_code_and_log,
    a_failure_is_restarted_on_failure,
    a_success_is_restarted_always,
    a_program_that_fails_again_and_again_is_backed_off,
    a_program_that_ends_by_sigterm_ends_before_the_grace_period,
    a_request_in_flight_is_answered_before_the_pod_ends,
    a_pod_with_a_hung_component_is_deleted,
];

fn restarts(pod: &Value, name: &str) -> i64 {
    container(pod, name)["restartCount"].as_i64().unwrap_or_default()
}

fn failing(cluster: &Cluster, policy: &str) -> Value {
    let exit = cluster.program("exit_with_code").unwrap();
    let mut pod = pod("failing", &[wasm("failing", &exit, &["1"])]);
    pod["spec"]["restartPolicy"] = json!(policy);
    pod
}

fn the_exit_code_of_a_program_is_that_of_its_container(cluster: &Cluster) {
    let space = cluster.space("code").unwrap();
    let exit = cluster.program("exit_with_code").unwrap();
    space.create_object(&pod("exit", &[wasm("exit", &exit, &["42"])])).unwrap();
    let pod = space.ended("exit").unwrap();
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(ending(&pod, "exit"), (42, "Error".to_owned()));
}

fn a_trap_is_told_by_exit_code_and_log(cluster: &Cluster) {
    let space = cluster.space("trap").unwrap();
    let trap = cluster.program("unreachable").unwrap();
    space.create_object(&pod("trap", &[wasm("trap", &trap, &[])])).unwrap();
    let pod = space.ended("trap").unwrap();
    assert_eq!(ending(&pod, "trap"), (134, "Error".to_owned()));
    let log = space.text(&["logs", "trap"]).unwrap();
    assert!(log.contains("unreachable") && log.contains("give_up"), "{log}");
}

fn a_failure_is_restarted_on_failure(cluster: &Cluster) {
    let space = cluster.space("on-failure").unwrap();
    space.create_object(&failing(cluster, "OnFailure")).unwrap();
    space.wait("pods/failing", "to be restarted", |it| restarts(it, "failing") >= 1).unwrap();
}

fn a_success_is_restarted_always(cluster: &Cluster) {
    let space = cluster.space("always").unwrap();
    let hello = cluster.program("hello").unwrap();
    let mut pod = pod("hello", &[wasm("hello", &hello, &[])]);
    pod["spec"]["restartPolicy"] = json!("Always");
    space.create_object(&pod).unwrap();
    let pod = space.wait("pods/hello", "to be restarted", |it| restarts(it, "hello") >= 1).unwrap();
    let last = &container(&pod, "hello")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 0, "{last:#}");
}

fn a_program_that_fails_again_and_again_is_backed_off(cluster: &Cluster) {
    let space = cluster.space("loop").unwrap();
    space.create_object(&failing(cluster, "Always")).unwrap();
    let backed_off =
        |it: &Value| container(it, "failing")["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    space.wait("pods/failing", "to be backed off", backed_off).unwrap();
}

fn a_program_that_ends_by_sigterm_ends_before_the_grace_period(cluster: &Cluster) {
    let space = cluster.space("term").unwrap();
    let mut pod = pod("server", &[serving(cluster)]);
    // Beyond the limit of any wait here: who waits for SIGKILL waits in vain.
    pod["spec"]["terminationGracePeriodSeconds"] = json!(100_000);
    space.create_object(&pod).unwrap();
    space.ready("server").unwrap();
    space.text(&["delete", "pod", "server", "--wait=false"]).unwrap();
    space.wait_until_gone("pods/server").unwrap();
}

fn a_request_in_flight_is_answered_before_the_pod_ends(cluster: &Cluster) {
    let space = cluster.space("in-flight").unwrap();
    let busybox = cluster.busybox().unwrap();
    let mut server = pod("server", &[answering(cluster)]);
    server["spec"]["containers"][0]["readinessProbe"] =
        json!({ "httpGet": { "path": "/method", "port": 8080 }, "periodSeconds": 1 });
    space.create_object(&server).unwrap();
    let address = space.ready("server").unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    let script = format!(
        "alias b=/bin/busybox
        b wget -q -O - 'http://{address}:8080/wait?ms=10000' &
        until b netstat -tn | b grep -q ':8080 .*ESTABLISHED'; do b sleep 0.1; done
        b sleep 2; echo asked; wait"
    );
    let client = integration::kubernetes::linux("client", &busybox, &script);
    let mut client = pod("client", &[client]);
    client["spec"]["runtimeClassName"] = Value::Null;
    space.create_object(&client).unwrap();
    space.logged("client", "asked").unwrap();
    // The request is with the server when the server is told to end.
    space.text(&["delete", "pod", "server", "--wait=false"]).unwrap();
    let ended = space.ended("client").unwrap();
    assert_eq!(space.text(&["logs", "client"]).unwrap(), "asked\nwaited");
    assert_eq!(ending(&ended, "client").0, 0);
    space.wait_until_gone("pods/server").unwrap();
}

fn a_pod_with_a_hung_component_is_deleted(cluster: &Cluster) {
    let space = cluster.space("hung").unwrap();
    let spin = cluster.program("spin").unwrap();
    let mut pod = pod("hung", &[wasm("hung", &spin, &[])]);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(100_000);
    space.create_object(&pod).unwrap();
    space.ready("hung").unwrap();
    space.text(&["delete", "pod", "hung", "--wait=false"]).unwrap();
    space.wait_until_gone("pods/hung").unwrap();
}
