//! The guest's page tables, edited by the host.
//!
//! Tables lie in frames of the RAM slot that ring 3 never sees. The truth is the host's own tree
//! ([`Table`]); the guest's tables are written from it and never read back. Every entry has its accessed
//! and dirty bits set, nothing is both writable and executable, and below the map area only what
//! [`layout`] lists is mapped.
//!
//! # Edits that a running machine sees
//!
//! A KVM that shadows page tables does not notice when the host changes a *present* entry; it notices
//! tables at addresses that it has not seen used as tables since the memory slots last changed. So:
//!
//! * an entry that becomes present is written in place;
//! * any other change is made in a copy: the table and all above it move to other frames, up to a new root
//!   ([`AddressSpace::take_new_root`]) that the caller loads into CR3. Old frames are retired and come
//!   back after a change of the memory slots ([`AddressSpace::wants_slot_change`]).
//!
//! * a snapshot's tables are never written: the first change of one is made in a copy. So going back to a
//!   snapshot is loading its root again ([`AddressSpace::rewind`]), and the tables that a run made retire.
//!
//! With EPT or NPT tables are plain memory and a write to CR3 flushes: the same scheme is right there.
//!
//! # Large pages
//!
//! The first page of an aligned 2 MiB piece reserves an aligned block of RAM ([`Frames`]); a piece that is
//! wholly mapped with one access becomes one large page.
//!
//! Measured with `benches/machine.rs` under shadow paging on a loaded machine, best of 5 with large pages
//! against without: 64 MiB grown by 64 KiB and then touched 56 ms against 66, touched while growing 78
//! against 77 (the 1024 host calls alone take 51), touched again after that 80 against 71, because a new
//! root is faulted in again. 64 MiB mapped at once and touched: 6 ms.

mod entry;
mod load;
mod need;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use abi::{Access, layout};

use crate::Error;
use crate::frames::{BLOCK_FRAMES, Frame, Frames};
use crate::memory::{Gpa, GuestMemory};

pub(crate) use entry::Protection;
use entry::{ADDRESS, ENTRIES, LARGE, Level, TABLE, flags_of};
pub use load::LoadError;
pub(crate) use load::TableEntries;
use need::Need;

/// Answer of [`AddressSpace::map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// Done.
    Done,
    /// RAM does not suffice; nothing was changed.
    NoMemory,
}

/// Frames that only giving memory back may use, so that it never fails for lack of memory: two paths of
/// page table, directory and pointer table, and the root.
const UNMAP_RESERVE: usize = 7;

/// Retired frames at which the memory slots are changed although frames are left. A change costs as
/// much as four edits on a shadowing KVM; 1 MiB of frames makes it rare.
const RETIRED_MAX: usize = 256;

/// One table of any level.
#[derive(Clone, Debug)]
struct Table {
    frame: Frame,
    /// The edit in which the frame was taken: until its end no CPU has used it as a table.
    edit: u64,
    /// It is a snapshot's: neither it nor its frame may change.
    is_frozen: bool,
    entries: Box<[u64; ENTRIES]>,
    /// Entries that are present.
    live: usize,
    /// Tables of the level below, by entry.
    children: BTreeMap<usize, Arc<Table>>,
}

/// The tables of one machine and the frames they and the guest's memory come from.
///
/// A clone shares the tables until one of the two changes them.
#[derive(Clone, Debug)]
pub(crate) struct AddressSpace {
    root: Arc<Table>,
    loaded_root: Option<Frame>,
    pool: Pool,
}

impl AddressSpace {
    /// An address space with nothing mapped, on `ram_bytes` of RAM.
    ///
    /// # Errors
    ///
    /// [`Error::FrameAccounting`] if there is not one frame.
    pub(crate) fn new(memory: &mut GuestMemory, ram_bytes: u64) -> Result<Self, Error> {
        let mut pool = Pool { frames: Frames::new(ram_bytes), edit: 0 };
        let root = Arc::new(pool.new_table(memory)?);
        Ok(Self { root, loaded_root: None, pool })
    }

