//! `hyperlight image prepare`: a pulled image is compiled before its first container needs it.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use integration::process::{self, Outcome};
use integration::{Node, hyperlight, oci, require_kvm};

/// A core module that writes a line that no other program writes, so that no cache has it.
fn unique() -> (Vec<u8>, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let line = format!("prepared {:020}", now.as_nanos());
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\1e\00\00\00")
            (data (i32.const 16) "{line}\n")
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    assert_eq!(line.len() + 1, 0x1e);
    (wat::parse_str(text).unwrap(), line)
}

/// `hyperlight image prepare`, for the cache that the shim uses.
fn prepare(node: &Node, options: &[&str], reference: &str) -> Outcome {
    let mut command = Command::new(hyperlight().unwrap());
    command.args(["image", "prepare", "--address"]).arg(node.socket());
    command.args(["--namespace", node.namespace()]).args(options).arg(reference);
    process::run(&mut command).unwrap()
}

fn prepare_json(node: &Node, reference: &str) -> serde_json::Value {
    let answer = prepare(node, &["--json"], reference).success().unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn the_first_container_of_a_prepared_image_finds_its_program() {
    require_kvm!();
    let node = Node::start().unwrap();
    let (wasm, line) = unique();
    let image = oci::wkg("app.wasm", &wasm).unwrap();
    let reference = node.pull("prepared", &image).unwrap();

    let prepared = prepare_json(&node, &reference);

    assert_eq!(
        (&prepared["cached"], &prepared["reference"]),
        (&false.into(), &reference.as_str().into())
    );
    assert_eq!(prepared["digest"], oci::digest(&wasm));
    let program = prepared["program"].as_str().unwrap();
    let inode = fs::metadata(program).unwrap().ino();
    node.adapt(&reference).unwrap();
    let outcome = node.run(&reference, "app", &[]).unwrap();
    assert_eq!(outcome.success().unwrap(), format!("{line}\n"));
    assert_eq!(fs::metadata(program).unwrap().ino(), inode, "it was compiled again");
    assert!(!node.log().contains("compiled in"), "{}", node.log());
    // Adapting changes the image, not its wasm.
    let again = prepare_json(&node, &reference);
    assert_eq!((&again["cached"], &again["program"]), (&true.into(), &program.into()));
    fs::remove_file(program).unwrap();
}

#[test]
fn preparing_says_what_it_did_and_why_it_cannot() {
    require_kvm!();
    let node = Node::start().unwrap();
    let cache = node.directory().join("cache");
    let options = ["--cache-dir", cache.to_str().unwrap()];
    let (wasm, _) = unique();
    let reference = node.pull("told", &oci::wkg("app.wasm", &wasm).unwrap()).unwrap();
    let told = prepare(&node, &options, &reference).success().unwrap();
    assert!(told.starts_with(&format!("{reference}: compiled in")), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");

    let files = oci::rootfs(&[("app.wasm", wasm.as_slice())], "/app.wasm").unwrap();
    let ordinary = node.pull("ordinary", &files).unwrap();
    let library = wat::parse_str(r#"(module (func (export "add")))"#).unwrap();
    let library = node.pull("library", &oci::wkg("lib.wasm", &library).unwrap()).unwrap();
    for (reference, status, reason) in [
        (ordinary.as_str(), 125, "no wasm layer"),
        (library.as_str(), 126, "`_start`"),
        ("127.0.0.1:1/missing:1", 125, "no image"),
    ] {
        let outcome = prepare(&node, &options, reference);
        assert_eq!(outcome.code(), status, "{outcome:?}");
        let said = &outcome.stderr;
        assert!(said.contains(reason) && said.lines().count() == 1, "{said}");
    }
}
