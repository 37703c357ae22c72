//! Snapshots: a guest that has loaded its program, kept so that any number of micro-VMs can go on from it.
//!
//! A snapshot is taken while the guest makes [`abi::Request::Ready`], when it knows nothing of whom it works
//! for: no argument, no grant, no entropy, no time. It is one file ([`file`]), in memory or on a disk, that
//! every micro-VM maps privately. Pages that nobody writes are shared through the page cache.
//!
//! | Pages | In a restored machine |
//! |---|---|
//! | usual: a rehearsal without any grant wrote them | its own from the start, all populated at once |
//! | all others | the file's until they are written |
//!
//! Large pages of the host in place of the usual ones, with the content of 2 MiB copied into each, were measured
//! and are not worth it, even under shadow paging: a start of a JavaScript engine with a quarter to a half of
//! its large pages full takes as long, and going back, which copies them all, twice as long.

mod capture;
mod file;

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use abi::{Readiness, layout};

use crate::kvm::Registers;
use crate::memory::{Gpa, RAM_OFFSET, Region, SharedRegion};
use crate::paging::AddressSpace;
use crate::{Config, Error};

pub use capture::Made;
pub use file::SnapshotError;

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
    /// Pages that a rehearsal wrote.
    usual: Vec<Range<u64>>,
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
        own.map_file(0, self.bytes(), &self.0.file, file::PAGES_OFFSET)?;
        for range in &self.0.usual {
            let (offset, len) = bytes_of(range);
            own.populate(offset, len);
        }
        Ok(())
    }

    /// The pages of `own` that were written, of those over which the file is mapped.
    ///
    /// # Errors
    ///
    /// [`Error::Pagemap`].
    pub(crate) fn written_pages(&self, own: &Region) -> Result<Vec<Range<u64>>, Error> {
        own.written_pages(0, self.bytes())
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

    /// Gives the pages of `own` that were `written` their content back.
    ///
    /// # Errors
    ///
    /// [`Error::OutsideMemory`]: a bug of ours.
    pub(crate) fn copy_back(&self, own: &mut Region, written: &[Range<u64>]) -> Result<(), Error> {
        for range in written {
            let (offset, len) = bytes_of(range);
            let copied = own.copy_from(offset, len, &self.0.pages, offset);
            copied.ok_or(Error::OutsideMemory { gpa: offset, len })?;
        }
        Ok(())
    }
}

/// Offset and length in bytes.
const fn bytes_of(pages: &Range<u64>) -> (u64, u64) {
    (pages.start * layout::PAGE, (pages.end - pages.start) * layout::PAGE)
}
