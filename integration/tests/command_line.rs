//! What a person asks `hyperlight` for besides running a command: calls of exported functions, names,
//! limits, and what a file is.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::process::Command;

use integration::process::{self, Outcome};
use integration::programs::program;
use integration::scratch::Scratch;
use integration::{hyperlight, leaks, require_kvm, say};

/// `hyperlight COMMAND OPTIONS PROGRAM ARGUMENTS`.
fn hyperlight_on(command: &str, options: &[&str], name: &str, arguments: &[&str]) -> Outcome {
    let file = program(name).unwrap();
    let mut line = Command::new(hyperlight().unwrap());
    line.arg(command).args(options).arg(file).args(arguments);
    process::run(&mut line).unwrap()
}

/// Runs what was compiled before.
fn run(options: &[&str], name: &str, arguments: &[&str]) -> Outcome {
    assert_eq!(hyperlight_on("compile", &[], name, &[]).code(), 0);
    hyperlight_on("run", options, name, arguments)
}

/// It ended well and said nothing to standard error.
fn output(outcome: Outcome) -> String {
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    outcome.stdout
}

/// One line that holds `words`.
fn refused(outcome: &Outcome, status: i32, words: &[&str]) {
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (status, ""), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "no {word:?} in: {}", outcome.stderr);
    }
}

#[test]
fn a_function_of_a_module_is_called_with_arguments() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    assert_eq!(output(run(&["--invoke", "add"], "core_module", &["20", "22"])), "42\n");
    assert_eq!(output(run(&["--invoke", "add"], "core_module", &["-1", "-2"])), "-3\n");
}

#[test]
fn a_function_of_a_module_that_cannot_be_called_so_is_refused() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let refuse = |function: &str, arguments: &[&str], words: &[&str]| {
        let outcome = run(&["--invoke", function], "core_module", arguments);
        assert_ne!(outcome.code(), 0, "{outcome:?}");
        refused(&outcome, outcome.code(), words);
    };
    refuse("subtract", &["1", "2"], &["subtract"]);
    refuse("add", &["1"], &["add"]);
    refuse("add", &["1", "two"], &["two"]);
    refuse("add", &["1", "5000000000"], &["5000000000"]);
}

#[test]
fn a_function_of_a_component_is_called_in_wave() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let call = |call: &str| output(run(&["--invoke", call], "library", &[]));
    assert_eq!(call("add(20, 22)"), "42\n");
    assert_eq!(call("swap((1, -2))"), "(-2, 1)\n");
    assert_eq!(call("echo(\"grüße\")"), "\"grüße\"\n");
    assert_eq!(call("is-odd(7)"), "true\n");
}

#[test]
fn a_library_is_no_command() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    for name in ["core_module", "library"] {
        let outcome = run(&[], name, &[]);
        refused(&outcome, 126, &["--invoke"]);
    }
}

#[test]
fn argument_0_is_the_name_of_the_file_or_what_is_asked_for() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    for name in ["argument_0.rs_p1", "argument_0.rs_p2"] {
        let file = program(name).unwrap();
        let file = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(output(run(&[], name, &["one"])), format!("{file}\n"));
        assert_eq!(output(run(&["--argv0", "busybox"], name, &["one"])), "busybox\n");
    }
}

#[test]
fn variables_come_from_the_line_or_from_here() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let name = "arguments_and_environment.rs_p1";
    let mut line = Command::new(hyperlight().unwrap());
    line.args(["run", "--env", "GIVEN=a=b", "--env", "INHERITED"]);
    line.arg(program(name).unwrap()).env("INHERITED", "from here");
    // None is there unless it is named.
    assert_eq!(output(run(&[], name, &[])), "");
    let text = output(process::run(&mut line).unwrap());
    assert_eq!(text, "environment GIVEN=a=b\nenvironment INHERITED=from here\n");
    line.env_remove("INHERITED");
    refused(&process::run(&mut line).unwrap(), 125, &["INHERITED"]);
}

