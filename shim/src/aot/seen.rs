//! What was verified since boot, and when it was used last: a file of 32 bytes beside each entry.
//!
//! Rule: the file holds the [`Identity`] that the entry had when it was found sound. An entry with
//! another identity was changed, exchanged, or belongs to another boot or node, and is verified anew.
//! The file's own time of modification is when the entry was last used, to within [`USED_WITHIN`]:
//! the entry's access time would not do, because few file systems keep it.
//!
//! Nothing depends on these files: one that is missing, damaged, or cannot be written costs the time of
//! verifying.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fstat, futimens, openat};

use super::entry::is_ours_alone;
use super::identity::Identity;

/// How old the time of the last use may become before a use renews it, so that a hit writes seldom.
const USED_WITHIN: Duration = Duration::from_secs(600);

/// Name of the file beside the entry `name`.
pub(super) fn name_of(name: &str) -> String {
    format!("{name}.seen")
}

/// Whether the entry `name` was verified when it was what `identity` says. If so, it counts as used.
pub(super) fn recognises(dir: &File, name: &str, identity: &Identity) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = openat(dir, name_of(name), flags, Mode::empty()) else { return false };
    let mut file = File::from(file);
    let Ok(stat) = fstat(&file) else { return false };
    let mut seen = Vec::with_capacity(64);
    let is_read = is_ours_alone(&stat) && (&mut file).take(33).read_to_end(&mut seen).is_ok();
    if !is_read || seen != identity.bytes() {
        return false;
    }
    let used = u64::try_from(stat.st_mtime).unwrap_or_default();
    let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(used));
    // A time that lies ahead comes of a clock that was wrong.
    if age.is_ok_and(|age| age < USED_WITHIN) {
        return true;
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // A read-only directory keeps its order.
    let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
    true
}

/// Says that the entry `name` was found sound, and is used.
pub(super) fn remember(dir: &File, name: &str, identity: &Identity) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let written = openat(dir, name_of(name), flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)
        .map_err(std::io::Error::from)
        .and_then(|file| File::from(file).write_all_at(identity.bytes(), 0));
    if let Err(error) = written {
        log::debug!("remember that {name} is sound: {error}");
    }
}
