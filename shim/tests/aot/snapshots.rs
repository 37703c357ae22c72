//! Snapshots beside their programs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use shim::aot::{AotCache, CacheError, CompiledProgram};

use super::{cache, command, names, path, program};

/// A page at the start, one in the middle of a gibibyte of nothing, a few bytes at its end.
const PARTS: [(u64, &[u8]); 3] = [(0, &[1; 4096]), (512 << 20, &[2; 4096]), (1 << 30, b"metadata")];

fn fill(file: &File) -> io::Result<()> {
    assert_eq!(file.metadata()?.len(), 0);
    PARTS.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at))
}

fn assert_filled(file: &File) {
    for (at, bytes) in PARTS {
        let mut found = vec![0; bytes.len()];
        file.read_exact_at(&mut found, at).unwrap();
        assert!(found == bytes, "at {at}");
    }
    let mut hole = [1; 4096];
    file.read_exact_at(&mut hole, 100 << 20).unwrap();
    assert_eq!(hole, [0; 4096]);
}

/// A cache with a program, and the path of its snapshot.
fn with_program(dir: &Path) -> (AotCache, CompiledProgram, PathBuf) {
    let program = program(dir, &command(1)).unwrap();
    let path = path(&program).with_extension("snapshot");
    (cache(dir), program, path)
}

#[test]
fn a_snapshot_is_found_by_its_identity_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, program, _) = with_program(dir.path());
    assert!(cache.snapshot(&program, b"image 1").is_none());
    assert_filled(&cache.store_snapshot(&program, b"image 1", fill).unwrap());
    assert_filled(&cache.snapshot(&program, b"image 1").unwrap());
    assert!(cache.snapshot(&program, b"image 2").is_none());
}

#[test]
fn a_snapshot_of_another_identity_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, program, _) = with_program(dir.path());
    cache.store_snapshot(&program, b"image 1", fill).unwrap();
    cache.store_snapshot(&program, b"image 2", fill).unwrap();
    assert!(cache.snapshot(&program, b"image 1").is_none());
    assert_filled(&cache.snapshot(&program, b"image 2").unwrap());
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn what_was_never_written_takes_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, program, path) = with_program(dir.path());
    cache.store_snapshot(&program, b"", fill).unwrap();
    let metadata = fs::metadata(path).unwrap();
    assert!(metadata.len() > 1 << 30 && metadata.blocks() * 512 < 1 << 20, "{metadata:?}");
}

#[test]
fn a_damaged_snapshot_is_refused_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, program, path) = with_program(dir.path());
    let len = cache.store_snapshot(&program, b"", fill).unwrap().metadata().unwrap().len();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    // In a page, in a hole, in the trailer.
    for at in [4000, 100 << 20, (1 << 30) + 3, len - 100] {
        file.write_all_at(b"x", at).unwrap();
        assert!(cache.snapshot(&program, b"").is_none(), "at {at}");
        assert_filled(&cache.store_snapshot(&program, b"", fill).unwrap());
        assert_filled(&cache.snapshot(&program, b"").unwrap());
        fs::remove_file(&path).unwrap();
        cache.store_snapshot(&program, b"", fill).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(len - 1).unwrap();
        assert!(cache.snapshot(&program, b"").is_none(), "cut off");
    }
}

#[test]
fn a_snapshot_that_others_can_write_is_not_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, program, path) = with_program(dir.path());
    cache.store_snapshot(&program, b"", fill).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o422)).unwrap();
    assert!(cache.snapshot(&program, b"").is_none());
}

#[test]
fn a_snapshot_in_a_directory_that_others_can_write_is_neither_loaded_nor_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, program, _) = with_program(dir.path());
    cache.store_snapshot(&program, b"", fill).unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    assert!(cache.snapshot(&program, b"").is_none());
    let error = cache.store_snapshot(&program, b"", fill).unwrap_err();
    assert!(matches!(error, CacheError::Untrusted { .. }), "{error}");
}

#[test]
fn many_that_need_the_same_snapshot_make_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let made = AtomicU32::new(0);
    let make = |file: &File| {
        made.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(50));
        fill(file)
    };
    drop(program(dir.path(), &command(1)).unwrap());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (cache, program, _) = with_program(dir.path());
                assert_filled(&cache.store_snapshot(&program, b"", make).unwrap());
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
}

#[test]
fn a_maker_that_fails_leaves_nothing_and_the_next_one_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, program, path) = with_program(dir.path());
    let broken = |file: &File| fill(file).and_then(|()| Err(io::Error::other("the guest hung")));
    let error = cache.store_snapshot(&program, b"", broken).unwrap_err();
    assert!(shim::error::line(&error).contains("the guest hung"), "{error}");
    assert_eq!(names(dir.path()).len(), 1);
    cache.store_snapshot(&program, b"", fill).unwrap();
    assert!(path.exists());
}
