//! The frames of the RAM slot: who has which, and which must be zeroed.
//!
//! RAM is handed out in blocks of 2 MiB or frames of 4 KiB. A block is untouched, *reserved* for one
//! 2 MiB piece of the map area (page `i` of the piece uses frame `i`, so that the piece can be mapped as
//! one large page), or *open*: its frames serve anybody. A reservation is a preference: when nothing else
//! is left, a reserved block is opened, so memory is usable to the last frame.
//!
//! A page-table frame that was replaced is *retired*: KVM may still hold a shadow of it, so it serves
//! nobody until the memory slots have changed ([`Frames::release_retired`]).

mod restore;

use std::collections::{BTreeMap, BTreeSet};

use abi::layout;

use crate::memory::Gpa;

/// Frames of a block.
pub(crate) const BLOCK_FRAMES: usize = 512;
const _: () = assert!(layout::LARGE_PAGE == layout::PAGE * BLOCK_FRAMES as u64);

/// A 4 KiB frame of the RAM slot, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frame(u32);

impl Frame {
    /// Where it is.
    pub(crate) const fn gpa(self) -> Gpa {
        Gpa(layout::RAM_START + self.0 as u64 * layout::PAGE)
    }

    /// The frame at `gpa`, if that is in the RAM slot's range.
    pub(crate) fn at(gpa: Gpa) -> Option<Self> {
        let offset = gpa.0.checked_sub(layout::RAM_START)?;
        u32::try_from(offset / layout::PAGE).ok().map(Self)
    }

    /// The `index`th frame from this one.
    pub(crate) fn offset(self, index: usize) -> Self {
        Self(self.0.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX)))
    }

    fn split(self) -> (usize, usize) {
        (self.0 as usize / BLOCK_FRAMES, self.0 as usize % BLOCK_FRAMES)
    }
}

/// A frame that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which.
    pub(crate) frame: Frame,
    /// Whether it was used before, so that it is not zero.
    pub(crate) is_dirty: bool,
}

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Nothing: all of its frames are free.
    Untouched,
    /// For the piece with this number (its guest-virtual address in units of 2 MiB).
    Reserved(u64),
    Open,
}

/// One bit per frame of a block.
type Bits = [u64; BLOCK_FRAMES / 64];

#[derive(Clone, Debug)]
struct Block {
    purpose: Purpose,
    free: Bits,
    dirty: Bits,
    free_count: usize,
}

impl Block {
    /// A block of so many frames that nobody has used.
    fn untouched(frames: usize) -> Self {
        let mut free = [0; BLOCK_FRAMES / 64];
        (0..frames).for_each(|index| free[index / 64] |= 1 << (index % 64));
        Self { purpose: Purpose::Untouched, free, dirty: Bits::default(), free_count: frames }
    }
}

/// All frames of a RAM slot.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    total: usize,
    /// Blocks that were ever used, from the start of RAM.
    blocks: Vec<Block>,
    /// Blocks that are whole again.
    whole: BTreeSet<usize>,
    open_with_room: BTreeSet<usize>,
    reserved_with_room: BTreeSet<usize>,
    reservations: BTreeMap<u64, usize>,
    retired: Vec<Frame>,
    free: usize,
}

