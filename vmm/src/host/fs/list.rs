//! Listing a directory in pages.
//!
//! Rule: the cookie of an entry is the kernel's own position after it (`d_off`), so that a listing goes
//! on where it was however many others go on meanwhile, and the host remembers nothing. A cookie that a
//! guest made up positions the directory somewhere or is refused; it names nothing else.

use abi::{DirEntry, DirEntryHeader, Errno, FileKind};
use rustix::fs::{AtFlags, FileType, RawDir, RawDirEntry, SeekFrom, seek, statat};

use super::kind;
use crate::host::Answer;
use crate::host::errno::refusal;
use crate::host::handles::Object;

/// Smallest buffer for getdents64(2): several of the longest names that any file system has.
const BUFFER_BYTES_MIN: usize = 4096;

/// Writes the entries of `dir` from `cookie` on to `reply`, as many whole ones as one getdents64(2)
/// gives and `reply` holds.
///
/// # Errors
///
/// [`Errno::TooBig`] if the first entry does not fit.
pub(in crate::host) fn list(dir: &Object, cookie: u64, reply: &mut [u8]) -> Result<Answer, Errno> {
    if i64::try_from(cookie).is_err() {
        return Err(Errno::Invalid);
    }
    seek(dir.fd(), SeekFrom::Start(cookie)).map_err(refusal)?;

    // An entry takes at most 4/3 of its size in the kernel's form (24 bytes there, 32 here).
    let mut buffer = Vec::with_capacity((reply.len() / 4 * 3).max(BUFFER_BYTES_MIN));
    let mut entries = RawDir::new(dir.fd(), buffer.spare_capacity_mut());
    let mut filled = 0;
    while filled == 0 || !entries.is_buffer_empty() {
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(refusal)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let header = DirEntryHeader {
            next: entry.next_entry_cookie(),
            ino: entry.ino(),
            kind: kind_of_entry(dir, &entry) as u32,
            name_len: u32::try_from(name.len()).map_err(|_| Errno::NameTooLong)?,
        };
        match (DirEntry { header, name }).write(reply, filled) {
            Some(end) => filled = end,
            None if filled == 0 => return Err(Errno::TooBig),
            None => break,
        }
    }
    Ok(Answer::data(filled))
}

/// The kind of an entry; asked of the object where the file system does not keep it in the directory.
fn kind_of_entry(dir: &Object, entry: &RawDirEntry<'_>) -> FileKind {
    match entry.file_type() {
        FileType::Unknown => statat(dir.fd(), entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            .map_or(FileKind::Unknown, |stat| kind(FileType::from_raw_mode(stat.st_mode))),
        known => kind(known),
    }
}
