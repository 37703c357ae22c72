//! Reading a snapshot's page tables back.
//!
//! Rule: the tables are checked as if a guest had written them, which a damaged or forged snapshot comes
//! down to. What is loaded maps fixed areas one to one and everything else to frames of RAM, each
//! frame once, with the flags of a [`Protection`] and so never writable and executable.

use std::collections::BTreeMap;
use std::sync::Arc;

use abi::layout;

use super::entry::{ADDRESS, ENTRIES, LARGE, Level, Protection, TABLE};
use super::{AddressSpace, Pool, Table};
use crate::frames::{BLOCK_FRAMES, Frame, Frames};
use crate::memory::{Gpa, private};

/// The entries of one table.
pub(crate) type TableEntries = [u64; ENTRIES];

/// Why page tables were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A table is not in RAM.
    #[error("page table at {0:#x}: not in the memory of the snapshot")]
    Outside(u64),
    /// A frame is used twice.
    #[error("frame {0:#x} of the page tables is used twice")]
    Twice(u64),
    /// An entry is of no kind that the host writes.
    #[error("entry {entry:#x} of the page tables, for address {gva:#x}")]
    Entry {
        /// The address it maps.
        gva: u64,
        /// What it is.
        entry: u64,
    },
}

/// Reads tables.
struct Loader<'a, R> {
    read: &'a mut R,
    frames: Frames,
    ram_bytes: u64,
}

impl AddressSpace {
    /// The address space whose tables begin at `root`, all in `ram_bytes` of RAM; `read` gives the entries
    /// of a table by its address. It serves to be [`resized`](Self::resized).
    ///
    /// # Errors
    ///
    /// [`LoadError`] unless they are tables that this module could have written.
    pub(crate) fn load(
        root: Gpa,
        ram_bytes: u64,
        mut read: impl FnMut(Gpa) -> Option<Box<TableEntries>>,
    ) -> Result<Self, LoadError> {
        let frames = Frames::new(ram_bytes);
        let mut loader = Loader { read: &mut read, frames, ram_bytes };
        let root = loader.table(root, Level::Root, 0)?;
        let pool = Pool { frames: loader.frames, edit: 1 };
        Ok(Self { loaded_root: Some(root.frame), root: Arc::new(root), pool })
    }

    /// The same address space in RAM of `ram_bytes`. `None` if that does not hold it.
    pub(crate) fn resized(&self, ram_bytes: u64) -> Option<Self> {
        let frames = self.pool.frames.resized(ram_bytes)?;
        Some(Self { pool: Pool { frames, ..self.pool.clone() }, ..self.clone() })
    }

    /// Frames that tables and the guest's memory lie in, in order.
    pub(crate) fn frames_in_use(&self) -> impl Iterator<Item = Gpa> + '_ {
        self.pool.frames.in_use().map(Frame::gpa)
    }
}

impl<R: FnMut(Gpa) -> Option<Box<TableEntries>>> Loader<'_, R> {
    fn table(&mut self, gpa: Gpa, level: Level, base: u64) -> Result<Table, LoadError> {
        let frame = self.claim(gpa.0, None)?;
        let entries = (self.read)(gpa).ok_or(LoadError::Outside(gpa.0))?;
        let (mut live, mut children) = (0, BTreeMap::new());
        for (index, entry) in entries.iter().copied().enumerate().filter(|(_, entry)| *entry != 0) {
            let gva = base + index as u64 * level.span();
            let is_leaf = level == Level::Table || entry & LARGE != 0;
            if is_leaf {
                self.leaf(gva, entry, level)?;
            } else if entry & !ADDRESS == TABLE {
                let child = self.table(Gpa(entry & ADDRESS), level.below(), gva)?;
                children.insert(index, Arc::new(child));
            } else {
                return Err(LoadError::Entry { gva, entry });
            }
            live += 1;
        }
        Ok(Table { frame, edit: 0, is_frozen: true, entries, live, children })
    }

    fn leaf(&mut self, gva: u64, entry: u64, level: Level) -> Result<(), LoadError> {
        let refused = LoadError::Entry { gva, entry };
        let (gpa, flags) = (entry & ADDRESS, entry & !ADDRESS);
        let (pages, flags) = match level {
            Level::Table => (1, flags),
            Level::Directory if gpa.is_multiple_of(layout::LARGE_PAGE) => {
                (BLOCK_FRAMES, flags & !LARGE)
            }
            _ => return Err(refused),
        };
        let protection = Protection::of_flags(flags).ok_or(refused)?;
        if !layout::MAP_AREA.contains(&gva) {
            // Nothing but the shared slots can be executed by ring 3, and those cannot be written.
            let is_shared = layout::IMAGE.contains(&gva) || layout::PROGRAM.contains(&gva);
            let is_allowed = match protection {
                Protection::Execute => is_shared,
                Protection::Write | Protection::SystemWrite => !is_shared,
                Protection::Read | Protection::SystemRead | Protection::SystemExecute => true,
            };
            let is_private = layout::PRIVATE.contains(&gva);
            let expected = if is_private { private(gva).0 } else { gva };
            return if gpa == expected && is_allowed { Ok(()) } else { Err(refused) };
        }
        if !matches!(protection, Protection::Read | Protection::Write) {
            return Err(refused);
        }
        let piece = gva / layout::LARGE_PAGE;
        let first = usize::try_from(gva / layout::PAGE).unwrap_or(0) % BLOCK_FRAMES;
        for page in 0..pages {
            let gpa = gpa + page as u64 * layout::PAGE;
            self.claim(gpa, Some((piece, first + page)))?;
        }
        Ok(())
    }

    fn claim(&mut self, gpa: u64, page: Option<(u64, usize)>) -> Result<Frame, LoadError> {
        let in_ram = gpa < layout::RAM_START + self.ram_bytes;
        let frame = Frame::at(Gpa(gpa)).filter(|_| in_ram).ok_or(LoadError::Outside(gpa))?;
        if self.frames.claim(frame, page) { Ok(frame) } else { Err(LoadError::Twice(gpa)) }
    }
}
