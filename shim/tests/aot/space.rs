//! The bound on the cache's size, and what people see of it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use shim::aot::{AotCache, CompiledProgram, Usage, Wasm};
use shim::compile::Entry;

use super::{HYPERLIGHT, cache, command, compile, names, path, program, programs, stderr};

/// A program in `cache` that is not in use.
fn stored(cache: &AotCache, salt: u32) -> PathBuf {
    let wasm = Wasm::from_bytes(format!("{salt}.wasm"), &command(salt)).unwrap();
    path(&cache.program(&wasm, Entry::Command, &|| {}).unwrap())
}

/// Lets the program at `path` be stored, and used, `hours` ago.
fn set_used(path: &Path, hours: u64) {
    let time = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn disk_bytes(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

fn snapshot(cache: &AotCache, program: &CompiledProgram, bytes: usize) -> File {
    let fill = |file: &File| file.write_all_at(&vec![7; bytes], 0);
    cache.store_snapshot(program, b"", fill).unwrap()
}

#[test]
fn the_usage_is_that_of_all_files_that_count_towards_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir.path().join("cache"));
    assert_eq!(cache.usage().unwrap(), Usage::default());
    stored(&cache, 1);
    let with_snapshot = program(cache.path(), &command(2)).unwrap();
    drop(snapshot(&cache, &with_snapshot, 1 << 20));

    let files = names(cache.path()).into_iter().map(|name| cache.path().join(name));
    let bytes = files.filter(|it| it.extension().is_some()).map(|it| disk_bytes(&it)).sum();
    assert_eq!(cache.usage().unwrap(), Usage { programs: 2, snapshots: 1, bytes });
    assert!(bytes > 1 << 20);
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let paths: Vec<_> = (1..=3).map(|salt| stored(&cache, salt)).collect();
    for (path, hours) in paths.iter().zip([2, 9, 5]) {
        set_used(path, hours);
    }
    let bounded = cache.clone().with_size(disk_bytes(&paths[0]) * 3);
    let newest = stored(&bounded, 4);
    let there = [&paths[0], &paths[1], &paths[2], &newest].map(|path| path.exists());
    assert_eq!(there, [true, false, true, true]);
}

#[test]
fn a_program_goes_with_its_snapshot_and_all_that_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let old = program(dir.path(), &command(1)).unwrap();
    drop(snapshot(&cache, &old, 1 << 20));
    let old_path = path(&old);
    drop(old);
    super::settle();
    drop(program(dir.path(), &command(1)).unwrap());
    assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
    for name in names(dir.path()) {
        set_used(&dir.path().join(name), 9);
    }
    let newest = stored(&cache.with_size(100 << 10), 2);
    assert!(!old_path.exists());
    assert_eq!(names(dir.path()), [newest.file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn storing_a_snapshot_makes_room_too() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path()).with_size(1 << 20);
    let old = stored(&cache, 1);
    set_used(&old, 9);
    let new = program(dir.path(), &command(2)).unwrap();
    assert!(old.exists());
    snapshot(&cache, &new, 2 << 20);
    // What is in use stays, whatever it takes.
    assert!(!old.exists() && path(&new).exists());
}

#[test]
fn a_program_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let used = program(dir.path(), &command(1)).unwrap();
    set_used(&path(&used), 9);
    let idle = stored(&cache, 2);
    set_used(&idle, 1);
    let bounded = cache.with_size(0);
    stored(&bounded, 3);
    assert!(path(&used).exists() && !idle.exists());
    let used = {
        let path = path(&used);
        drop(used);
        path
    };
    stored(&bounded, 4);
    assert!(!used.exists());
}

