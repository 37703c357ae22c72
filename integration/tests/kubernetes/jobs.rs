//! Jobs: work that is done once.

use integration::kubernetes::{Cluster, pod, wasm};
use serde_json::{Value, json};

use crate::{Test, tests};

pub(crate) const TESTS: &[Test] =
    &tests![a_job_completes, a_job_of_several_pods_completes, a_job_that_fails_is_failed];

fn job(name: &str, container: Value, spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": spec,
    });
    job["spec"]["template"]["spec"] = pod(name, &[container])["spec"].take();
    job
}

fn has(condition: &'static str) -> impl Fn(&Value) -> bool {
    move |job| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|it| it["type"] == condition && it["status"] == "True")
    }
}

fn a_job_completes(cluster: &Cluster) {
    let space = cluster.space("job").unwrap();
    let hello = cluster.program("hello").unwrap();
    space.create_object(&job("hello", wasm("hello", &hello, &[]), json!({}))).unwrap();
    space.wait("jobs/hello", "to complete", has("Complete")).unwrap();
    assert_eq!(space.text(&["logs", "job/hello"]).unwrap(), "hello, world\n");
}

fn a_job_of_several_pods_completes(cluster: &Cluster) {
    let space = cluster.space("jobs").unwrap();
    let hello = cluster.program("hello").unwrap();
    let spec = json!({ "completions": 6, "parallelism": 3 });
    space.create_object(&job("hello", wasm("hello", &hello, &[]), spec)).unwrap();
    let job = space.wait("jobs/hello", "to complete", has("Complete")).unwrap();
    assert_eq!(job["status"]["succeeded"], 6, "{job:#}");
}

fn a_job_that_fails_is_failed(cluster: &Cluster) {
    let space = cluster.space("failed").unwrap();
    let exit = cluster.program("exit_with_code").unwrap();
    let spec = json!({ "backoffLimit": 1 });
    space.create_object(&job("exit", wasm("exit", &exit, &["3"]), spec)).unwrap();
    let job = space.wait("jobs/exit", "to fail", has("Failed")).unwrap();
    assert_eq!(job["status"]["failed"], 2, "{job:#}");
    let conditions = job["status"]["conditions"].to_string();
    assert!(conditions.contains("BackoffLimitExceeded"), "{conditions}");
}
