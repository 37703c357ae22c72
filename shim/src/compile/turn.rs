//! Taking turns: as many compilers at once as the machine has CPUs, or its owner allows, whoever starts them.
//!
//! Rule: a turn is flock(2) on one of so many files in a directory of this boot, so the kernel gives it
//! back when its holder dies, however that happens. The files stay: what counts is the lock. A machine
//! that starts fifty pods with fifty new images then compiles a few at a time with all the memory and
//! caches they need, instead of all at once with neither. Where there is no such directory, and for who
//! has waited as long as a compilation may take, there is no turn to wait for.

use std::fs::{DirBuilder, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::process::geteuid;

/// How long to wait between two attempts: short beside a compilation, long beside an attempt.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// When a person who waits is told what for.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Locked as long as it is open. `None` where nobody takes turns.
    _file: Option<File>,
}

/// Where the processes of this user take turns: where lock files are (FHS 3.0, 5.9) for root, for others
/// what their session has (XDG base directory specification).
pub(super) fn default_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some("/run/lock/hyperlight".into());
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime.filter(|dir| dir.is_absolute()).map(|dir| dir.join("hyperlight"))
}

impl Turn {
    /// Waits for one of `turns` in `dir`, no longer than `wait_max`, and calls `waiting` once if that takes longer
    /// than a second.
    pub(super) fn take(dir: &Path, turns: usize, wait_max: Duration, waiting: &dyn Fn()) -> Self {
        let started = Instant::now();
        let mut told = false;
        loop {
            match Self::try_take(dir, turns) {
                Ok(Some(turn)) => return turn,
                Ok(None) => {}
                Err(error) => {
                    log::debug!("take turns at compiling in {}: {error}", dir.display());
                    return Self { _file: None };
                }
            }
            let waited = started.elapsed();
            if waited > wait_max {
                log::warn!(
                    "waited {} s for a turn to compile, and do not any more",
                    waited.as_secs()
                );
                return Self { _file: None };
            }
            if waited > PROGRESS_AFTER && !told {
                told = true;
                waiting();
            }
            sleep(RETRY_AFTER);
        }
    }

    fn try_take(dir: &Path, turns: usize) -> io::Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(CWD, dir, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => {
                DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
                openat(CWD, dir, flags, Mode::empty())?
            }
            opened => opened?,
        };
        if fstat(&opened)?.st_uid != geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        for turn in 0..turns {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let file = File::from(openat(&opened, turn.to_string(), flags, mode)?);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { _file: Some(file) })),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// As many turns as there are CPUs.
pub(super) fn default_turns() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(600);

    #[test]
    fn no_more_have_a_turn_than_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("hyperlight/compile");
        let (at_work, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let _turn = Turn::take(&dir, 3, WAIT_MAX, &|| {});
                    most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    sleep(Duration::from_millis(30));
                    at_work.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
    }

    #[test]
    fn a_turn_comes_back_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let turn = Turn::try_take(dir.path(), 1).unwrap();
        assert!(turn.is_some());
        assert!(Turn::try_take(dir.path(), 1).unwrap().is_none());
        drop(turn);
        assert!(Turn::try_take(dir.path(), 1).unwrap().is_some());
    }

    #[test]
    fn where_nobody_can_take_turns_nobody_waits() {
        let started = Instant::now();
        Turn::take(Path::new("/proc/no/such/place"), 1, WAIT_MAX, &|| {});
        assert!(started.elapsed() < WAIT_MAX);
    }
}
