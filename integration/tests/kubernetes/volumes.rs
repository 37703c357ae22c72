//! What a pod is given: files and variables.

use integration::kubernetes::{Cluster, linux, pod, wasm};
use integration::process::{HANG_LIMIT, wait_until};
use serde_json::{Value, json};

use crate::{Test, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_change_of_a_config_map_is_seen_in_its_volume,
    a_secret_is_a_file,
    variables_come_from_config_map_secret_and_pod,
    init_containers_of_linux_and_wasm_run_one_after_the_other,
    a_program_finds_the_token_of_its_account,
];

fn with_volume(mut container: Value, name: &str, place: &str) -> Value {
    container["volumeMounts"] = json!([{ "name": name, "mountPath": place }]);
    container
}

fn object(kind: &str, name: &str, data: Value) -> Value {
    // A Secret takes texts as such in a field of another name.
    let field = if kind == "Secret" { "stringData" } else { "data" };
    let mut object = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } });
    object[field] = data;
    object
}

fn a_change_of_a_config_map_is_seen_in_its_volume(cluster: &Cluster) {
    let space = cluster.space("config").unwrap();
    space.create_object(&object("ConfigMap", "config", json!({ "key": "before" }))).unwrap();
    let mut pod = pod("server", &[with_volume(serving(cluster), "config", "/config")]);
    pod["spec"]["volumes"] = json!([{ "name": "config", "configMap": { "name": "config" } }]);
    space.create_object(&pod).unwrap();
    space.ready("server").unwrap();
    let read = || space.text(&["exec", "server", "--", "/bin/print.wasm", "/config/key"]).unwrap();
    assert_eq!(read(), "before");
    let change = json!({ "data": { "key": "after" } });
    space.api().patch(&space.path("configmaps/config"), &change).unwrap();
    wait_until("the change to be seen", HANG_LIMIT, || read() == "after").unwrap();
}

fn a_secret_is_a_file(cluster: &Cluster) {
    let space = cluster.space("secret").unwrap();
    space.create_object(&object("Secret", "secret", json!({ "key": "hidden" }))).unwrap();
    let print = cluster.program("print_file.rs_p2").unwrap();
    let print = with_volume(wasm("print", &print, &["/secret/key"]), "secret", "/secret");
    let mut pod = pod("print", &[print]);
    pod["spec"]["volumes"] = json!([{ "name": "secret", "secret": { "secretName": "secret" } }]);
    space.create_object(&pod).unwrap();
    space.ended("print").unwrap();
    assert_eq!(space.text(&["logs", "print"]).unwrap(), "hidden");
}

fn variables_come_from_config_map_secret_and_pod(cluster: &Cluster) {
    let space = cluster.space("variables").unwrap();
    space.create_object(&object("ConfigMap", "config", json!({ "key": "of a map" }))).unwrap();
    space.create_object(&object("Secret", "secret", json!({ "key": "of a secret" }))).unwrap();
    let print = cluster.program("arguments_and_environment.rs_p2").unwrap();
    let mut print = wasm("print", &print, &["$(MAP)"]);
    let key = |name: &str| json!({ "name": name, "key": "key" });
    print["env"] = json!([
        { "name": "MAP", "valueFrom": { "configMapKeyRef": key("config") } },
        { "name": "SECRET", "valueFrom": { "secretKeyRef": key("secret") } },
        { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
    ]);
    space.create_object(&pod("print", &[print])).unwrap();
    space.ended("print").unwrap();
    let log = space.text(&["logs", "print"]).unwrap();
    for line in [
        "argument of a map",
        "environment MAP=of a map",
        "environment SECRET=of a secret",
        "environment POD=print",
    ] {
        assert!(log.lines().any(|it| it == line), "no {line:?}: {log}");
    }
}

fn init_containers_of_linux_and_wasm_run_one_after_the_other(cluster: &Cluster) {
    let space = cluster.space("init").unwrap();
    let write = linux("write", &cluster.busybox().unwrap(), "echo of Linux >/data/from");
    let copy = wasm("copy", &cluster.program("copy_file.rs_p2").unwrap(), &[]);
    let print = cluster.program("print_file.rs_p2").unwrap();
    let print = wasm("print", &print, &["/data/to"]);
    let [write, copy, print] = [write, copy, print].map(|it| with_volume(it, "data", "/data"));
    let mut pod = pod("three", &[print]);
    pod["spec"]["initContainers"] = json!([write, copy]);
    pod["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
    space.create_object(&pod).unwrap();
    let pod = space.ended("three").unwrap();
    assert_eq!(pod["status"]["phase"], "Succeeded", "{pod:#}");
    assert_eq!(space.text(&["logs", "three"]).unwrap(), "of Linux\n");
}

fn a_program_finds_the_token_of_its_account(cluster: &Cluster) {
    let space = cluster.space("token").unwrap();
    let print = cluster.program("print_file.rs_p2").unwrap();
    let file = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    space.create_object(&pod("print", &[wasm("print", &print, &[file])])).unwrap();
    space.ended("print").unwrap();
    assert_eq!(space.text(&["logs", "print"]).unwrap(), space.name());
}
