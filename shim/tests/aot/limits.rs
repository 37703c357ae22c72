//! What the node's owner lets compilations take, by the file beside the programs' directory.

use std::fs;
use std::process::{Command, Output};

use shim::settings::FILE;

use super::{HYPERLIGHT, command, stderr};

/// Has the real command compile `wasm` where the node's settings are `settings`, as `hyperlight node install` leaves
/// both; `before` are words of a shell in a mount namespace of its own.
fn compile(settings: &str, wasm: &[u8], before: &str) -> Output {
    let prefix = tempfile::tempdir().unwrap();
    fs::create_dir(prefix.path().join("bin")).unwrap();
    // By a process of its own, see `write_program`.
    let mut copy = Command::new("cp");
    copy.arg(HYPERLIGHT).arg(prefix.path().join("bin/hyperlight"));
    assert!(copy.status().unwrap().success());
    fs::write(prefix.path().join(FILE), settings).unwrap();
    fs::write(prefix.path().join("app.wasm"), wasm).unwrap();
    let compile = "timeout 120 bin/hyperlight compile --cache-dir cache app.wasm";
    let script = format!("set -e; cd \"$0\"; {before} {compile}");
    Command::new("unshare")
        .args(["--mount", "bash", "-c", &script])
        .arg(prefix.path())
        .output()
        .unwrap()
}

/// A module of `functions` functions of 200 multiplications and additions each.
fn module(functions: u32) -> Vec<u8> {
    let mut body = b"\0\x20\0".to_vec();
    body.extend(b"\x20\0\x6c\x41\x07\x6a".repeat(200));
    body.push(0x0b);
    let counted = |bytes: &[u8]| [&leb(bytes.len())[..], bytes].concat();
    let count = usize::try_from(functions).unwrap();
    let code = [leb(count + 1), counted(b"\0\x0b"), counted(&body).repeat(count)].concat();
    let types = [leb(count + 1), vec![0], vec![1; count]].concat();
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    for (section, content) in [
        (1, b"\x02\x60\0\0\x60\x01\x7f\x01\x7f".as_slice()),
        (3, &types),
        (7, b"\x01\x06_start\0\0"),
        (10, &code),
    ] {
        wasm.push(section);
        wasm.extend(counted(content));
    }
    wasm
}

/// A number as WebAssembly has it (LEB128).
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

#[test]
fn a_compilation_ends_at_the_memory_that_the_nodes_owner_allows() {
    let tiny = compile(r#"{"aot_memory_bytes": 67108864}"#, &module(2000), "");
    assert_eq!(tiny.status.code(), Some(126), "{}", stderr(&tiny));
    assert!(stderr(&tiny).contains("took more than 64.0 MiB of memory"), "{}", stderr(&tiny));

    let enough = compile(r#"{"aot_memory_bytes": 1073741824}"#, &module(2000), "");
    assert!(enough.status.success(), "{}", stderr(&enough));
}

#[test]
fn a_compilation_ends_at_the_cpu_time_that_the_nodes_owner_allows() {
    let failed = compile(r#"{"aot_cpu_seconds": 1}"#, &module(40_000), "");
    assert_eq!(failed.status.code(), Some(126), "{}", stderr(&failed));
    let said = "took more than 1 s of CPU time, or 2 s in all";
    assert!(stderr(&failed).contains(said), "{}", stderr(&failed));
}

#[test]
fn as_many_compile_at_once_as_the_nodes_owner_allows() {
    // Others have as many turns as there are CPUs: one more is there because the owner says so.
    let others = "mount -t tmpfs none /run/lock; mkdir -m 700 /run/lock/hyperlight; \
        for turn in $(seq 0 $(($(nproc) - 1))); do \
            exec {held}>/run/lock/hyperlight/$turn; flock $held; \
        done;";
    let cpus = std::thread::available_parallelism().unwrap().get();
    let settings = format!(r#"{{"aot_parallel": {}}}"#, cpus + 1);
    let compiled = compile(&settings, &command(1), others);
    assert!(compiled.status.success(), "{}", stderr(&compiled));
}
