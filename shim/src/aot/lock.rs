//! One compilation per key, across processes.
//!
//! Rule: the lock is flock(2) on a file beside the program, so the kernel gives it back when its
//! holder dies, however that happens. The holder removes the file before it lets go; whoever then gets
//! the lock of a file that is no longer there by that name takes the new one. Only the holder of a
//! key's lock touches the key's temporary file, so whoever gets a lock may remove what lies about.

use std::fs::File;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};

use super::CacheError;
use super::entry::{remove, temporary_name};
use super::key::Key;
use crate::compile::Compiler;

/// How long to wait between two attempts: short beside a compilation, long beside an attempt.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// When a person who waits is told what for.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// How long another process may take to write a program.
const WRITE_MAX: Duration = Duration::from_secs(60);

/// How long to wait for a program: what another process may take to get its turn, to compile and to write.
pub(super) const fn compile_wait_max(compiler: &Compiler) -> Duration {
    compiler.wall_time_max().saturating_mul(2).saturating_add(WRITE_MAX)
}

/// The lock of one key, held.
#[derive(Debug)]
pub(super) struct Lock<'a> {
    dir: &'a File,
    name: String,
    /// Locked as long as it is open.
    _file: File,
}

impl<'a> Lock<'a> {
    /// Takes the lock of `key` within `wait_max`, and calls `waiting` once if that takes longer than a
    /// second.
    pub(super) fn take(
        dir: &'a File,
        key: &Key,
        wait_max: Duration,
        waiting: &dyn Fn(),
    ) -> Result<Self, CacheError> {
        let stem = key.stem();
        let started = Instant::now();
        let mut told = false;
        loop {
            match Self::try_take(dir, &stem) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(source) => return Err(CacheError::Lock { name: lock_name(&stem), source }),
            }
            let waited = started.elapsed();
            if waited > wait_max {
                return Err(CacheError::Busy { name: lock_name(&stem), waited });
            }
            if waited > PROGRESS_AFTER && !told {
                told = true;
                waiting();
            }
            sleep(RETRY_AFTER);
        }
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_take(dir: &'a File, stem: &str) -> io::Result<Option<Self>> {
        let name = lock_name(stem);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(dir, &name, flags, Mode::RUSR | Mode::WUSR)?);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let locked = fstat(&file)?;
        match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino) => {
                Ok(Some(Self { dir, name, _file: file }))
            }
            // Its holder removed it between the two calls: the next attempt takes another file.
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // A file that stays is an unlocked file, which the next holder takes as it is.
        let _ = remove(self.dir, &self.name);
    }
}

fn lock_name(stem: &str) -> String {
    format!("{stem}.lock")
}

/// Whether names that begin so are a key's.
pub(super) fn is_stem(stem: &str) -> bool {
    stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Removes the temporary and lock files of processes that died, as far as that works.
pub(super) fn sweep(dir: &File) {
    let Ok(entries) = rustix::fs::Dir::read_from(dir) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        let Some((stem, "tmp" | "lock")) = name.split_once('.') else { continue };
        if is_stem(stem)
            && let Ok(Some(_lock)) = Lock::try_take(dir, stem)
            && let Err(error) = remove(dir, &temporary_name(stem))
        {
            log::warn!("remove {}: {error}", temporary_name(stem));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(600);

    fn names(path: &std::path::Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        let key = Key::from_bytes([1; 32]);
        let lock = Lock::take(&dir, &key, WAIT_MAX, &|| {}).unwrap();
        assert!(Lock::try_take(&dir, &key.stem()).unwrap().is_none());
        assert!(Lock::try_take(&dir, &Key::from_bytes([2; 32]).stem()).unwrap().is_some());
        drop(lock);
        assert!(Lock::try_take(&dir, &key.stem()).unwrap().is_some());
        assert!(names(path.path()).is_empty());
    }

    #[test]
    fn two_never_hold_a_lock_whose_file_comes_and_goes() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        let key = Key::from_bytes([1; 32]);
        let holders = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if let Some(lock) = Lock::try_take(&dir, &key.stem()).unwrap() {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            holders.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn the_files_of_the_dead_are_swept_and_those_of_the_living_are_not() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        let (alive, dead) = (Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
        let _lock = Lock::take(&dir, &alive, WAIT_MAX, &|| {}).unwrap();
        for key in [&alive, &dead] {
            std::fs::write(path.path().join(temporary_name(&key.stem())), "half").unwrap();
        }
        std::fs::write(path.path().join(lock_name(&dead.stem())), "").unwrap();
        std::fs::write(path.path().join("not-ours.tmp"), "").unwrap();
        sweep(&dir);
        let mut left = names(path.path());
        left.sort();
        let expected =
            [lock_name(&alive.stem()), temporary_name(&alive.stem()), "not-ours.tmp".into()];
        assert_eq!(left, expected);
    }
}
