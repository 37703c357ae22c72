//! Snapshots: a guest that has loaded its program, kept so that any number of micro-VMs can go on from it.
//!
//! A snapshot is taken while the guest makes [`abi::Request::Ready`], when it knows nothing of whom it works
//! for: no argument, no grant, no entropy, no time. It is one file ([`file`]), in memory or on a disk, that
//! every micro-VM maps privately. Pages that nobody writes are shared through the page cache.
//!
//! | Pages | In a restored machine |
//! |---|---|
//! | usual: a rehearsal without any grant wrote them | its own from the start, all populated at once |
//! | in a dense large page: a quarter of it has content | its own, copied into a large page of the host |
//! | all others | the file's until they are written |
//!
//! A large page of the host is worth the copy where every 4 KiB page that is touched costs a fault of tens of
//! microseconds, as under shadow paging.

mod capture;
mod file;

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use abi::{Readiness, layout};

use crate::kvm::Registers;
use crate::memory::{Gpa, RAM_OFFSET, Region, SharedRegion, to_usize};
use crate::paging::AddressSpace;
use crate::{Config, Error};

pub use capture::Made;
pub use file::SnapshotError;

/// Pages of a large page.
const LARGE_PAGES: u64 = layout::LARGE_PAGE / layout::PAGE;
/// Pages with content from which on a large page is dense.
const DENSE_PAGES: u64 = LARGE_PAGES / 4;

/// A guest that has loaded its program. Clones share everything.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<Content>);

#[derive(Debug)]
struct Content {
    file: File,
    /// The pages, for copying.
    pages: SharedRegion,
    space: AddressSpace,
    registers: Registers,
    readiness: Readiness,
    task_type: u8,
    ram_bytes: u64,
    /// Pages with content, by number; page 0 is the first of the private pages, RAM follows it.
    content: Vec<Range<u64>>,
    /// Pages that a rehearsal wrote, outside dense large pages.
    usual: Vec<Range<u64>>,
    /// Dense large pages, by number of pages.
    dense: Vec<Range<u64>>,
    /// What is between them.
    sparse: Vec<Range<u64>>,
}

impl Snapshot {
    /// Whether the program is instantiated, not only loaded.
    #[must_use]
    pub fn is_instantiated(&self) -> bool {
        self.0.readiness == Readiness::Instantiated
    }

    /// Whether a micro-VM of `config` has the memory that the guest uses.
    #[must_use]
    pub fn fits(&self, config: &Config) -> bool {
        self.space(config.memory_bytes()).is_some()
    }

    /// Bytes of RAM that the guest uses, in whole large pages.
    pub(crate) fn ram_bytes(&self) -> u64 {
        self.0.ram_bytes
    }

    /// Bytes of the private pages and of that RAM.
    pub(crate) fn bytes(&self) -> u64 {
        RAM_OFFSET + self.0.ram_bytes
    }

    /// The page tables in RAM of `ram_bytes`; `None` if that does not hold what the guest uses.
    pub(crate) fn space(&self, ram_bytes: u64) -> Option<AddressSpace> {
        self.0.space.resized(ram_bytes)
    }

    pub(crate) fn registers(&self) -> &Registers {
        &self.0.registers
    }

    pub(crate) fn root(&self) -> Gpa {
        self.0.space.root()
    }

    pub(crate) fn task_type(&self) -> u8 {
        self.0.task_type
    }

    /// Pages that a restored machine has as its own from the start, by number.
    pub(crate) fn usual_pages(&self) -> &[Range<u64>] {
        &self.0.usual
    }

    /// Gives fresh memory this content.
    ///
    /// # Errors
    ///
    /// [`Error::MapFile`].
    pub(crate) fn fill(&self, own: &mut Region) -> Result<(), Error> {
        for range in &self.0.sparse {
            let (offset, len) = bytes_of(range);
            own.map_file(offset, len, &self.0.file, file::PAGES_OFFSET + offset)?;
        }
        for range in &self.0.usual {
            let (offset, len) = bytes_of(range);
            own.populate(offset, len);
        }
        self.fill_dense(own, false)
    }

