//! Probes of the kubelet: when a container is ready, and when it is made again.

use integration::kubernetes::{Cluster, linux, pod};
use serde_json::{Value, json};

use crate::{Test, answering, container, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_handler_that_answers_is_ready,
    a_handler_that_answers_with_an_error_is_not_ready,
    a_port_that_is_open_keeps_a_container_alive,
    a_port_that_is_closed_has_a_container_made_again,
    a_container_is_ready_while_a_command_succeeds,
    a_container_starts_when_a_command_succeeds,
    a_container_that_does_not_start_is_made_again,
];

fn probed(mut container: Value, kind: &str, probe: Value) -> Value {
    container[kind] = probe;
    container[kind]["periodSeconds"] = json!(1);
    container[kind]["timeoutSeconds"] = json!(30);
    container
}

fn a_handler_that_answers_is_ready(cluster: &Cluster) {
    let space = cluster.space("ready").unwrap();
    let probe = json!({ "httpGet": { "path": "/method", "port": 8080 } });
    let probed = probed(answering(cluster), "readinessProbe", probe);
    space.create_object(&pod("answers", &[probed])).unwrap();
    space.ready("answers").unwrap();
}

fn a_handler_that_answers_with_an_error_is_not_ready(cluster: &Cluster) {
    let space = cluster.space("unready").unwrap();
    let probe = json!({ "httpGet": { "path": "/status?code=503", "port": 8080 } });
    let probed = probed(answering(cluster), "readinessProbe", probe);
    space.create_object(&pod("answers", &[probed])).unwrap();
    space
        .event("answers", "Readiness probe failed: HTTP probe failed with statuscode: 503")
        .unwrap();
    let has_started = |pod: &Value| container(pod, "answers")["started"] == true;
    space.wait("pods/answers", "to have started", has_started).unwrap();
    let pod = space.api().get(&space.path("pods/answers")).unwrap();
    assert_eq!(container(&pod, "answers")["ready"], json!(false), "{pod:#}");
}

fn a_port_that_is_open_keeps_a_container_alive(cluster: &Cluster) {
    let space = cluster.space("alive").unwrap();
    let mut server =
        probed(serving(cluster), "livenessProbe", json!({ "tcpSocket": { "port": 9000 } }));
    server["startupProbe"] =
        json!({ "tcpSocket": { "port": 9000 }, "periodSeconds": 1, "failureThreshold": 300 });
    // Not one failure is forgiven: a container that is ready later has been probed since.
    server["livenessProbe"]["failureThreshold"] = json!(1);
    server["readinessProbe"] = json!({
        "tcpSocket": { "port": 9000 }, "initialDelaySeconds": 6, "periodSeconds": 1, "timeoutSeconds": 30,
    });
    space.create_object(&pod("server", &[server])).unwrap();
    let pod = space.ready("server").unwrap();
    assert_eq!(container(&pod, "server")["restartCount"], 0, "{pod:#}");
}

fn a_port_that_is_closed_has_a_container_made_again(cluster: &Cluster) {
    let space = cluster.space("dead").unwrap();
    let probe = json!({ "tcpSocket": { "port": 9001 }, "failureThreshold": 1 });
    let mut pod = pod("server", &[probed(serving(cluster), "livenessProbe", probe)]);
    pod["spec"]["restartPolicy"] = json!("Always");
    space.create_object(&pod).unwrap();
    space.event("server", "Liveness probe failed: dial tcp").unwrap();
    let restarted = |it: &Value| container(it, "server")["restartCount"].as_i64() >= Some(1);
    space.wait("pods/server", "to be restarted", restarted).unwrap();
}

fn a_container_is_ready_while_a_command_succeeds(cluster: &Cluster) {
    let space = cluster.space("exec-probe").unwrap();
    let probe = json!({ "exec": { "command": ["/bin/print.wasm", "/shared/ready"] }, "failureThreshold": 1 });
    let mut server = probed(serving(cluster), "readinessProbe", probe);
    let mut sidecar =
        linux("sidecar", &cluster.busybox().unwrap(), "exec /bin/busybox sleep 100000");
    for it in [&mut server, &mut sidecar] {
        it["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    }
    let mut pod = pod("server", &[server, sidecar]);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    pod["spec"]["volumes"] = json!([{ "name": "shared", "emptyDir": {} }]);
    space.create_object(&pod).unwrap();
    space.event("server", "Readiness probe failed: /shared/ready").unwrap();

    let busybox = ["exec", "server", "-c", "sidecar", "--", "/bin/busybox"];
    space.text(&[&busybox[..], &["touch", "/shared/ready"]].concat()).unwrap();
    space.ready("server").unwrap();
    space.text(&[&busybox[..], &["rm", "/shared/ready"]].concat()).unwrap();
    let unready = |it: &Value| container(it, "server")["ready"] == false;
    space.wait("pods/server", "to be no longer ready", unready).unwrap();
}

fn a_container_starts_when_a_command_succeeds(cluster: &Cluster) {
    let space = cluster.space("starts").unwrap();
    let probe = json!({ "exec": { "command": ["/bin/exit.wasm", "0"] } });
    space
        .create_object(&pod("server", &[probed(serving(cluster), "startupProbe", probe)]))
        .unwrap();
    let pod = space.ready("server").unwrap();
    assert_eq!(container(&pod, "server")["started"], true, "{pod:#}");
}

fn a_container_that_does_not_start_is_made_again(cluster: &Cluster) {
    let space = cluster.space("stuck").unwrap();
    let probe = json!({ "exec": { "command": ["/bin/exit.wasm", "1"] }, "failureThreshold": 1 });
    let mut pod = pod("server", &[probed(serving(cluster), "startupProbe", probe)]);
    pod["spec"]["restartPolicy"] = json!("Always");
    space.create_object(&pod).unwrap();
    let restarted = |it: &Value| container(it, "server")["restartCount"].as_i64() >= Some(1);
    let pod = space.wait("pods/server", "to be restarted", restarted).unwrap();
    assert_eq!(container(&pod, "server")["ready"], false, "{pod:#}");
}
