//! The tests of pods where containerd leaves their making to the shim (`sandboxer = "shim"`), by the Sandbox API: all
//! of them, as nothing may be different to whoever uses pods; and a client of that API that knows nothing of the CRI.

use std::process::Command;

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::tools;

#[path = "pods/main.rs"]
mod pods;

#[test]
fn a_client_without_the_cri_makes_a_pod_by_a_specification() {
    integration::require_kvm!();
    let cri = pods::start();
    let node = cri.node();
    // An older client asks nobody by name to start it.
    let program = tools::tree("containerd-new").unwrap().file(&["ctr"]).unwrap();
    let ctr = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--address").arg(node.socket()).args(["--namespace", node.namespace()]);
        let outcome = process::run(command.args(arguments)).unwrap();
        outcome.success().unwrap_or_else(|error| panic!("{error:#}\n{}", node.log()))
    };
    let file = node.directory().join("pod.json");
    let kinds = ["uts", "ipc", "network", "pid"].map(|kind| serde_json::json!({ "type": kind }));
    let spec = serde_json::json!({
        "ociVersion": "1.2.0",
        "hostname": "by-ctr",
        "linux": { "cgroupsPath": format!("/{}/by-ctr", node.name()), "namespaces": kinds },
    });
    std::fs::write(&file, spec.to_string()).unwrap();
    let file = file.display().to_string();

    ctr(&["sandboxes", "run", "--runtime", integration::RUNTIME, &file, "by-ctr"]);

    assert!(ctr(&["sandboxes", "list"]).contains("by-ctr"));
    assert_eq!(node.shims().len(), 1);
    ctr(&["sandboxes", "remove", "by-ctr"]);
    let is_gone = || node.processes().is_empty();
    wait_until("the pod's processes to be gone", HANG_LIMIT, is_gone).unwrap();
}
