//! Pods that are stopped and removed, twice, or many at once.

use std::sync::Mutex;

use integration::cri::{Sandbox, container};
use integration::process::{HANG_LIMIT, wait_until};
use integration::random::number;
use integration::{Cri, Sandboxer, require_kvm};
use serde_json::json;

use super::{pull, remove, sandboxer, start, wait_for_line};

/// How many pods are there at once.
const PODS: usize = 100;

/// How many clients make and remove them, unless `HYPERLIGHT_TEST_CLIENTS` says it. A hundred take 15 s on two CPUs; on
/// Linux 6.18 every second run takes minutes, one of runc's pods too: threads that yield in a loop, as Go's do, keep the
/// kernel's own threads from running, and with them its grace periods and writes to the disk.
const CLIENTS: u64 = 20;

fn serve(cri: &Cri, reference: &str, name: &str) -> (Sandbox, String) {
    let sandbox = cri.run_pod(&cri.pod(name)).unwrap();
    let arguments = ["server", "0.0.0.0:9000"];
    let id = cri.run(&sandbox, &container("server", reference, &arguments)).unwrap();
    wait_for_line(cri, &sandbox, "server", "listening on 0.0.0.0:9000");
    (sandbox, id)
}

#[test]
fn a_container_that_is_stopped_ends_and_is_removed() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "tcp_server.rs_p2");
    let (sandbox, id) = serve(&cri, &reference, "stopped");
    cri.stop_container(&id, &["--timeout", "30"]).unwrap();
    let status = cri.status(&id).unwrap();
    assert_eq!(status["state"], "CONTAINER_EXITED", "{status:#}");
    // Ended by SIGTERM, as a Linux program without a handler is, and not by the SIGKILL that would follow.
    assert_eq!(status["exitCode"], 143, "{status:#}");
    // Again is as good.
    cri.stop_container(&id, &[]).unwrap();
    cri.text(&["rm", &id]).unwrap();
    assert_eq!(cri.json(&["ps", "--all"]).unwrap()["containers"], json!([]));
    remove(&cri, &sandbox);
}

#[test]
fn a_pod_is_stopped_and_removed_twice() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "tcp_server.rs_p2");
    let (sandbox, _) = serve(&cri, &reference, "twice");
    for _ in 0..2 {
        cri.stop_pod(&sandbox).unwrap();
        assert_eq!(cri.pod_status(&sandbox).unwrap()["state"], "SANDBOX_NOTREADY");
    }
    // A pod that is stopped has no process, but for its shim where containerd asks that for its status.
    let shims = if sandboxer() == Sandboxer::Shim { 1 } else { 0 };
    let are_gone = || cri.node().processes().len() == shims;
    wait_until("the pod's processes to be gone", HANG_LIMIT, are_gone).unwrap();
    cri.remove_pod(&sandbox).unwrap();
    // The client asks for the status first, which there is no longer.
    let again = cri.crictl(&["rmp", &sandbox.id]).unwrap();
    assert!(again.stderr.contains("not found"), "{again:?}");
}

#[test]
fn a_pod_that_runs_is_removed_by_force() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "tcp_server.rs_p2");
    let (sandbox, _) = serve(&cri, &reference, "forced");
    cri.text(&["rmp", "--force", &sandbox.id]).unwrap();
    cri.remove_cgroup(&sandbox).unwrap();
}

#[test]
fn many_pods_come_and_go_at_once() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "tcp_server.rs_p2");
    let (cri, reference) = (&cri, &reference);
    let pods = at_once(0..PODS, |pod| serve(cri, reference, &format!("pod-{pod}")).0);
    assert_eq!(cri.node().shims().len(), PODS, "a shim for each pod");
    let ready = cri.json(&["pods", "--state", "ready"]).unwrap();
    assert_eq!(ready["items"].as_array().unwrap().len(), PODS);
    at_once(pods, |pod| remove(cri, &pod));
    assert_eq!(cri.json(&["pods"]).unwrap()["items"], json!([]));
    assert_eq!(cri.json(&["ps", "--all"]).unwrap()["containers"], json!([]));
}

/// Has the clients do `work` on each of `all`, whichever is free the next.
fn at_once<T: Send, R: Send>(
    all: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let clients = number("HYPERLIGHT_TEST_CLIENTS").unwrap_or(CLIENTS);
    let (rest, done) = (Mutex::new(all.into_iter().collect::<Vec<_>>()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while let Some(one) = { rest.lock().unwrap().pop() } {
                    let result = work(one);
                    done.lock().unwrap().push(result);
                }
            });
        }
    });
    done.into_inner().unwrap()
}
