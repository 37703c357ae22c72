//! Every test program has a test.

use std::fs;

use integration::{programs, workspace};

#[test]
fn every_program_is_named_by_a_test() {
    let tests: String = fs::read_dir(workspace().join("integration/tests"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let unnamed: Vec<_> = fs::read_dir(programs::directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !tests.contains(&format!("\"{}\"", path.file_stem().unwrap().display())))
        .collect();
    assert!(unnamed.is_empty(), "no test runs {unnamed:?}");
}

#[test]
fn every_program_is_a_valid_binary() {
    for entry in fs::read_dir(programs::directory()).unwrap() {
        let wasm = programs::build(&entry.unwrap().path()).unwrap();
        let bytes = fs::read(&wasm).unwrap();
        wasmparser::validate(&bytes).unwrap_or_else(|error| panic!("{}: {error}", wasm.display()));
    }
}
