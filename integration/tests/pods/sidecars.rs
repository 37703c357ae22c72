//! Linux containers beside wasm containers in one pod: they share its network and volumes, and one shim.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use integration::cri::container;
use integration::require_kvm;

use super::{lines, pull, remove, script, start, volume, wait_for_line, with_volume};

#[test]
fn a_linux_sidecar_and_a_component_speak_over_localhost() {
    require_kvm!();
    let cri = start();
    let (server, busybox) = (pull(&cri, "tcp_server.rs_p2"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("speaking")).unwrap();
    let arguments = ["server", "127.0.0.1:9000"];
    cri.run(&sandbox, &container("server", &server, &arguments)).unwrap();
    wait_for_line(&cri, &sandbox, "server", "listening on 127.0.0.1:9000");

    let client = "echo from Linux | nc 127.0.0.1 9000";
    let client = cri.run(&sandbox, &script("client", &busybox, client)).unwrap();
    wait_for_line(&cri, &sandbox, "client", "0 from Linux");
    assert_eq!(cri.node().shims().len(), 1, "one shim for the pod");
    cri.stop_container(&client, &[]).unwrap();
    remove(&cri, &sandbox);
}

#[test]
fn a_component_reaches_a_server_of_a_linux_sidecar() {
    require_kvm!();
    let cri = start();
    let (client, busybox) = (pull(&cri, "tcp_client.rs_p2"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("reaching")).unwrap();
    let server = "nc -l -p 9000 -e echo from Linux &
        until netstat -ltn | grep -q :9000; do sleep 0.1; done; echo ready; wait";
    cri.run(&sandbox, &script("server", &busybox, server)).unwrap();
    wait_for_line(&cri, &sandbox, "server", "ready");
    let id = cri.run(&sandbox, &container("client", &client, &["client", "127.0.0.1:9000"]));
    cri.wait(&id.unwrap()).unwrap();
    assert_eq!(lines(&sandbox, "client"), ["from Linux"]);
    remove(&cri, &sandbox);
}

#[test]
fn a_linux_sidecar_and_a_component_share_a_volume() {
    require_kvm!();
    let cri = start();
    let (copy, busybox) = (pull(&cri, "copy_file.rs_p2"), cri.pull_busybox().unwrap());
    let volume = volume(&cri);
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let sandbox = cri.run_pod(&cri.pod("sharing")).unwrap();
    let sidecar = "echo a line of Linux >/shared/from; echo written
        until [ -s /shared/to ]; do sleep 0.1; done; cat /shared/to";
    let sidecar = with_volume(script("sidecar", &busybox, sidecar), &volume, "/shared");
    cri.run(&sandbox, &sidecar).unwrap();
    wait_for_line(&cri, &sandbox, "sidecar", "written");
    let copy = with_volume(container("copy", &copy, &[]), &volume, "/data");
    let copy = cri.run(&sandbox, &copy).unwrap();
    assert_eq!(cri.wait(&copy).unwrap()["exitCode"], 0, "{:?}", lines(&sandbox, "copy"));
    wait_for_line(&cri, &sandbox, "sidecar", "a line of Linux");
    remove(&cri, &sandbox);
}

#[test]
fn init_containers_end_before_the_next_begins() {
    require_kvm!();
    let cri = start();
    let (copy, print) = (pull(&cri, "copy_file.rs_p2"), pull(&cri, "print_file.rs_p2"));
    let busybox = cri.pull_busybox().unwrap();
    let volume = volume(&cri);
    let sandbox = cri.run_pod(&cri.pod("initialised")).unwrap();
    let steps = [
        script("first", &busybox, "echo from the first >/data/from"),
        container("second", &copy, &[]),
        container("main", &print, &["print", "/data/to"]),
    ];
    for step in steps {
        let id = cri.run(&sandbox, &with_volume(step, &volume, "/data")).unwrap();
        // Its end is reported before the next is made, which finds what it has written.
        let status = cri.wait(&id).unwrap();
        assert_eq!(status["exitCode"], 0, "{status:#}");
        assert_eq!(cri.node().shims().len(), 1, "one shim for the pod");
    }
    assert_eq!(lines(&sandbox, "main"), ["from the first"]);
    remove(&cri, &sandbox);
}