#[test]
fn a_sleeping_program_is_ended_by_its_timeout() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    for name in ["sleep.rs_p1", "sleep.rs_p2", "sleep.go_p1"] {
        let outcome = run(&["--timeout", "1500ms"], name, &[]);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (124, "asleep\n"), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    }
}

#[test]
fn a_program_has_the_memory_that_it_is_given() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    for name in ["allocate.rs_p1", "allocate.rs_p2"] {
        assert_eq!(output(run(&["--memory", "512MiB"], name, &["300"])), "300 MiB\n");
        let outcome = run(&["--memory", "128MiB"], name, &["300"]);
        // The program is told, and gives up in its own way.
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (134, ""), "{outcome:?}");
        assert!(outcome.stderr.contains("memory allocation"), "{outcome:?}");
    }
}

#[test]
fn compiling_a_large_component_is_bounded_and_told() {
    let _watch = leaks::watch().unwrap();
    for name in ["cat.js_p2", "cat.py_p2"] {
        let cache = Scratch::new().unwrap();
        let directory = cache.to_str().unwrap();
        let compile = || -> serde_json::Value {
            let options = ["--json", "--cache-dir", directory];
            let outcome = hyperlight_on("compile", &options, name, &[]);
            assert_eq!(outcome.code(), 0, "{outcome:?}");
            serde_json::from_str(&outcome.stdout).unwrap()
        };
        let told = compile();
        let number = |field: &str| told[field].as_u64().unwrap_or_else(|| panic!("{told}"));
        say(&format!(
            "compiling {name} of {} MiB took {} ms and {} MiB of memory, and made {} MiB",
            number("wasm_bytes") >> 20,
            number("compile_ms"),
            number("compile_peak_bytes") >> 20,
            number("program_bytes") >> 20,
        ));
        assert!(number("wasm_bytes") > 10 << 20 && number("program_bytes") > 10 << 20, "{told}");
        assert!(number("compile_peak_bytes") < 2 << 30, "{told}");
        assert_eq!(
            (told["cached"].as_bool(), compile()["cached"].as_bool()),
            (Some(false), Some(true))
        );
    }
}

#[test]
fn inspecting_tells_what_a_file_is_and_needs() {
    let _watch = leaks::watch().unwrap();
    let inspect = |name: &str| -> serde_json::Value {
        serde_json::from_str(&output(hyperlight_on("inspect", &["--json"], name, &[]))).unwrap()
    };
    let names = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let module = inspect("cat.rs_p1");
    assert_eq!(names(&module["imports"]), ["wasi_snapshot_preview1"], "{module}");
    let functions = names(&module["imports"][0]["functions"]);
    assert!(functions.contains(&"fd_read".to_owned()), "{module}");
    assert!(names(&module["exports"]).contains(&"_start".to_owned()), "{module}");
    let component = inspect("files.rs_p2");
    assert!(
        names(&component["imports"]).iter().any(|it| it.starts_with("wasi:filesystem/types@0.2."))
    );
    assert!(component["granted_by_options"]["--dir"].is_string(), "{component}");
    let text = output(hyperlight_on("inspect", &[], "unknown_import", &[]));
    assert!(text.contains("example:telephone/dial"), "{text}");
    let text = output(hyperlight_on("inspect", &[], "threads", &[]));
    assert!(text.contains("threads"), "{text}");
}

#[test]
fn inspecting_runs_nothing_and_refuses_what_is_no_wasm() {
    let _watch = leaks::watch().unwrap();
    let inspect = |file: &str| {
        process::run(Command::new(hyperlight().unwrap()).args(["inspect", file])).unwrap()
    };
    refused(&inspect("/nowhere/app.wasm"), 127, &["/nowhere/app.wasm"]);
    refused(
        &inspect(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
        126,
        &["not WebAssembly"],
    );
}