    /// Maps a range of fixed frames one to one. `large` uses large pages and wants both ends aligned to them.
    ///
    /// # Errors
    ///
    /// [`Error::FrameAccounting`] if RAM does not hold the tables.
    pub(crate) fn map_fixed(
        &mut self,
        memory: &mut GuestMemory,
        range: Range<u64>,
        gpa: Gpa,
        protection: Protection,
        large: bool,
    ) -> Result<(), Error> {
        let step = if large { layout::LARGE_PAGE } else { layout::PAGE };
        let size = if large { LARGE } else { 0 };
        let mut offset = 0;
        while range.start + offset < range.end {
            let entry = (gpa.0 + offset) | protection.flags() | size;
            let lowest = if large { Level::Directory } else { Level::Table };
            let gva = range.start + offset;
            let root = Arc::make_mut(&mut self.root);
            self.pool.set_leaf(memory, root, Level::Root, lowest, gva, entry)?;
            offset += step;
        }
        Ok(())
    }

    /// Whether the memory slots must change before this request is carried out; then call
    /// [`slots_changed`](Self::slots_changed).
    pub(crate) fn wants_slot_change(&self, gva: u64, len: u64, access: Access) -> bool {
        let frames = &self.pool.frames;
        frames.retired() >= RETIRED_MAX
            || frames.retired() > 0 && !self.fits(&(gva..gva.saturating_add(len)), access)
    }

    /// The memory slots have changed since the present root was loaded: retired frames are free.
    pub(crate) fn slots_changed(&mut self) {
        self.pool.frames.release_retired();
    }

    /// Carries [`abi::Request::Map`] out.
    ///
    /// # Errors
    ///
    /// [`Error::OutsideMemory`] and [`Error::FrameAccounting`]: bugs of ours.
    pub(crate) fn map(
        &mut self,
        memory: &mut GuestMemory,
        gva: u64,
        len: u64,
        access: Access,
    ) -> Result<Mapped, Error> {
        let range = gva..gva.saturating_add(len);
        if !self.fits(&range, access) {
            return Ok(Mapped::NoMemory);
        }
        let root = Arc::make_mut(&mut self.root);
        self.pool.edit_table(memory, root, Level::Root, 0, &range, access)?;
        self.pool.edit += 1;
        Ok(Mapped::Done)
    }

    /// Goes back to the state `to`, of RAM of the same size. Returns the root to load into CR3 if that is
    /// another one, and whether the memory slots must change before the vCPU runs.
    pub(crate) fn rewind(&mut self, to: &Self) -> (Option<Gpa>, bool) {
        if Arc::ptr_eq(&self.root, &to.root) {
            return (None, false);
        }
        let mut tables = Vec::new();
        self.root.collect_unfrozen(&mut tables);
        let must_change_slots = self.pool.frames.rewind(&to.pool.frames, tables.into_iter());
        self.pool.edit += 1;
        self.root = Arc::clone(&to.root);
        (self.take_new_root(), must_change_slots)
    }

    /// The root that belongs into CR3.
    pub(crate) fn root(&self) -> Gpa {
        self.root.frame.gpa()
    }

    /// Bytes of RAM, in whole large pages, beyond which no frame was ever used.
    pub(crate) const fn used_bytes(&self) -> u64 {
        self.pool.frames.used_bytes()
    }

    /// The root to load into CR3, if it is not the one that was returned last.
    pub(crate) fn take_new_root(&mut self) -> Option<Gpa> {
        let frame = self.root.frame;
        (self.loaded_root.replace(frame) != Some(frame)).then(|| frame.gpa())
    }

    /// Whether the frames for this request are there.
    fn fits(&self, range: &Range<u64>, access: Access) -> bool {
        let frames = &self.pool.frames;
        let pages = (range.end - range.start) / layout::PAGE;
        // Bounds the walk below too: what is not present and does not fit RAM is not counted page by page.
        let pages_fit = usize::try_from(pages).is_ok_and(|pages| pages <= frames.total());
        let reserve = if access == Access::None { 0 } else { UNMAP_RESERVE };
        if !pages_fit && access != Access::None {
            return false;
        }
        let mut need = Need::default();
        need.add_table(Some(&self.root), Level::Root, 0, range, access);
        need.frames + reserve <= frames.free()
    }
}

impl Table {
    /// The frames of the tables below, and of this one, that no snapshot holds.
    fn collect_unfrozen(&self, frames: &mut Vec<Frame>) {
        if !self.is_frozen {
            frames.push(self.frame);
            self.children.values().for_each(|child| child.collect_unfrozen(frames));
        }
    }
}

/// Frames, and the edit that is going on.
#[derive(Clone, Debug)]
struct Pool {
    frames: Frames,
    edit: u64,
}

impl Pool {
    /// An empty table.
    fn new_table(&mut self, memory: &mut GuestMemory) -> Result<Table, Error> {
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
    fn set_leaf(
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
    fn edit_table(
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

#[cfg(test)]
mod tests;
