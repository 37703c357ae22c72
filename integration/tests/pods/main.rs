//! Pods, as the kubelet has them made: a real containerd with its CRI and CNI, and `crictl` as the client.
//!
//! Every test has a node of its own, and dropping it asserts that no process, mount, cgroup, network
//! namespace, interface, address or file is left.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod containers;
mod faults;
mod lifecycle;
mod lives;
mod namespaces;
mod network;
mod sidecars;
mod stats;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use integration::cri::{self, Sandbox};
use integration::process::{HANG_LIMIT, wait_until};
use integration::{Cri, Sandboxer, programs};
use serde_json::Value;

/// A node whose pods containerd makes; or the shim, by the Sandbox API, of the same tests in
/// `tests/pods_by_shim.rs`.
pub(crate) fn start() -> Cri {
    Cri::start_with(sandboxer()).unwrap()
}

fn sandboxer() -> Sandboxer {
    match env!("CARGO_CRATE_NAME") {
        "pods_by_shim" => Sandboxer::Shim,
        _ => Sandboxer::Podsandbox,
    }
}

/// The reference of a test program, pulled.
fn pull(cri: &Cri, name: &str) -> String {
    cri.pull_wasm(name.split('.').next().unwrap(), &programs::program(name).unwrap()).unwrap()
}

/// A Linux container that runs a script of busybox's shell.
fn script(name: &str, busybox: &str, script: &str) -> Value {
    cri::container(name, busybox, &["/bin/busybox", "sh", "-c", script])
}

/// With a directory of this machine, as the kubelet mounts a volume.
fn with_volume(mut container: Value, host: &Path, place: &str) -> Value {
    container["mounts"] =
        serde_json::json!([{ "host_path": host, "container_path": place, "readonly": false }]);
    container
}

/// An empty directory below the node's, like that of an `emptyDir`.
fn volume(cri: &Cri) -> std::path::PathBuf {
    let directory = cri.node().directory().join("volume");
    fs::create_dir(&directory).unwrap();
    directory
}

/// The texts of a container's log: its lines without time, stream and tag, as the CRI writes each
/// (<https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>).
fn lines(sandbox: &Sandbox, container: &str) -> Vec<String> {
    let log = fs::read_to_string(sandbox.logs.join(format!("{container}.log"))).unwrap_or_default();
    log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
}

/// Waits until a container has said a line.
fn wait_for_line(cri: &Cri, sandbox: &Sandbox, container: &str, line: &str) {
    wait_until(&format!("{container} to say {line:?}"), HANG_LIMIT, || {
        lines(sandbox, container).iter().any(|it| it == line)
    })
    .unwrap_or_else(|error| {
        panic!("{error:#}: {:?}\n{}", lines(sandbox, container), cri.node().log())
    });
}

/// What the server `tcp_server` answers to a line.
fn ask(address: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(60)).unwrap();
    stream.set_read_timeout(Some(HANG_LIMIT)).unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

/// The address of a pod.
fn address(cri: &Cri, sandbox: &Sandbox, port: u16) -> SocketAddr {
    let status = cri.pod_status(sandbox).unwrap();
    let address = status["network"]["ip"].as_str().unwrap();
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Stops and removes a pod.
fn remove(cri: &Cri, sandbox: &Sandbox) {
    cri.stop_pod(sandbox).unwrap();
    cri.remove_pod(sandbox).unwrap();
}
