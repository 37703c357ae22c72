//! The guest's heap: dlmalloc over pages that the host maps.
//!
//! The heap is one range of addresses that only grows, [`HEAP`], so that dlmalloc merges what it gets.
//! What the host declines makes the allocation fail, and that ends the micro-VM with a message, not with
//! a fault.
#![expect(unsafe_code, reason = "a global allocator")]
// UNSAFETY: GlobalAlloc and dlmalloc's Allocator are unsafe traits.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;

use abi::Access;
use abi::layout::{MAP_AREA, PAGE};
use dlmalloc::{Allocator, Dlmalloc};

use crate::doorbell;
use crate::single::Single;
use crate::word;

/// Guest-virtual addresses of the heap.
pub(crate) const HEAP: Range<u64> = MAP_AREA.start..MAP_AREA.start + (1 << 40);

/// Least bytes asked of the host at once: a host call costs as much as touching these few pages.
const GRANULARITY_BYTES: usize = 512 << 10;

/// The first address that dlmalloc has not been given.
static NEXT: Single<u64> = Single::new(HEAP.start);

/// Pages from the host.
struct Pages;

// SAFETY: `alloc` returns fresh, zeroed, page-aligned memory that nothing else uses, or null; nothing is
// ever given back or moved.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let none = (core::ptr::null_mut(), 0, 0);
        let (Some(mut next), Some(len)) =
            (NEXT.borrow(), size.checked_next_multiple_of(GRANULARITY_BYTES))
        else {
            return none;
        };
        let gva = *next;
        let end = gva.saturating_add(len as u64);
        if end > HEAP.end || doorbell::map(gva, len as u64, Access::ReadWrite).is_err() {
            return none;
        }
        *next = end;
        (core::ptr::with_exposed_provenance_mut(word(gva)), len, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        word(PAGE)
    }
}

/// The allocator of the image.
struct Heap(Single<Dlmalloc<Pages>>);

#[global_allocator]
static GLOBAL: Heap = Heap(Single::new(Dlmalloc::new_with_allocator(Pages)));

// SAFETY: dlmalloc keeps the contract of GlobalAlloc; its state is never entered twice, because the
// only code it calls out to is `Pages::alloc`, which does not allocate.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.0.borrow() {
            // SAFETY: size and alignment come from a Layout.
            Some(mut heap) => unsafe { heap.malloc(layout.size(), layout.align()) },
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.0.borrow() {
            // SAFETY: as in `alloc`.
            Some(mut heap) => unsafe { heap.calloc(layout.size(), layout.align()) },
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(mut heap) = self.0.borrow() {
            // SAFETY: the caller got `ptr` from this allocator with this layout.
            unsafe { heap.free(ptr, layout.size(), layout.align()) };
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match self.0.borrow() {
            // SAFETY: as in `dealloc`; the new size comes from the caller's Layout.
            Some(mut heap) => unsafe { heap.realloc(ptr, layout.size(), layout.align(), new_size) },
            None => core::ptr::null_mut(),
        }
    }
}
