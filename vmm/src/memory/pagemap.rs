//! Which pages of a private mapping of a file are no longer the file's.
//!
//! A page that was written is anonymous memory of this process; all others are the file's, or were never
//! touched. The kernel says which in `/proc/self/pagemap`: one `u64` per page, of which bits 63 (present),
//! 62 (swapped) and 61 (a file's page, or shared) matter here (Linux, admin-guide/mm/pagemap). They are
//! told without privilege.
#![expect(unsafe_code, reason = "system calls that write to memory by address")]
// UNSAFETY: PAGEMAP_SCAN takes the address of the array that it fills, getrusage that of a structure.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use abi::layout;
use rustix::ioctl::{self, Updater, opcode};

use super::to_usize;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// Pages that are asked for at a time.
const CHUNK_PAGES: u64 = 1024;

/// Calls `found` with the number of each page from `start` (an address of the host) on that was written,
/// of `pages` pages; page 0 is that at `start`.
pub(super) fn written_pages(start: u64, pages: u64, mut found: impl FnMut(u64)) -> io::Result<()> {
    let pagemap = open()?;
    let mut chunk = [0; to_usize(CHUNK_PAGES) * 8];
    let mut first = 0;
    while first < pages {
        let count = CHUNK_PAGES.min(pages - first);
        let bytes = chunk.get_mut(..to_usize(count) * 8).unwrap_or_default();
        pagemap.read_exact_at(bytes, (start / layout::PAGE + first) * 8)?;
        for (page, entry) in (first..).zip(bytes.as_chunks().0) {
            let entry = u64::from_ne_bytes(*entry);
            if entry & SWAPPED != 0 || entry & (PRESENT | OF_FILE) == PRESENT {
                found(page);
            }
        }
        first += count;
    }
    Ok(())
}

/// Adjacent numbers as ranges.
pub(crate) fn ranges(pages: impl IntoIterator<Item = u64>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for page in pages {
        match ranges.last_mut() {
            Some(last) if last.end == page => last.end += 1,
            _ => ranges.push(page..page + 1),
        }
    }
    ranges
}

/// How many page faults this thread has had, those among them that KVM took for a guest on it. While it stays
/// the same, no page of a private mapping has become this process's own.
pub(crate) fn faults_of_this_thread() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure in; all zeros are a valid one, should it refuse.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_minflt + usage.ru_majflt
}

/// Argument of PAGEMAP_SCAN (Linux 6.7, admin-guide/mm/pagemap).
#[repr(C)]
#[derive(Debug, Default)]
struct ScanArgs {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any_of: u64,
    return_mask: u64,
}

/// A piece that PAGEMAP_SCAN found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ScanRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `PAGE_IS_HUGE`: mapped by an entry of a page directory.
const IS_LARGE: u64 = 1 << 6;

/// Whether all of `[start, start + bytes)` is mapped by large pages.
///
/// # Errors
///
/// The kernel cannot tell.
pub(super) fn is_large(start: u64, bytes: u64) -> io::Result<bool> {
    const SCAN: ioctl::Opcode = opcode::read_write::<ScanArgs>(b'f', 16);
    // One piece per large page at worst is not needed: a gap is an answer.
    let mut region = ScanRegion::default();
    let mut args = ScanArgs {
        size: size_of::<ScanArgs>() as u64,
        start,
        end: start + bytes,
        regions: (&raw mut region).expose_provenance() as u64,
        regions_len: 1,
        category_mask: IS_LARGE,
        return_mask: IS_LARGE,
        ..ScanArgs::default()
    };
    // SAFETY: the argument is the one of this ioctl, and `region` is the array of one that it names.
    unsafe { ioctl::ioctl(open()?, Updater::<SCAN, ScanArgs>::new(&mut args)) }?;
    Ok((region.start, region.end) == (start, start + bytes))
}

/// Opened once: a process that is confined later has no `/proc`.
pub(crate) fn open() -> io::Result<&'static File> {
    static PAGEMAP: OnceLock<File> = OnceLock::new();
    if let Some(file) = PAGEMAP.get() {
        return Ok(file);
    }
    let file = File::open("/proc/self/pagemap")?;
    Ok(PAGEMAP.get_or_init(|| file))
}
