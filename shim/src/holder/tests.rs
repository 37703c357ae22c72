use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};

use super::*;
use crate::bundle::Namespaces;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn nowhere() -> Cgroup {
    Cgroup::nowhere()
}

fn own_namespaces() -> Namespaces {
    let new = || Some(Namespace::New);
    Namespaces { network: new(), ipc: new(), uts: new(), pid: new() }
}

/// The namespace `kind` of a process, by its inode.
fn namespace(pid: u32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// A line of a process's status, by its name; once it has given its rights up.
fn status(pid: u32, name: &str) -> String {
    for _ in 0..1000 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        if status.starts_with("Name:\thyperlight-pod") && status.contains("Uid:\t65534") {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            return line.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the holder keeps its rights");
}

fn end(runtime: &tokio::runtime::Runtime, mut holder: Holder, signal: Signal) -> Option<i32> {
    pidfd_send_signal(&holder.pidfd, signal).unwrap();
    let limit = Duration::from_secs(60);
    runtime.block_on(async {
        tokio::time::timeout(limit, holder.child.wait()).await.unwrap().unwrap().code()
    })
}

#[test]
fn a_holder_has_the_namespaces_of_its_pod_and_no_rights() {
    let runtime = runtime();
    let pod = Pod {
        namespaces: own_namespaces(),
        host_name: Some("pod-a".to_owned()),
        parameters: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())].into(),
        ..Pod::default()
    };
    let holder = start(&pod, &nowhere(), runtime.handle()).unwrap();
    let ours = std::process::id();
    for kind in ["net", "ipc", "uts", "pid", "mnt"] {
        assert_ne!(namespace(holder.pid, kind), namespace(ours, kind), "{kind}");
        // Whoever asked for it has stayed where it was.
        let of_thread = fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap();
        assert_eq!(of_thread, namespace(ours, kind), "{kind}");
    }
    assert_eq!(status(holder.pid, "NSpid:").split(' ').next_back(), Some("1"));
    assert_eq!(status(holder.pid, "CapEff:"), "0000000000000000");
    assert_eq!(status(holder.pid, "CapPrm:"), "0000000000000000");
    assert_eq!(status(holder.pid, "Groups:"), "");
    assert_eq!(status(holder.pid, "NoNewPrivs:"), "1");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", holder.pid)).unwrap();
    assert_eq!(descriptors.count(), 3);
    assert_eq!(end(&runtime, holder, Signal::TERM), Some(0));
}

#[test]
fn a_holder_costs_a_few_pages() {
    let runtime = runtime();
    let holder = start(
        &Pod { namespaces: own_namespaces(), ..Pod::default() },
        &nowhere(),
        runtime.handle(),
    )
    .unwrap();
    status(holder.pid, "Uid:");
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", holder.pid)).unwrap();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    let kb: u32 = pss.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kb <= 64, "{kb} kB");
    assert_eq!(end(&runtime, holder, Signal::INT), Some(0));
}

#[test]
fn a_holder_stays_in_the_namespaces_that_it_shares_with_the_node() {
    let runtime = runtime();
    let holder = start(&Pod::default(), &nowhere(), runtime.handle()).unwrap();
    for kind in ["net", "ipc", "uts", "pid"] {
        assert_eq!(namespace(holder.pid, kind), namespace(std::process::id(), kind), "{kind}");
    }
    assert_eq!(end(&runtime, holder, Signal::KILL), None);
}

#[test]
fn a_holder_that_is_dropped_ends() {
    let runtime = runtime();
    let holder = start(&Pod::default(), &nowhere(), runtime.handle()).unwrap();
    let proc = format!("/proc/{}", holder.pid);
    drop(holder);
    runtime.block_on(async {
        for _ in 0..1000 {
            if !Path::new(&proc).exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it lives");
    });
}

#[test]
fn parameters_of_the_node_are_refused() {
    let runtime = runtime();
    let all = own_namespaces();
    let shared = Namespaces { network: None, ..own_namespaces() };
    for (namespaces, name) in [
        (&all, "kernel.panic"),
        (&all, "vm.swappiness"),
        (&all, "net/../kernel/panic"),
        (&all, "net.ipv4/.//../kernel.panic"),
        (&all, "net."),
        (&shared, "net.ipv4.ip_unprivileged_port_start"),
    ] {
        let pod = Pod {
            namespaces: namespaces.clone(),
            parameters: [(name.to_owned(), "0".to_owned())].into(),
            ..Pod::default()
        };
        let refused = start(&pod, &nowhere(), runtime.handle()).unwrap_err();
        assert!(matches!(refused, HolderError::NotOfPod(_)), "{name}: {refused}");
    }
}

#[test]
fn a_parameter_that_the_kernel_refuses_is_told() {
    let runtime = runtime();
    let pod = Pod {
        namespaces: own_namespaces(),
        parameters: [("net.ipv4.no_such_parameter".to_owned(), "0".to_owned())].into(),
        ..Pod::default()
    };
    let refused = start(&pod, &nowhere(), runtime.handle()).unwrap_err();
    assert!(matches!(refused, HolderError::Parameter { .. }), "{refused}");
}

#[test]
fn a_namespace_that_is_not_there_is_told() {
    let runtime = runtime();
    let network = Some(Namespace::Join("/nonexistent/netns".into()));
    let pod = Pod { namespaces: Namespaces { network, ..own_namespaces() }, ..Pod::default() };
    let refused = start(&pod, &nowhere(), runtime.handle()).unwrap_err();
    assert!(matches!(refused, HolderError::Enter { kind: "network", .. }), "{refused}");
}
