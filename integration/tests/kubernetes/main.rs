//! Pods on a real Kubernetes, by `kubectl` and the API: what users of a cluster see of this runtime.
//!
//! All tests share one cluster, each in a namespace of its own. Those that change the node run after the others,
//! one at a time. The last takes the cluster down, and asserts that no process, mount, cgroup, network
//! namespace, interface, address or file is left.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod exec;
mod exits;
mod install;
mod jobs;
mod logs;
mod node;
mod probes;
mod refusals;
mod resources;
mod runc;
mod services;
mod updates;
mod volumes;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use integration::kubernetes::Cluster;
use integration::{oci, programs};
use libtest_mimic::{Arguments, Conclusion, Trial};
use serde_json::{Value, json};

/// A test's name and what it does.
type Test = (&'static str, fn(&Cluster));

/// How many tests run at once, unless `--test-threads` says how many: they mostly wait.
const THREADS: usize = 6;

/// Functions of a module as tests, by their paths.
macro_rules! tests {
    ($($test:path),* $(,)?) => {
        [$((concat!(module_path!(), "::", stringify!($test)), $test as fn(&Cluster))),*]
    };
}
use tests;

/// The cluster, until it is taken down.
type Shared = Arc<Mutex<Option<Arc<Cluster>>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let shared = [
        exec::TESTS,
        exits::TESTS,
        jobs::TESTS,
        logs::TESTS,
        probes::TESTS,
        refusals::TESTS,
        resources::TESTS,
        runc::TESTS,
        services::TESTS,
        updates::TESTS,
        volumes::TESTS,
    ]
    .concat();
    let slot = Shared::default();
    let alone = [node::TESTS, install::TESTS].concat();
    let all = trials(&[&shared[..], &alone].concat(), &slot);
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let some = all.iter().any(|it| it.name().contains(filter));
    if arguments.list || !some || !is_kvm_there() {
        let all = all.into_iter().map(|it| it.with_ignored_flag(some));
        return libtest_mimic::run(&arguments, all.collect()).exit_code();
    }
    *slot.lock().unwrap() = Some(Arc::new(Cluster::start().unwrap()));
    arguments.test_threads.get_or_insert(THREADS);
    let shared = libtest_mimic::run(&arguments, trials(&shared, &slot));
    arguments.test_threads = Some(1);
    let alone = libtest_mimic::run(&arguments, trials(&alone, &slot));
    // Whatever was selected, the end is looked at.
    arguments.filter = None;
    arguments.skip.clear();
    let end = Trial::test("nothing_is_left_of_pods_and_cluster", move || {
        let cluster = slot.lock().unwrap().take().unwrap();
        Arc::into_inner(cluster).unwrap().stop().map_err(|left| format!("{left:#}").into())
    });
    let end = libtest_mimic::run(&arguments, vec![end]);
    let failed = [shared, alone, end].iter().any(Conclusion::has_failed);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether there can be micro-VMs; where there cannot, every test is ignored.
fn is_kvm_there() -> bool {
    let there = Path::new("/dev/kvm").exists();
    assert!(there || std::env::var_os("REQUIRE_KVM").is_none_or(|it| it != "1"), "no /dev/kvm");
    there
}

fn trials(tests: &[Test], shared: &Shared) -> Vec<Trial> {
    let trial = |&(name, test): &Test| {
        let shared = Arc::clone(shared);
        // As libtest names them: without the crate.
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        Trial::test(name, move || {
            let cluster = shared.lock().unwrap().clone().unwrap();
            // A thread of that name, as libtest has it: a failure tells which test it is of.
            std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().name(name.to_owned());
                let thread = thread.spawn_scoped(scope, || test(&cluster)).unwrap();
                thread.join().map_err(|_| "its thread says why".into())
            })
        })
    };
    tests.iter().map(trial).collect()
}

/// A server of lines on port 9000, with commands for execs below /bin: `args.wasm`, `cat.wasm`,
/// `exit.wasm` and `print.wasm`.
fn server(cluster: &Cluster) -> String {
    let files = [
        ("app.wasm", "tcp_server.rs_p2"),
        ("bin/args.wasm", "arguments_and_environment.rs_p2"),
        ("bin/cat.wasm", "cat.rs_p1"),
        ("bin/exit.wasm", "exit_with_code"),
        ("bin/print.wasm", "print_file.rs_p1"),
    ];
    let image = cluster.image("server", || {
        let read = |name| Ok(std::fs::read(programs::program(name)?)?);
        let contents = files.map(|(_, name)| read(name)).into_iter();
        let contents = contents.collect::<Result<Vec<_>, anyhow::Error>>()?;
        let files = files.iter().zip(&contents).map(|(&(place, _), it)| (place, it.as_slice()));
        oci::rootfs(&files.collect::<Vec<_>>(), "/app.wasm")
    });
    image.unwrap()
}

/// A container of [`server`].
fn serving(cluster: &Cluster) -> Value {
    integration::kubernetes::wasm("server", &server(cluster), &["0.0.0.0:9000"])
}

/// A container of the handler of HTTP requests `answers`, on port 8080.
fn answering(cluster: &Cluster) -> Value {
    let image = cluster.image("answers", || {
        oci::runwasi("answers.wasm", &std::fs::read(programs::handler("answers")?)?)
    });
    integration::kubernetes::wasm("answers", &image.unwrap(), &[])
}

/// The status of the container `name` of a pod.
fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let statuses = ["containerStatuses", "initContainerStatuses"].map(|it| &pod["status"][it]);
    let mut all = statuses.into_iter().filter_map(Value::as_array).flatten();
    all.find(|it| it["name"] == name).unwrap_or(&Value::Null)
}

/// How the container `name` of a pod has ended: its exit code and the reason.
fn ending(pod: &Value, name: &str) -> (i64, String) {
    let state = &container(pod, name)["state"]["terminated"];
    (state["exitCode"].as_i64().unwrap(), state["reason"].as_str().unwrap().to_owned())
}

/// A Service `name` for the pods with the label `app: name`.
fn service(name: &str, port: u16, target: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": port, "targetPort": target }] },
    })
}

/// A Deployment `name` of `replicas` pods as `pod`.
fn deployment(name: &str, replicas: u32, mut pod: Value) -> Value {
    pod["spec"].as_object_mut().unwrap().remove("restartPolicy");
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": pod["spec"] },
        },
    })
}
