//! Reading a file into the page cache in large pages.
//!
//! Rule: whoever reads a program for the first time since boot decides how the page cache keeps it, for
//! all who map it later. read(2) fills it in pieces of the read-ahead, through which a mapping needs a
//! page table entry per 4 KiB; faults of a mapping that asked for large pages (madvise(2),
//! `MADV_HUGEPAGE`) fill it in pieces of 2 MiB, where the file system can.
#![expect(unsafe_code, reason = "a mapping, whose faults read the file in")]
// UNSAFETY: mmap, madvise and munmap are unsafe because memory that is in use could be hit. Nothing here
// makes a reference into the mapping, so it cannot outlive it either.

use std::fs::File;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Reads the first `bytes` in, as far as memory and file system allow. It is a hint: who reads the file
/// afterwards finds out what could not be read.
pub(super) fn read_in(file: &File, bytes: u64) {
    let Ok(len) = usize::try_from(bytes) else { return };
    // SAFETY: without an address to start from, the kernel chooses one that nothing is mapped at.
    let mapped = unsafe { mmap(null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) };
    // An empty file cannot be mapped, and needs not be.
    let Ok(start) = mapped else { return };
    for advice in [Advice::LinuxHugepage, Advice::LinuxPopulateRead] {
        // SAFETY: the range is the mapping above; both kinds of advice leave its content as it is.
        let advised = unsafe { madvise(start, len, advice) };
        if let Err(error) = advised {
            log::debug!("read a program in by large pages: {error}");
        }
    }
    // SAFETY: the mapping above, to which there are no references.
    let unmapped = unsafe { munmap(start, len) };
    if let Err(error) = unmapped {
        log::warn!("unmap a program of {len} bytes: {error}");
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
