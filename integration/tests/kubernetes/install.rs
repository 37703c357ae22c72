//! The chart: from a node with nothing of ours to pods that run, and back.

use integration::kubernetes::{Cluster, NODE, pod, wasm};
use integration::process::{HANG_LIMIT, wait_until};
use integration::{host, oci, process, programs, skipped, tools, workspace};
use serde_json::Value;

use crate::{Test, ending, tests};

pub(crate) const TESTS: &[Test] = &tests![the_chart_installs_runs_its_examples_and_leaves_nothing];

/// What the images of the examples begin with.
const EXAMPLES: &str = "registry.example/hyperlight/";

/// What the installer sets on a node that runs pods.
const LABEL: &str = "io.hyperlight/ready";

fn label(cluster: &Cluster) -> Value {
    cluster.api().get(&format!("/api/v1/nodes/{NODE}")).unwrap()["metadata"]["labels"][LABEL].take()
}

/// The files of the node where the chart has some, and what is in them.
fn files(cluster: &Cluster) -> String {
    let places = ["/etc/containerd", "/opt", "-type", "f"];
    let files = cluster.own().unwrap().on_node("find", &places).unwrap();
    let mut files: Vec<_> =
        files.lines().filter(|it| !it.starts_with("/opt/containerd/")).collect();
    files.sort_unstable();
    cluster.own().unwrap().on_node("sha256sum", &files).unwrap()
}

fn helm(cluster: &Cluster, arguments: &[&str]) -> String {
    process::run(cluster.helm().unwrap().args(arguments)).unwrap().success().unwrap()
}

fn the_chart_installs_runs_its_examples_and_leaves_nothing(cluster: &Cluster) {
    let Ok(own) = cluster.own() else {
        return skipped("the cluster's nodes are not ours to change");
    };
    own.remove_runtime().unwrap();
    cluster.remove_class().unwrap();
    let before = files(cluster);

    let image = cluster.image("node", host::image).unwrap();
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let containerd = tools::tree("containerd").unwrap().file(&["usr/bin/containerd"]).unwrap();
    let chart = workspace().join("charts/hyperlight").display().to_string();
    let set = [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        format!("containerd.binary={}", containerd.display()),
        "containerd.restart.by=command".to_owned(),
        "containerd.restart.command=kill $(cat /run/containerd.pid)".to_owned(),
        "hostPID=true".to_owned(),
        "metrics.enabled=true".to_owned(),
    ];
    let mut install = vec!["install", "hyperlight", &chart, "--namespace", "kube-system", "--wait"];
    set.iter().for_each(|it| install.extend(["--set", it]));
    helm(cluster, &install);
    wait_until("the node's label", HANG_LIMIT, || label(cluster) == "true")
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.log()));

    hello(cluster);
    examples(cluster);
    metrics(cluster);

    helm(cluster, &["uninstall", "hyperlight", "--namespace", "kube-system", "--wait"]);
    assert_eq!(label(cluster), Value::Null);
    let after = files(cluster);
    // The tests that may follow have it as those before.
    own.add_runtime().unwrap();
    cluster.add_class().unwrap();
    assert_eq!(after, before, "the node is as it was");
}

fn hello(cluster: &Cluster) {
    let space = cluster.space("installed").unwrap();
    let hello = cluster.program("hello").unwrap();
    space.create_object(&pod("hello", &[wasm("hello", &hello, &[])])).unwrap();
    assert_eq!(ending(&space.ended("hello").unwrap(), "hello").0, 0);
    assert_eq!(space.text(&["logs", "hello"]).unwrap(), "hello, world\n");
}

