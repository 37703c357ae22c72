//! The compiler's child process, and what it refuses.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use shim::aot::{AotCache, Wasm};
use shim::compile::{CompileError, Compiler, Entry, Job, Refusal};
use shim::digest::Digest;

use super::{HYPERLIGHT, cache, command, names, program, stderr, wasm};

#[test]
fn a_file_that_is_not_wasm_is_refused_by_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let error = program(dir.path(), b"#!/bin/sh\n").unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::NotWasm { .. })), "{error}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn bytes_that_are_not_those_of_the_digest_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("blob");
    fs::write(&file, command(1)).unwrap();
    let blob = fs::File::open(&file).unwrap();
    let wasm = Wasm::verified("blob", blob, &Digest::of(&command(2))).unwrap();
    let error =
        cache(&dir.path().join("cache")).program(&wasm, Entry::Command, &|| {}).unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::OtherContent { .. })), "{error}");
}

#[test]
fn a_compiler_that_crashes_is_an_error_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("compiler");
    fs::write(&broken, "#!/bin/sh\necho assertion failed >&2\nkill -SEGV $$\n").unwrap();
    fs::set_permissions(&broken, PermissionsExt::from_mode(0o700)).unwrap();
    let cache = AotCache::new(dir.path().join("cache"), Compiler::at(&broken));
    let error = cache.program(&wasm(&command(1)), Entry::Command, &|| {}).unwrap_err();
    let CompileError::Crashed { status, said } = &error else { panic!("{error}") };
    assert_eq!((status.signal(), said.as_str()), (Some(11), "assertion failed"));
    assert!(names(&dir.path().join("cache")).is_empty());
}

#[test]
fn a_compiler_that_does_not_exist_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cache = AotCache::new(dir.path(), Compiler::at("/nonexistent/compiler"));
    let error = cache.program(&wasm(&command(1)), Entry::Command, &|| {}).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/compiler"), "{error}");
}

#[test]
fn the_child_confines_itself() {
    let status = |limit: &str| {
        let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&command(1), 0).unwrap();
        let output = Command::new("sh")
            .args(["-c", &script, HYPERLIGHT, Job::Compile.subcommand()])
            .args([wasm(&command(1)).sha256(), Entry::Command.word(), "none"])
            .stdin(file)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        (output.status, stderr(&output))
    };
    assert!(status("-n 1024").0.success());
    // A limit of the parent's that is lower still counts: here it is too low to compile anything.
    let (failed, said) = status("-v 20000");
    assert!(!failed.success(), "{said}");
}

#[test]
fn each_file_that_cannot_run_is_one_line_and_its_own_status() {
    let dir = tempfile::tempdir().unwrap();
    let core = wat::parse_str("(module)").unwrap();
    let mut corrupt = command(1);
    corrupt.truncate(61);
    let cases: [(&str, Option<&[u8]>, i32, &str); 6] = [
        ("missing.wasm", None, 127, "No such file"),
        ("text.wasm", Some(b"hello, world"), 126, "not WebAssembly"),
        ("empty.wasm", Some(b""), 126, "empty"),
        ("core.wasm", Some(&core), 126, "exports no `_start`"),
        ("corrupt.wasm", Some(&corrupt), 126, "invalid WebAssembly"),
        ("nothing.wasm", Some(b"\0asm\x0d\0\x01\0"), 126, "wasi:cli/run"),
    ];
    for (name, bytes, status, reason) in cases {
        let file = dir.path().join(name);
        if let Some(bytes) = bytes {
            fs::write(&file, bytes).unwrap();
        }
        let cache = dir.path().join("cache");
        let output = Command::new(HYPERLIGHT)
            .args(["run", "--cache-dir"])
            .args([&cache, &file])
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("hyperlight: ") && said.contains(name), "{said}");
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn a_closed_pipe_is_no_panic() -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let output = Command::new(HYPERLIGHT)
        .arg("version")
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    assert!(!output.status.success());
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    Ok(())
}
