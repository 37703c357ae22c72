//! One edit of the tables: which entries change, in place or in a copy, and which frames that takes and gives back.
//!
//! Invariant: an entry that a CPU may have seen present never changes in its frame ([`Pool::set`]); what no table
//! names any more goes back to the frames.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use abi::{Access, layout};

use super::UNMAP_RESERVE;
use super::entry::{ADDRESS, ENTRIES, LARGE, Level, TABLE, flags_of};
use crate::Error;
use crate::frames::{BLOCK_FRAMES, Frame, Frames};
use crate::memory::{Gpa, GuestMemory};

/// One table of any level.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) frame: Frame,
    /// The edit in which the frame was taken: until its end no CPU has used it as a table.
    pub(super) edit: u64,
    /// It is a snapshot's: neither it nor its frame may change.
    pub(super) is_frozen: bool,
    pub(super) entries: Box<[u64; ENTRIES]>,
    /// Entries that are present.
    pub(super) live: usize,
    /// Tables of the level below, by entry.
    pub(super) children: BTreeMap<usize, Arc<Table>>,
}

impl Table {
    /// The frames of the tables below, and of this one, that no snapshot holds.
    pub(super) fn collect_unfrozen(&self, frames: &mut Vec<Frame>) {
        if !self.is_frozen {
            frames.push(self.frame);
            self.children.values().for_each(|child| child.collect_unfrozen(frames));
        }
    }
}

/// Frames, and the edit that is going on.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) frames: Frames,
    pub(super) edit: u64,
}

impl Pool {
    /// An empty table.
    pub(super) fn new_table(&mut self, memory: &mut GuestMemory) -> Result<Table, Error> {
        let taken = self.frames.take().ok_or(Error::FrameAccounting)?;
        if taken.is_dirty {
            memory.zero(taken.frame.gpa(), layout::PAGE)?;
        }
        Ok(Table {
            frame: taken.frame,
            edit: self.edit,
            is_frozen: false,
            entries: Box::new([0; ENTRIES]),
            live: 0,
            children: BTreeMap::new(),
        })
    }

    /// Sets one entry, in a copy of the table if a CPU may have used the old one.
    fn set(
        &mut self,
        memory: &mut GuestMemory,
        table: &mut Table,
        index: usize,
        entry: u64,
    ) -> Result<(), Error> {
        let old = std::mem::replace(&mut table.entries[index], entry);
        if old == entry {
            return Ok(());
        }
        table.live = table.live + usize::from(entry != 0) - usize::from(old != 0);
        if table.is_frozen || old != 0 && table.edit != self.edit {
            self.retire(table);
            table.frame = self.frames.take().ok_or(Error::FrameAccounting)?.frame;
            table.edit = self.edit;
            table.is_frozen = false;
            return memory.write_obj(table.frame.gpa(), &*table.entries);
        }
        memory.write_obj(Gpa(table.frame.gpa().0 + index as u64 * 8), &entry)
    }

    /// Sets the leaf of `gva` at level `lowest`, making tables on the way.
    pub(super) fn set_leaf(
        &mut self,
        memory: &mut GuestMemory,
        table: &mut Table,
        level: Level,
        lowest: Level,
        gva: u64,
        entry: u64,
    ) -> Result<(), Error> {
        let index = usize::try_from(gva / level.span()).unwrap_or(0) % ENTRIES;
        if level == lowest {
            return self.set(memory, table, index, entry);
        }
        self.with_child(memory, table, index, |pool, memory, child| {
            pool.set_leaf(memory, child, level.below(), lowest, gva, entry)
        })
    }

    /// Runs `edit` on the child at `index`, which is made if there is none, and links it.
    fn with_child(
        &mut self,
        memory: &mut GuestMemory,
        table: &mut Table,
        index: usize,
        edit: impl FnOnce(&mut Self, &mut GuestMemory, &mut Table) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut child = match table.children.remove(&index) {
            Some(child) => child,
            None => Arc::new(self.new_table(memory)?),
        };
        edit(self, memory, Arc::make_mut(&mut child))?;
        if child.live == 0 {
            self.retire(&child);
            return self.set(memory, table, index, 0);
        }
        let entry = child.frame.gpa().0 | TABLE;
        table.children.insert(index, child);
        self.set(memory, table, index, entry)
    }

    /// Edits what lies below a root or pointer table, or a directory.
    pub(super) fn edit_table(
        &mut self,
        memory: &mut GuestMemory,
        table: &mut Table,
        level: Level,
        base: u64,
        range: &Range<u64>,
        access: Access,
    ) -> Result<(), Error> {
        for (index, part) in level.entries(base, range) {
            if access == Access::None && table.entries[index] == 0 {
                continue;
            }
            if access == Access::None && level.is_whole(&part) {
                self.drop_entry(memory, table, index)?;
                continue;
            }
            let start = base + index as u64 * level.span();
            if level == Level::Directory {
                self.edit_piece(memory, table, index, start, &part, access)?;
                continue;
            }
            self.with_child(memory, table, index, |pool, memory, child| {
                pool.edit_table(memory, child, level.below(), start, &part, access)
            })?;
        }
        Ok(())
    }

