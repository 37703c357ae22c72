//! Recognising a file that was read before, without reading it again.
//!
//! Rule: an [`Identity`] stands for the bytes of a file as long as nobody changes them: device, inode,
//! size, times of the last change of content and of metadata in nanoseconds, and the boot. The kernel
//! sets the time of change (ctime) at every write, truncation and change of permissions, and no
//! system call sets it back. After a boot nothing is recognised, because what was not on the medium
//! when the power failed is missing without any time telling it.
//!
//! Not found this way: a medium that rots under a page cache that was dropped, a write past the file
//! system to its device, stores through a shared writable mapping that was made before the file was
//! read, a file server that gives wrong times, and a clock set back to the nanosecond. Files that are to
//! run are written by us alone, under names that nobody else may open for writing; for the wasm files of
//! users, the compiler reads the bytes again in any case.
//!
//! Two changes within one tick of the kernel's clock have the same time. A file is therefore only
//! recognised later if, when it was read, its time lay back by [`SETTLED_AFTER`].

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;
use sha2::{Digest, Sha256};

/// How far the last change has to lie back: longer than the coarsest times of a file system (2 s).
const SETTLED_AFTER: Duration = Duration::from_millis(2100);

/// What a file is recognised by, in 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity([u8; 32]);

impl Identity {
    /// The identity of the file that `stat` describes, for what `purpose` says of its bytes. `None` where
    /// the kernel does not tell boots apart.
    pub(super) fn of(stat: &Stat, purpose: &[u8]) -> Option<Self> {
        let mut digest = Sha256::new();
        digest.update(boot_id()?);
        digest.update([u8::try_from(purpose.len()).ok()?]);
        digest.update(purpose);
        digest.update(stat.st_dev.to_le_bytes());
        digest.update(stat.st_ino.to_le_bytes());
        digest.update(stat.st_size.to_le_bytes());
        for time in [stat.st_mtime, stat.st_ctime] {
            digest.update(time.to_le_bytes());
        }
        for nanoseconds in [stat.st_mtime_nsec, stat.st_ctime_nsec] {
            digest.update(nanoseconds.to_le_bytes());
        }
        Some(Self(digest.finalize().into()))
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whether what is read of the file from here on can be remembered under its [`Identity`].
pub(super) fn is_settled(stat: &Stat) -> bool {
    let Ok(seconds) = u64::try_from(stat.st_ctime) else { return false };
    let changed = UNIX_EPOCH.checked_add(Duration::from_secs(seconds + 1));
    changed
        .and_then(|changed| SystemTime::now().duration_since(changed).ok())
        .is_some_and(|age| age >= SETTLED_AFTER)
}

/// This boot's number (random(4), `boot_id`).
fn boot_id() -> Option<&'static [u8]> {
    static BOOT_ID: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    BOOT_ID.get_or_init(|| std::fs::read("/proc/sys/kernel/random/boot_id").ok()).as_deref()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::fstat;

    use super::*;

    #[test]
    fn a_file_that_nobody_changes_is_recognised_for_its_purpose_alone() {
        let file = tempfile::tempfile().unwrap();
        let first = Identity::of(&fstat(&file).unwrap(), b"a").unwrap();
        assert_eq!(Identity::of(&fstat(&file).unwrap(), b"a"), Some(first));
        assert_ne!(Identity::of(&fstat(&file).unwrap(), b"b"), Some(first));
    }

    #[test]
    fn a_file_rewritten_with_its_old_time_and_size_is_another() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"one", 0).unwrap();
        let before = fstat(&file).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        // Past the tick of the kernel's clock.
        std::thread::sleep(Duration::from_millis(20));
        file.write_all_at(b"two", 0).unwrap();
        file.set_modified(modified).unwrap();
        let after = fstat(&file).unwrap();
        assert_eq!(
            (before.st_mtime, before.st_mtime_nsec, before.st_size),
            (after.st_mtime, after.st_mtime_nsec, after.st_size)
        );
        assert_ne!(Identity::of(&before, b""), Identity::of(&after, b""));
    }

    #[test]
    fn a_file_changed_a_moment_ago_is_not_settled() {
        let file = tempfile::tempfile().unwrap();
        let mut stat = fstat(&file).unwrap();
        assert!(!is_settled(&stat));
        stat.st_ctime -= 4;
        assert!(is_settled(&stat));
        // A clock that was set back.
        stat.st_ctime += 3600;
        assert!(!is_settled(&stat));
    }
}
