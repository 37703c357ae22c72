//! The cache of compiled programs with the real compiler in its child process.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use shim::aot::{AotCache, CacheError, CompiledProgram, Origin, Wasm};
use shim::compile::{CompileError, Compiler, Entry, Job, Refusal};
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

fn compile(args: &[&str]) -> Output {
    Command::new(HYPERLIGHT).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
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
fn a_damaged_program_is_compiled_again_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let first = program(dir.path(), &command(1)).unwrap();
    let (path, good) = (path(&first), content(&first));
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&path, &fs::read(&path).unwrap()[..good.len() / 2]).unwrap();
    let second = program(dir.path(), &command(1)).unwrap();
    assert!(matches!(second.origin, Origin::Compiled { .. }), "{:?}", second.origin);
    assert!(content(&second) == good);
    let third = program(dir.path(), &command(1)).unwrap();
    assert!(matches!(third.origin, Origin::Cached { .. }), "{:?}", third.origin);
}

#[test]
fn a_directory_that_others_can_write_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let compiled = program(dir.path(), &command(1)).unwrap();
    let Origin::Uncached { cause, .. } = &compiled.origin else { panic!("{:?}", compiled.origin) };
    assert!(matches!(cause, CacheError::Untrusted { mode: 0o777, .. }), "{cause}");
    assert!(compiled.bytes > 0 && content(&compiled).starts_with(b"\x7fELF"));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn where_no_directory_can_be_made_the_program_exists_in_memory() {
    let compiled = program(Path::new("/proc/no/cache"), &command(1)).unwrap();
    let Origin::Uncached { cause, .. } = &compiled.origin else { panic!("{:?}", compiled.origin) };
    assert!(matches!(cause, CacheError::CreateDir { .. }), "{cause}");
    assert!(fs::read(compiled.path()).unwrap().starts_with(b"\x7fELF"));
}

#[test]
fn a_program_that_cannot_be_written_exists_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let first = path(&program(dir.path(), &command(1)).unwrap());
    // A directory by the program's name stands in the way of the rename.
    fs::remove_file(&first).unwrap();
    fs::create_dir(&first).unwrap();
    let compiled = program(dir.path(), &command(1)).unwrap();
    let Origin::Uncached { cause, .. } = &compiled.origin else { panic!("{:?}", compiled.origin) };
    assert!(matches!(cause, CacheError::Write { .. }), "{cause}");
    assert!(content(&compiled).starts_with(b"\x7fELF"));
    assert_eq!(names(dir.path()).len(), 1);
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
    assert_eq!(names(&cache).len(), 1);
}

#[test]
fn what_a_dead_process_left_behind_is_removed_by_the_next_compilation() {
    let dir = tempfile::tempdir().unwrap();
    let stem = Digest::of(b"of a program that nobody needs any more").hex().to_owned();
    fs::write(dir.path().join(format!("{stem}.tmp")), "half a program").unwrap();
    fs::write(dir.path().join(format!("{stem}.lock")), "").unwrap();
    program(dir.path(), &command(1)).unwrap();
    assert_eq!(names(dir.path()).len(), 1);
}

#[test]
fn a_process_that_dies_with_the_lock_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let compiled = path(&program(dir.path(), &command(1)).unwrap());
    fs::remove_file(&compiled).unwrap();
    let lock = compiled.with_extension("lock");
    let mut holder = Command::new("flock")
        .args(["--close", "--exclusive"])
        .arg(&lock)
        .args(["sh", "-c", "echo held; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| program(dir.path(), &command(1)).unwrap());
        // Time to run into the lock; that it does not get past it is not what is tested here.
        thread::sleep(Duration::from_millis(200));
        assert!(!compiled.exists());
        // Its child is not the holder of anything, and ends with its pipe.
        Command::new("pkill").args(["-P", &holder.id().to_string()]).status().unwrap();
        holder.kill().unwrap();
        holder.wait().unwrap();
        second.join().unwrap()
    });
    assert!(matches!(second.origin, Origin::Compiled { .. }), "{:?}", second.origin);
    assert_eq!(names(dir.path()).len(), 1);
}

/// Compiles with a cache on a tmpfs that is mounted with `options`, in a mount namespace of its own.
/// Returns what was said and what is left in the cache; `None` without the right to mount.
fn compile_on_tmpfs(options: &str) -> Option<(Output, String)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, cache) = (dir.path().join("app.wasm"), dir.path().join("cache"));
    fs::write(&file, command(1)).unwrap();
    fs::create_dir(&cache).unwrap();
    let script = r#"mount -t tmpfs -o mode=700,$3 tmpfs "$1"
        "$0" compile --cache-dir "$1" "$2"; status=$?; ls -A "$1"; exit $status"#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, HYPERLIGHT])
        .args([&cache, &file])
        .arg(options)
        .output()
        .unwrap();
    let said = stderr(&output);
    Some((output, said))
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_on_it() {
    let Some((output, said)) = compile_on_tmpfs("size=8k") else { return };
    assert!(output.status.success(), "{said}");
    assert!(said.contains("No space left on device") && said.lines().count() == 1, "{said}");
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.lines().count() == 1 && answer.contains("not kept"), "{answer}");
}

#[test]
fn a_read_only_disk_is_named() {
    let Some((output, said)) = compile_on_tmpfs("ro") else { return };
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Read-only file system") && said.lines().count() == 1, "{said}");
}

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
            .args([wasm(&command(1)).sha256(), Entry::Command.word()])
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
fn the_cache_is_named_where_it_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    fs::write(&file, command(1)).unwrap();
    let output = compile(&["compile", "--cache-dir", "/proc/no", file.to_str().unwrap()]);
    assert!(output.status.success());
    let said = stderr(&output);
    assert!(said.contains("/proc/no") && said.lines().count() == 1, "{said}");
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
