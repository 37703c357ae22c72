//! A program before its boot information, and between two calls of the same instance.
//!
//! Rule: whether a program was instantiated ahead, or could not be, makes no difference to what it does.

use std::fs::File;
use std::io::{Read, Seek, Write};

use oracle::{CallLog, Grants, Outcome, Prepared, Program, Streams, TRAPPED, World};

use crate::interpreter::P1 as FUNCTIONS;

fn program(text: &str) -> Program {
    Program::compile("program", &wat::parse_str(text).unwrap()).unwrap()
}

/// One world with its files, for the calls of one program.
struct Task {
    prepared: Prepared,
    world: World,
    stdout: File,
    stderr: File,
    log: CallLog,
}

impl Task {
    fn new(program: &Program, grants: &Grants) -> Self {
        let [stdin, stdout, stderr] = [(); 3].map(|()| tempfile::tempfile().unwrap());
        let (to_stdout, to_stderr) = (stdout.try_clone().unwrap(), stderr.try_clone().unwrap());
        let streams =
            Streams { stdin: stdin.into(), stdout: to_stdout.into(), stderr: to_stderr.into() };
        let log = CallLog::default();
        let world = World::new(grants, streams, &log).unwrap();
        Self { prepared: Prepared::link(program).unwrap(), world, stdout, stderr, log }
    }

    /// Makes a call and returns what it left.
    fn call(&mut self, grants: &Grants, invoke: &str) -> Result<Outcome, String> {
        let status = self.prepared.call(&self.world, grants, invoke);
        let status = status.map_err(|error| format!("{error:#}"))?;
        Ok(Outcome { status, stdout: taken(&mut self.stdout), stderr: taken(&mut self.stderr) })
    }

    /// Calls a function that prints one value.
    fn value(&mut self, invoke: &str) -> String {
        let Outcome { status, stdout, stderr } = self.call(&Grants::default(), invoke).unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!((status, stderr.as_str()), (0, ""), "{invoke}");
        String::from_utf8(stdout).unwrap().trim_end().to_owned()
    }
}

/// What was written to a file, which is empty then.
fn taken(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    bytes
}

/// What a program leaves if it is instantiated ahead, or as far as that goes, and if it is not; and
/// whether it went.
fn both_ways(program: &Program, invoke: &str) -> (bool, [Result<Outcome, String>; 2]) {
    let grants = Grants { args: vec!["a".to_owned()], ..Grants::default() };
    let mut ahead = Task::new(program, &grants);
    let went = ahead.prepared.instantiate();
    assert_eq!(ahead.log.take(), [], "host calls before the boot information");
    let ahead = ahead.call(&grants, invoke);
    (went, [ahead, Task::new(program, &grants).call(&grants, invoke)])
}

/// A module whose start function calls a function of preview 1 with zeroes and drops its result.
fn calling_at_start(function: &str, params: &str) -> Program {
    let types: String = params.chars().map(|ty| if ty == 'I' { " i64" } else { " i32" }).collect();
    let zeroes: String = params
        .chars()
        .map(|ty| if ty == 'I' { "(i64.const 0)" } else { "(i32.const 0)" })
        .collect();
    let (result, drop) = match function {
        "proc_exit" => ("", ""),
        _ => ("(result i32)", "drop"),
    };
    program(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "{function}" (func $call (param{types}) {result}))
            (memory (export "memory") 1)
            (func $at_start (call $call {zeroes}) {drop})
            (start $at_start)
            (func (export "_start")))"#
    ))
}

#[test]
fn no_function_of_preview_1_answers_before_the_boot_information() {
    for (function, params) in FUNCTIONS {
        let program = calling_at_start(function, params);
        let (went, [ahead, not_ahead]) = both_ways(&program, "");
        assert!(!went, "{function} was answered");
        assert_eq!(ahead, not_ahead, "{function}");
        let status = ahead.unwrap_or_else(|error| panic!("{function}: {error}")).status;
        assert!([0, TRAPPED].contains(&status), "{function}: {status}");
    }
}

