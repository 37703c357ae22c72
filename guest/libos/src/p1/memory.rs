//! The program's memory, as the calls of preview 1 point into it.
//!
//! Rule: a pointer that leads out of the memory or is not aligned for what it points to is a trap, as
//! the interface says ("Pointers" in its witx documentation). Everything else is copied.

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use wasmtime::{Error, Trap};

use super::errno::{Answer, Errno, Failure};

/// Most buffers of one call (`IOV_MAX` of Linux).
const BUFFERS_MAX: u32 = 1024;

/// The memory that a module exports as `memory`.
pub(super) struct Memory<'a>(&'a mut [u8]);

impl<'a> Memory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// All of it, for [`Buffers`].
    pub(super) fn all(&mut self) -> &mut [u8] {
        self.0
    }

    pub(super) fn bytes(&self, at: u32, len: u32) -> Answer<&[u8]> {
        self.0.get(range(at, len)).ok_or(Failure::from(Trap::MemoryOutOfBounds))
    }

    pub(super) fn bytes_mut(&mut self, at: u32, len: u32) -> Answer<&mut [u8]> {
        self.0.get_mut(range(at, len)).ok_or(Failure::from(Trap::MemoryOutOfBounds))
    }

    /// A number of `N` bytes, or whatever has as many.
    pub(super) fn read<const N: usize>(&self, at: u32) -> Answer<[u8; N]> {
        let start = aligned(at, N)?;
        let bytes = self.0.get(start..).and_then(|bytes| bytes.first_chunk());
        bytes.copied().ok_or(Failure::from(Trap::MemoryOutOfBounds))
    }

    pub(super) fn read_u32(&self, at: u32) -> Answer<u32> {
        self.read(at).map(u32::from_le_bytes)
    }

    pub(super) fn write_u32(&mut self, at: u32, value: u32) -> Answer {
        self.write(at, value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, at: u32, value: u64) -> Answer {
        self.write(at, value.to_le_bytes())
    }

    fn write<const N: usize>(&mut self, at: u32, value: [u8; N]) -> Answer {
        let start = aligned(at, N)?;
        let bytes = self.0.get_mut(start..).and_then(|bytes| bytes.first_chunk_mut());
        *bytes.ok_or(Failure::from(Trap::MemoryOutOfBounds))? = value;
        Ok(())
    }

    /// Writes a structure whose first field has 8 bytes.
    pub(super) fn write_struct(&mut self, at: u32, bytes: &[u8]) -> Answer {
        let start = aligned(at, 8)?;
        let target = start.checked_add(bytes.len()).and_then(|end| self.0.get_mut(start..end));
        target.ok_or(Failure::from(Trap::MemoryOutOfBounds))?.copy_from_slice(bytes);
        Ok(())
    }
}

fn range(at: u32, len: u32) -> Range<usize> {
    let start = at as usize;
    start..start + len as usize
}

fn aligned(at: u32, alignment: usize) -> Answer<usize> {
    let start = at as usize;
    if start.is_multiple_of(alignment) {
        return Ok(start);
    }
    Err(Failure::Trap(Error::msg(format!(
        "a WASI call was given the address {at:#x}, which is not aligned to {alignment} bytes"
    ))))
}

/// Buffers of a vectored call, all of them within the memory. Empty ones are left out.
pub(super) struct Buffers {
    ranges: Vec<Range<usize>>,
    total: usize,
}

impl Buffers {
    /// Reads `count` records of address and length at `at`. Together they count at most `u32::MAX`
    /// bytes, for that is what the answer holds.
    pub(super) fn read(memory: &Memory<'_>, at: u32, count: u32) -> Answer<Self> {
        if count > BUFFERS_MAX {
            return Err(Errno::Invalid.into());
        }
        let mut ranges = Vec::with_capacity(count as usize);
        let mut total = 0_u32;
        for index in 0..count {
            let record = index
                .checked_mul(8)
                .and_then(|offset| at.checked_add(offset))
                .ok_or(Failure::from(Trap::MemoryOutOfBounds))?;
            let (start, len) = (memory.read_u32(record)?, memory.read_u32(record.wrapping_add(4))?);
            memory.bytes(start, len)?;
            total = total.checked_add(len).ok_or(Failure::from(Errno::Invalid))?;
            if len != 0 {
                ranges.push(range(start, len));
            }
        }
        Ok(Self { ranges, total: total as usize })
    }

    /// Bytes of all buffers.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// The only buffer, if there is but one.
    pub(super) fn single(&self) -> Option<Range<usize>> {
        match self.ranges.as_slice() {
            [range] => Some(range.clone()),
            _ => None,
        }
    }

    /// Copies `bytes` into the buffers, from their byte `from` on.
    pub(super) fn scatter(&self, memory: &mut [u8], from: usize, bytes: &[u8]) {
        let mut rest = bytes;
        for range in self.from(from) {
            let count = range.len().min(rest.len());
            let (now, later) = rest.split_at(count);
            if let Some(target) = memory.get_mut(range.start..range.start + count) {
                target.copy_from_slice(now);
            }
            rest = later;
        }
    }

    /// Copies the buffers' bytes from `from` on, at most `len`.
    pub(super) fn gather(&self, memory: &[u8], from: usize, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len.min(self.total));
        for range in self.from(from) {
            let count = range.len().min(len - bytes.len());
            let part = memory.get(range.start..range.start + count);
            bytes.extend_from_slice(part.unwrap_or_default());
        }
        bytes
    }

    /// The ranges without their first `skip` bytes.
    fn from(&self, mut skip: usize) -> impl Iterator<Item = Range<usize>> {
        self.ranges.iter().filter_map(move |range| {
            let skipped = skip.min(range.len());
            skip -= skipped;
            (skipped < range.len()).then_some(range.start + skipped..range.end)
        })
    }
}