    /// The pages of `own` that were written, of those over which the file is mapped.
    ///
    /// # Errors
    ///
    /// [`Error::Pagemap`].
    pub(crate) fn written_pages(&self, own: &Region) -> Result<Vec<Range<u64>>, Error> {
        let mut written = Vec::new();
        for range in &self.0.sparse {
            let (offset, len) = bytes_of(range);
            written.extend(own.written_pages(offset, len)?);
        }
        Ok(written)
    }

    /// Gives up the pages of `own` that were `written` and are not usual.
    ///
    /// # Errors
    ///
    /// [`Error::MapMemory`].
    pub(crate) fn revert(&self, own: &mut Region, written: &[Range<u64>]) -> Result<(), Error> {
        let mut usual = self.0.usual.iter().peekable();
        for range in written {
            let mut start = range.start;
            while start < range.end {
                while usual.next_if(|usual| usual.end <= start).is_some() {}
                let kept = usual.peek().filter(|usual| usual.start < range.end);
                let end = kept.map_or(range.end, |usual| usual.start.max(start));
                if start < end {
                    let (offset, len) = bytes_of(&(start..end));
                    own.revert(offset, len)?;
                }
                start = kept.map_or(range.end, |usual| usual.end);
            }
        }
        Ok(())
    }

    /// Gives the pages of `own` that were `written`, and all that are dense, their content back.
    ///
    /// # Errors
    ///
    /// [`Error::OutsideMemory`]: a bug of ours.
    pub(crate) fn copy_back(&self, own: &mut Region, written: &[Range<u64>]) -> Result<(), Error> {
        for range in written {
            self.copy(own, range)?;
        }
        self.fill_dense(own, true)
    }

    /// Copies the content of dense large pages, and makes the rest of them zero if it `may_be_dirty`.
    fn fill_dense(&self, own: &mut Region, may_be_dirty: bool) -> Result<(), Error> {
        let zero = |own: &mut Region, range: Range<u64>| {
            let (offset, len) = bytes_of(&range);
            let is_needed = may_be_dirty && len > 0;
            if is_needed { own.zero(offset, len) } else { Some(()) }
                .ok_or(Error::OutsideMemory { gpa: offset, len })
        };
        for dense in &self.0.dense {
            let mut at = dense.start;
            let first = self.0.content.partition_point(|range| range.end <= dense.start);
            let content = self.0.content.iter().skip(first);
            for range in content.take_while(|range| range.start < dense.end) {
                let part = range.start.max(dense.start)..range.end.min(dense.end);
                zero(own, at..part.start)?;
                self.copy(own, &part)?;
                at = part.end;
            }
            zero(own, at..dense.end)?;
        }
        Ok(())
    }

    fn copy(&self, own: &mut Region, range: &Range<u64>) -> Result<(), Error> {
        let (offset, len) = bytes_of(range);
        let copied = own.copy_from(offset, len, &self.0.pages, offset);
        copied.ok_or(Error::OutsideMemory { gpa: offset, len })
    }
}

/// Offset and length in bytes.
const fn bytes_of(pages: &Range<u64>) -> (u64, u64) {
    (pages.start * layout::PAGE, (pages.end - pages.start) * layout::PAGE)
}

/// The dense large pages of `content`, and what is between them, of `pages` pages; RAM only: the private pages
/// are written by every run in few pages.
fn split(content: &[Range<u64>], pages: u64) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let (mut dense, mut sparse): (Vec<Range<u64>>, Vec<Range<u64>>) = (Vec::new(), Vec::new());
    for start in (0..pages).step_by(to_usize(LARGE_PAGES)) {
        let piece = start..(start + LARGE_PAGES).min(pages);
        let overlap = |range: &Range<u64>| {
            range.end.min(piece.end).saturating_sub(range.start.max(piece.start))
        };
        let count: u64 = content.iter().map(overlap).sum();
        let is_dense = count >= DENSE_PAGES && start >= RAM_OFFSET / layout::PAGE;
        let ranges = if is_dense { &mut dense } else { &mut sparse };
        match ranges.last_mut() {
            Some(last) if last.end == piece.start => last.end = piece.end,
            _ => ranges.push(piece),
        }
    }
    (dense, sparse)
}
