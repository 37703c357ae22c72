//! All memory of one guest, by guest-physical address.
//!
//! Rule: what a guest may write is one [`Region`] of its own, the private pages first and RAM behind them; the
//! image and the program are [`SharedRegion`]s. Slots are disjoint, and every access of ours lies in one.

mod pagemap;
mod region;

use abi::layout;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Error;

pub(crate) use pagemap::{faults_of_this_thread, open as open_pagemap, ranges};
pub(crate) use region::{Region, SharedRegion};

/// A guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gpa(pub(crate) u64);

/// Where RAM begins in a region: behind the private pages.
pub(crate) const RAM_OFFSET: u64 = layout::PRIVATE.end - layout::PRIVATE.start;

/// First guest-physical address of what a guest may write: the private pages, and RAM right behind them.
pub(crate) const OWN_START: u64 = layout::RAM_START - RAM_OFFSET;

/// Where the private page or byte is that the guest has at `gva`.
pub(crate) const fn private(gva: u64) -> Gpa {
    Gpa(OWN_START + (gva - layout::PRIVATE.start))
}

/// What backs a memory slot.
#[derive(Clone, Debug)]
enum Backing {
    /// The micro-VM's own region.
    Own,
    /// Shared, read-only.
    Shared(SharedRegion),
}

/// One memory slot.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    gpa: Gpa,
    bytes: u64,
    host_address: u64,
    backing: Backing,
}

impl Slot {
    /// A slot of shared memory.
    pub(crate) fn shared(gpa: Gpa, region: SharedRegion) -> Self {
        let (bytes, host_address) = (region.bytes(), region.host_address());
        Self { gpa, bytes, host_address, backing: Backing::Shared(region) }
    }

    /// First guest-physical address.
    pub(crate) const fn gpa(&self) -> Gpa {
        self.gpa
    }

    /// Size in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the guest may write.
    pub(crate) const fn is_writable(&self) -> bool {
        matches!(self.backing, Backing::Own)
    }

    /// Address in the host.
    pub(crate) const fn host_address(&self) -> u64 {
        self.host_address
    }
}

/// All memory of one guest.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    own: Region,
    slots: Vec<Slot>,
}

impl GuestMemory {
    /// Memory of the private pages and of `ram_bytes` of RAM, all in `own`.
    pub(crate) fn new(own: Region, ram_bytes: u64) -> Self {
        let slot = Slot {
            gpa: Gpa(OWN_START),
            bytes: Self::own_bytes(ram_bytes),
            host_address: own.host_address(),
            backing: Backing::Own,
        };
        Self { own, slots: vec![slot] }
    }

    /// Bytes of a region that holds the private pages and `ram_bytes` of RAM.
    pub(crate) const fn own_bytes(ram_bytes: u64) -> u64 {
        RAM_OFFSET + ram_bytes
    }

    /// Adds shared memory; the caller keeps slots disjoint.
    pub(crate) fn share(&mut self, slot: Slot) {
        self.slots.push(slot);
    }

    /// The slots: what the guest may write, then what is shared, in the order it was added.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The memory that the guest may write.
    pub(crate) const fn own(&mut self) -> &mut Region {
        &mut self.own
    }

    /// Copies bytes out.
    ///
    /// # Errors
    ///
    /// [`Error::OutsideMemory`] unless all lie in one slot.
    pub(crate) fn read(&self, gpa: Gpa, target: &mut [u8]) -> Result<(), Error> {
        let len = target.len() as u64;
        let slot = self.slots.iter().find(|slot| holds(slot, gpa, len));
        slot.and_then(|slot| match &slot.backing {
            Backing::Own => self.own.read(gpa.0 - slot.gpa.0, target),
            Backing::Shared(region) => region.read(gpa.0 - slot.gpa.0, target),
        })
        .ok_or(Error::OutsideMemory { gpa: gpa.0, len })
    }

    /// Copies a plain value out.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(crate) fn read_obj<T: FromBytes + IntoBytes>(&self, gpa: Gpa) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        self.read(gpa, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies bytes in.
    ///
    /// # Errors
    ///
    /// [`Error::OutsideMemory`] unless all lie in one slot that is not shared.
    pub(crate) fn write(&mut self, gpa: Gpa, source: &[u8]) -> Result<(), Error> {
        let len = source.len() as u64;
        let offset = self.own_offset(gpa, len)?;
        self.own.write(offset, source).ok_or(Error::OutsideMemory { gpa: gpa.0, len })
    }

