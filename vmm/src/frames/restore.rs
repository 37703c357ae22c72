//! Frames of a snapshot: those that are in use, for RAM of another size, and the way back.
//!
//! Rule: going back makes every frame that was used since dirty, and leaves what KVM may still hold a shadow of
//! retired.

use abi::layout;

use super::{BLOCK_FRAMES, Block, Frame, Frames, Purpose, bit};

impl Frames {
    /// Notes that a snapshot uses `frame`, for page `index` of a piece or for anything else. Returns whether
    /// nothing else of it does. To be followed by [`resized`](Self::resized).
    pub(crate) fn claim(&mut self, frame: Frame, page: Option<(u64, usize)>) -> bool {
        let (number, index) = frame.split();
        while self.blocks.len() <= number {
            self.add_block(BLOCK_FRAMES);
        }
        let Some(block) = self.blocks.get_mut(number).filter(|block| bit(&block.free, index))
        else {
            return false;
        };
        let fits =
            page.filter(|(_, page)| *page == index).map(|(piece, _)| Purpose::Reserved(piece));
        block.purpose = match (block.purpose, fits) {
            (Purpose::Untouched, Some(reserved)) => reserved,
            (purpose, Some(reserved)) if purpose == reserved => reserved,
            _ => Purpose::Open,
        };
        block.free[index / 64] &= !(1 << (index % 64));
        block.dirty[index / 64] |= 1 << (index % 64);
        block.free_count -= 1;
        true
    }

    /// These frames in RAM of `bytes`. `None` if frames beyond it are in use.
    pub(crate) fn resized(&self, bytes: u64) -> Option<Self> {
        let mut frames = Self::new(bytes);
        for (number, block) in self.blocks.iter().enumerate() {
            let there = frames.total.saturating_sub(number * BLOCK_FRAMES).min(BLOCK_FRAMES);
            let mut block = block.clone();
            for index in there..BLOCK_FRAMES {
                if !bit(&block.free, index) {
                    return None;
                }
                block.free[index / 64] &= !(1 << (index % 64));
                block.free_count -= 1;
            }
            if there > 0 {
                frames.put_block(number, block, there);
            }
        }
        Some(frames)
    }

    /// Goes back to the state `to`, of RAM of the same size: what was used since is free, and dirty. `tables`
    /// stay retired, like those that are. Returns whether one of them is in use in that state: then the
    /// memory slots must change before the vCPU runs.
    pub(crate) fn rewind(&mut self, to: &Self, tables: impl Iterator<Item = Frame>) -> bool {
        let old = std::mem::replace(self, to.clone());
        for (number, was) in old.blocks.iter().enumerate() {
            match self.blocks.get_mut(number) {
                Some(block) => {
                    block.dirty.iter_mut().zip(was.dirty).for_each(|(bits, was)| *bits |= was);
                }
                None => {
                    let there = self.total.saturating_sub(number * BLOCK_FRAMES).min(BLOCK_FRAMES);
                    let block = Block { dirty: was.dirty, ..Block::untouched(there) };
                    self.put_block(number, block, there);
                }
            }
        }
        let mut is_in_use = false;
        for frame in old.retired.into_iter().chain(tables) {
            let (number, index) = frame.split();
            if self.blocks.get(number).is_some_and(|block| block.purpose == Purpose::Untouched) {
                self.whole.remove(&number);
                self.open(number);
            }
            match self.take_at(number, index) {
                Some(taken) => self.retired.push(taken.frame),
                None => is_in_use = true,
            }
        }
        is_in_use
    }

    /// Frames that are in use, in order.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = Frame> + '_ {
        let blocks = self.blocks.iter().enumerate();
        blocks
            .flat_map(|(number, block)| {
                let used = move |index: &usize| !bit(&block.free, *index);
                (0..BLOCK_FRAMES).filter(used).filter_map(move |index| {
                    u32::try_from(number * BLOCK_FRAMES + index).ok().map(Frame)
                })
            })
            // The last block may be a short one.
            .take_while(|frame| (frame.0 as usize) < self.total)
    }

    /// Bytes of RAM, in whole blocks, beyond which no frame was ever used.
    pub(crate) const fn used_bytes(&self) -> u64 {
        self.blocks.len() as u64 * layout::LARGE_PAGE
    }

    /// Adds a block whose `there` frames exist, of which those that are free are counted as such.
    fn put_block(&mut self, number: usize, block: Block, there: usize) {
        self.free = self.free + block.free_count - there;
        let (purpose, has_room) = (block.purpose, block.free_count > 0);
        self.blocks.push(block);
        match purpose {
            Purpose::Untouched if there == BLOCK_FRAMES => {
                self.whole.insert(number);
            }
            Purpose::Untouched => self.open(number),
            Purpose::Reserved(piece) => {
                self.reservations.insert(piece, number);
                if has_room {
                    self.reserved_with_room.insert(number);
                }
            }
            Purpose::Open if has_room => {
                self.open_with_room.insert(number);
            }
            Purpose::Open => {}
        }
    }
}
