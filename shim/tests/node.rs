//! What is known of a node, by the programs themselves: `hyperlight node install --stay`, which finds no containerd and
//! changes nothing, and a shim that ends.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use containerd_shim_protos::shim::shim::ShutdownRequest;
use containerd_shim_protos::shim_sync::TaskClient;
use containerd_shim_protos::ttrpc;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

/// After which a test has hung.
const HANG_LIMIT: Duration = Duration::from_secs(120);

/// The installer with its metrics on a port of this machine.
struct Installer {
    process: Child,
    port: u16,
}

impl Installer {
    /// Starts one that installs below `prefix` by a containerd that is not there.
    fn start(prefix: &Path) -> Self {
        // Another may take the port before the installer does, which then ends.
        for _ in 0..10 {
            let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
            let process = Command::new(env!("CARGO_BIN_EXE_hyperlight"))
                .args(["node", "install", "--stay", "--containerd", "/nonexistent/containerd"])
                .args(["--containerd-socket", "/nonexistent/containerd.sock"])
                .args(["--metrics-port", &port.to_string(), "--prefix"])
                .arg(prefix)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let mut installer = Self { process, port };
            let since = Instant::now();
            while installer.process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return installer;
                }
                assert!(since.elapsed() < HANG_LIMIT, "it does not listen");
                sleep(Duration::from_millis(20));
            }
        }
        panic!("it ends at once");
    }

    fn metrics(&self) -> String {
        let mut client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        client.set_read_timeout(Some(HANG_LIMIT)).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Installer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_node_that_cannot_be_ready_says_so_in_its_metrics_and_leaves_by_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("prefix");
    let mut installer = Installer::start(&prefix);

    let since = Instant::now();
    let metrics = loop {
        let metrics = installer.metrics();
        if metrics.contains("\nhyperlight_node_last_look_timestamp_seconds ") {
            break metrics;
        }
        assert!(since.elapsed() < HANG_LIMIT, "{metrics}");
        sleep(Duration::from_millis(20));
    };
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("\nhyperlight_node_ready 0\n"), "{metrics}");
    for unknown in ["hyperlight_node_trial_duration_seconds", "hyperlight_running"] {
        assert!(!metrics.contains(unknown), "{unknown}: {metrics}");
    }

    kill_process(Pid::from_child(&installer.process), Signal::TERM).unwrap();
    assert!(installer.process.wait().unwrap().success());
    assert!(!prefix.exists());
}

#[test]
fn a_shim_adds_its_sums_to_those_of_the_node_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log"), "").unwrap();
    // The machine's own sums are not for tests.
    let script = "set -e; mount -t tmpfs none /run/lock; \
        \"$0\" -namespace test -id a -address \"$PWD/containerd.sock\" -socket \"unix://$PWD/shim.sock\"; \
        cat /run/lock/hyperlight/totals";
    let shim = Command::new("unshare")
        .args(["--mount", "bash", "-c", script])
        .arg(env!("CARGO_BIN_EXE_containerd-shim-hyperlight-v1"))
        .current_dir(dir.path())
        .env("TTRPC_ADDRESS", dir.path().join("containerd.sock.ttrpc"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let address = format!("unix://{}", dir.path().join("shim.sock").display());
    let since = Instant::now();
    let client = loop {
        match ttrpc::Client::connect(&address) {
            Ok(client) => break client,
            Err(error) => assert!(since.elapsed() < HANG_LIMIT, "{error}"),
        }
        sleep(Duration::from_millis(20));
    };
    let shutdown = ShutdownRequest { id: "a".to_owned(), ..Default::default() };
    TaskClient::new(client).shutdown(ttrpc::context::with_timeout(0), &shutdown).unwrap();

    let ended = shim.wait_with_output().unwrap();
    let sums: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&sums["tasks"], &sums["counts"]["micro_vms"]), (&0.into(), &0.into()));
}

#[test]
fn a_shim_whose_log_nobody_reads_ends() {
    let dir = tempfile::tempdir().unwrap();
    mknodat(CWD, dir.path().join("log"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket = dir.path().join("shim.sock");

    // As one whose start action was killed.
    let ended = Command::new(env!("CARGO_BIN_EXE_containerd-shim-hyperlight-v1"))
        .args(["-namespace", "test", "-id", "a", "-socket"])
        .arg(format!("unix://{}", socket.display()))
        .current_dir(dir.path())
        .env("TTRPC_ADDRESS", dir.path().join("containerd.sock.ttrpc"))
        .output()
        .unwrap();

    assert!(!ended.status.success(), "{ended:?}");
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(told.contains("nobody reads the log in the bundle"), "{told}");
    assert!(!socket.exists());
}
