//! The sums of the shims of this node that have ended, since it booted.
//!
//! Rule: one file with one record of [`RECORD_BYTES`], to which a shim adds its own when it ends: the size is bounded, and
//! nothing of a shim is left. The directory is this user's alone. Whoever reads or writes holds the file's lock
//! (flock(2)), which the kernel takes back from who dies, and nobody waits for it longer than [`WAIT_MAX`]. A record that is
//! damaged counts as none, and a sum that has no room as 0, as for a counter after a reboot. That it cannot be
//! written costs its numbers, never a task.
//!
//! What a VMM process that was taken over tells of itself is added like all else: the numbers are for people and
//! graphs, nothing here depends on them.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{Counts, Totals};

/// Where it is: with the files that compilations lock (FHS 3.0, 5.9), which a boot removes.
pub(crate) const DIR: &str = "/run/lock/hyperlight";
/// Name of the file.
const NAME: &str = "totals";
/// Bytes of the record: JSON, filled up with spaces, so that it is written in one piece. Within a page.
const RECORD_BYTES: usize = 1024;
/// Longest wait for the lock, which is held for microseconds.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// How long to wait between two attempts.
const RETRY_AFTER: Duration = Duration::from_millis(2);

impl Totals {
    /// Adds these to those of the node in the directory `dir`.
    pub(crate) fn add_to_node(&self, dir: &Path) {
        if let Err(error) = self.try_add(dir) {
            log::debug!("add to the totals in {}: {error}", dir.display());
        }
    }

    fn try_add(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let file = open(dir, OFlags::RDWR | OFlags::CREATE)?;
        lock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut record = serde_json::to_vec(&read(&file).unwrap_or_default().plus(self))?;
        record.resize(RECORD_BYTES - 1, b' ');
        record.push(b'\n');
        file.write_all_at(&record, 0)
    }

    /// Those of the node in the directory `dir`; `None` if no shim has added to them, or they cannot be read.
    pub(crate) fn of_node(dir: &Path) -> Option<Self> {
        let file = open(dir, OFlags::RDONLY).ok()?;
        lock(&file, FlockOperation::NonBlockingLockShared).ok()?;
        read(&file)
    }

    /// The sums of both.
    fn plus(self, other: &Self) -> Self {
        let add = |one: u64, two: u64| one.checked_add(two).unwrap_or_default();
        Self {
            tasks: add(self.tasks, other.tasks),
            execs: add(self.execs, other.execs),
            compilations: add(self.compilations, other.compilations),
            snapshot_hits: add(self.snapshot_hits, other.snapshot_hits),
            snapshot_misses: add(self.snapshot_misses, other.snapshot_misses),
            killed: add(self.killed, other.killed),
            counts: Counts {
                micro_vms: add(self.counts.micro_vms, other.counts.micro_vms),
                doorbell_exits: add(self.counts.doorbell_exits, other.counts.doorbell_exits),
                interrupted_exits: add(
                    self.counts.interrupted_exits,
                    other.counts.interrupted_exits,
                ),
                faults: add(self.counts.faults, other.counts.faults),
            },
        }
    }
}

fn read(file: &File) -> Option<Totals> {
    let mut record = [0; RECORD_BYTES];
    file.read_exact_at(&mut record, 0).ok()?;
    serde_json::from_slice(&record).ok()
}

/// Opens the file in a directory that nobody else can have put it into.
fn open(dir: &Path, flags: OFlags) -> io::Result<File> {
    let directory = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(CWD, dir, directory, Mode::empty())?;
    is_ours_alone(&fstat(&dir)?)?;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(&dir, NAME, flags, Mode::RUSR | Mode::WUSR)?);
    let stat = fstat(&file)?;
    is_ours_alone(&stat)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn is_ours_alone(stat: &Stat) -> io::Result<()> {
    match stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0 {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

fn lock(file: &File, how: FlockOperation) -> io::Result<()> {
    let since = Instant::now();
    loop {
        match flock(file, how) {
            Err(Errno::WOULDBLOCK) if since.elapsed() < WAIT_MAX => sleep(RETRY_AFTER),
            locked => return Ok(locked?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn totals(number: u64) -> Totals {
        Totals {
            tasks: number,
            execs: number,
            compilations: number,
            snapshot_hits: number,
            snapshot_misses: number,
            killed: number,
            counts: Counts {
                micro_vms: number,
                doorbell_exits: number,
                interrupted_exits: number,
                faults: number,
            },
        }
    }

    #[test]
    fn what_many_add_at_once_is_their_sum_in_a_file_that_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("lock/hyperlight");
        assert_eq!(Totals::of_node(&dir), None);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        // On a machine with other work a lock may be held for longer than one waits.
                        while totals(3).try_add(&dir).is_err() {}
                    }
                });
            }
        });
        assert_eq!(Totals::of_node(&dir), Some(totals(300)));
        assert_eq!(std::fs::metadata(dir.join(NAME)).unwrap().len(), RECORD_BYTES as u64);
    }

    #[test]
    fn the_largest_numbers_have_room_and_what_has_not_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        totals(u64::MAX).try_add(dir.path()).unwrap();
        assert_eq!(Totals::of_node(dir.path()), Some(totals(u64::MAX)));
        totals(1).try_add(dir.path()).unwrap();
        assert_eq!(Totals::of_node(dir.path()), Some(totals(0)));
    }

    #[test]
    fn a_record_that_is_damaged_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in ["", "{", &"x".repeat(5000), r#"{"tasks": "many"}"#] {
            std::fs::write(dir.path().join(NAME), damaged).unwrap();
            assert_eq!(Totals::of_node(dir.path()), None, "{damaged}");
        }
        totals(1).try_add(dir.path()).unwrap();
        assert_eq!(Totals::of_node(dir.path()), Some(totals(1)));
    }

    #[test]
    fn what_others_could_have_written_is_neither_read_nor_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NAME);
        totals(1).try_add(dir.path()).unwrap();
        for (path, mode, safe) in [(&*file, 0o666, 0o600), (dir.path(), 0o777, 0o700)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(Totals::of_node(dir.path()), None);
            totals(1).try_add(dir.path()).unwrap_err();
            std::fs::set_permissions(path, PermissionsExt::from_mode(safe)).unwrap();
        }
        std::fs::rename(&file, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        totals(1).try_add(dir.path()).unwrap_err();
        assert_eq!(Totals::of_node(dir.path()), None);
    }

    #[test]
    fn nobody_waits_long_for_one_who_keeps_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        totals(1).try_add(dir.path()).unwrap();
        let holder = File::open(dir.path().join(NAME)).unwrap();
        flock(&holder, FlockOperation::LockExclusive).unwrap();
        totals(1).try_add(dir.path()).unwrap_err();
        assert_eq!(Totals::of_node(dir.path()), None);
        drop(holder);
        assert_eq!(Totals::of_node(dir.path()), Some(totals(1)));
    }
}
