//! The file of a snapshot.
//!
//! ```text
//! 0              Header, 256 bytes
//! 256            runs of pages with content: first page and count, u32 each
//!                runs of usual pages: the same
//! 2 MiB          the private pages, 2 MiB
//! 4 MiB          RAM, as many bytes as the header says; pages without content are holes
//! ```
//!
//! Numbers are little-endian. The file may be longer. Rule: it is read as if a guest had written it: page
//! tables and ranges are checked, and whatever the rest says can do no more than a guest can. Checksum, owner
//! and whether it belongs to this program, build and processor are the business of whoever keeps it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use abi::{Readiness, layout};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Content, Snapshot};
use crate::Error;
use crate::kvm::Registers;
use crate::memory::{Gpa, RAM_OFFSET, SharedRegion, to_usize};
use crate::paging::{AddressSpace, LoadError, TableEntries};

/// The last byte is the version of the format.
const MAGIC: &[u8; 8] = b"hlsnap\0\x01";

/// Where the pages are in the file.
pub(super) const PAGES_OFFSET: u64 = layout::LARGE_PAGE;

/// Most runs: what fits before the pages.
const RUNS_MAX: usize = (to_usize(PAGES_OFFSET) - size_of::<Header>()) / size_of::<Run>();

/// Why a file is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("read the snapshot")]
    Read(#[source] io::Error),
    /// It is something else, or of another version of this program.
    #[error("not a snapshot of this version")]
    Other,
    /// What it says of itself does not fit the file, or a micro-VM.
    #[error("snapshot with {ram_bytes} bytes of RAM and {runs} runs of pages: cut off, or damaged")]
    Size {
        /// Bytes of RAM.
        ram_bytes: u64,
        /// Runs of pages.
        runs: u64,
    },
    /// A run of pages is outside the snapshot, or out of order.
    #[error("run of {pages} pages at page {first} of the snapshot: outside, or out of order")]
    Run {
        /// First page.
        first: u32,
        /// How many.
        pages: u32,
    },
    /// Its page tables are none that the host writes.
    #[error("snapshot with unsound page tables")]
    Tables(#[from] LoadError),
}

/// What the file begins with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 8],
    pub(super) readiness: u32,
    /// Type of the task register's segment.
    pub(super) task_type: u32,
    pub(super) ram_bytes: u64,
    pub(super) root: u64,
    content_runs: u32,
    usual_runs: u32,
    pub(super) registers: Registers,
    reserved: [u8; 72],
}

const _: () = assert!(size_of::<Header>() == 256);

/// A run of pages.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Run {
    first: u32,
    pages: u32,
}

impl Header {
    pub(super) fn new(
        readiness: Readiness,
        task_type: u8,
        ram_bytes: u64,
        root: Gpa,
        registers: Registers,
    ) -> Self {
        Self {
            magic: *MAGIC,
            readiness: readiness as u32,
            task_type: task_type.into(),
            ram_bytes,
            root: root.0,
            content_runs: 0,
            usual_runs: 0,
            registers,
            reserved: [0; 72],
        }
    }
}

/// Writes everything but the pages.
pub(super) fn write_head(
    file: &File,
    mut header: Header,
    content: &[Range<u64>],
    usual: &[Range<u64>],
) -> io::Result<()> {
    let run = |range: &Range<u64>| {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Run { first: number(range.start), pages: number(range.end - range.start) }
    };
    let runs: Vec<Run> = content.iter().chain(usual).map(run).collect();
    if runs.len() > RUNS_MAX {
        return Err(io::Error::other("too many runs of pages for a snapshot"));
    }
    header.content_runs = u32::try_from(content.len()).unwrap_or(u32::MAX);
    header.usual_runs = u32::try_from(usual.len()).unwrap_or(u32::MAX);
    file.write_all_at(header.as_bytes(), 0)?;
    file.write_all_at(runs.as_bytes(), size_of::<Header>() as u64)
}

impl Snapshot {
    /// Reads a snapshot from a file, which it keeps, and of which it maps the pages: nobody may change it any
    /// more.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if it is none; nothing in it makes this fail in another way.
    pub fn from_file(file: File) -> Result<Self, Error> {
        let header = read::<Header>(&file, 0, 1)?;
        let header = header.first().filter(|header| header.magic == *MAGIC);
        let header = header.ok_or(SnapshotError::Other)?;
        let ram_bytes = header.ram_bytes;
        let counts = [header.content_runs, header.usual_runs].map(|count| count as usize);
        let runs = counts.iter().sum::<usize>();
        let bytes = file.metadata().map_err(SnapshotError::Read)?.len();
        let pages_bytes = ram_bytes.checked_add(RAM_OFFSET).filter(|_| {
            ram_bytes.is_multiple_of(layout::LARGE_PAGE) && ram_bytes <= layout::RAM_BYTES_MAX
        });
        let pages_bytes = pages_bytes
            .filter(|pages| runs <= RUNS_MAX && PAGES_OFFSET + pages <= bytes)
            .ok_or(SnapshotError::Size { ram_bytes, runs: runs as u64 })?;
        let runs = read::<Run>(&file, size_of::<Header>() as u64, runs)?;
        let (content, usual) = runs.split_at_checked(counts[0]).unwrap_or_default();
        let page_count = pages_bytes / layout::PAGE;
        let (content, usual) = (ranges(content, page_count)?, ranges(usual, page_count)?);
        let readiness =
            Readiness::from_wire(header.readiness.into()).ok_or(SnapshotError::Other)?;
        let task_type = u8::try_from(header.task_type).map_err(|_| SnapshotError::Other)?;
        let pages = SharedRegion::of_file(&file, PAGES_OFFSET, pages_bytes)?;
        let table = |gpa: Gpa| {
            let offset = gpa.0.checked_sub(layout::RAM_START)? + RAM_OFFSET;
            let mut entries: Box<TableEntries> = Box::new([0; 512]);
            pages.read(offset, entries.as_mut_bytes())?;
            Some(entries)
        };
        let space =
            AddressSpace::load(Gpa(header.root), ram_bytes, table).map_err(SnapshotError::from)?;
        let (registers, pages) = (header.registers, pages);
        Ok(Self(Arc::new(Content {
            file,
            pages,
            space,
            registers,
            readiness,
            task_type,
            ram_bytes,
            content,
            usual,
        })))
    }
}

/// Reads `count` plain values.
fn read<T: FromBytes + IntoBytes>(
    file: &File,
    offset: u64,
    count: usize,
) -> Result<Vec<T>, SnapshotError> {
    let mut values: Vec<T> = std::iter::repeat_with(T::new_zeroed).take(count).collect();
    match file.read_exact_at(values.as_mut_slice().as_mut_bytes(), offset) {
        Ok(()) => Ok(values),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SnapshotError::Other),
        Err(error) => Err(SnapshotError::Read(error)),
    }
}

/// Checks runs: in order, apart, and inside.
fn ranges(runs: &[Run], page_count: u64) -> Result<Vec<Range<u64>>, SnapshotError> {
    let mut end = 0;
    let check = |run: &Run| {
        let range = u64::from(run.first)..u64::from(run.first) + u64::from(run.pages);
        if range.start < end || range.is_empty() || range.end > page_count {
            return Err(SnapshotError::Run { first: run.first, pages: run.pages });
        }
        end = range.end;
        Ok(range)
    };
    runs.iter().map(check).collect()
}
