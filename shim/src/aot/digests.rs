//! Digests of wasm files that were read before.
//!
//! Rule: one file of [`SLOTS`] records in the cache directory, so that its size is bounded. A record has
//! the [`Identity`] of a file, the SHA-256 of its bytes, and a CRC-32; its place follows from the
//! identity, and a later file takes the place of an earlier one. Records are read and written in one
//! piece without a lock: one that is torn does not fit its CRC-32 and counts as none.
//!
//! A wrong record could make an older program run than the file holds, so only a file that has settled
//! is recorded, and the table is believed only where programs are: ours, and writable by nobody else.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::entry::is_ours_alone;
use super::identity::Identity;

/// Name of the file.
const NAME: &str = "digests";
/// Most files that are remembered; 256 KiB.
const SLOTS: u64 = 2048;
/// Bytes of a record, of which no two share a page's end.
const RECORD_BYTES: usize = 128;
/// What an identity is asked for.
pub(super) const PURPOSE: &[u8] = b"sha256";

/// The digest of the file that `identity` stands for, if it is remembered in the cache directory.
pub(super) fn recall(dir: &File, identity: &Identity) -> Option<[u8; 32]> {
    let file = open(dir, OFlags::RDONLY)?;
    let mut record = [0; RECORD_BYTES];
    file.read_exact_at(&mut record, place(identity)).ok()?;
    let digest = *record.get(32..)?.first_chunk()?;
    (record == encode(identity, &digest)).then_some(digest)
}

/// Remembers it. That it could not be written is of no consequence.
pub(super) fn remember(dir: &File, identity: &Identity, digest: &[u8; 32]) {
    if let Some(file) = open(dir, OFlags::WRONLY | OFlags::CREATE)
        && let Err(error) = file.write_all_at(&encode(identity, digest), place(identity))
    {
        log::debug!("remember a digest: {error}");
    }
}

fn open(dir: &File, flags: OFlags) -> Option<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(dir, NAME, flags, Mode::RUSR | Mode::WUSR).ok()?);
    let stat = fstat(&file).ok()?;
    let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    (is_regular && is_ours_alone(&stat)).then_some(file)
}

fn place(identity: &Identity) -> u64 {
    let number = identity.bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    number % SLOTS * RECORD_BYTES as u64
}

fn encode(identity: &Identity, digest: &[u8; 32]) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let (head, tail) = record.split_at_mut(RECORD_BYTES - 4);
    for (byte, field) in head.iter_mut().zip(identity.bytes().iter().chain(digest)) {
        *byte = *field;
    }
    tail.copy_from_slice(&crc32fast::hash(head).to_le_bytes());
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An identity of a file that exists nowhere.
    fn identity(number: i64) -> Identity {
        let mut stat = fstat(tempfile::tempfile().unwrap()).unwrap();
        (stat.st_ino, stat.st_mtime, stat.st_mtime_nsec) = (1, 2, 3);
        (stat.st_ctime, stat.st_ctime_nsec) = (number, 4);
        Identity::of(&stat, PURPOSE).unwrap()
    }

    #[test]
    fn what_was_remembered_is_recalled_and_nothing_else() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        assert_eq!(recall(&dir, &identity(1)), None);
        remember(&dir, &identity(1), &[7; 32]);
        assert_eq!(recall(&dir, &identity(1)), Some([7; 32]));
        assert_eq!(recall(&dir, &identity(2)), None);
    }

    #[test]
    fn the_file_does_not_grow_beyond_its_bound() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        let numbers = 0..i64::try_from(SLOTS).unwrap() * 4;
        for number in numbers.clone() {
            remember(&dir, &identity(number), &[number.to_le_bytes()[0]; 32]);
        }
        let bytes = std::fs::metadata(path.path().join(NAME)).unwrap().len();
        assert!(bytes <= SLOTS * RECORD_BYTES as u64, "{bytes}");
        let last = numbers.end - 1;
        assert_eq!(recall(&dir, &identity(last)), Some([last.to_le_bytes()[0]; 32]));
    }

    #[test]
    fn a_record_with_any_byte_changed_is_none() {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        remember(&dir, &identity(1), &[7; 32]);
        let file = File::options().read(true).write(true).open(path.path().join(NAME)).unwrap();
        let at = place(&identity(1));
        for offset in at..at + RECORD_BYTES as u64 {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
            assert_eq!(recall(&dir, &identity(1)), None, "{offset}");
            file.write_all_at(&byte, offset).unwrap();
        }
        assert!(recall(&dir, &identity(1)).is_some());
    }

    #[test]
    fn a_table_that_others_can_write_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        remember(&dir, &identity(1), &[7; 32]);
        let mode = PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(path.path().join(NAME), mode).unwrap();
        assert_eq!(recall(&dir, &identity(1)), None);
    }
}
