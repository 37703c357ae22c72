//! What a pod's containers share beside its network: its names, and with shareProcessNamespace its processes.

use integration::cri::{POD, container};
use integration::require_kvm;
use serde_json::json;

use super::{lines, pull, remove, script, start, wait_for_line};

#[test]
fn containers_have_the_hostname_of_the_pod_and_the_files_of_its_names() {
    require_kvm!();
    let cri = start();
    let (print, busybox) = (pull(&cri, "print_file.rs_p2"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("named")).unwrap();
    let files =
        [("hostname", "named"), ("hosts", "127.0.0.1"), ("resolv.conf", "nameserver 198.18.0.53")];
    for (file, awaited) in files {
        let path = format!("/etc/{file}");
        let id = cri.run(&sandbox, &container(file, &print, &["print", &path])).unwrap();
        let status = cri.wait(&id).unwrap();
        let printed = lines(&sandbox, file);
        assert_eq!(status["exitCode"], 0, "{printed:?}");
        assert!(printed.iter().any(|line| line.starts_with(awaited)), "{path}: {printed:?}");
    }
    let sidecar = "hostname; cat /etc/hostname; cat /etc/resolv.conf";
    let id = cri.run(&sandbox, &script("sidecar", &busybox, sidecar)).unwrap();
    cri.wait(&id).unwrap();
    let printed = lines(&sandbox, "sidecar");
    let awaited = ["named", "named", "search test.internal", "nameserver 198.18.0.53"];
    assert_eq!(printed, awaited);
    remove(&cri, &sandbox);
}

#[test]
fn containers_share_the_memory_of_their_pod_and_with_no_other() {
    require_kvm!();
    let cri = start();
    let (print, busybox) = (pull(&cri, "print_file.rs_p2"), cri.pull_busybox().unwrap());
    let [sandbox, other] = ["one", "other"].map(|name| cri.run_pod(&cri.pod(name)).unwrap());
    let said = |sandbox, container: serde_json::Value, name| {
        cri.wait(&cri.run(sandbox, &container).unwrap()).unwrap();
        lines(sandbox, name)
    };
    let write =
        "echo shared >/dev/shm/file; grep ' /dev/shm ' /proc/mounts | grep -o 'size=[0-9a-z]*'";
    let written = said(&sandbox, script("write", &busybox, write), "write");
    assert_eq!(written, ["size=65536k"]);

    let component = container("component", &print, &["print", "/dev/shm/file"]);
    assert_eq!(said(&sandbox, component, "component"), ["shared"]);
    let sidecar = script("sidecar", &busybox, "cat /dev/shm/file");
    assert_eq!(said(&sandbox, sidecar, "sidecar"), ["shared"]);
    let elsewhere = script("elsewhere", &busybox, "ls /dev/shm | wc -l");
    assert_eq!(said(&other, elsewhere, "elsewhere"), ["0"]);
    [sandbox, other].iter().for_each(|it| remove(&cri, it));
}

#[test]
fn containers_of_a_pod_with_shared_processes_see_each_other_and_the_holder_waits_for_orphans() {
    require_kvm!();
    let cri = start();
    let (server, busybox) = (pull(&cri, "tcp_server.rs_p2"), cri.pull_busybox().unwrap());
    let mut pod = cri.pod("shared");
    pod.config["linux"]["security_context"]["namespace_options"]["pid"] = json!(POD);
    let sandbox = cri.run_pod(&pod).unwrap();
    cri.run(&sandbox, &container("server", &server, &["server", "127.0.0.1:9000"])).unwrap();
    wait_for_line(&cri, &sandbox, "server", "listening on 127.0.0.1:9000");
    // Its own shell is not the first process; the orphan of another one goes to who is.
    let other = "exec sleep 1234567";
    cri.run(&sandbox, &script("other", &busybox, other)).unwrap();
    let looking = "[ $$ != 1 ] && echo not the first
        until ps | grep -q '[1]234567'; do sleep 0.1; done; echo sees the other
        sh -c 'sleep 0.1 & echo $! >/orphan'; orphan=$(cat /orphan)
        until [ ! -e /proc/$orphan ]; do sleep 0.1; done; echo the orphan is gone
        sleep 1234568";
    cri.run(&sandbox, &script("looking", &busybox, looking)).unwrap();
    for line in ["not the first", "sees the other", "the orphan is gone"] {
        wait_for_line(&cri, &sandbox, "looking", line);
    }
    assert_eq!(cri.node().shims().len(), 1, "one shim for the pod");
    remove(&cri, &sandbox);
}

#[test]
fn containers_of_a_pod_have_processes_of_their_own_by_default() {
    require_kvm!();
    let cri = start();
    let busybox = cri.pull_busybox().unwrap();
    let sandbox = cri.run_pod(&cri.pod("apart")).unwrap();
    let ids = ["left", "right"].map(|name| {
        let alone = "echo $$; set -- /proc/[0-9]*; echo $#";
        cri.run(&sandbox, &script(name, &busybox, alone)).unwrap()
    });
    for (name, id) in ["left", "right"].into_iter().zip(&ids) {
        cri.wait(id).unwrap();
        assert_eq!(lines(&sandbox, name), ["1", "1"]);
    }
    remove(&cri, &sandbox);
}
