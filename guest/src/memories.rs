//! Linear memories, and the heaps of Wasmtime's garbage collector, which are memories too.
//!
//! A memory is the accessible beginning of a range of guest-virtual addresses. One that ends leaves its range
//! and its pages to the next that wants as many addresses: a new instance in the place of an old one takes no
//! host call.
//!
//! Invariant: whatever used a range before, a memory begins with zeros, and nothing behind its size is
//! accessible, not for a moment in which wasm runs.
#![expect(unsafe_code, reason = "implements Wasmtime's memories")]
// UNSAFETY: compiled code reaches the memory by its address alone, and trusts what lies behind it to fault.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::layout::{LARGE_PAGE, PAGE};
use abi::{Access, Errno};
use wasmtime::{Error, LinearMemory, MemoryCreator, MemoryType, Result};

use crate::single::Single;
use crate::{doorbell, platform, word};

/// Most bytes that a memory leaves to the next. Those of a larger one go back to the host, which clears them
/// by large pages.
const LEFT_BYTES_MAX: u64 = 16 << 20;

/// Ranges without a memory.
static FREE: Single<Vec<Reservation>> = Single::new(Vec::new());

/// Makes the memories of all instances.
pub(crate) struct Memories;

// SAFETY: a memory is the only user of a range for as long as it lives; see `Memory`.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved_size_in_bytes.unwrap_or_default() as u64;
        let memory = Memory::new(minimum, reserved, guard_size_in_bytes as u64);
        let memory = memory.map_err(|errno| format!("no memory of {minimum} bytes: {errno:?}"))?;
        Ok(Box::new(memory))
    }
}

/// Changes the access to a range of the map area. Where the host has no memory left, what ended memories have
/// left is given back first.
///
/// # Errors
///
/// What the host declined it with.
pub(crate) fn map(gva: u64, len: u64, access: Access) -> Result<(), Errno> {
    match doorbell::map(gva, len, access) {
        Err(Errno::NoMemory) if give_back() => {
            doorbell::forget_declined_memory();
            doorbell::map(gva, len, access)
        }
        result => result,
    }
}

/// Gives the pages of ended memories back to the host. Returns whether there were any.
fn give_back() -> bool {
    // Borrowed already while it grows: then there is nothing to be had.
    let Some(mut free) = FREE.borrow() else { return false };
    let mut any = false;
    for range in free.iter_mut() {
        any |= range.cut(0).is_ok_and(|cut| cut);
    }
    any
}

/// Guest-virtual addresses that begin with accessible pages. Behind the reserved ones, and before them, lie as
/// many that never are accessible as Wasmtime has asked for.
#[derive(Clone, Copy)]
struct Reservation {
    start: u64,
    reserved: u64,
    guard: u64,
    /// Bytes from the start, in whole pages.
    accessible: u64,
}

impl Reservation {
    /// A range that begins with `accessible` bytes of zeros: one without a memory, or new addresses.
    fn take(accessible: u64, reserved: u64, guard: u64) -> Result<Self, Errno> {
        let mut range = match Self::free(accessible, reserved, guard) {
            Some(range) => range,
            None => Self::new(reserved, guard).ok_or(Errno::NoMemory)?,
        };
        match range.begin(accessible) {
            Ok(()) => Ok(range),
            Err(errno) => {
                range.leave();
                Err(errno)
            }
        }
    }

    /// New addresses.
    fn new(reserved: u64, guard: u64) -> Option<Self> {
        let len = reserved.checked_add(guard.checked_mul(2)?)?;
        let start = platform::addresses(len)? + guard;
        Some(Self { start, reserved, guard, accessible: 0 })
    }

    /// The range without a memory that is most like what is wanted.
    fn free(accessible: u64, reserved: u64, guard: u64) -> Option<Self> {
        let mut free = FREE.borrow()?;
        let fitting = free
            .iter()
            .enumerate()
            .filter(|(_, range)| range.reserved == reserved && range.guard == guard);
        let (index, _) = fitting.min_by_key(|(_, range)| range.accessible.abs_diff(accessible))?;
        Some(free.swap_remove(index))
    }

