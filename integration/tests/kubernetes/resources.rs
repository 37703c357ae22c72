//! Limits of memory and CPU, and what the kubelet tells of their use.

use std::time::Duration;

use integration::kubernetes::{Cluster, Space, linux, pod, wasm};
use integration::process::{HANG_LIMIT, wait_until};
use serde_json::{Value, json};

use crate::{Test, ending, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_container_beyond_its_memory_limit_is_oom_killed,
    a_program_is_refused_more_memory_than_its_limit,
    a_program_within_its_memory_limit_is_not,
    a_cpu_limit_is_honoured,
    the_kubelet_tells_what_a_pod_and_its_containers_use,
];

/// Seconds for a CPU's share to be measured: many of the kernel's periods of 100 ms.
const MEASURED: i32 = 10;

fn limited(mut container: Value, resource: &str, limit: &str) -> Value {
    container["resources"] = json!({ "limits": { resource: limit } });
    container
}

fn a_container_beyond_its_memory_limit_is_oom_killed(cluster: &Cluster) {
    let space = cluster.space("hungry").unwrap();
    let fill = cluster.program("fill_disk.rs_p2").unwrap();
    let mut fill = limited(wasm("hungry", &fill, &[]), "memory", "96Mi");
    fill["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    let mut hungry = pod("hungry", &[fill]);
    // Files in memory are the container's, as its micro-VM is.
    hungry["spec"]["volumes"] =
        json!([{ "name": "data", "emptyDir": { "medium": "Memory", "sizeLimit": "1Gi" } }]);
    space.create_object(&hungry).unwrap();
    assert_eq!(ending(&space.ended("hungry").unwrap(), "hungry"), (137, "OOMKilled".to_owned()));
}

fn a_program_is_refused_more_memory_than_its_limit(cluster: &Cluster) {
    let space = cluster.space("refused").unwrap();
    let allocate = cluster.program("allocate.rs_p2").unwrap();
    let refused = limited(wasm("refused", &allocate, &["200"]), "memory", "96Mi");
    space.create_object(&pod("refused", &[refused])).unwrap();
    assert_eq!(ending(&space.ended("refused").unwrap(), "refused").0, 134);
    let log = space.text(&["logs", "refused"]).unwrap();
    assert!(log.contains("memory allocation of 209715200 bytes failed"), "{log}");
}

fn a_program_within_its_memory_limit_is_not(cluster: &Cluster) {
    let space = cluster.space("modest").unwrap();
    let allocate = cluster.program("allocate.rs_p2").unwrap();
    let modest = limited(wasm("modest", &allocate, &["60"]), "memory", "96Mi");
    space.create_object(&pod("modest", &[modest])).unwrap();
    assert_eq!(ending(&space.ended("modest").unwrap(), "modest").0, 0);
    assert_eq!(space.text(&["logs", "modest"]).unwrap(), "60 MiB\n");
}

/// What the kubelet's summary has about a container of a pod, once it is there.
fn usage(space: &Space<'_>, pod: &str, container: &str) -> Value {
    let node = space.api().get(&space.path(&format!("pods/{pod}"))).unwrap();
    let node = node["spec"]["nodeName"].as_str().unwrap().to_owned();
    let mut found = None;
    wait_until("the kubelet to tell a use", HANG_LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        // It may fail for a container that has gone meanwhile.
        let summary = space.api().get(&format!("/api/v1/nodes/{node}/proxy/stats/summary"));
        let Ok(summary) = summary else { return false };
        let Some(pods) = summary["pods"].as_array() else { return false };
        let of_pod =
            |it: &&Value| it["podRef"]["name"] == pod && it["podRef"]["namespace"] == space.name();
        let named = |it: &&Value| it["name"] == container;
        found = pods.iter().find(of_pod).and_then(|pod| {
            let containers = pod["containers"].as_array()?;
            let told = containers.iter().find(named)?;
            let nanos = told["cpu"]["usageCoreNanoSeconds"].as_u64();
            (nanos? > 0 && told["memory"]["workingSetBytes"].as_u64()? > 0)
                .then(|| json!({ "container": told, "pod": pod }))
        });
        found.is_some()
    })
    .unwrap();
    found.unwrap()
}

fn a_cpu_limit_is_honoured(cluster: &Cluster) {
    let space = cluster.space("spin").unwrap();
    let spin = limited(wasm("spin", &cluster.program("spin").unwrap(), &[]), "cpu", "200m");
    space.create_object(&pod("spin", &[spin])).unwrap();
    space.ready("spin").unwrap();
    let told = || usage(&space, "spin", "spin")["container"]["cpu"].take();
    let nanos = |it: &Value| it["usageCoreNanoSeconds"].as_f64().unwrap();
    let (before, mut after) = (told(), Value::Null);
    let mut seconds = 0;
    wait_until("a use of some seconds", HANG_LIMIT, || {
        after = told();
        seconds = (second_of_day(&after) - second_of_day(&before)).rem_euclid(86_400);
        seconds >= MEASURED
    })
    .unwrap();
    let share = (nanos(&after) - nanos(&before)) / 1e9 / f64::from(seconds);
    assert!(share < 0.3, "a limit of 0.2 CPU let {share:.2} be used");
}

/// When the kubelet has looked, which it tells to the second: `2026-01-01T00:00:00Z`.
fn second_of_day(told: &Value) -> i32 {
    let time = told["time"].as_str().unwrap();
    let parts = time[11..19].split(':').map(|part| part.parse::<i32>().unwrap());
    parts.fold(0, |seconds, part| seconds * 60 + part)
}

fn the_kubelet_tells_what_a_pod_and_its_containers_use(cluster: &Cluster) {
    let space = cluster.space("stats").unwrap();
    let busybox = cluster.busybox().unwrap();
    let sidecar = linux("sidecar", &busybox, "while :; do /bin/busybox sleep 1; done");
    let mut mixed = pod("mixed", &[serving(cluster), sidecar]);
    mixed["spec"]["terminationGracePeriodSeconds"] = json!(1);
    space.create_object(&mixed).unwrap();
    space.ready("mixed").unwrap();
    let [server, sidecar] = ["server", "sidecar"].map(|it| usage(&space, "mixed", it));
    let bytes = |it: &Value| it["memory"]["workingSetBytes"].as_u64().unwrap();
    let both = bytes(&server["container"]) + bytes(&sidecar["container"]);
    let whole = wait_for_pod(&space, both / 2);
    assert!(whole < 512 << 20, "{whole} bytes");
}

/// The memory of the pod `mixed`, once it is told and more than `least`.
fn wait_for_pod(space: &Space<'_>, least: u64) -> u64 {
    let mut bytes = 0;
    wait_until("the pod's use to be told", HANG_LIMIT, || {
        let pod = usage(space, "mixed", "server")["pod"].take();
        bytes = pod["memory"]["workingSetBytes"].as_u64().unwrap_or_default();
        bytes > least
    })
    .unwrap();
    bytes
}
