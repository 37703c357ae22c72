//! Writing a file of the cache.
//!
//! Rule: a file gets its name only when it is complete and on the medium, by rename; until then it is
//! the key's temporary file, which only the holder of the key's lock touches. It is read-only from the
//! moment it is made.
//!
//! A program is written in pieces of 2 MiB at multiples of 2 MiB, the last filled up with zeros, of which the
//! trailer takes the end. A file system with large folios (ext4,
//! xfs, btrfs) then keeps it in the page cache in pieces of that size, which a mapping of the file
//! shares through one page table entry each. Copying inside the kernel (`copy_file_range`, `sendfile`)
//! fills the page cache by single pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, openat, renameat};

use super::CacheError;
use super::checksum::checksum;
use super::entry::{Kind, Stored, check_size, read, remove, temporary_name};
use super::key::Key;
use super::trailer::{TRAILER_BYTES, Trailer};
use crate::compile::EntryPoints;

/// Bytes of a large page.
pub(super) const PIECE_BYTES: usize = 2 << 20;

/// What an entry says about itself beside its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// SHA-256 of the wasm that a program comes from; identity of a snapshot.
    pub(super) origin: [u8; 32],
    /// Whether the program is a command.
    pub(super) entry_points: EntryPoints,
    /// What people call the wasm.
    pub(super) name: &'a str,
}

/// Writes the file of `key` that `fill` puts content into, and opens it for reading. `fill` returns the bytes
/// of the content, and has left room for the trailer behind that of a program. To be called with the key's
/// lock held.
pub(super) fn write(
    dir: &File,
    key: &Key,
    kind: Kind,
    about: About<'_>,
    fill: impl FnOnce(&File) -> io::Result<u64>,
) -> Result<Stored, CacheError> {
    let temporary = temporary_name(&key.stem());
    let stored = (|| {
        remove(dir, &temporary)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(openat(dir, &temporary, flags, Mode::RUSR)?);
        let bytes = fill(&file)?;
        let filled = file.metadata()?.len();
        let end = match kind {
            Kind::Program => filled.saturating_sub(TRAILER_BYTES as u64),
            Kind::Snapshot | Kind::GuestImage => filled,
        };
        check_size(kind, bytes)?;
        let trailer = Trailer {
            key: *key.bytes(),
            origin: about.origin,
            bytes,
            checksum: checksum(&file, end)?,
            entry_points: about.entry_points,
            name: about.name.to_owned(),
        };
        file.write_all_at(&trailer.encode(), end)?;
        file.sync_all()?;
        renameat(dir, &temporary, dir, key.name(kind))?;
        dir.sync_all()?;
        read(dir, key, kind)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    })();
    stored.map_err(|source| {
        // The disk may be full: what was begun is of no use to anyone. If this fails, the next sweep
        // removes it.
        let _ = remove(dir, &temporary);
        CacheError::Write { name: key.name(kind), source }
    })
}

/// Copies a program from its start, in whole pieces, with room for the trailer at the end. Returns the bytes
/// of the program.
pub(super) fn copy_program(source: &File, target: &File) -> io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut offset, mut bytes) = (0, 0);
    loop {
        let mut filled = 0;
        while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match source.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        piece.get_mut(filled..).unwrap_or_default().fill(0);
        target.write_all_at(&piece, offset)?;
        if filled + TRAILER_BYTES <= PIECE_BYTES {
            return Ok(bytes + filled as u64);
        }
        offset += PIECE_BYTES as u64;
        bytes += filled as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn programs_of_any_length_are_copied_to_the_last_byte() {
        let last = PIECE_BYTES - TRAILER_BYTES;
        for len in [0, 1, last, last + 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 4097] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect();
            let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            source.write_all_at(&bytes, 0).unwrap();
            assert_eq!(copy_program(&source, &target).unwrap(), len as u64);
            let mut copied = Vec::new();
            (&target).rewind().unwrap();
            (&target).read_to_end(&mut copied).unwrap();
            assert!(copied.len().is_multiple_of(PIECE_BYTES), "{len}");
            assert!(copied.len() >= len + TRAILER_BYTES, "{len}");
            assert!(copied.starts_with(&bytes), "{len}");
            assert!(copied[len..].iter().all(|byte| *byte == 0), "{len}");
        }
    }

    #[test]
    fn zeros_of_a_program_are_written_and_not_left_out() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.set_len(3 * PIECE_BYTES as u64).unwrap();
        copy_program(&source, &target).unwrap();
        // A hole would be filled page by page when it is read.
        assert!(target.metadata().unwrap().blocks() * 512 >= 3 * PIECE_BYTES as u64);
    }
}
