//! `hyperlight run`: the engine without containerd, one test program or bad input at a time.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration::process::{self, HANG_LIMIT, Outcome, wait_until};
use integration::programs::program;
use integration::{hyperlight, leaks, micro_vms, require_kvm};

/// `hyperlight run OPTIONS FILE -- ARGUMENTS`.
fn command(file: &Path, options: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(hyperlight().unwrap());
    command.arg("run").args(options).arg(file).arg("--").args(arguments);
    command
}

/// Compiles, so that nothing is said about it later, and runs.
fn run(name: &str, options: &[&str], arguments: &[&str]) -> Outcome {
    process::run(&mut command(&compiled(name), options, arguments)).unwrap()
}

fn compiled(name: &str) -> PathBuf {
    let file = program(name).unwrap();
    process::run(Command::new(hyperlight().unwrap()).arg("compile").arg(&file))
        .unwrap()
        .success()
        .unwrap();
    file
}

/// The program ended well and said nothing to standard error.
fn output(outcome: Outcome) -> String {
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    outcome.stdout
}

#[test]
fn a_component_writes_to_standard_output() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    assert_eq!(output(run("hello", &[], &[])), "hello, world\n");
}

#[test]
fn exit_statuses_are_passed_on() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    for status in [0, 1, 42, 255] {
        let outcome = run("exit_with_code", &[], &[&status.to_string()]);
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (status, ""), "{outcome:?}");
    }
}

#[test]
fn a_run_that_returns_its_error_case_exits_with_1() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let outcome = run("run_returns_error", &[], &[]);
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (1, ""), "{outcome:?}");
}

#[test]
fn memory_grows_to_its_declared_maximum_and_no_further() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let outcome = run("grow_to_declared_maximum", &[], &[]);
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (16, ""), "{outcome:?}");
}

#[test]
fn memory_does_not_grow_beyond_the_micro_vm() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    assert_eq!(output(run("grow_beyond_micro_vm", &["--memory", "128MiB"], &[])), "");
    // Four times as much is more than the program accepts, so it is the limit that was met before.
    let outcome = run("grow_beyond_micro_vm", &["--memory", "512MiB"], &[]);
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (1, ""), "{outcome:?}");
}

