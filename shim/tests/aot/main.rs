//! The cache of compiled programs with the real compiler in its child process.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod compiler;
mod limits;
mod snapshots;
mod space;
mod trouble;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use shim::aot::{AotCache, CompiledProgram, Origin, Wasm};
use shim::compile::{CompileError, Compiler, Entry};
use shim::digest::Digest;

const HYPERLIGHT: &str = env!("CARGO_BIN_EXE_hyperlight");

/// A component that is a command and does nothing; `salt` makes its bytes differ.
fn command(salt: u32) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (func (export "run") (result i32) i32.const {salt} drop i32.const 0))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $cli)))"#
    );
    wat::parse_str(text).unwrap()
}

fn wasm(bytes: &[u8]) -> Wasm {
    Wasm::from_bytes("test.wasm", bytes).unwrap()
}

fn cache(dir: &Path) -> AotCache {
    AotCache::new(dir, Compiler::at(HYPERLIGHT))
}

fn program(dir: &Path, bytes: &[u8]) -> Result<CompiledProgram, CompileError> {
    cache(dir).program(&wasm(bytes), Entry::Command, &|| {})
}

fn content(program: &CompiledProgram) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(program.bytes).unwrap()];
    program.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn path(program: &CompiledProgram) -> PathBuf {
    match &program.origin {
        Origin::Cached { path } | Origin::Compiled { path, .. } => path.clone(),
        Origin::Uncached { cause, .. } => panic!("{cause}"),
    }
}

/// Names of the compiled programs.
fn programs(dir: &Path) -> Vec<String> {
    names(dir).into_iter().filter(|name| name.ends_with(".cwasm")).collect()
}

/// Writes a program. A process of its own does: a child of another test that has inherited the open file would keep it
/// from being executed (`ETXTBSY`).
fn write_program(file: &Path, text: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$0\" && chmod 700 \"$0\""]).arg(file).stdin(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

fn compile(args: &[&str]) -> Output {
    Command::new(HYPERLIGHT).args(args).output().unwrap()
}

/// What it said but for progress, which it tells where the machine takes its time.
fn stderr(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    let is_progress = |line: &&str| line.starts_with("compiling ") || line.starts_with("compiled ");
    said.split_inclusive('\n').filter(|line| !is_progress(line)).collect()
}

#[test]
fn a_program_is_compiled_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = program(dir.path(), &command(1)).unwrap();
    assert!(matches!(first.origin, Origin::Compiled { .. }), "{:?}", first.origin);
    let second = program(dir.path(), &command(1)).unwrap();
    assert!(matches!(second.origin, Origin::Cached { .. }), "{:?}", second.origin);
    assert_eq!(content(&first), content(&second));
}

#[test]
fn compiling_leaves_the_program_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let compiled = program(dir.path(), &command(1)).unwrap();
    assert_eq!(names(dir.path()), [path(&compiled).file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn other_bytes_are_another_program() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (program(dir.path(), &command(1)), program(dir.path(), &command(2)));
    assert_ne!(path(&one.unwrap()), path(&two.unwrap()));
}

#[test]
fn the_directory_is_made_for_this_user_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("var/cache");
    program(&dir, &command(1)).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn many_that_need_the_same_program_compile_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    fs::write(&file, command(1)).unwrap();
    let cache = dir.path().join("cache");
    let compile_in_a_process = || {
        let output = Command::new(HYPERLIGHT)
            .args(["compile", "--json", "--cache-dir"])
            .args([&cache, &file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = (0..12).map(|_| scope.spawn(compile_in_a_process)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer["cached"] == false).count(), 1);
    assert_eq!(programs(&cache).len(), 1);
}

/// Waits until what was written counts as settled: no call sets the time of a change.
fn settle() {
    thread::sleep(Duration::from_millis(3500));
}

#[test]
fn the_digest_of_a_file_is_remembered_until_the_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (file, cache) = (dir.path().join("app.wasm"), cache(&dir.path().join("cache")));
    let table = dir.path().join("cache/digests");
    let bytes = vec![1; 1 << 20];
    fs::write(&file, &bytes).unwrap();
    // What changed a moment ago may change again at the same time.
    assert_eq!(cache.wasm(&file).unwrap().sha256(), Digest::of(&bytes).hex());
    assert!(!table.exists());
    settle();
    for _ in 0..2 {
        assert_eq!(cache.wasm(&file).unwrap().sha256(), Digest::of(&bytes).hex());
    }
    assert!(table.exists());
    // The same size, and the time of modification that it had.
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let other = vec![2; 1 << 20];
    fs::write(&file, &other).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    assert_eq!(cache.wasm(&file).unwrap().sha256(), Digest::of(&other).hex());
}