    /// Makes exactly the first `accessible` bytes accessible, and zeros.
    fn begin(&mut self, accessible: u64) -> Result<(), Errno> {
        self.cut(accessible)?;
        let start = core::ptr::with_exposed_provenance_mut::<u8>(word(self.start));
        // SAFETY: these pages are mapped for writing, and no memory is in this range.
        unsafe { start.write_bytes(0, word(self.accessible)) };
        self.extend(accessible)
    }

    /// Takes the access away to what lies behind `accessible` bytes. Returns whether anything did.
    fn cut(&mut self, accessible: u64) -> Result<bool, Errno> {
        let Some(len) = self.accessible.checked_sub(accessible).filter(|len| *len > 0) else {
            return Ok(false);
        };
        doorbell::map(self.start + accessible, len, Access::None)?;
        self.accessible = accessible;
        Ok(true)
    }

    /// Makes `accessible` bytes accessible, if they are not. What is added is zeros.
    fn extend(&mut self, accessible: u64) -> Result<(), Errno> {
        if let Some(len) = accessible.checked_sub(self.accessible).filter(|len| *len > 0) {
            map(self.start + self.accessible, len, Access::ReadWrite)?;
            self.accessible = accessible;
        }
        Ok(())
    }

    /// Leaves the range to other memories.
    fn leave(mut self) {
        if self.accessible > LEFT_BYTES_MAX {
            // The host never declines that. Should it, the pages stay with the range.
            let _ = self.cut(0);
        }
        let Some(mut free) = FREE.borrow() else { return };
        // Without memory for the list the addresses are lost; the pages must not be.
        if free.try_reserve(1).is_ok() {
            free.push(self);
        } else {
            let _ = self.cut(0);
        }
    }
}

/// A memory.
struct Memory {
    range: Reservation,
    bytes: usize,
}

impl Memory {
    /// A memory of `bytes`, which does not move before it has `reserved`.
    fn new(bytes: usize, reserved: u64, guard: u64) -> Result<Self, Errno> {
        let accessible = pages(bytes)?;
        let reserved = if accessible <= reserved { reserved } else { room(accessible)? };
        Ok(Self { range: Reservation::take(accessible, reserved, guard)?, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.range.leave();
    }
}

// SAFETY: `byte_size` bytes from `as_ptr` on are mapped for writing, the pages behind them are not, up to
// `byte_capacity` and the guard behind that; the address is another one only beyond that capacity.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.bytes
    }

    fn byte_capacity(&self) -> usize {
        word(self.range.reserved)
    }

    fn grow_to(&mut self, new_size: usize) -> Result<()> {
        let declined = |errno| Error::msg(format!("no memory of {new_size} bytes: {errno:?}"));
        let accessible = pages(new_size).map_err(declined)?;
        if accessible <= self.range.reserved {
            self.range.extend(accessible).map_err(declined)?;
        } else {
            let moved = Self::new(new_size, self.range.reserved, self.range.guard);
            let moved = moved.map_err(declined)?;
            // SAFETY: both have that many bytes, and are different ranges.
            unsafe { self.as_ptr().copy_to_nonoverlapping(moved.as_ptr(), self.bytes) };
            *self = moved;
        }
        self.bytes = new_size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(word(self.range.start))
    }
}

/// Whole pages of so many bytes, in bytes.
fn pages(bytes: usize) -> Result<u64, Errno> {
    (bytes as u64).checked_next_multiple_of(PAGE).ok_or(Errno::NoMemory)
}

/// Addresses for a memory that has outgrown those that every memory has, with room to grow without moving. In
/// powers of two, so that ranges fit the next that move.
fn room(accessible: u64) -> Result<u64, Errno> {
    accessible
        .checked_add(abi::engine::MEMORY_GROWTH_RESERVATION_BYTES)
        .and_then(u64::checked_next_power_of_two)
        .ok_or(Errno::NoMemory)
}

const _: () = assert!(LEFT_BYTES_MAX.is_multiple_of(LARGE_PAGE), "whole large pages");