/// The trap ends the program with 134, standard error names the trap and the functions, innermost
/// first, and nothing of it looks like a failure of ours.
fn traps(name: &str, trap: &str, functions: &[&str]) {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let outcome = run(name, &[], &[]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (134, ""), "{outcome:?}");
    let mut rest = outcome.stderr.as_str();
    assert_eq!(rest.matches(trap).count(), 1, "{rest}");
    for function in functions {
        let at = rest.find(function);
        assert!(at.is_some(), "no {function} in its place in:\n{}", outcome.stderr);
        rest = &rest[at.unwrap() + function.len()..];
    }
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

#[test]
fn unreachable_traps() {
    traps("unreachable", "`unreachable` instruction", &["give_up", "main"]);
}

#[test]
fn division_by_zero_traps() {
    traps("divide_by_zero", "integer divide by zero", &["divide", "main"]);
}

#[test]
fn a_load_one_byte_past_the_memory_traps() {
    traps("load_past_memory", "out of bounds memory access", &["load", "main"]);
}

#[test]
fn endless_recursion_traps() {
    traps("stack_overflow", "call stack exhausted", &["descend", "descend"]);
}

#[test]
fn a_call_through_a_null_table_entry_traps() {
    traps("null_indirect_call", "uninitialized element", &["dispatch", "main"]);
}

#[test]
fn signals_end_a_spinning_program() {
    require_kvm!();
    for (signal, status) in [("TERM", 143), ("INT", 130), ("KILL", 137)] {
        let _watch = leaks::watch().unwrap();
        // A shell starts what it puts in the background with SIGINT ignored, and who ignores a signal
        // hands that on.
        let mut spin = Command::new("env");
        spin.arg("--default-signal=INT").arg(hyperlight().unwrap());
        let running = process::start(spin.arg("run").arg(compiled("spin"))).unwrap();
        wait_until("the micro-VM", HANG_LIMIT, || micro_vms().iter().any(|vm| vm.vcpus == 1))
            .unwrap();
        let kill = Command::new("kill").args(["-s", signal, &running.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let outcome = process::finish_within(running, Duration::from_secs(30)).unwrap();
        assert_eq!(outcome.code(), status, "{signal}: {outcome:?}");
    }
}

#[test]
fn a_timeout_ends_a_spinning_program() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let outcome = run("spin", &["--timeout", "300ms"], &[]);
    assert_eq!(outcome.code(), 124, "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
}

/// Nothing runs; exactly one line on standard error holds `words`.
fn refused(outcome: &Outcome, status: i32, words: &[&str]) {
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (status, ""), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("hyperlight: "), "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "no {word:?} in: {}", outcome.stderr);
    }
}

/// Runs `hyperlight` where `shell` has changed /dev, in a mount namespace of its own.
fn with_other_dev(shell: &str) -> Outcome {
    let inner = command(&compiled("hello"), &[], &[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{shell}; exec \"$@\""), "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    process::run(&mut command).unwrap()
}

#[test]
fn without_dev_kvm_it_says_so() {
    let _watch = leaks::watch().unwrap();
    let outcome = with_other_dev("mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3");
    refused(&outcome, 125, &["/dev/kvm"]);
}

#[test]
fn a_dev_kvm_that_is_not_kvm_is_refused() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let outcome = with_other_dev("mount --bind /dev/null /dev/kvm");
    refused(&outcome, 125, &["KVM"]);
}

fn run_file(file: impl AsRef<OsStr>) -> Outcome {
    process::run(&mut command(Path::new(file.as_ref()), &[], &[])).unwrap()
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let _watch = leaks::watch().unwrap();
    refused(&run_file("/nowhere/app.wasm"), 127, &["/nowhere/app.wasm"]);
}

#[test]
fn a_file_that_is_not_wasm_is_refused() {
    let _watch = leaks::watch().unwrap();
    refused(
        &run_file(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
        126,
        &["Cargo.toml", "not WebAssembly"],
    );
}

#[test]
fn a_corrupt_component_is_refused() {
    let _watch = leaks::watch().unwrap();
    let wasm = fs::read(program("hello").unwrap()).unwrap();
    let file = std::env::temp_dir().join(format!("corrupt-{}.wasm", std::process::id()));
    let outcomes = [wasm.len() / 2, wasm.len() - 1, 9].map(|length| {
        fs::write(&file, &wasm[..length]).unwrap();
        run_file(&file)
    });
    fs::remove_file(&file).unwrap();
    outcomes.iter().for_each(|outcome| refused(outcome, 126, &["corrupt-"]));
}

#[test]
fn a_core_module_without_start_is_refused() {
    let _watch = leaks::watch().unwrap();
    refused(&run_file(program("core_module").unwrap()), 126, &["_start", "--invoke"]);
}

#[test]
fn an_unknown_import_is_refused_by_its_name() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let outcome = run_file(program("unknown_import").unwrap());
    refused(&outcome, 126, &["example:telephone/dial"]);
}

#[test]
fn too_little_memory_for_any_program_is_refused() {
    let _watch = leaks::watch().unwrap();
    let file = program("hello").unwrap();
    let outcome = process::run(&mut command(&file, &["--memory", "64KiB"], &[])).unwrap();
    refused(&outcome, 125, &["--memory"]);
}

#[test]
fn too_little_memory_for_this_program_ends_it_with_one_line() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    // Its memory of 64 MiB does not fit a micro-VM of 16 MiB.
    let outcome = run("starts_with_64_mib", &["--memory", "16MiB"], &[]);
    // The line names the way out.
    refused(&outcome, 137, &["--memory", "try 256.0 MiB"]);
    assert_eq!(output(run("starts_with_64_mib", &["--memory", "256MiB"], &[])), "");
}
