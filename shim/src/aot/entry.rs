//! The files of a key: a compiled program, and the snapshot of a guest that has loaded it.
//!
//! Rule: [`read`] gives a file only if it is regular, ours, writable by nobody else, ends with the
//! [`Trailer`] of its key and has the content that the trailer's checksum was made of. The checksum
//! finds accidents (a torn write, a bad disk, a copy that broke off); against people there are the
//! directory's and the file's owner and permissions.
//!
//! The content is summed once per boot, not at every start: [`seen`](super::seen); but at every start it is read
//! into the page cache if it is not there, so that no VMM process is charged with it ([`page_cache`]). An open
//! file is locked in shared mode, by which whoever makes room sees that it is in use.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat, unlinkat,
};
use rustix::process::geteuid;
use vmm::PROGRAM_BYTES_MAX;

use super::checksum::checksum;
use super::identity::{Identity, is_settled};
use super::key::Key;
use super::seen;
use super::store::PIECE_BYTES;
use super::trailer::{TRAILER_BYTES, Trailer};
use crate::page_cache;

/// Which file of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the compiler made.
    Program,
    /// The memory of a guest that has loaded the program.
    Snapshot,
    /// Text and read-only data of the guest image, which is no program's.
    GuestImage,
}

impl Kind {
    /// What the name of the file ends with, behind the key.
    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Program => "cwasm",
            Self::Snapshot => "snapshot",
            Self::GuestImage => "image",
        }
    }
}

/// A sound file of the cache, in use as long as it is open.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) file: File,
    /// What it is.
    pub(super) trailer: Trailer,
}

/// Whether nobody but this user (and root) can change what `stat` describes.
pub(super) fn is_ours_alone(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0
}

/// The file of `key`, if there is one.
///
/// # Errors
///
/// What makes it unfit for use. It is to be made again.
pub(super) fn read(dir: &File, key: &Key, kind: Kind) -> io::Result<Option<Stored>> {
    let name = key.name(kind);
    // Not blocking, in case it is a FIFO.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat(dir, &name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unsound("it is no regular file"));
    }
    if !is_ours_alone(&stat) {
        return Err(unsound("it belongs to, or can be written by, another user"));
    }
    // Where there are no such locks, a program in use may lose its name, which does not disturb it.
    let _ = flock(&file, FlockOperation::NonBlockingLockShared);
    read_in(&file, kind, &stat);
    let (trailer, end) = trailer(&file, &stat)?;
    if trailer.key != *key.bytes() {
        return Err(unsound("it is another file by that name"));
    }
    check_size(kind, end)?;
    let identity = Identity::of(&stat, name.as_bytes());
    if identity.is_none_or(|identity| !seen::recognises(dir, &name, &identity)) {
        // Asked before the content is read: what changes from here on has another time.
        let is_settled = is_settled(&stat);
        if checksum(&file, end)? != trailer.checksum {
            return Err(unsound("it is damaged"));
        }
        if let Some(identity) = identity
            && is_settled
        {
            seen::remember(dir, &name, &identity);
        }
    }
    Ok(Some(Stored { file, trailer }))
}

/// Has the file in the page cache for those who map it. First of all: what is read by read(2) before is there in
/// small pieces.
fn read_in(file: &File, kind: Kind, stat: &Stat) {
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    match kind {
        // One that is larger will be refused.
        Kind::Program | Kind::GuestImage => page_cache::read_in(file, size.min(PROGRAM_BYTES_MAX)),
        Kind::Snapshot => page_cache::begin_to_read_in_data(file),
    }
}

/// Refuses what would be read in as a whole and can be no program.
pub(super) fn check_size(kind: Kind, bytes: u64) -> io::Result<()> {
    match kind {
        Kind::Program if bytes > PROGRAM_BYTES_MAX => {
            Err(unsound("it is larger than a program can be"))
        }
        Kind::Program | Kind::Snapshot | Kind::GuestImage => Ok(()),
    }
}

/// The trailer of an open file and where it begins: behind the content, or what fills that up to a piece.
pub(super) fn trailer(file: &File, stat: &Stat) -> io::Result<(Trailer, u64)> {
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let end = size.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| unsound("it is cut off"))?;
    let mut encoded = [0; TRAILER_BYTES];
    file.read_exact_at(&mut encoded, end)?;
    let fill = |trailer: &Trailer| end.checked_sub(trailer.bytes);
    let trailer = Trailer::decode(&encoded)
        .filter(|trailer| fill(trailer).is_some_and(|fill| fill < PIECE_BYTES as u64))
        .ok_or_else(|| unsound("it is cut off, damaged, or of another version"))?;
    Ok((trailer, end))
}

fn unsound(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Name of the file that is being written.
pub(super) fn temporary_name(stem: &str) -> String {
    format!("{stem}.tmp")
}

/// Removes a file that need not exist.
pub(super) fn remove(dir: &File, name: &str) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
