//! What a command is given and what it returns.

use std::process::Command;

use integration::programs::program;
use integration::run::Run;
use integration::{hyperlight, leaks, process};

crate::behaviours! {
    arguments_and_environment_are_what_the_command_line_says:
        arguments_and_environment [c_p1 c_p2 c_adapted rs_p1 rs_p2 go_p1 js_p2 py_p2];
    exit_statuses_are_passed_on: exit_status [c_p1 c_p2 rs_p1 rs_p2 go_p1 js_p2 py_p2];
    random_bytes_differ_between_two_runs: random [c_p1 c_p2 rs_p1 rs_p2 go_p1];
    a_mebibyte_of_random_bytes_is_had_at_once: random_mib [c_p1 c_p2];
    streams_that_are_no_terminals_are_told: terminals [c_p1 c_p2 rs_p1 rs_p2 py_p2];
    terminals_are_told: terminals [c_p1 c_p2 rs_p1 rs_p2 py_p2];
}

fn arguments_and_environment_are_what_the_command_line_says(name: &str) {
    let run = Run::of(name).unwrap().arguments(&["a", "", "-b", "ü"]);
    let run = run.variable("FIRST", "one").variable("SECOND", "two = 2");
    let expected = "argument a\nargument \nargument -b\nargument ü\n\
                    environment FIRST=one\nenvironment SECOND=two = 2\n";
    assert_eq!(run.compared().unwrap().output(), expected);
}

fn exit_statuses_are_passed_on(name: &str) {
    for status in [0, 1, 42] {
        let run = Run::of(name).unwrap().arguments(&[&status.to_string()]);
        let outcome = run.compared().unwrap().outcome;
        assert_eq!(outcome.stderr, "", "{outcome:?}");
        // `wasi:cli/exit.exit` knows success and failure alone, and these libraries use no other.
        let known = !["c_p2", "rs_p2", "py_p2"].iter().any(|build| name.ends_with(build));
        assert_eq!(outcome.code(), if known { status } else { status.min(1) }, "{outcome:?}");
        if name.contains(".c_") {
            assert_eq!(outcome.stdout, "buffered and flushed\n");
        }
    }
}

fn random_bytes_differ_between_two_runs(name: &str) {
    let run = Run::of(name).unwrap();
    let [first, second] = [(); 2].map(|()| run.in_micro_vm().unwrap().output());
    assert_eq!(first.len(), 33, "{first}");
    assert_ne!(first, second);
}

fn a_mebibyte_of_random_bytes_is_had_at_once(name: &str) {
    assert_eq!(Run::of(name).unwrap().compared().unwrap().output(), "ok\n");
}

fn streams_that_are_no_terminals_are_told(name: &str) {
    let text = Run::of(name).unwrap().compared().unwrap().output();
    assert_eq!(text, "0: no terminal\n1: no terminal\n2: no terminal\n");
}

fn terminals_are_told(name: &str) {
    let wasm = program(name).unwrap();
    let hyperlight = hyperlight().unwrap();
    let _watch = leaks::watch().unwrap();
    process::run(Command::new(&hyperlight).arg("compile").arg(&wasm)).unwrap().success().unwrap();
    // A terminal of its own, which all three streams are.
    let line = format!("{} run {}", hyperlight.display(), wasm.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let outcome = process::run(&mut script).unwrap();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    // The terminal makes CR LF of each line feed.
    assert_eq!(outcome.stdout, "0: terminal\r\n1: terminal\r\n2: terminal\r\n");
}