    /// Copies a plain value in.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub(crate) fn write_obj<T: IntoBytes + Immutable>(
        &mut self,
        gpa: Gpa,
        value: &T,
    ) -> Result<(), Error> {
        self.write(gpa, value.as_bytes())
    }

    /// Sets `len` bytes to zero.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub(crate) fn zero(&mut self, gpa: Gpa, len: u64) -> Result<(), Error> {
        let offset = self.own_offset(gpa, len)?;
        self.own.zero(offset, len).ok_or(Error::OutsideMemory { gpa: gpa.0, len })
    }

    /// Where `[gpa, gpa + len)` is in the region that the guest may write.
    fn own_offset(&self, gpa: Gpa, len: u64) -> Result<u64, Error> {
        match self.slots.iter().find(|slot| holds(slot, gpa, len)) {
            Some(Slot { gpa: start, backing: Backing::Own, .. }) => Ok(gpa.0 - start.0),
            _ => Err(Error::OutsideMemory { gpa: gpa.0, len }),
        }
    }
}

/// Whether `[gpa, gpa + len)` lies in `slot`.
fn holds(slot: &Slot, gpa: Gpa, len: u64) -> bool {
    let offset = gpa.0.checked_sub(slot.gpa.0);
    offset.and_then(|offset| offset.checked_add(len)).is_some_and(|end| end <= slot.bytes)
}

/// A size of ours in the host's type. Lossless: this crate builds for 64-bit hosts only.
pub(crate) const fn to_usize(value: u64) -> usize {
    const { assert!(size_of::<usize>() == 8, "hosts are 64-bit") };
    #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
    {
        value as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Gpa = Gpa(layout::RAM_START);
    const SHARED: Gpa = Gpa(layout::IMAGE.start);
    const RAM_BYTES: u64 = 3 * layout::PAGE;

    fn memory() -> GuestMemory {
        let own = Region::new(GuestMemory::own_bytes(RAM_BYTES)).unwrap();
        let mut memory = GuestMemory::new(own, RAM_BYTES);
        let mut shared = Region::new(layout::PAGE).unwrap();
        shared.write(0, b"shared").unwrap();
        memory.share(Slot::shared(SHARED, shared.into_shared().unwrap()));
        memory
    }

    #[test]
    fn what_is_written_is_read() {
        let mut memory = memory();
        memory.write_obj(Gpa(START.0 + 5), &0x1122_3344_u32).unwrap();
        assert_eq!(memory.read_obj::<[u8; 4]>(Gpa(START.0 + 5)).unwrap(), [0x44, 0x33, 0x22, 0x11]);
    }

    #[test]
    fn fresh_memory_is_zero() {
        assert_eq!(memory().read_obj::<[u64; 512]>(START).unwrap(), [0; 512]);
    }

    #[test]
    fn zeroing_leaves_the_neighbours_alone() {
        let mut memory = memory();
        memory.write(START, &[0xff; 16]).unwrap();
        memory.zero(Gpa(START.0 + 4), 8).unwrap();
        let expected = [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
        assert_eq!(memory.read_obj::<[u8; 16]>(START).unwrap(), expected);
    }

    #[test]
    fn zeroing_whole_large_pages_leaves_zeros() {
        let mut region = Region::new(2 * layout::LARGE_PAGE).unwrap();
        for offset in [0, layout::LARGE_PAGE - 1, layout::LARGE_PAGE] {
            region.write(offset, &[7]).unwrap();
        }
        region.zero(0, layout::LARGE_PAGE).unwrap();
        let read = |offset| {
            let mut byte = [1];
            region.read(offset, &mut byte).unwrap();
            byte[0]
        };
        assert_eq!([0, layout::LARGE_PAGE - 1, layout::LARGE_PAGE].map(read), [0, 0, 7]);
    }

    #[test]
    fn no_access_leaves_its_slot() {
        let mut memory = memory();
        let end = START.0 + RAM_BYTES;
        for gpa in [0, OWN_START - 1, end - 7, end, u64::MAX, u64::MAX - 6] {
            assert!(memory.read(Gpa(gpa), &mut [0; 8]).is_err(), "read at {gpa:#x}");
            assert!(memory.write(Gpa(gpa), &[0; 8]).is_err(), "write at {gpa:#x}");
            assert!(memory.zero(Gpa(gpa), 8).is_err(), "zero at {gpa:#x}");
        }
        assert!(memory.zero(START, u64::MAX).is_err());
        assert!(memory.read(Gpa(end - 8), &mut [0; 8]).is_ok());
    }

    #[test]
    fn shared_memory_is_read_but_never_written() {
        let mut memory = memory();
        assert_eq!(&memory.read_obj::<[u8; 6]>(SHARED).unwrap(), b"shared");
        assert!(memory.write(SHARED, b"x").is_err());
        assert!(memory.zero(SHARED, 1).is_err());
    }

    #[test]
    fn regions_are_aligned_to_large_pages() {
        for pages in [1, 511, 512, 513] {
            let region = Region::new(pages * layout::PAGE).unwrap();
            assert!(region.host_address().is_multiple_of(layout::LARGE_PAGE));
            assert!(region.bytes().is_multiple_of(layout::LARGE_PAGE));
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(matches!(Region::new(u64::MAX), Err(Error::MapMemory { .. })));
        assert!(matches!(Region::new(1 << 60), Err(Error::MapMemory { .. })));
    }
}
