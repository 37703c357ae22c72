//! Host memory that a guest sees.
//!
//! Rule: access is by checked copies only. No reference or pointer into guest memory leaves this file,
//! except the address that a memory slot needs. A [`Region`] belongs to one micro-VM and is writable; a
//! [`SharedRegion`] was filled once, is read-only in the host too, and serves every micro-VM of the process.
//! Copies happen on the thread that runs the vCPU, while it is out of the guest.
#![expect(unsafe_code, reason = "guest memory is mapped and copied by address")]
// UNSAFETY: a guest's memory is changed by its vCPU, so it can be no Rust slice: it is a mapping that is
// read and written through raw pointers, checked here.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use abi::layout;
use rustix::mm;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Error;

/// A guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gpa(pub(crate) u64);

/// Anonymous host memory, zero at first, aligned to [`layout::LARGE_PAGE`] in host and guest alike so
/// that the kernel can use large pages. Memory that nobody touches is not taken.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is owned by this value and not tied to a thread; writes need `&mut self`.
unsafe impl Send for Region {}
// SAFETY: `&self` gives read access only, see `read`.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `bytes`, rounded up to whole large pages.
    pub(crate) fn new(bytes: u64) -> Result<Self, Error> {
        let error = |source: rustix::io::Errno| Error::MapMemory { bytes, source: source.into() };
        let align = to_usize(layout::LARGE_PAGE);
        // Room to cut an aligned piece out of.
        let (size, mapped) = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| bytes.checked_next_multiple_of(align))
            .and_then(|size| Some((size, size.checked_add(align)?)))
            .ok_or_else(|| error(rustix::io::Errno::NOMEM))?;
        let flags = mm::MapFlags::PRIVATE | mm::MapFlags::NORESERVE;
        let protection = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
        // SAFETY: a null hint without MAP_FIXED replaces no mapping.
        let mapping =
            unsafe { mm::mmap_anonymous(std::ptr::null_mut(), mapped, protection, flags) }
                .map_err(error)?;
        let head = mapping.cast::<u8>().align_offset(align);
        let start = mapping.cast::<u8>().wrapping_add(head);
        let tail = align - head;
        // SAFETY: both pieces lie in the mapping just made, outside `[start, start + size)`, and are
        // page-aligned because `mapping` and `align` are; nothing refers to them.
        unsafe {
            unmap(mapping.cast(), head);
            unmap(start.wrapping_add(size), tail);
        }
        // A hint: on a kernel without transparent huge pages the guest is slower, not wrong.
        // SAFETY: advice about the mapping just made changes no content.
        let _ = unsafe { mm::madvise(start.cast(), size, mm::Advice::LinuxHugepage) };
        let start = NonNull::new(start).ok_or_else(|| error(rustix::io::Errno::NOMEM))?;
        Ok(Self { start, bytes: size })
    }

    /// Size in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Address in the host, for the memory slot.
    pub(crate) fn host_address(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// Copies `target.len()` bytes from `offset` out. `None` if they are not all inside.
    #[must_use]
    pub(crate) fn read(&self, offset: u64, target: &mut [u8]) -> Option<()> {
        let from = self.check(offset, target.len())?;
        // SAFETY: `check` proves that the source lies in the mapping; `target` is Rust memory and so
        // does not overlap it; no vCPU runs in it, since runs and copies share a thread.
        unsafe { std::ptr::copy_nonoverlapping(from, target.as_mut_ptr(), target.len()) };
        Some(())
    }

    /// Copies `source` in at `offset`. `None`, and nothing written, if it does not fit.
    #[must_use]
    pub(crate) fn write(&mut self, offset: u64, source: &[u8]) -> Option<()> {
        let to = self.check(offset, source.len())?;
        // SAFETY: as in `read`, with `&mut self` for the only writer.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), to, source.len()) };
        Some(())
    }

    /// Sets `len` bytes at `offset` to zero. `None`, and nothing written, if they are not all inside.
    /// Whole large pages go back to the kernel instead, which hands out zeros at the next touch.
    #[must_use]
    pub(crate) fn zero(&mut self, offset: u64, len: u64) -> Option<()> {
        let is_large = offset.is_multiple_of(layout::LARGE_PAGE)
            && len.is_multiple_of(layout::LARGE_PAGE)
            && len > 0;
        let len = usize::try_from(len).ok()?;
        let to = self.check(offset, len)?;
        // SAFETY: `check` proves that the pages lie in our private anonymous mapping, whose content this
        // replaces by zeros (madvise(2)); the kernel tells KVM.
        if is_large && unsafe { mm::madvise(to.cast(), len, mm::Advice::LinuxDontNeed) }.is_ok() {
            return Some(());
        }
        // SAFETY: as in `write`.
        unsafe { std::ptr::write_bytes(to, 0, len) };
        Some(())
    }

    /// Where `[offset, offset + len)` starts in the host, if all of it is inside.
    fn check(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(len)?;
        (end <= self.bytes).then(|| self.start.as_ptr().wrapping_add(offset))
    }

    /// Makes the content final and shareable.
    pub(crate) fn into_shared(self) -> Result<SharedRegion, Error> {
        // SAFETY: less access to our own mapping; nothing writes to it, since `self` is taken.
        unsafe { mm::mprotect(self.start.as_ptr().cast(), self.bytes, mm::MprotectFlags::READ) }
            .map_err(|source| Error::ProtectMemory {
                bytes: self.bytes(),
                source: source.into(),
            })?;
        Ok(SharedRegion(Arc::new(self)))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and `GuestMemory` outlives the machine whose slots use it.
        unsafe { unmap(self.start.as_ptr(), self.bytes) };
    }
}

