//! Every test program has a test, in each of its builds.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use integration::{programs, workspace};

/// Every test source.
fn tests() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![workspace().join("integration/tests")];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The programs that a test source names: "stem" and "stem.build" as text, and the lines of
/// `behaviours!`, `test: stem [build build];`.
fn named(test: &Path) -> Vec<String> {
    let text = fs::read_to_string(test).unwrap();
    let quoted = regex::Regex::new(r#""([a-z0-9_]+(?:\.[a-z0-9_]+)?)""#).unwrap();
    let mut names: Vec<_> = quoted.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    let listed = regex::Regex::new(r"\w+:\s+(\w+)\s+\[([\w\s]+)\];").unwrap();
    for found in listed.captures_iter(&text) {
        names.extend(found[2].split_whitespace().map(|build| format!("{}.{build}", &found[1])));
    }
    names
}

#[test]
fn every_build_of_every_program_is_named_by_a_test() {
    let named: Vec<_> = tests().iter().flat_map(|test| named(test)).collect();
    let mut programs = programs::all().unwrap();
    assert!(programs.len() > 50, "{programs:?}");
    programs.retain(|program| !named.contains(program));
    assert!(programs.is_empty(), "no test runs {programs:?}");
}

#[test]
fn every_program_is_a_valid_binary() {
    // Each toolchain beside the others: together they take minutes where nothing is built.
    let mut by_build: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for name in programs::all().unwrap() {
        by_build.entry(name.split_once('.').map(|it| it.1.to_owned())).or_default().push(name);
    }
    std::thread::scope(|scope| {
        for names in by_build.values() {
            scope.spawn(|| names.iter().for_each(|name| validate(name)));
        }
    });
}

fn validate(name: &str) {
    let wasm = programs::program(name).unwrap();
    let bytes = fs::read(&wasm).unwrap();
    let mut validator = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all());
    validator.validate_all(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
}