/// A component whose start function calls a function of an interface. `ty` is its type, `core` that of
/// the function as a core module calls it: with a parameter or a result.
fn component_calling(interface: &str, name: &str, ty: &str, core: &str) -> Program {
    let (zeroes, drop) = if core.contains("result") { ("", "drop") } else { ("(i32.const 0)", "") };
    program(&format!(
        r#"(component
            (import "{interface}@0.2.0" (instance $wasi (export "{name}" (func {ty}))))
            (core module $storage (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
            (core instance $storage (instantiate $storage))
            (core func $call (canon lower (func $wasi "{name}")
                (memory $storage "memory") (realloc (func $storage "realloc"))))
            (core module $main
                (import "wasi" "call" (func $call {core}))
                (func $at_start (call $call {zeroes}) {drop})
                (start $at_start)
                (func (export "run") (result i32) (i32.const 0)))
            (core instance $wasi-core (export "call" (func $call)))
            (core instance $main (instantiate $main (with "wasi" (instance $wasi-core))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    ))
}

#[test]
fn nothing_of_the_world_reaches_a_component_before_the_boot_information() {
    let pair = "(result (list (tuple string string)))";
    for (interface, name, ty, core) in [
        ("wasi:cli/environment", "get-environment", pair, "(param i32)"),
        ("wasi:cli/environment", "get-arguments", "(result (list string))", "(param i32)"),
        ("wasi:cli/environment", "initial-cwd", "(result (option string))", "(param i32)"),
        ("wasi:random/random", "get-random-u64", "(result u64)", "(result i64)"),
        ("wasi:random/insecure", "get-insecure-random-u64", "(result u64)", "(result i64)"),
        ("wasi:random/insecure-seed", "insecure-seed", "(result (tuple u64 u64))", "(param i32)"),
        ("wasi:clocks/monotonic-clock", "now", "(result u64)", "(result i64)"),
        ("wasi:cli/exit", "exit", "(param \"status\" (result))", "(param i32)"),
    ] {
        let program = component_calling(interface, name, ty, core);
        let (went, [ahead, not_ahead]) = both_ways(&program, "");
        assert_eq!(ahead, not_ahead, "{name}");
        assert_eq!(ahead.map(|outcome| outcome.status), Ok(0), "{name}");
        assert!(!went, "{name} was answered");
    }
}

#[test]
fn what_asks_the_world_for_nothing_is_instantiated_ahead() {
    for (text, invoke, stdout) in [
        (include_str!("../../../programs/hello.wat"), "", "hello, world\n"),
        (include_str!("../../../programs/library.wat"), "add(1, 2)", "3\n"),
        (COUNTER, "next", "8\n"),
    ] {
        let (went, [ahead, not_ahead]) = both_ways(&program(text), invoke);
        assert!(went, "{text}");
        assert_eq!(ahead, not_ahead, "{text}");
        let outcome = ahead.unwrap();
        assert_eq!((outcome.status, outcome.stdout.as_slice()), (0, stdout.as_bytes()));
    }
}

#[test]
fn a_start_function_that_traps_is_told_as_ever() {
    let program = program(
        r#"(module (func $at_start unreachable) (start $at_start) (func (export "_start")))"#,
    );
    let (went, [ahead, not_ahead]) = both_ways(&program, "");
    assert!(!went);
    assert_eq!(ahead, not_ahead);
    let Outcome { status, stderr, .. } = ahead.unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status, TRAPPED);
    assert!(stderr.starts_with("hyperlight: program: wasm trap: wasm `unreachable`"), "{stderr}");
    assert!(stderr.contains("at_start"), "{stderr}");
}

#[test]
fn a_module_that_is_a_library_is_initialized_once() {
    let mut task = Task::new(&program(COUNTER), &Grants::default());
    assert!(task.prepared.instantiate());
    assert_eq!([task.value("next"), task.value("next")], ["8", "9"]);
    let mut task = Task::new(&program(COUNTER), &Grants::default());
    assert_eq!([task.value("next"), task.value("next")], ["8", "9"]);
}

/// Counts from what `_initialize` and the start function have made of 0.
const COUNTER: &str = r#"(module
    (global $count (mut i32) (i32.const 0))
    (func $at_start (global.set $count (i32.add (global.get $count) (i32.const 2))))
    (start $at_start)
    (func (export "_initialize")
        (global.set $count (i32.add (global.get $count) (i32.const 5))))
    (func (export "next") (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (global.get $count)))"#;

/// Functions of a component with a state: `next` counts, `fail` traps.
const STATE: &str = r#"(component
    (core module $main
        (global $count (mut i32) (i32.const 0))
        (func (export "next") (param i32) (result i32)
            (global.set $count (i32.add (global.get $count) (local.get 0)))
            (global.get $count))
        (func (export "fail") unreachable))
    (core instance $main (instantiate $main))
    (func (export "next") (param "by" u32) (result u32) (canon lift (core func $main "next")))
    (func (export "fail") (canon lift (core func $main "fail"))))"#;

#[test]
fn calls_by_name_find_what_the_last_one_left() {
    for ahead in [true, false] {
        let mut task = Task::new(&program(STATE), &Grants::default());
        assert!(!ahead || task.prepared.instantiate());
        assert_eq!(task.value("next(1)"), "1");
        assert_eq!(task.value("next(1)"), "2", "the same call");
        assert_eq!(task.value("next(20)"), "22", "the same function");
        let error = task.call(&Grants::default(), "other(1)").unwrap_err();
        assert!(error.contains("there is no such function"), "{error}");
    }
}

#[test]
fn the_call_after_a_trap_gets_a_new_instance() {
    let mut task = Task::new(&program(STATE), &Grants::default());
    assert_eq!(task.value("next(1)"), "1");
    let Outcome { status, stderr, .. } = task.call(&Grants::default(), "fail()").unwrap();
    assert_eq!(status, TRAPPED);
    assert!(!stderr.is_empty());
    assert_eq!(task.value("next(1)"), "1");
    assert_eq!(task.value("next(1)"), "2");
}

#[test]
fn a_command_runs_in_a_new_instance_each_time() {
    let command = program(
        r#"(module
            (import "wasi_snapshot_preview1" "args_sizes_get"
                (func $sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (global $started (mut i32) (i32.const 0))
            (func (export "_start")
                (if (global.get $started) (then unreachable))
                (global.set $started (i32.const 1))
                (drop (call $sizes (i32.const 0) (i32.const 4)))
                (call $exit (i32.load (i32.const 0)))))"#,
    );
    let mut task = Task::new(&command, &Grants::default());
    assert!(task.prepared.instantiate());
    for count in 1..4 {
        let args = vec!["arg".to_owned(); count];
        let outcome = task.call(&Grants { args, ..Grants::default() }, "").unwrap();
        assert_eq!(outcome.status, i32::try_from(count).unwrap());
    }
    let closed = task.log.take();
    assert!(closed.iter().all(|call| call.nr != abi::Nr::Close), "streams stay open: {closed:?}");
}

/// Functions of a module over preview 1: `random` and `time` tell a number, `read` reads 4 bytes of the
/// file `f` in the directory that is open at start, where the last read ended, and `seen` tells them.
const WORLDLY: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get"
        (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "f")
    (data (i32.const 96) "\80\00\00\00\04\00\00\00")
    (global $fd (mut i32) (i32.const -1))
    (func (export "random") (result i64)
        (drop (call $random (i32.const 0) (i32.const 8)))
        (i64.load (i32.const 0)))
    (func (export "time") (result i64)
        (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
        (i64.load (i32.const 0)))
    (func (export "read")
        (if (i32.lt_s (global.get $fd) (i32.const 0)) (then
            (drop (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)))
            (global.set $fd (i32.load (i32.const 0)))))
        (drop (call $read (global.get $fd) (i32.const 96) (i32.const 1) (i32.const 0))))
    (func (export "seen") (result i32) (i32.load (i32.const 128))))"#;

#[test]
fn each_call_has_entropy_and_a_clock_sample_of_its_own() {
    let mut task = Task::new(&program(WORLDLY), &Grants::default());
    assert!(task.prepared.instantiate());
    assert_ne!(task.value("random"), task.value("random"));
    let mut times = Vec::new();
    for _ in 0..3 {
        drop(task.log.take());
        times.push(task.value("time").parse::<u64>().unwrap());
        let clocks = task.log.take().into_iter().filter(|call| call.nr == abi::Nr::Clock).count();
        assert_eq!(clocks, 1, "time may have stood still since the last call");
    }
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_file_stays_open_from_call_to_call_and_is_not_read_from_a_stale_window() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    File::create(&path).unwrap().write_all(b"aaaabbbbccccddddeeee").unwrap();
    let grants = crate::p1::seeing(directory.path());
    let mut task = Task::new(&program(WORLDLY), &grants);
    assert!(task.prepared.instantiate());
    // A call without a result makes no host call that would put an end to reading ahead.
    for _ in 0..5 {
        let Outcome { status, stdout, .. } = task.call(&grants, "read").unwrap();
        assert_eq!((status, stdout), (0, Vec::new()));
    }
    assert_eq!(task.value("seen"), i32::from_le_bytes(*b"eeee").to_string());
    let opened = task.log.take().into_iter().filter(|call| call.nr == abi::Nr::OpenAt).count();
    assert_eq!(opened, 1);
}