/// Unmaps a piece of a mapping; nothing if `bytes` is 0.
///
/// # Safety
///
/// The piece is page-aligned, mapped by the caller, and nothing refers to it.
unsafe fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: by contract of this function. A failure would leave it mapped, which is harmless.
        let _ = unsafe { mm::munmap(start.cast::<c_void>(), bytes) };
    }
}

/// A region whose content is final.
#[derive(Clone, Debug)]
pub(crate) struct SharedRegion(Arc<Region>);

impl SharedRegion {
    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// What backs a memory slot.
#[derive(Debug)]
pub(crate) enum Backing {
    /// The micro-VM's own, writable.
    Own(Region),
    /// Shared, read-only.
    Shared(SharedRegion),
}

/// One memory slot.
#[derive(Debug)]
pub(crate) struct Slot {
    gpa: Gpa,
    bytes: u64,
    backing: Backing,
}

impl Slot {
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
        matches!(self.backing, Backing::Own(_))
    }

    /// Address in the host.
    pub(crate) fn host_address(&self) -> u64 {
        match &self.backing {
            Backing::Own(region) => region.host_address(),
            Backing::Shared(region) => region.0.host_address(),
        }
    }
}

/// All memory of one guest, by guest-physical address.
#[derive(Debug, Default)]
pub(crate) struct GuestMemory {
    slots: Vec<Slot>,
}

impl GuestMemory {
    /// Adds the first `bytes` of `backing` at `gpa`; the caller keeps slots disjoint.
    pub(crate) fn add(&mut self, gpa: Gpa, bytes: u64, backing: Backing) {
        let whole = match &backing {
            Backing::Own(region) => region.bytes(),
            Backing::Shared(region) => region.bytes(),
        };
        self.slots.push(Slot { gpa, bytes: bytes.min(whole), backing });
    }

    /// The slots in the order they were added.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
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
            Backing::Own(region) => region.read(gpa.0 - slot.gpa.0, target),
            Backing::Shared(region) => region.0.read(gpa.0 - slot.gpa.0, target),
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
        let (region, offset) = self.own(gpa, len)?;
        region.write(offset, source).ok_or(Error::OutsideMemory { gpa: gpa.0, len })
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
        let (region, offset) = self.own(gpa, len)?;
        region.zero(offset, len).ok_or(Error::OutsideMemory { gpa: gpa.0, len })
    }

    fn own(&mut self, gpa: Gpa, len: u64) -> Result<(&mut Region, u64), Error> {
        let slot = self.slots.iter_mut().find(|slot| holds(slot, gpa, len));
        match slot {
            Some(Slot { gpa: start, backing: Backing::Own(region), .. }) => {
                Ok((region, gpa.0 - start.0))
            }
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

    const START: Gpa = Gpa(0x20_0000);

    fn memory() -> GuestMemory {
        let mut memory = GuestMemory::default();
        memory.add(START, 3 * layout::PAGE, Backing::Own(Region::new(3 * layout::PAGE).unwrap()));
        let mut shared = Region::new(layout::PAGE).unwrap();
        shared.write(0, b"shared").unwrap();
        let shared = shared.into_shared().unwrap();
        memory.add(Gpa(0x40_0000), layout::LARGE_PAGE, Backing::Shared(shared));
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
        let end = START.0 + 3 * layout::PAGE;
        for gpa in [0, START.0 - 1, end - 7, end, u64::MAX, u64::MAX - 6] {
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
        assert_eq!(&memory.read_obj::<[u8; 6]>(Gpa(0x40_0000)).unwrap(), b"shared");
        assert!(memory.write(Gpa(0x40_0000), b"x").is_err());
        assert!(memory.zero(Gpa(0x40_0000), 1).is_err());
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
