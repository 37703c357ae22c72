//! Services: one address for the pods behind it.

use integration::kubernetes::{Cluster, Space, linux, pod, wasm};
use integration::process::{self, HANG_LIMIT, wait_until};
use serde_json::{Value, json};

use crate::{Test, answering, service, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_service_leads_a_linux_client_to_a_handler,
    a_service_leads_a_component_to_a_component,
    a_service_has_only_pods_that_are_ready,
];

/// The cluster's address of a service.
pub(crate) fn address(space: &Space<'_>, name: &str) -> String {
    let service = space.api().get(&space.path(&format!("services/{name}"))).unwrap();
    service["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

/// A pod of the default runtime that runs a script of busybox's shell.
pub(crate) fn client(cluster: &Cluster, name: &str, script: &str) -> Value {
    let mut client = pod(name, &[linux(name, &cluster.busybox().unwrap(), script)]);
    client["spec"]["runtimeClassName"] = Value::Null;
    client["spec"]["terminationGracePeriodSeconds"] = json!(1);
    client
}

fn ready_when_it_answers(mut container: Value, path: &str) -> Value {
    container["readinessProbe"] = json!({
        "httpGet": { "path": path, "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 30,
    });
    container
}

fn a_service_leads_a_linux_client_to_a_handler(cluster: &Cluster) {
    let space = cluster.space("service").unwrap();
    space.create_object(&service("answers", 80, 8080)).unwrap();
    let answers = ready_when_it_answers(answering(cluster), "/method");
    space.create_object(&pod("answers", &[answers])).unwrap();
    space.ready("answers").unwrap();
    let address = address(&space, "answers");
    // A node learns of endpoints a moment later.
    let script = format!(
        "until /bin/busybox wget -q -O - http://{address}/method; do /bin/busybox sleep 0.2; done"
    );
    space.create_object(&client(cluster, "client", &script)).unwrap();
    space.ended("client").unwrap();
    let log = space.text(&["logs", "client"]).unwrap();
    assert!(log.ends_with("GET "), "{log}");
}

fn a_service_leads_a_component_to_a_component(cluster: &Cluster) {
    let space = cluster.space("components").unwrap();
    space.create_object(&service("server", 7000, 9000)).unwrap();
    let mut server = serving(cluster);
    server["readinessProbe"] = json!({ "tcpSocket": { "port": 9000 }, "periodSeconds": 1 });
    space.create_object(&pod("server", &[server])).unwrap();
    space.ready("server").unwrap();
    let target = format!("{}:7000", address(&space, "server"));
    let program = cluster.program("tcp_client.rs_p2").unwrap();
    let mut container = wasm("client", &program, &[&target]);
    container["stdin"] = json!(true);
    container["stdinOnce"] = json!(true);
    let mut client = pod("client", &[container]);
    // A node learns of endpoints a moment later.
    client["spec"]["restartPolicy"] = json!("OnFailure");
    space.create_object(&client).unwrap();
    let mut outcome = None;
    wait_until("an answer by the service", HANG_LIMIT, || {
        let mut command = space.command(&["attach", "--stdin", "--quiet", "client"]);
        let outcome =
            outcome.insert(process::run_with_input(&mut command, b"by a service\n").unwrap());
        outcome.stdout == "0 by a service\n"
    })
    .unwrap_or_else(|error| panic!("{error:#}: {outcome:?}"));
}

fn a_service_has_only_pods_that_are_ready(cluster: &Cluster) {
    let space = cluster.space("endpoints").unwrap();
    space.create_object(&service("answers", 80, 8080)).unwrap();
    for (name, path) in [("ready", "/method"), ("unready", "/status?code=500")] {
        let mut it = pod(name, &[ready_when_it_answers(answering(cluster), path)]);
        it["metadata"]["labels"]["app"] = json!("answers");
        space.create_object(&it).unwrap();
    }
    let ready = space.ready("ready").unwrap();
    space.event("unready", "Readiness probe failed").unwrap();
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", space.name());
    let addresses = || -> Vec<Value> {
        let slices = space.api().get(&slices).unwrap();
        let slices = slices["items"].as_array().unwrap().iter();
        let endpoints = slices.filter_map(|it| it["endpoints"].as_array()).flatten();
        let ready = endpoints.filter(|it| it["conditions"]["ready"] == true);
        ready.map(|it| it["addresses"][0].clone()).collect()
    };
    wait_until("the endpoint", HANG_LIMIT, || addresses() == [ready["status"]["podIP"].clone()])
        .unwrap_or_else(|error| panic!("{error:#}: {:?}", addresses()));
}
