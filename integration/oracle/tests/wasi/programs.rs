//! The test programs that need no toolchain, in whole: what they write and how they end, on both sides.

use std::path::{Path, PathBuf};

use oracle::{CallLog, Grants, Outcome, Program, TRAPPED, Wasi, capture};

/// Programs that are not run here, and why.
const NOT_RUN: [(&str, &str); 2] = [
    ("fill_memory", "it runs until it is ended from outside"),
    ("spin", "it runs until it is ended from outside"),
];

fn programs() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../programs");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut programs: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "wat"))
        .filter(|path| NOT_RUN.iter().all(|(name, _)| path.file_stem() != Some(name.as_ref())))
        .collect();
    programs.sort();
    programs
}

/// Runs a program; `None` if it cannot be compiled or linked.
fn outcome(wasi: Wasi, path: &Path) -> Option<Outcome> {
    let name = path.file_stem().unwrap().to_string_lossy();
    let wasm = wat::parse_file(path).unwrap();
    let program = Program::compile(&name, &wasm).ok()?;
    let grants = Grants { args: vec![name.into_owned()], ..Grants::default() };
    capture(wasi, &program, &grants, b"input", &CallLog::default()).ok()
}

#[test]
fn programs_write_and_end_as_in_wasmtime() {
    let programs = programs();
    assert!(programs.len() > 10, "{programs:?}");
    for path in programs {
        let (ours, theirs) = (outcome(Wasi::Ours, &path), outcome(Wasi::Theirs, &path));
        // Each side reports a trap in its own words.
        let comparable = |outcome: &Option<Outcome>| match outcome {
            Some(Outcome { status: TRAPPED, stdout, stderr }) => {
                Some((TRAPPED, stdout.clone(), vec![u8::from(!stderr.is_empty())]))
            }
            Some(Outcome { status, stdout, stderr }) => {
                Some((*status, stdout.clone(), stderr.clone()))
            }
            None => None,
        };
        assert_eq!(comparable(&ours), comparable(&theirs), "{}", path.display());
    }
}
