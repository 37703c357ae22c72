//! Programs in wasm text, and the versions of the interfaces that they name.

use std::fs;
use std::process::Command;

use integration::run::{DIFFERENT, Run};
use integration::scratch::Scratch;
use integration::{hyperlight, leaks, process, programs, require_kvm};

/// Programs in text that do not run to an end by the wasmtime command, and why.
const NOT_COMPARED: [(&str, &str); 10] = [
    ("browser", "it imports what only a browser has"),
    ("core_module", "a library, and no command"),
    ("emscripten", "it imports what only a browser has"),
    ("exit_with_code", "it needs an argument"),
    ("fill_memory", "it never ends"),
    ("library", "a library, and no command"),
    ("spin", "it never ends"),
    ("stack_switching", "a proposal that cannot run"),
    ("threads", "a proposal that cannot run"),
    ("unknown_import", "it imports what nobody has"),
];

#[test]
fn every_program_in_text_does_the_same_by_the_wasmtime_command() {
    require_kvm!();
    let apart = |name: &str| {
        NOT_COMPARED.iter().chain(DIFFERENT).any(|(not_compared, _)| *not_compared == name)
    };
    let mut names = programs::all().unwrap();
    names.retain(|name| !name.contains('.') && !apart(name));
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        Run::of(&name).unwrap().compared().unwrap();
    }
}

#[test]
fn every_program_that_is_not_compared_is_there() {
    let names = programs::all().unwrap();
    for (name, reason) in NOT_COMPARED.iter().chain(DIFFERENT) {
        let is_it = |program: &String| program.split('.').next() == Some(*name);
        assert!(names.iter().any(is_it), "no {name}: {reason}");
    }
}

#[test]
fn every_version_of_wasi_0_2_is_provided() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let scratch = Scratch::new().unwrap();
    let text = fs::read_to_string(programs::directory().join("hello.wat")).unwrap();
    for version in 0..=12 {
        let file = scratch.join(format!("hello-{version}.wasm"));
        let text = text.replace("@0.2.0", &format!("@0.2.{version}"));
        fs::write(&file, wat::parse_str(&text).unwrap()).unwrap();
        let mut command = Command::new(hyperlight().unwrap());
        command.arg("run").arg(&file);
        let outcome = process::run(&mut command).unwrap();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
    }
}