#[test]
fn a_key_that_is_locked_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let old = stored(&cache, 1);
    let mut holder = Command::new("flock")
        .arg(old.with_extension("lock"))
        .args(["sh", "-c", "echo; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    stored(&cache.with_size(0), 2);
    assert!(old.exists());
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn many_processes_keep_the_bound_together() {
    let dir = tempfile::tempdir().unwrap();
    let one = disk_bytes(&stored(&cache(dir.path()), 0));
    let bound = one * 4;
    thread::scope(|scope| {
        for process in 0..4 {
            let cache = cache(dir.path()).with_size(bound);
            scope.spawn(move || {
                (0..6).for_each(|salt| drop(stored(&cache, 1 + process * 10 + salt)))
            });
        }
    });
    // Whoever stored last has seen all of it, unless another was just making room.
    stored(&cache(dir.path()).with_size(bound), 99);
    let bytes: u64 = names(dir.path()).iter().map(|name| disk_bytes(&dir.path().join(name))).sum();
    assert!(bytes <= bound, "{bytes} of {bound}");
    assert!(!programs(dir.path()).is_empty());
}

#[test]
fn being_killed_while_making_room_leaves_whole_programs() {
    let dir = tempfile::tempdir().unwrap();
    let (file, dir_of_cache) = (dir.path().join("app.wasm"), dir.path().join("cache"));
    let cache = cache(&dir_of_cache);
    for round in 0..5 {
        for salt in 1..=20 {
            stored(&cache, salt);
        }
        fs::write(&file, command(1000 + round)).unwrap();
        let mut child = Command::new(HYPERLIGHT)
            .args(["compile", "--cache-size", "0", "--cache-dir"])
            .args([&dir_of_cache, &file])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(4 + 3 * u64::from(round)));
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever is there is sound: nothing is said about it, and nothing is in the way.
        for salt in 1..=20 {
            fs::write(&file, command(salt)).unwrap();
            let dir = dir_of_cache.to_str().unwrap();
            let output = compile(&["compile", "--cache-dir", dir, file.to_str().unwrap()]);
            assert!(output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output));
        }
    }
}

#[test]
fn the_environment_bounds_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let list = |size: &str| {
        let output = Command::new(HYPERLIGHT)
            .args(["cache", "list", "--json", "--cache-dir", dir.path().to_str().unwrap()])
            .env("HYPERLIGHT_CACHE_SIZE", size)
            .output()
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (answer["bytes_max"].as_u64().unwrap(), stderr(&output))
    };
    assert_eq!(list("64MiB"), (64 << 20, String::new()));
    let (bytes_max, said) = list("plenty");
    assert!(bytes_max > 0 && said.contains("plenty") && said.lines().count() == 1, "{said}");
}

#[test]
fn without_a_bound_a_tenth_of_the_disk_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = rustix::fs::statvfs(dir.path()).unwrap();
    let tenth = disk.f_blocks * disk.f_frsize / 10;
    assert_eq!(cache(dir.path()).bytes_max().unwrap(), tenth.min(4 << 30));
}

#[test]
fn a_person_sees_what_is_there_and_frees_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    drop(snapshot(&cache, &program(dir.path(), &command(1)).unwrap(), 4096));
    let other = stored(&cache, 2);
    set_used(&other, 50);
    let cache_dir = dir.path().to_str().unwrap();
    let output = compile(&["cache", "list", "--cache-dir", cache_dir]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[1].contains("test.wasm") && lines[1].contains("yes"), "{text}");
    assert!(lines[2].contains("2.wasm") && lines[2].contains("2 days ago"), "{text}");
    assert!(lines[3].contains("2 programs"), "{text}");

    let output = compile(&["cache", "list", "--json", "--cache-dir", cache_dir]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let digest = shim::digest::Digest::of(&command(1)).to_string();
    assert_eq!(answer["programs"][0]["digest"], digest);
    assert_eq!(answer["programs"][1]["snapshot"], false);

    let output = compile(&["cache", "clear", "--cache-dir", cache_dir]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("removed 2 programs"));
    assert!(programs(dir.path()).is_empty());
    assert!(cache.entries().unwrap().is_empty());
}

#[test]
fn a_cache_that_does_not_exist_is_empty() {
    let output = compile(&["cache", "list", "--cache-dir", "/nonexistent"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    assert!(String::from_utf8(output.stdout).unwrap().contains("0 programs"));
}