/// What Prometheus would be told by the installer's pod. A micro-VM has run on trial, and its shim has ended.
fn metrics(cluster: &Cluster) {
    let pods = cluster.api().get("/api/v1/namespaces/kube-system/pods").unwrap();
    let mut pods = pods["items"].as_array().unwrap().iter();
    let installer =
        pods.find(|it| it["metadata"]["labels"]["app.kubernetes.io/name"] == "hyperlight-node");
    let installer = &installer.unwrap()["metadata"];
    assert_eq!(installer["annotations"]["prometheus.io/port"], "9090");
    let name = installer["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/kube-system/pods/{name}:9090/proxy/metrics");
    let space = cluster.space("metrics").unwrap();
    let spin = cluster.program("spin").unwrap();
    space.create_object(&pod("counted", &[wasm("counted", &spin, &[])])).unwrap();
    space.ready("counted").unwrap();
    let told = || space.text(&["get", "--raw", &path]).unwrap();
    let number = |name: &str| {
        let told = told();
        let mut lines = told.lines().filter_map(|line| line.split_once(' '));
        let number = lines.find(|(it, _)| *it == format!("hyperlight_{name}"));
        number.unwrap_or_else(|| panic!("no {name} in {told}")).1.parse::<f64>().unwrap()
    };
    assert!(number("node_ready") > 0.5);
    assert!(number("node_trial_duration_seconds") > 0.0);
    assert!(number("cache_programs") > 0.5);
    assert!(number("cache_bytes") < number("cache_limit_bytes"));
    assert!(number("running_sandboxes") > 0.5);
    assert!(number("running_tasks") > 0.5);
    assert!(number("tasks_total") > 0.5);
    assert!(number("micro_vms_total") > 0.5);
}

/// Applies every example, and looks at what each is for.
fn examples(cluster: &Cluster) {
    let space = cluster.space("examples").unwrap();
    let artifact = |name: &str, make: fn() -> anyhow::Result<std::path::PathBuf>| {
        let file = format!("{name}.wasm");
        let image =
            cluster.image(&format!("example-{name}"), || oci::wkg(&file, &std::fs::read(make()?)?));
        (name.to_owned(), image.unwrap())
    };
    let images = [
        artifact("hello", || programs::program("hello")),
        artifact("http", || programs::handler("bare")),
        artifact("allocate", || programs::program("allocate.rs_p2")),
        artifact("udp-echo", || programs::program("udp_echo.rs_p2")),
        artifact("print-file", || programs::program("print_file.rs_p2")),
        ("busybox".to_owned(), cluster.busybox().unwrap()),
    ];
    let mut applied = 0;
    for entry in std::fs::read_dir(workspace().join("manifests/examples")).unwrap() {
        let mut text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (name, image) in &images {
            text = text.replace(&format!("{EXAMPLES}{name}:1"), image);
        }
        assert!(!text.contains(EXAMPLES), "an image that nobody has: {text}");
        let mut apply = space.command(&["apply", "--filename", "-"]);
        process::run_with_input(&mut apply, text.as_bytes()).unwrap().success().unwrap();
        applied += 1;
    }
    assert_eq!(applied, 7, "each example is looked at below");

    let complete = |it: &Value| it["status"]["succeeded"] == 1;
    space.wait("jobs/hello", "to complete", complete).unwrap();
    assert_eq!(space.text(&["logs", "job/hello"]).unwrap(), "hello, world\n");
    for (deployment, replicas) in [("http", 2), ("udp-echo", 1)] {
        let ready = |it: &Value| it["status"]["readyReplicas"] == replicas;
        space.wait(&format!("deployments/{deployment}"), "to be ready", ready).unwrap();
    }
    space.ready("isolation").unwrap();
    space.ready("sidecar").unwrap();
    let said = || space.text(&["logs", "sidecar", "-c", "watch"]).unwrap();
    wait_until("the sidecar to have an answer", HANG_LIMIT, || said().contains("answered"))
        .unwrap();
    assert_ne!(ending(&space.ended("memory-limit").unwrap(), "allocate").0, 0);
    space.ended("volumes").unwrap();
    for (container, told) in
        [("print-shared", "hello from a ConfigMap\n"), ("print-secret", "hello from a Secret\n")]
    {
        assert_eq!(space.text(&["logs", "volumes", "-c", container]).unwrap(), told);
    }
}
