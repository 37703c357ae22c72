//! containerd or a shim that is killed under running pods.

use integration::cri::container;
use integration::process::{HANG_LIMIT, wait_until};
use integration::{Cri, require_kvm};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{address, ask, pull, remove, script, wait_for_line};

#[test]
fn pods_outlive_a_containerd_that_is_killed() {
    require_kvm!();
    let mut cri = Cri::start().unwrap();
    let (server, busybox) = (pull(&cri, "tcp_server.rs_p2"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("living")).unwrap();
    let arguments = ["server", "0.0.0.0:9000"];
    let serving = cri.run(&sandbox, &container("server", &server, &arguments)).unwrap();
    // Says what comes to it.
    let sidecar = "while true; do nc -l -p 9001; done";
    let sidecar = cri.run(&sandbox, &script("sidecar", &busybox, sidecar)).unwrap();
    wait_for_line(&cri, &sandbox, "server", "listening on 0.0.0.0:9000");
    let (at, shims) = (address(&cri, &sandbox, 9000), cri.node().shims());
    assert_eq!(shims.len(), 1);

    cri.restart_containerd().unwrap();

    assert_eq!(cri.node().shims(), shims);
    assert_eq!(cri.pod_status(&sandbox).unwrap()["state"], "SANDBOX_READY");
    for id in [&serving, &sidecar] {
        assert_eq!(cri.status(id).unwrap()["state"], "CONTAINER_RUNNING");
    }
    assert_eq!(ask(at, "still there"), "0 still there\n");
    // What it says goes to the log again.
    let client = "until echo said afterwards | nc 127.0.0.1 9001; do sleep 0.1; done";
    let client = cri.run(&sandbox, &script("client", &busybox, client)).unwrap();
    wait_for_line(&cri, &sandbox, "sidecar", "said afterwards");
    cri.text(&["stop", &client]).unwrap();
    cri.text(&["stop", "--timeout", "30", &serving]).unwrap();
    assert_eq!(cri.status(&serving).unwrap()["exitCode"], 143);
    remove(&cri, &sandbox);
}

#[test]
fn a_pod_whose_shim_is_killed_is_not_ready_and_can_be_removed() {
    require_kvm!();
    let cri = Cri::start().unwrap();
    let (server, busybox) = (pull(&cri, "tcp_server.rs_p2"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("killed")).unwrap();
    let arguments = ["server", "0.0.0.0:9000"];
    let serving = cri.run(&sandbox, &container("server", &server, &arguments)).unwrap();
    let sidecar = cri.run(&sandbox, &script("sidecar", &busybox, "sleep 1234567")).unwrap();
    wait_for_line(&cri, &sandbox, "server", "listening on 0.0.0.0:9000");

    for shim in cri.node().shims() {
        kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).unwrap();
    }

    // Its wait broke off with the shim: the CRI takes the status for unknown, which is 255.
    for id in [&serving, &sidecar] {
        assert_eq!(cri.wait(id).unwrap()["exitCode"], json!(255));
    }
    wait_until("the pod to be not ready", HANG_LIMIT, || {
        cri.pod_status(&sandbox).is_ok_and(|status| status["state"] == "SANDBOX_NOTREADY")
    })
    .unwrap();
    remove(&cri, &sandbox);
}
