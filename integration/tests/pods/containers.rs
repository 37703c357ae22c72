//! One container in a pod: what it prints, how it ends, and what the kubelet is told of it.

use std::fs;

use integration::cri::{HYPERLIGHT, container};
use integration::{oci, programs, require_kvm};
use serde_json::json;

use super::{lines, pull, remove, start};

#[test]
fn a_component_prints_to_the_log_of_its_container_and_is_completed() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "hello");
    let sandbox = cri.run_pod(&cri.pod("one")).unwrap();
    let id = cri.run(&sandbox, &container("hello", &reference, &[])).unwrap();

    let status = cri.wait(&id).unwrap();
    assert_eq!((&status["exitCode"], &status["reason"]), (&json!(0), &json!("Completed")));
    // "2026-01-01T00:00:00.000000000Z stdout F hello, world": F for a full line.
    let log = fs::read_to_string(sandbox.logs.join("hello.log")).unwrap();
    let words: Vec<_> = log.trim_end().splitn(4, ' ').collect();
    assert_eq!(words[1..], ["stdout", "F", "hello, world"], "{log}");
    assert_eq!(cri.text(&["logs", &id]).unwrap(), "hello, world\n");
    let pods = cri.json(&["pods"]).unwrap();
    assert_eq!(pods["items"][0]["state"], "SANDBOX_READY", "{pods:#}");
    assert_eq!(pods["items"][0]["runtimeHandler"], HYPERLIGHT, "{pods:#}");
    remove(&cri, &sandbox);
}

#[test]
fn an_artifact_of_wkg_runs_in_a_pod_that_names_a_command() {
    require_kvm!();
    let cri = start();
    let wasm = fs::read(programs::program("hello").unwrap()).unwrap();
    let reference = cri.pull("artifact", &oci::wkg("hello.wasm", &wasm).unwrap()).unwrap();
    let sandbox = cri.run_pod(&cri.pod("artifact")).unwrap();
    let id = cri.run(&sandbox, &container("hello", &reference, &["/hello.wasm"])).unwrap();
    assert_eq!(cri.wait(&id).unwrap()["exitCode"], 0);
    assert_eq!(lines(&sandbox, "hello"), ["hello, world"]);
    remove(&cri, &sandbox);
}

#[test]
fn a_component_that_fails_is_reported_with_its_exit_code() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "exit_with_code");
    let sandbox = cri.run_pod(&cri.pod("failing")).unwrap();
    let id = cri.run(&sandbox, &container("failing", &reference, &["exit", "42"])).unwrap();
    let status = cri.wait(&id).unwrap();
    assert_eq!((&status["exitCode"], &status["reason"]), (&json!(42), &json!("Error")));
    remove(&cri, &sandbox);
}

#[test]
fn a_container_that_fails_is_made_again_in_its_pod() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "exit_with_code");
    let sandbox = cri.run_pod(&cri.pod("again")).unwrap();
    for attempt in 0..3 {
        let mut config = container("failing", &reference, &["exit", "1"]);
        config["metadata"]["attempt"] = json!(attempt);
        let id = cri.run(&sandbox, &config).unwrap();
        assert_eq!(cri.wait(&id).unwrap()["exitCode"], 1);
        cri.text(&["rm", &id]).unwrap();
        assert_eq!(cri.node().shims().len(), 1, "one shim for the pod");
    }
    remove(&cri, &sandbox);
}

#[test]
fn a_component_beyond_the_memory_limit_of_its_pod_is_reported_as_oom_killed() {
    require_kvm!();
    let cri = start();
    let reference = pull(&cri, "allocate.rs_p2");
    let sandbox = cri.run_pod(&cri.pod("hungry")).unwrap();
    // Without a limit of its own a container has a micro-VM of the usual size, which the pod's limit ends.
    cri.limit_memory(&sandbox, 64 << 20).unwrap();
    let config = container("hungry", &reference, &["allocate", "200"]);
    let id = cri.run(&sandbox, &config).unwrap();
    let status = cri.wait(&id).unwrap();
    assert_eq!((&status["exitCode"], &status["reason"]), (&json!(137), &json!("OOMKilled")));
    remove(&cri, &sandbox);
}

#[test]
fn a_command_runs_in_a_container_that_runs() {
    require_kvm!();
    let cri = start();
    // Both programs are in the image, as for a probe.
    let (server, probe) = (programs::program("tcp_server.rs_p2"), programs::program("hello"));
    let (server, probe) = (fs::read(server.unwrap()).unwrap(), fs::read(probe.unwrap()).unwrap());
    let files = [("server.wasm", server.as_slice()), ("probe.wasm", probe.as_slice())];
    let reference = cri.pull("probed", &oci::rootfs(&files, "/server.wasm").unwrap()).unwrap();
    let sandbox = cri.run_pod(&cri.pod("probed")).unwrap();
    let config = container("server", &reference, &["/server.wasm", "127.0.0.1:9000"]);
    let id = cri.run(&sandbox, &config).unwrap();
    for options in [&["exec", "--sync"][..], &["exec"]] {
        let probed = cri.text(&[options, &[&id, "/probe.wasm"]].concat()).unwrap();
        // crictl ends what it got by a line of its own.
        assert_eq!(probed.trim_end(), "hello, world");
    }
    let nothing = cri.crictl(&["exec", "--sync", &id, "/bin/sh"]).unwrap();
    assert!(nothing.code() != 0 && nothing.stderr.contains("/bin/sh"), "{nothing:?}");
    remove(&cri, &sandbox);
}
