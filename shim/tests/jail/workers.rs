//! The processes that compile and that make snapshots: a compiler from outside; and what a file could do that has
//! taken one over.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc::{self, c_long};
use shim::digest::Digest;

use super::{Ended, HANG, has_kvm, taken_over};

/// `/proc/PID/status` of a compiler once it is locked, while it works.
fn status_of_a_compiler_at_work() -> String {
    // A function that takes a while: many of them.
    let body =
        "(func (param i64) (result i64) local.get 0 i64.const 7 i64.mul local.get 0 i64.add)";
    let wasm = wat::parse_str(format!("(module {})", body.repeat(40_000))).unwrap();
    let digest = Digest::of(&wasm);
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(&wasm).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hyperlight"))
        .args(["__compile", shim::compile::BUILD, digest.hex(), "any", "none", "8589934592", "900"])
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        if status.contains("Seccomp:\t2") {
            break status;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended: {status}");
        assert!(began.elapsed() < HANG, "{status}");
        std::thread::sleep(Duration::from_millis(1));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    status
}

#[test]
fn a_compiler_is_nobody_and_has_the_list_of_system_calls() {
    let status = status_of_a_compiler_at_work();
    let has = |line: &str| assert!(status.contains(line), "{line} in {status}");

    has("NoNewPrivs:\t1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        has(&format!("{set}:\t0000000000000000"));
    }
    if rustix::process::geteuid().is_root() {
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        let own = uid.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
        assert!(own >= 0x7000_0000, "{uid}");
    }
}

#[test]
fn the_shim_has_no_compiler_in_it() {
    let has_compiler = |file: &str| {
        // Where the source of Cranelift's backends panics, its path is in the binary.
        let binary = std::fs::read(file).unwrap();
        binary.windows(24).any(|bytes| bytes.starts_with(b"cranelift-codegen-0."))
    };
    assert!(has_compiler(env!("CARGO_BIN_EXE_hyperlight")));
    assert!(!has_compiler(env!("CARGO_BIN_EXE_containerd-shim-hyperlight-v1")));
}

/// What `shim/examples/taken_over.rs` calls them.
const WORKERS: [&str; 2] = ["compiler", "maker"];

/// What comes of it when a worker that was taken over does this.
fn ends(worker: &str, words: &[&str]) -> Ended {
    let output =
        Command::new(taken_over()).arg(worker).args(words).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    Ended { status: output.status, said }
}

fn kills(worker: &str, call: c_long, arguments: &[&str]) {
    let number = call.to_string();
    let words: Vec<&str> = ["call", &number].into_iter().chain(arguments.iter().copied()).collect();
    ends(worker, &words).killed();
}

fn kills_each(call: c_long, arguments: &[&str]) {
    for worker in workers() {
        kills(worker, call, arguments);
    }
}

/// Those that can be had here: one that makes snapshots needs KVM, and a test without it is told as skipped.
fn workers() -> impl Iterator<Item = &'static str> {
    let has_kvm = has_kvm();
    WORKERS.into_iter().filter(move |worker| *worker != "maker" || has_kvm)
}

#[test]
fn a_worker_that_does_nothing_forbidden_ends_well() {
    for worker in workers() {
        ends(worker, &["nothing"]).said("done");
    }
}

#[test]
fn a_worker_opens_no_file() {
    for worker in workers() {
        for words in [["read", "/etc/passwd"], ["write", "/tmp/made"], ["list", "/"]] {
            ends(worker, &words).refused("Function not implemented");
        }
    }
    kills_each(libc::SYS_openat2, &["-100", "/etc/passwd", "0", "0"]);
    kills_each(libc::SYS_unlink, &["/nonexistent"]);
    kills_each(libc::SYS_mkdir, &["/tmp/made", "0"]);
}

#[test]
fn a_worker_makes_no_socket() {
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK] {
        let arguments = [&family.to_string(), &libc::SOCK_STREAM.to_string(), "0"];
        kills_each(libc::SYS_socket, &arguments.map(|it| it as &str));
    }
    kills_each(libc::SYS_socketpair, &["1", "1", "0", "0"]);
}

#[test]
fn a_worker_starts_and_signals_no_process() {
    kills_each(libc::SYS_fork, &[]);
    kills_each(libc::SYS_clone, &[&libc::SIGCHLD.to_string()]);
    kills_each(libc::SYS_execve, &["/bin/true", "0", "0"]);
    let parent = std::process::id().to_string();
    kills_each(libc::SYS_kill, &[&parent, "9"]);
    kills_each(libc::SYS_ptrace, &["16", &parent]);
    kills_each(libc::SYS_process_vm_readv, &[&parent]);
}

#[test]
fn a_worker_makes_no_memory_executable() {
    let exec = (libc::PROT_READ | libc::PROT_EXEC).to_string();
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).to_string();
    kills_each(libc::SYS_mmap, &["0", "4096", &exec, &flags, "-1", "0"]);
    kills_each(libc::SYS_mprotect, &["0", "4096", &exec]);
}

#[test]
fn a_worker_mounts_and_controls_nothing() {
    kills_each(libc::SYS_mount, &["none", "/", "tmpfs", "0", "0"]);
    kills_each(libc::SYS_unshare, &[&libc::CLONE_NEWUSER.to_string()]);
    kills_each(libc::SYS_ioctl, &["0", &libc::TIOCSTI.to_string()]);
    kills("compiler", libc::SYS_ioctl, &["0", "44544"]); // KVM_GET_API_VERSION
    kills_each(libc::SYS_setuid, &["0"]);
    kills_each(libc::SYS_prlimit64, &["0", "7", "1", "0"]);
}
