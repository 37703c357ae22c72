//! Further calls in the instance that an earlier one left, in a micro-VM with the guest image that nodes run.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};

use integration::scratch::Scratch;
use integration::subject::{self, Subject};
use integration::{hyperlight, programs, require_kvm};
use vmm::Shell;
use vmm::host::{Host, Stdio};

/// Returns random bytes, its argument, and how often it was called.
const DRAW: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func (export "draw") (param i32) (result i64 i32 i32)
    (drop (call $random (i32.const 0) (i32.const 8)))
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i64.load (i32.const 0)) (local.get 0) (global.get $calls)))"#;

#[test]
fn a_call_made_again_has_its_arguments_and_other_random_bytes() {
    require_kvm!();
    let directory = Scratch::new().unwrap();
    let source = directory.join("draw.wat");
    fs::write(&source, DRAW).unwrap();
    let wasm = programs::assemble(&source).unwrap();
    let compiled = subject::compile(&hyperlight().unwrap(), &wasm, &directory).unwrap();
    let image = subject::guest_image().unwrap();
    let draw = Subject::new(&image, &compiled.program).unwrap().invoke("draw", &["7"]);
    let snapshot = draw.snapshot(&directory).unwrap();
    let (output, stdout) = std::io::pipe().unwrap();
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let host = Host::new(Stdio { stdin: null(), stdout: stdout.into(), stderr: null() }).unwrap();

    let mut idle = draw.start(Shell::new().unwrap(), &snapshot, host).unwrap();
    for _ in 1..4 {
        idle = Subject::again(idle).unwrap();
    }
    drop(idle);

    let lines: Vec<String> = BufReader::new(output).lines().map(Result::unwrap).collect();
    let calls: Vec<&[String]> = lines.chunks(3).collect();
    let rest: Vec<&[String]> = calls.iter().map(|call| &call[1..]).collect();
    assert_eq!(rest, [["7", "1"], ["7", "2"], ["7", "3"], ["7", "4"]]);
    let drawn: BTreeSet<&String> = calls.iter().map(|call| &call[0]).collect();
    assert_eq!(drawn.len(), 4, "{lines:?}");
}
