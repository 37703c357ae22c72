//! Further calls in the instance that an earlier one left, in a micro-VM with the guest image that nodes run.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};

use abi::Nr;
use integration::scratch::Scratch;
use integration::subject::{self, Subject};
use integration::{hyperlight, programs, require_kvm};
use vmm::host::{Host, Stdio};
use vmm::{BootParams, Exit, Idle, RunStats, Shell};

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

/// A command, so each call has a new instance. It traps unless its memories are as they were declared: zeros but
/// for the data, and nothing behind them. Then it leaves what it can: called with one argument it fills what it
/// has, with two it grows first, with three or four it reaches for what lies behind a memory.
const LEAVES: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args (param i32 i32) (result i32)))
  (memory $two (export "memory") 2)
  (memory $none 0)
  (data (i32.const 65600) "data")
  (global $i (mut i32) (i32.const 0))
  (func $check (param $condition i32)
    (if (i32.eqz (local.get $condition)) (then (unreachable))))
  (func $zeros (param $from i32) (param $to i32)
    (global.set $i (local.get $from))
    (loop $next
      (call $check (i64.eqz (i64.load (global.get $i))))
      (global.set $i (i32.add (global.get $i) (i32.const 8)))
      (br_if $next (i32.lt_u (global.get $i) (local.get $to)))))
  (func (export "_start") (local $count i32)
    (call $check (i32.eq (memory.size $two) (i32.const 2)))
    (call $check (i32.eqz (memory.size $none)))
    (call $zeros (i32.const 0) (i32.const 65600))
    (call $check (i64.eq (i64.load (i32.const 65600)) (i64.const 0x61746164)))
    (call $zeros (i32.const 65608) (i32.const 131072))
    (drop (call $args (i32.const 0) (i32.const 4)))
    (local.set $count (i32.load (i32.const 0)))
    (if (i32.eq (local.get $count) (i32.const 3))
      (then (drop (i32.load (i32.const 131072)))))
    (if (i32.eq (local.get $count) (i32.const 4))
      (then (drop (i32.load $none (i32.const 0)))))
    (if (i32.eq (local.get $count) (i32.const 2))
      (then
        (call $check (i32.eq (memory.grow $two (i32.const 40)) (i32.const 2)))
        (call $zeros (i32.const 131072) (i32.const 2752512))
        (call $check (i32.eqz (memory.grow $none (i32.const 300))))
        (call $check (i64.eqz (i64.load $none (i32.const 19660792))))
        (memory.fill $none (i32.const 0) (i32.const 0xff) (i32.const 19660800))))
    (memory.fill $two (i32.const 0) (i32.const 0xff)
      (i32.mul (memory.size $two) (i32.const 65536)))))"#;

/// Calls the program in a micro-VM that was used before, with so many arguments.
fn call(idle: Idle, arguments: usize) -> (Exit, RunStats, Idle) {
    let args = vec![b"leaves".to_vec(); arguments];
    let params = BootParams { args, ..BootParams::default() };
    idle.call(&params).unwrap().run_and_keep().unwrap()
}

/// Host calls that change the guest's memory.
fn maps(stats: &RunStats) -> u64 {
    stats.calls().find_map(|(nr, count)| (nr == Nr::Map).then_some(count)).unwrap_or_default()
}

/// The program, after its first call, with one argument.
fn leaves() -> Idle {
    let directory = Scratch::new().unwrap();
    let source = directory.join("leaves.wat");
    fs::write(&source, LEAVES).unwrap();
    let wasm = programs::assemble(&source).unwrap();
    let compiled = subject::compile(&hyperlight().unwrap(), &wasm, &directory).unwrap();
    let image = subject::guest_image().unwrap();
    let subject = Subject::new(&image, &compiled.program).unwrap();
    let snapshot = subject.snapshot(&directory).unwrap();
    subject.start(Shell::new().unwrap(), &snapshot, subject::silent_host().unwrap()).unwrap()
}

#[test]
fn a_new_instance_has_the_memories_that_are_declared_whatever_the_one_before_left() {
    require_kvm!();
    let mut idle = leaves();
    for arguments in [1, 1, 2, 1, 2, 2, 1, 3, 1, 2, 3, 2, 4, 1, 4] {
        let (exit, _, after) = call(idle, arguments);
        // 128 + SIGABRT is the status of a trap.
        let expected = if arguments < 3 { 0 } else { 134 };
        assert_eq!(exit, Exit::Status(expected), "{arguments} arguments");
        idle = after;
    }
}

#[test]
fn a_new_instance_asks_the_host_for_no_memory_that_the_one_before_left() {
    require_kvm!();
    let (_, _, idle) = call(leaves(), 1);
    let (exit, stats, idle) = call(idle, 1);
    assert_eq!((exit, maps(&stats)), (Exit::Status(0), 0));
    // What an instance grew to is taken away from the next.
    let (_, stats, idle) = call(idle, 2);
    assert_eq!(maps(&stats), 2);
    let (exit, stats, idle) = call(idle, 1);
    assert!(exit == Exit::Status(0) && maps(&stats) > 0, "{exit:?}, {stats:?}");
    let (_, stats, _) = call(idle, 1);
    assert_eq!(maps(&stats), 0);
}