    /// Edits one 2 MiB piece.
    fn edit_piece(
        &mut self,
        memory: &mut GuestMemory,
        directory: &mut Table,
        index: usize,
        start: u64,
        part: &Range<u64>,
        access: Access,
    ) -> Result<(), Error> {
        let is_whole = Level::Directory.is_whole(part);
        let entry = directory.entries[index];
        let piece = start / layout::LARGE_PAGE;
        if let (Some(flags), true) = (flags_of(access), is_whole) {
            let large = if entry & LARGE != 0 {
                Some(entry & ADDRESS)
            } else if entry == 0 {
                self.zeroed_block(memory, piece)?.map(|first| first.gpa().0)
            } else {
                None
            };
            if let Some(gpa) = large {
                return self.set(memory, directory, index, gpa | flags | LARGE);
            }
        }
        if entry & LARGE != 0 {
            if flags_of(access).map(|flags| flags | LARGE) == Some(entry & !ADDRESS) {
                return Ok(());
            }
            let table = self.split(memory, entry)?;
            let link = table.frame.gpa().0 | TABLE;
            directory.children.insert(index, Arc::new(table));
            self.set(memory, directory, index, link)?;
        }
        self.with_child(memory, directory, index, |pool, memory, table| {
            pool.edit_pages(memory, table, start, part, access)
        })?;
        self.promote(memory, directory, index, piece)
    }

    /// Edits pages of one page table.
    fn edit_pages(
        &mut self,
        memory: &mut GuestMemory,
        table: &mut Table,
        start: u64,
        part: &Range<u64>,
        access: Access,
    ) -> Result<(), Error> {
        for (index, _) in Level::Table.entries(start, part) {
            let entry = table.entries[index];
            match flags_of(access) {
                None if entry == 0 => {}
                None => {
                    self.release(entry);
                    self.set(memory, table, index, 0)?;
                }
                Some(flags) if entry == 0 => {
                    let piece = start / layout::LARGE_PAGE;
                    let taken = self.frames.take_for(piece, index, table.live == 0);
                    let taken = taken.ok_or(Error::FrameAccounting)?;
                    if taken.is_dirty {
                        memory.zero(taken.frame.gpa(), layout::PAGE)?;
                    }
                    self.set(memory, table, index, taken.frame.gpa().0 | flags)?;
                }
                Some(flags) => self.set(memory, table, index, entry & ADDRESS | flags)?,
            }
        }
        Ok(())
    }

    /// Makes a large page of a page table whose pages are one reserved block with one access.
    ///
    /// A new path is up to three frames; where they are not to spare, the pages stay as they are.
    fn promote(
        &mut self,
        memory: &mut GuestMemory,
        directory: &mut Table,
        index: usize,
        piece: u64,
    ) -> Result<(), Error> {
        let reserved = self.frames.reserved_for(piece);
        let (Some(table), Some(first)) = (directory.children.get(&index), reserved) else {
            return Ok(());
        };
        let flags = table.entries[0] & !ADDRESS;
        let expected = |page: usize| first.offset(page).gpa().0 | flags;
        let is_one_page =
            table.live == ENTRIES && (0..ENTRIES).all(|page| table.entries[page] == expected(page));
        if !is_one_page || self.frames.free() < UNMAP_RESERVE + 3 {
            return Ok(());
        }
        let table = Arc::clone(table);
        self.retire(&table);
        directory.children.remove(&index);
        self.set(memory, directory, index, first.gpa().0 | flags | LARGE)
    }

    /// A page table that maps what a large page maps.
    fn split(&mut self, memory: &mut GuestMemory, large: u64) -> Result<Table, Error> {
        let mut table = self.new_table(memory)?;
        let (gpa, flags) = (large & ADDRESS, large & !ADDRESS & !LARGE);
        for (page, entry) in (0..).zip(table.entries.iter_mut()) {
            *entry = (gpa + page * layout::PAGE) | flags;
        }
        table.live = ENTRIES;
        memory.write_obj(table.frame.gpa(), &*table.entries)?;
        Ok(table)
    }

    /// A block for a whole piece, all zero; `None` if no block is whole.
    fn zeroed_block(
        &mut self,
        memory: &mut GuestMemory,
        piece: u64,
    ) -> Result<Option<Frame>, Error> {
        let Some((first, dirty)) = self.frames.take_block(piece) else {
            return Ok(None);
        };
        if dirty.len() == BLOCK_FRAMES {
            memory.zero(first.gpa(), layout::LARGE_PAGE)?;
            return Ok(Some(first));
        }
        for frame in dirty {
            memory.zero(frame.gpa(), layout::PAGE)?;
        }
        Ok(Some(first))
    }

    /// Gives back all that an entry of a root, pointer table or directory refers to.
    fn drop_entry(
        &mut self,
        memory: &mut GuestMemory,
        table: &mut Table,
        index: usize,
    ) -> Result<(), Error> {
        match table.children.remove(&index) {
            Some(child) => self.drop_table(&child),
            None => self.release_large(table.entries[index]),
        }
        self.set(memory, table, index, 0)
    }

    fn drop_table(&mut self, table: &Table) {
        for (index, entry) in table.entries.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            match table.children.get(&index) {
                Some(child) => self.drop_table(child),
                None if entry & LARGE != 0 => self.release_large(*entry),
                None => self.release(*entry),
            }
        }
        self.retire(table);
    }

    /// Puts the frame of a table aside. One of a snapshot stays what it is.
    fn retire(&mut self, table: &Table) {
        if !table.is_frozen {
            self.frames.retire(table.frame);
        }
    }

    fn release(&mut self, entry: u64) {
        if let Some(frame) = Frame::at(Gpa(entry & ADDRESS)) {
            self.frames.release(frame);
        }
    }

    fn release_large(&mut self, entry: u64) {
        if let Some(first) = Frame::at(Gpa(entry & ADDRESS)) {
            (0..BLOCK_FRAMES).for_each(|page| self.frames.release(first.offset(page)));
        }
    }
}
