//! Host memory that guests see: mappings, and checked copies into and out of them.
//!
//! Rule: access is by checked copies only; no reference or pointer into guest memory leaves this file, except
//! the address that a memory slot needs. A [`Region`] belongs to one micro-VM and is writable: anonymous
//! memory, over parts of which a snapshot's file may be mapped privately. A [`SharedRegion`] has its final
//! content, is read-only in the host too, and serves every micro-VM of the process. Copies happen on the
//! thread that runs the vCPU, while it is out of the guest.
#![expect(unsafe_code, reason = "guest memory is mapped and copied by address")]
// UNSAFETY: a guest's memory is changed by its vCPU, so it can be no Rust slice: it is a mapping that is
// read and written through raw pointers, checked here.

use std::ffi::c_void;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;
use std::sync::Arc;

use abi::layout;
use rustix::mm;

use super::{pagemap, to_usize};
use crate::Error;

/// Anonymous host memory, zero at first, aligned to [`layout::LARGE_PAGE`] in host and guest alike so
/// that the kernel can use large pages. Memory that nobody touches is not taken.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u8>,
    bytes: usize,
    /// Offset behind the last file that is mapped over it.
    files_end: u64,
}

// SAFETY: the mapping is owned by this value and not tied to a thread; writes need `&mut self`.
unsafe impl Send for Region {}
// SAFETY: `&self` gives read access only, see `read`.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `bytes`, rounded up to whole large pages.
    ///
    /// # Errors
    ///
    /// [`Error::MapMemory`].
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
        Ok(Self { start, bytes: size, files_end: 0 })
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
        // Where a file is mapped, its content would come back.
        let is_large = offset >= self.files_end
            && offset.is_multiple_of(layout::LARGE_PAGE)
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

    /// Maps `[file_offset, file_offset + len)` of `file` privately over `[offset, offset + len)`: pages that are
    /// written are this region's, all others stay the file's.
    ///
    /// # Errors
    ///
    /// [`Error::MapFile`].
    pub(crate) fn map_file(
        &mut self,
        offset: u64,
        len: u64,
        file: &File,
        file_offset: u64,
    ) -> Result<(), Error> {
        let error =
            |source: rustix::io::Errno| Error::MapFile { bytes: len, source: source.into() };
        let bytes = usize::try_from(len).map_err(|_| error(rustix::io::Errno::INVAL))?;
        let at = self.check(offset, bytes).ok_or_else(|| error(rustix::io::Errno::INVAL))?;
        let flags = mm::MapFlags::PRIVATE | mm::MapFlags::FIXED | mm::MapFlags::NORESERVE;
        let protection = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
        // SAFETY: `check` proves that the pages replaced lie in our own mapping, to which nothing refers
        // but memory slots, and those by address.
        unsafe { mm::mmap(at.cast(), bytes, protection, flags, file, file_offset) }
            .map_err(error)?;
        self.files_end = self.files_end.max(offset + len);
        Ok(())
    }

    /// Gives `[offset, offset + len)` pages of its own that are present and have their present content.
    /// Where the kernel is too old for that (before 5.14), they come one by one when they are touched.
    pub(crate) fn populate(&mut self, offset: u64, len: u64) {
        if let Some(at) = usize::try_from(len).ok().and_then(|len| self.check(offset, len)) {
            let advice = mm::Advice::LinuxPopulateWrite;
            // SAFETY: the pages lie in our mapping, and their content stays.
            let _ = unsafe { mm::madvise(at.cast(), to_usize(len), advice) };
        }
    }

    /// Gives up what was written in `[offset, offset + len)`: it has the content of the file that is mapped
    /// there, or zeros.
    ///
    /// # Errors
    ///
    /// [`Error::MapMemory`].
    pub(crate) fn revert(&mut self, offset: u64, len: u64) -> Result<(), Error> {
        let error =
            |source: rustix::io::Errno| Error::MapMemory { bytes: len, source: source.into() };
        let bytes = usize::try_from(len).map_err(|_| error(rustix::io::Errno::INVAL))?;
        let at = self.check(offset, bytes).ok_or_else(|| error(rustix::io::Errno::INVAL))?;
        // SAFETY: the pages lie in our private mapping, whose content this replaces (madvise(2)); the kernel
        // tells KVM.
        unsafe { mm::madvise(at.cast(), bytes, mm::Advice::LinuxDontNeed) }.map_err(error)
    }

    /// The pages that were written of `[offset, offset + len)`, over which a file is mapped; by number, page 0
    /// being that at the start of the region.
    ///
    /// # Errors
    ///
    /// [`Error::Pagemap`].
    pub(crate) fn written_pages(&self, offset: u64, len: u64) -> Result<Vec<Range<u64>>, Error> {
        let (first, mut pages) = (offset / layout::PAGE, Vec::new());
        let start = self.host_address() + offset;
        pagemap::written_pages(start, len / layout::PAGE, |page| pages.push(first + page))
            .map_err(Error::Pagemap)?;
        Ok(pagemap::ranges(pages))
    }

    /// Copies `len` bytes at `offset` from `source_offset` of `source`. `None`, and nothing
    /// written, if they are not all inside both.
    #[must_use]
    pub(crate) fn copy_from(
        &mut self,
        offset: u64,
        len: u64,
        source: &SharedRegion,
        source_offset: u64,
    ) -> Option<()> {
        let len = usize::try_from(len).ok()?;
        let (from, to) = (source.0.check(source_offset, len)?, self.check(offset, len)?);
        // SAFETY: `check` proves that both lie in their mappings, which are different ones; no vCPU runs in
        // ours (as in `read`), and nothing writes to a shared region.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
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

/// Memory whose content is final.
#[derive(Clone, Debug)]
pub(crate) struct SharedRegion(Arc<Region>);

impl SharedRegion {
    /// Maps `[offset, offset + bytes)` of `file` for reading. The kernel is asked for large pages, which it
    /// has where the page cache holds the file in large folios.
    ///
    /// Nobody may cut the file short or change it while it is mapped: a file of the node's cache belongs to
    /// this user alone and is only ever replaced.
    ///
    /// # Errors
    ///
    /// [`Error::MapFile`].
    pub(crate) fn of_file(file: &File, offset: u64, bytes: u64) -> Result<Self, Error> {
        let error = |source: rustix::io::Errno| Error::MapFile { bytes, source: source.into() };
        let region = Region::new(bytes)?;
        let flags = mm::MapFlags::SHARED | mm::MapFlags::FIXED;
        let (at, len) = (region.start.as_ptr(), to_usize(bytes));
        // SAFETY: replaces the start of a mapping just made, to which nothing refers.
        unsafe { mm::mmap(at.cast(), len, mm::ProtFlags::READ, flags, file, offset) }
            .map_err(error)?;
        // A hint, as in `Region::new`.
        // SAFETY: advice about the mapping just made changes no content.
        let _ = unsafe { mm::madvise(at.cast(), len, mm::Advice::LinuxHugepage) };
        // What lies between the end of the file's part and that of the region stays ours and zero.
        Ok(Self(Arc::new(region)))
    }

    /// The first `bytes` of `file`, whole large pages, as [`of_file`](Self::of_file) maps them; but pieces that
    /// the page cache does not hold in large folios are copied, so that all of it is in large pages.
    ///
    /// # Errors
    ///
    /// [`Error::MapFile`], and [`Error::ReadProgram`] if a piece cannot be read.
    pub(crate) fn of_program(file: &File, bytes: u64) -> Result<Self, Error> {
        let mapped = Self::of_file(file, 0, bytes)?;
        if mapped.is_large(0, bytes) {
            return Ok(mapped);
        }
        let small: Vec<u64> = (0..bytes)
            .step_by(to_usize(layout::LARGE_PAGE))
            .filter(|offset| !mapped.is_large(*offset, layout::LARGE_PAGE))
            .collect();
        let mut piece = vec![0; to_usize(layout::LARGE_PAGE)];
        for offset in small {
            file.read_exact_at(&mut piece, offset).map_err(Error::ReadProgram)?;
            mapped.replace(offset, &piece)?;
        }
        Ok(mapped)
    }

    /// Puts anonymous memory with the content `piece`, a large page, in the place of what is mapped at `offset`.
    fn replace(&self, offset: u64, piece: &[u8]) -> Result<(), Error> {
        let bytes = piece.len() as u64;
        let error = |source: rustix::io::Errno| Error::MapMemory { bytes, source: source.into() };
        let Some(at) = self.0.check(offset, piece.len()) else {
            return Err(error(rustix::io::Errno::INVAL));
        };
        // Aligned as the region is, so that it can be one large page.
        let copy = Region::new(bytes)?;
        let from = copy.start.as_ptr();
        // SAFETY: `copy` has room for a whole large page, is ours, and nothing else refers to it.
        unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), from, piece.len()) };
        let flags = mm::MremapFlags::MAYMOVE;
        // SAFETY: `check` proves that the pages replaced lie in the region, of which only addresses are known
        // outside and no slot yet; the pages that move are those of `copy`, which is forgotten.
        unsafe {
            mm::mprotect(from.cast(), copy.bytes, mm::MprotectFlags::READ).map_err(|source| {
                Error::ProtectMemory { bytes: copy.bytes(), source: source.into() }
            })?;
            mm::mremap_fixed(from.cast(), copy.bytes, copy.bytes, flags, at.cast())
                .map_err(error)?;
        }
        std::mem::forget(copy);
        Ok(())
    }

    /// Reads `[offset, offset + len)` in, and says whether all of it is mapped by large pages.
    pub(crate) fn is_large(&self, offset: u64, len: u64) -> bool {
        let Some(at) = usize::try_from(len).ok().and_then(|len| self.0.check(offset, len)) else {
            return false;
        };
        // SAFETY: reading pages in changes no content.
        let _ = unsafe { mm::madvise(at.cast(), to_usize(len), mm::Advice::LinuxPopulateRead) };
        pagemap::is_large(self.0.host_address() + offset, len).unwrap_or(false)
    }

    /// Whether both are the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// Address in the host, for the memory slot.
    pub(crate) fn host_address(&self) -> u64 {
        self.0.host_address()
    }

    /// Copies `target.len()` bytes from `offset` out. `None` if they are not all inside.
    #[must_use]
    pub(crate) fn read(&self, offset: u64, target: &mut [u8]) -> Option<()> {
        self.0.read(offset, target)
    }
}
