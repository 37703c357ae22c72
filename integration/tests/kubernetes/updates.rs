//! Deployments: more pods, fewer, and others in their place.

use integration::kubernetes::{Cluster, pod};
use serde_json::{Value, json};

use crate::services::{address, client};
use crate::{Test, answering, deployment, service, serving, tests};

pub(crate) const TESTS: &[Test] =
    &tests![a_deployment_goes_from_none_to_thirty_and_back, a_rolling_update_fails_no_request,];

/// How many pods a Deployment has, of whatever state.
fn replicas(deployment: &Value, field: &str) -> u64 {
    deployment["status"][field].as_u64().unwrap_or_default()
}

fn a_deployment_goes_from_none_to_thirty_and_back(cluster: &Cluster) {
    let space = cluster.space("scale").unwrap();
    let server = pod("server", &[serving(cluster)]);
    space.create_object(&deployment("server", 0, server)).unwrap();
    let scale = |count: &str| {
        let replicas = format!("--replicas={count}");
        space.text(&["scale", "deployment/server", &replicas]).unwrap();
    };
    scale("30");
    let all = |it: &Value| replicas(it, "availableReplicas") == 30;
    space.wait("deployments/server", "to have all pods", all).unwrap();
    scale("0");
    let none = |it: &Value| it["items"].as_array().is_some_and(Vec::is_empty);
    space.wait("pods", "to be gone", none).unwrap();
}

fn a_rolling_update_fails_no_request(cluster: &Cluster) {
    let space = cluster.space("rolling").unwrap();
    let mut answers = answering(cluster);
    answers["readinessProbe"] = json!({
        "httpGet": { "path": "/method", "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 30,
    });
    // Who is told to end is still asked, until every node knows that it is no endpoint.
    answers["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 15 } } });
    let mut answers = deployment("answers", 2, pod("answers", &[answers]));
    answers["spec"]["strategy"] =
        json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    space.create_object(&answers).unwrap();
    space.create_object(&service("answers", 80, 8080)).unwrap();
    space.text(&["rollout", "status", "deployment/answers", "--timeout=300s"]).unwrap();

    let url = format!("http://{}/method", address(&space, "answers"));
    let script = format!(
        "alias b=/bin/busybox
        until b wget -q -O /dev/null {url}; do b sleep 0.2; done
        echo begun
        until [ -e /stop ]; do
            if b wget -q -O /dev/null {url}; then echo answered; else echo failed; fi
            b sleep 0.05
        done
        echo ended"
    );
    space.create_object(&client(cluster, "client", &script)).unwrap();
    space.logged("client", "answered").unwrap();
    space.text(&["rollout", "restart", "deployment/answers"]).unwrap();
    space.text(&["rollout", "status", "deployment/answers", "--timeout=300s"]).unwrap();
    // The old ones end after the new ones have begun.
    let two = |it: &Value| it["items"].as_array().is_some_and(|pods| pods.len() == 2 + 1);
    space.wait("pods", "to be the new ones and the client", two).unwrap();
    space.text(&["exec", "client", "--", "/bin/busybox", "touch", "/stop"]).unwrap();
    let log = space.logged("client", "ended").unwrap();
    assert!(!log.contains("failed"), "{log}");
}
