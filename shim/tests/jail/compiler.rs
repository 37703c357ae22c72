//! The compiler's process, from outside.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shim::digest::Digest;

use super::HANG;

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
        .args(["__compile", shim::compile::BUILD, digest.hex(), "any", "none"])
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
