//! Pods that cannot run: their events say why, and what to do.

use integration::kubernetes::{Cluster, pod, wasm};
use integration::oci;
use serde_json::{Value, json};

use crate::{Test, answering, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_runtime_class_that_the_node_does_not_have_is_told,
    a_file_that_is_broken_is_told,
    a_component_that_needs_what_there_is_not_is_told,
    a_pure_artifact_without_a_command_is_told,
    an_annotation_with_an_unknown_value_is_told,
];

fn a_runtime_class_that_the_node_does_not_have_is_told(cluster: &Cluster) {
    let space = cluster.space("missing").unwrap();
    let class = json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": { "name": space.name() },
        "handler": "not-there",
    });
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    cluster.api().create(classes, &class).unwrap();
    let hello = cluster.program("hello").unwrap();
    let mut pod = pod("hello", &[wasm("hello", &hello, &[])]);
    pod["spec"]["runtimeClassName"] = json!(space.name());
    space.create_object(&pod).unwrap();
    let event = space.event("hello", "not-there").unwrap();
    cluster.api().delete(&format!("{classes}/{}", space.name())).unwrap();
    assert!(event.contains("no runtime for \"not-there\" is configured"), "{event}");
}

fn a_file_that_is_broken_is_told(cluster: &Cluster) {
    let space = cluster.space("broken").unwrap();
    // A component's preamble, and a section longer than the file.
    let broken = b"\0asm\x0d\0\x01\0\x07\x7f";
    let image = cluster.image("broken", || oci::rootfs(&[("app.wasm", broken)], "/app.wasm"));
    space.create_object(&pod("app", &[wasm("app", &image.unwrap(), &[])])).unwrap();
    space.event("app", "compile app.wasm: ").unwrap();
}

fn a_component_that_needs_what_there_is_not_is_told(cluster: &Cluster) {
    let space = cluster.space("import").unwrap();
    let image = cluster.program("unknown_import").unwrap();
    space.create_object(&pod("app", &[wasm("app", &image, &[])])).unwrap();
    space.event("app", "imports `example:telephone/dial@1.0.0`, which is not provided").unwrap();
}

fn a_pure_artifact_without_a_command_is_told(cluster: &Cluster) {
    let space = cluster.space("command").unwrap();
    let artifact = cluster.artifact("hello").unwrap();
    space.create_object(&pod("hello", &[wasm("hello", &artifact, &[])])).unwrap();
    space.event("hello", "no command specified").unwrap();
}

fn an_annotation_with_an_unknown_value_is_told(cluster: &Cluster) {
    let space = cluster.space("annotation").unwrap();
    let mut pod: Value = pod("answers", &[answering(cluster)]);
    pod["metadata"]["annotations"] = json!({ "io.hyperlight.http.isolation": "full" });
    space.create_object(&pod).unwrap();
    let event = space.event("answers", "io.hyperlight.http.isolation").unwrap();
    assert!(event.contains("full") && event.contains("request"), "{event}");
}