impl Frames {
    /// `bytes` of untouched RAM.
    pub(crate) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / layout::PAGE).unwrap_or(u32::MAX) as usize;
        Self {
            total,
            blocks: Vec::new(),
            whole: BTreeSet::new(),
            open_with_room: BTreeSet::new(),
            reserved_with_room: BTreeSet::new(),
            reservations: BTreeMap::new(),
            retired: Vec::new(),
            free: total,
        }
    }

    /// Frames of the slot.
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    /// Frames that can be taken one by one, those of reserved blocks among them.
    pub(crate) const fn free(&self) -> usize {
        self.free
    }

    /// Frames that come back by [`release_retired`](Self::release_retired).
    pub(crate) const fn retired(&self) -> usize {
        self.retired.len()
    }

    /// Takes any frame. `None` only if none is free.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        let block = self.open_with_room.first().copied().or_else(|| self.open_block())?;
        let index = self.blocks.get(block)?.free.iter().enumerate().find_map(|(word, bits)| {
            (*bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })?;
        self.take_at(block, index)
    }

    /// Takes the frame for page `index` of a piece: from the block that is reserved for the piece, from
    /// one that is reserved hereby if `may_reserve`, else any.
    pub(crate) fn take_for(
        &mut self,
        piece: u64,
        index: usize,
        may_reserve: bool,
    ) -> Option<Taken> {
        let reserved = self.reservations.get(&piece).copied();
        match reserved.or_else(|| may_reserve.then(|| self.reserve(piece)).flatten()) {
            Some(block) => self.take_at(block, index),
            None => self.take(),
        }
    }

    /// Takes a whole block for a piece. Returns its first frame and the frames that are dirty.
    pub(crate) fn take_block(&mut self, piece: u64) -> Option<(Frame, Vec<Frame>)> {
        let number = self.reserve(piece)?;
        let block = self.blocks.get_mut(number)?;
        let first = Frame(u32::try_from(number * BLOCK_FRAMES).ok()?);
        let is_dirty = |index: &usize| bit(&block.dirty, *index);
        let dirty = (0..BLOCK_FRAMES).filter(is_dirty).map(|i| first.offset(i)).collect();
        block.free = [0; BLOCK_FRAMES / 64];
        block.dirty = [u64::MAX; BLOCK_FRAMES / 64];
        block.free_count = 0;
        self.free -= BLOCK_FRAMES;
        self.reserved_with_room.remove(&number);
        Some((first, dirty))
    }

    /// First frame of the block that is reserved for a piece.
    pub(crate) fn reserved_for(&self, piece: u64) -> Option<Frame> {
        let block = self.reservations.get(&piece)?;
        u32::try_from(block * BLOCK_FRAMES).ok().map(Frame)
    }

    /// Gives a frame back.
    pub(crate) fn release(&mut self, frame: Frame) {
        let (number, index) = frame.split();
        let Some(block) = self.blocks.get_mut(number).filter(|block| !bit(&block.free, index))
        else {
            return;
        };
        block.free[index / 64] |= 1 << (index % 64);
        block.free_count += 1;
        self.free += 1;
        if block.free_count == BLOCK_FRAMES {
            if let Purpose::Reserved(piece) = block.purpose {
                self.reservations.remove(&piece);
            }
            block.purpose = Purpose::Untouched;
            self.open_with_room.remove(&number);
            self.reserved_with_room.remove(&number);
            self.whole.insert(number);
        } else if block.purpose == Purpose::Open {
            self.open_with_room.insert(number);
        } else {
            self.reserved_with_room.insert(number);
        }
    }

    /// Puts a page-table frame aside until the memory slots have changed.
    pub(crate) fn retire(&mut self, frame: Frame) {
        self.retired.push(frame);
    }

    /// Gives back what was retired. Only after a change of the memory slots.
    pub(crate) fn release_retired(&mut self) {
        for frame in std::mem::take(&mut self.retired) {
            self.release(frame);
        }
    }

    fn open(&mut self, number: usize) {
        if let Some(block) = self.blocks.get_mut(number) {
            block.purpose = Purpose::Open;
            self.open_with_room.insert(number);
        }
    }

    fn take_at(&mut self, number: usize, index: usize) -> Option<Taken> {
        let block = self.blocks.get_mut(number).filter(|block| bit(&block.free, index))?;
        let is_dirty = bit(&block.dirty, index);
        block.free[index / 64] &= !(1 << (index % 64));
        block.dirty[index / 64] |= 1 << (index % 64);
        block.free_count -= 1;
        self.free -= 1;
        if block.free_count == 0 {
            self.open_with_room.remove(&number);
            self.reserved_with_room.remove(&number);
        }
        let frame = Frame(u32::try_from(number * BLOCK_FRAMES + index).ok()?);
        Some(Taken { frame, is_dirty })
    }

    /// Reserves an untouched block of full size.
    fn reserve(&mut self, piece: u64) -> Option<usize> {
        let number = self.whole_block()?;
        self.blocks.get_mut(number)?.purpose = Purpose::Reserved(piece);
        self.reserved_with_room.insert(number);
        self.reservations.insert(piece, number);
        Some(number)
    }

    /// Opens a block: an untouched one, the short one at the end of RAM, or one whose reservation ends.
    fn open_block(&mut self) -> Option<usize> {
        let number = self
            .whole_block()
            .or_else(|| self.short_block())
            .or_else(|| self.reserved_with_room.pop_first())?;
        if let Purpose::Reserved(piece) = self.blocks.get(number)?.purpose {
            self.reservations.remove(&piece);
        }
        self.open(number);
        Some(number)
    }

    fn whole_block(&mut self) -> Option<usize> {
        self.whole.pop_first().or_else(|| {
            let number = self.blocks.len();
            let fits = (number + 1) * BLOCK_FRAMES <= self.total;
            fits.then(|| self.add_block(BLOCK_FRAMES))
        })
    }

    /// The rest of RAM behind the last full block, once.
    fn short_block(&mut self) -> Option<usize> {
        let rest = self.total.checked_sub(self.blocks.len() * BLOCK_FRAMES)?;
        (rest > 0 && rest < BLOCK_FRAMES).then(|| self.add_block(rest))
    }

    fn add_block(&mut self, frames: usize) -> usize {
        self.blocks.push(Block::untouched(frames));
        self.blocks.len() - 1
    }
}

