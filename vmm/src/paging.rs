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

mod edit;
mod entry;
mod load;
mod need;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use abi::{Access, layout};

use crate::Error;
use crate::frames::{Frame, Frames};
use crate::memory::{Gpa, GuestMemory};

use edit::{Pool, Table};
pub(crate) use entry::Protection;
use entry::{LARGE, Level};
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
