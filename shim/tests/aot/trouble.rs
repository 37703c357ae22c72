//! What can be wrong with a cache: its files, its directory, its disk, other processes. The program is
//! there in any case.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use shim::aot::{CacheError, Origin};
use shim::digest::Digest;

use super::{HYPERLIGHT, command, compile, content, names, path, program, programs, stderr};

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
        .stderr(Stdio::null())
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
    let script = r#"mount -t tmpfs -o mode=700,$3 tmpfs "$1"
        "$0" compile --cache-dir "$1" "$2"; status=$?; ls -A "$1"; exit $status"#;
    run_in_a_mount_namespace(script, options)
}

/// Runs `script` in a mount namespace of its own, with the executable, an empty directory, a file and
/// `argument`. Returns what was said; `None` without the right to mount.
fn run_in_a_mount_namespace(script: &str, argument: &str) -> Option<(Output, String)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, cache) = (dir.path().join("app.wasm"), dir.path().join("cache"));
    fs::write(&file, command(1)).unwrap();
    fs::create_dir(&cache).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, HYPERLIGHT])
        .args([&cache, &file])
        .arg(argument)
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
    assert!(answer.lines().next().unwrap().contains("not kept"), "{answer}");
    // The table of digests is of a page and may fit; it is of use to the next.
    assert!(answer.lines().skip(1).all(|name| name == "digests"), "{answer}");
}

#[test]
fn a_read_only_disk_is_named() {
    let Some((output, said)) = compile_on_tmpfs("ro") else { return };
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Read-only file system") && said.lines().count() == 1, "{said}");
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

/// Compiles `app.wasm` of `dir` into its directory `cache`, by hand.
fn compile_by_hand(dir: &Path) -> Command {
    let mut hyperlight = Command::new(HYPERLIGHT);
    hyperlight.args(["compile", "--cache-dir"]);
    hyperlight.args([dir.join("cache"), dir.join("app.wasm")]);
    hyperlight
}

#[test]
fn each_unfit_file_is_replaced_with_one_line_about_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("app.wasm"), command(1)).unwrap();
    let compile = || compile_by_hand(dir.path()).output().unwrap();
    assert!(compile().status.success());
    let cache = dir.path().join("cache");
    let program = cache.join(&programs(&cache)[0]);
    let good = fs::read(&program).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let unfit = [
        ("cut off in the program", good[..good.len() / 2].to_vec()),
        ("cut off in the trailer", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("damaged program", flipped(good.len() / 2)),
        ("another version", flipped(good.len() - 185)),
        ("longer", [&good[..], b"more"].concat()),
    ];
    for (what, bytes) in unfit {
        // Another file by the name, as a copy that broke off leaves it.
        fs::remove_file(&program).unwrap();
        fs::write(&program, bytes).unwrap();
        let output = compile();
        let said = stderr(&output);
        assert!(output.status.success(), "{what}: {said}");
        assert!(said.lines().count() == 1 && said.contains("again"), "{what}: {said}");
        assert!(fs::read(&program).unwrap() == good, "{what}");
        assert_eq!(stderr(&compile()), "", "{what}");
    }
}

#[test]
fn a_file_system_without_a_size_has_a_bound_too() {
    let script = r#"mount -t tmpfs -o mode=700,size=0 tmpfs "$1"
        exec "$0" cache list --json --cache-dir "$1""#;
    let Some((output, said)) = run_in_a_mount_namespace(script, "") else { return };
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["bytes_max"].as_u64(), said.as_str()), (Some(4 << 30), ""));
}

#[test]
fn an_unfit_file_on_a_read_only_disk_is_not_used() {
    let script = r#"mount -t tmpfs -o mode=700 tmpfs "$1"
        "$0" compile --cache-dir "$1" "$2" >/dev/null || exit 9
        for program in "$1"/*.cwasm; do truncate -s 100 "$program"; done
        mount -o remount,ro "$1"
        exec "$0" compile --cache-dir "$1" "$2""#;
    let Some((output, said)) = run_in_a_mount_namespace(script, "") else { return };
    assert!(output.status.success(), "{said}");
    assert!(said.lines().count() == 1 && said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_read_only_cache_is_read() {
    let script = r#"mount -t tmpfs -o mode=700 tmpfs "$1"
        "$0" compile --cache-dir "$1" "$2" >/dev/null || exit 9
        mount -o remount,ro "$1"
        exec "$0" compile --json --cache-dir "$1" "$2""#;
    let Some((output, said)) = run_in_a_mount_namespace(script, "") else { return };
    assert_eq!(said, "");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["cached"], true);
}

#[test]
fn a_compiler_that_is_killed_leaves_no_program() {
    let dir = tempfile::tempdir().unwrap();
    // Large enough to be caught at work: some ten thousand functions.
    let function = "(func (param i64 i64) (result i64) local.get 0 local.get 1 i64.mul \
                    local.get 0 i64.add local.get 1 i64.xor local.get 0 i64.rotl)";
    let text = format!("(module (func (export \"_start\")) {})", function.repeat(30_000));
    fs::write(dir.path().join("app.wasm"), wat::parse_str(text).unwrap()).unwrap();
    let cache = dir.path().join("cache");
    for delay in [20, 100, 300] {
        let mut child = compile_by_hand(dir.path())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        if !child.wait().unwrap().success() && cache.exists() {
            assert_eq!(programs(&cache), [""; 0]);
        }
    }
    let output = compile_by_hand(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    // Beside the program there may be its snapshot, where there is KVM.
    let is_other = |name: &String| !name.contains("digests") && !name.ends_with(".snapshot");
    let left: Vec<_> = names(&cache).into_iter().filter(is_other).collect();
    assert_eq!(left, programs(&cache));
}

#[test]
fn a_file_system_without_locks_is_named_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("app.wasm"), command(1)).unwrap();
    let compile = |by: &mut Command| {
        let options = ["--cache-dir".into(), dir.path().join("cache"), dir.path().join("app.wasm")];
        by.arg("compile").args(options).output()
    };
    let without_locks = || {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", "inject=flock:error=ENOLCK", HYPERLIGHT]);
        compile(&mut strace)
    };
    let Ok(output) = without_locks() else {
        eprintln!("skipped: no strace, by which flock fails");
        return;
    };
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.lines().count() == 1 && said.contains("No locks available"), "{said}");
    assert_eq!(programs(&dir.path().join("cache")), [""; 0]);
    // What is there is read without them.
    assert!(compile(&mut Command::new(HYPERLIGHT)).unwrap().status.success());
    let output = without_locks().unwrap();
    assert_eq!(stderr(&output), "");
    assert!(String::from_utf8(output.stdout).unwrap().contains("in the cache"));
}
