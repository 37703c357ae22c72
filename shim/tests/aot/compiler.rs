//! The compiler's child process, and what it refuses.

use std::fs;
use std::io::{self, Read};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use shim::aot::{AotCache, Wasm};
use shim::compile::{BUILD, CompileError, Compiler, Entry, Job, Refusal};
use shim::digest::Digest;

use super::{
    HYPERLIGHT, cache, command, compile, names, program, programs, stderr, wasm, write_program,
};

/// An executable that does as `script` says where it is to compile, and else answers as the compiler.
fn instead_of_compiling(file: &Path, script: &str) {
    let script = format!("#!/bin/sh\n[ $1 = __compile ] || exec {HYPERLIGHT} \"$@\"\n{script}\n");
    write_program(file, &script);
}

#[test]
fn a_file_that_is_not_wasm_is_refused_by_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let error = program(dir.path(), b"#!/bin/sh\n").unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::NotWasm { .. })), "{error}");
    assert!(programs(dir.path()).is_empty());
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
    instead_of_compiling(&broken, "echo assertion failed >&2\nkill -SEGV $$");
    let cache = AotCache::new(dir.path().join("cache"), Compiler::at(&broken));
    let error = cache.program(&wasm(&command(1)), Entry::Command, &|| {}).unwrap_err();
    let CompileError::Crashed { status, said } = &error else { panic!("{error}") };
    assert_eq!((status.signal(), said.as_str()), (Some(11), "assertion failed"));
    assert!(programs(&dir.path().join("cache")).is_empty());
}

#[test]
fn a_compiler_of_another_build_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("compiler");
    let script = format!("#!/bin/sh\njob=$1\nshift 2\nexec {HYPERLIGHT} $job another \"$@\"\n");
    write_program(&other, &script);
    let cache = AotCache::new(dir.path().join("cache"), Compiler::at(&other));
    let error = cache.program(&wasm(&command(1)), Entry::Command, &|| {}).unwrap_err();
    assert!(matches!(&error, CompileError::OtherBuild(path) if *path == other), "{error}");
}

#[test]
fn what_programs_depend_on_is_remembered_in_the_cache() {
    if !Path::new("/dev/kvm").exists() {
        assert_ne!(std::env::var_os("REQUIRE_KVM").as_deref(), Some("1".as_ref()));
        eprintln!("skipped: no /dev/kvm");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wasm");
    fs::write(&file, command(1)).unwrap();
    let cache = dir.path().join("cache");
    let file = file.to_str().unwrap();
    let compiled = compile(&["compile", "--cache-dir", cache.to_str().unwrap(), file]);
    assert!(compiled.status.success(), "{}", stderr(&compiled));
    // The digest of a file of this moment is not.
    assert!(names(&cache).iter().any(|name| name == "digests"), "{:?}", names(&cache));
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
            .args(["-c", &script, HYPERLIGHT, Job::Compile.subcommand(), BUILD])
            .args([wasm(&command(1)).sha256(), Entry::Command.word(), "none"])
            .args(["8589934592", "900"])
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

#[test]
fn many_programs_are_compiled_a_few_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, slow) = (dir.path().join("log"), dir.path().join("compiler"));
    let script = format!("echo + >>{0}\nsleep 0.1\necho - >>{0}\nexit 1", log.display());
    instead_of_compiling(&slow, &script);
    let turns = NonZero::new(2).unwrap();
    let compiler = Compiler::at(&slow).with_turns(dir.path().join("turns"), turns);
    let cache = AotCache::new(dir.path().join("cache"), compiler);
    thread::scope(|scope| {
        for salt in 0..8 {
            let cache = &cache;
            scope.spawn(move || {
                let compiled = cache.program(&wasm(&command(salt)), Entry::Command, &|| {});
                assert!(matches!(compiled.unwrap_err(), CompileError::Crashed { .. }));
            });
        }
    });
    let log = fs::read_to_string(log).unwrap();
    let (mut at_work, mut most) = (0, 0);
    for line in log.lines() {
        at_work += if line == "+" { 1 } else { -1 };
        most = most.max(at_work);
    }
    assert_eq!((log.lines().count(), at_work), (16, 0), "{log}");
    assert!((1..=2).contains(&most), "{log}");
}

#[test]
fn a_turn_of_a_process_that_was_killed_is_given_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("turns")).unwrap();
    let mut holder = Command::new("flock")
        .arg("--no-fork")
        .arg(dir.path().join("turns/0"))
        .args(["sh", "-c", "echo; exec sleep 600"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let turns = NonZero::new(1).unwrap();
    let compiler = Compiler::at(HYPERLIGHT).with_turns(dir.path().join("turns"), turns);
    let cache = AotCache::new(dir.path().join("cache"), compiler);
    let (cache, waited) = (&cache, &AtomicBool::new(false));
    thread::scope(|scope| {
        let waiting = || waited.store(true, Ordering::SeqCst);
        let compile = move || cache.program(&wasm(&command(1)), Entry::Command, &waiting).unwrap();
        let compiled = scope.spawn(compile);
        while !waited.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(!compiled.is_finished());
        holder.kill().unwrap();
        holder.wait().unwrap();
        compiled.join().unwrap();
    });
}
