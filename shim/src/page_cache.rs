//! Reading files into the page cache, before a VMM process does.
//!
//! Rule: whoever reads a page of a file in first decides two things for all who use it later. Its memory counts for
//! that process's control group: a VMM process is in that of its container, where pages that it shares with
//! the whole node would be taken for the tenant's, and would be given up and read again without end while a
//! tmpfs of the tenant fills the limit. And it decides the size of the piece in the page cache: read(2) fills it in
//! pieces of the read-ahead, through which a mapping needs a page table entry per 4 KiB; faults of a
//! mapping that asked for large pages (madvise(2), `MADV_HUGEPAGE`) fill it in pieces of 2 MiB, where the
//! file system can.
//!
//! So the shim reads in, before each start, what its VMM process maps. What is there already costs next to nothing. All of
//! this is a hint: who uses the file afterwards finds out what could not be read.
#![expect(unsafe_code, reason = "a mapping, whose faults read the file in")]
// UNSAFETY: mmap, madvise and munmap are unsafe because memory that is in use could be hit. Nothing here
// makes a reference into the mapping, so it cannot outlive it either.

use std::fs::File;
use std::num::NonZero;
use std::ptr::null_mut;

use rustix::fs::{Advice as FileAdvice, SeekFrom, fadvise, seek};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Most bytes that are asked for at a time, which is what the kernel reads ahead at once by default. Of more
/// it may leave out the rest.
const READ_AHEAD_BYTES: u64 = 128 << 10;

/// Reads the first `bytes` in, by large pages, as far as memory and file system allow. Returns when they are there.
pub(crate) fn read_in(file: &File, bytes: u64) {
    let Ok(len) = usize::try_from(bytes) else { return };
    // SAFETY: without an address to start from, the kernel chooses one that nothing is mapped at.
    let mapped = unsafe { mmap(null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) };
    // An empty file cannot be mapped, and needs not be.
    let Ok(start) = mapped else { return };
    for advice in [Advice::LinuxHugepage, Advice::LinuxPopulateRead] {
        // SAFETY: the range is the mapping above; both kinds of advice leave its content as it is.
        let advised = unsafe { madvise(start, len, advice) };
        if let Err(error) = advised {
            log::debug!("read a file in by large pages: {error}");
        }
    }
    // SAFETY: the mapping above, to which there are no references.
    let unmapped = unsafe { munmap(start, len) };
    if let Err(error) = unmapped {
        log::warn!("unmap a file of {len} bytes: {error}");
    }
}

/// Begins to read all of a file but its holes, which would take memory for their zeros. Moves the position.
pub(crate) fn begin_to_read_in_data(file: &File) {
    if let Err(error) = read_ahead_data(file) {
        log::debug!("read a file ahead: {error}");
    }
}

fn read_ahead_data(file: &File) -> Result<(), Errno> {
    let mut position = 0;
    loop {
        position = match seek(file, SeekFrom::Data(position)) {
            Ok(position) => position,
            // No data any more.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error),
        };
        let end = seek(file, SeekFrom::Hole(position))?;
        while let Some(left) = NonZero::new(end.saturating_sub(position)) {
            let asked = left.min(NonZero::<u64>::MIN.saturating_add(READ_AHEAD_BYTES - 1));
            fadvise(file, position, Some(asked), FileAdvice::WillNeed)?;
            position += asked.get();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn files_of_any_length_can_be_read_in_and_are_not_changed() {
        for len in [0, 1, 4096, (2 << 20) + 1] {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&vec![7; len], 0).unwrap();
            read_in(&file, len as u64);
            begin_to_read_in_data(&file);
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 7), "{len}");
        }
    }

    #[test]
    fn a_file_shorter_than_it_says_is_no_danger() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"short", 0).unwrap();
        read_in(&file, 64 << 20);
    }
}