const fn bit(bits: &Bits, index: usize) -> bool {
    bits[index / 64] & 1 << (index % 64) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn every_frame_is_handed_out_once() {
        let mut frames = Frames::new(5 * MIB);
        let taken: BTreeSet<Frame> =
            std::iter::from_fn(|| frames.take()).map(|t| t.frame).collect();
        assert_eq!((taken.len(), frames.free()), (5 * 256, 0));
    }

    #[test]
    fn a_piece_gets_frames_of_one_aligned_block() {
        let mut frames = Frames::new(8 * MIB);
        let first = frames.take_for(7, 3, true).unwrap().frame;
        let second = frames.take_for(7, 500, true).unwrap().frame;
        assert_eq!(second, first.offset(497));
        assert_eq!(frames.reserved_for(7), Frame::at(Gpa(first.gpa().0 - 3 * layout::PAGE)));
    }

    #[test]
    fn reservations_are_given_up_when_frames_run_short() {
        let mut frames = Frames::new(4 * MIB);
        frames.take_for(1, 0, true).unwrap();
        frames.take_for(2, 0, true).unwrap();
        assert_eq!(std::iter::from_fn(|| frames.take()).count(), 1022);
        assert_eq!(frames.reserved_for(1), None);
    }

    #[test]
    fn a_used_frame_comes_back_dirty() {
        let mut frames = Frames::new(2 * MIB);
        let taken = frames.take().unwrap();
        assert!(!taken.is_dirty);
        frames.release(taken.frame);
        assert_eq!(frames.take(), Some(Taken { is_dirty: true, ..taken }));
    }

    #[test]
    fn a_block_taken_again_names_its_dirty_frames() {
        let mut frames = Frames::new(2 * MIB);
        let taken = frames.take_for(1, 9, true).unwrap();
        frames.release(taken.frame);
        let (first, dirty) = frames.take_block(2).unwrap();
        assert_eq!(dirty, [taken.frame]);
        (0..BLOCK_FRAMES).for_each(|index| frames.release(first.offset(index)));
        assert_eq!(frames.take_block(3).unwrap().1.len(), BLOCK_FRAMES);
    }

    #[test]
    fn a_retired_frame_serves_nobody_until_it_is_released() {
        let mut frames = Frames::new(MIB);
        let taken = frames.take().unwrap();
        frames.retire(taken.frame);
        assert_eq!(std::iter::from_fn(|| frames.take()).count(), 255);
        frames.release_retired();
        assert_eq!(frames.take().map(|t| t.frame), Some(taken.frame));
    }

    #[test]
    fn a_frame_released_twice_counts_once() {
        let mut frames = Frames::new(MIB);
        let taken = frames.take().unwrap();
        frames.release(taken.frame);
        frames.release(taken.frame);
        assert_eq!(frames.free(), 256);
    }
}
