//! The guest's heaps: dlmalloc over pages that the host maps.
//!
//! There are two. What is allocated before [`begin_run`] is for every run of the program: the engine, the
//! program's metadata, the linker's definitions. It lies in one heap, and runs find it in the snapshot
//! that they start from. What a run allocates lies in the other, which begins in memory that is mapped in
//! advance ([`RUN_HEAP`]): few pages that lie together, and no host call to get them.
//!
//! Invariant: an address belongs to the heap from which it came for as long as it is allocated. What has
//! to grow after [`begin_run`] moves to the heap of runs.
//!
//! A heap is one range of addresses that only grows, so that dlmalloc merges what it gets. What the host
//! declines makes the allocation fail, and that ends the micro-VM with a message, not with a fault.
#![expect(unsafe_code, reason = "a global allocator")]
// UNSAFETY: GlobalAlloc and dlmalloc's Allocator are unsafe traits.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefMut;
use core::ops::Range;

use abi::Access;
use abi::layout::{MAP_AREA, PAGE, RUN_HEAP};
use dlmalloc::{Allocator, Dlmalloc};

use crate::memories;
use crate::single::Single;
use crate::word;

/// Guest-virtual addresses of the heap of what every run finds.
const LOADING: Range<u64> = MAP_AREA.start..MAP_AREA.start + (1 << 39);
/// Guest-virtual addresses of the heap of runs, behind [`RUN_HEAP`].
const RUN: Range<u64> = LOADING.end..LOADING.end + (1 << 39);
/// All guest-virtual addresses of the map area that are a heap's.
pub(crate) const HEAPS: Range<u64> = LOADING.start..RUN.end;

/// Least bytes asked of the host at once: a host call costs as much as touching these few pages.
const GRANULARITY_BYTES: usize = 512 << 10;

/// Pages from the host.
struct Pages {
    /// Pages that are mapped already and not given to dlmalloc.
    mapped: Single<Range<u64>>,
    /// Addresses that are not mapped.
    unmapped: Single<Range<u64>>,
}

impl Pages {
    const fn new(mapped: Range<u64>, unmapped: Range<u64>) -> Self {
        Self { mapped: Single::new(mapped), unmapped: Single::new(unmapped) }
    }
}

// SAFETY: `alloc` returns fresh, zeroed, page-aligned memory that nothing else uses, or null; nothing is
// ever given back or moved.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let none = (core::ptr::null_mut(), 0, 0);
        let (Some(mut mapped), Some(mut unmapped), Some(len)) = (
            self.mapped.borrow(),
            self.unmapped.borrow(),
            size.checked_next_multiple_of(GRANULARITY_BYTES),
        ) else {
            return none;
        };
        let given = if !mapped.is_empty() && size as u64 <= mapped.end - mapped.start {
            core::mem::replace(&mut *mapped, 0..0)
        } else {
            let start = unmapped.start;
            let end = start.saturating_add(len as u64);
            if end > unmapped.end || memories::map(start, len as u64, Access::ReadWrite).is_err() {
                return none;
            }
            unmapped.start = end;
            start..end
        };
        let bytes = word(given.end - given.start);
        (core::ptr::with_exposed_provenance_mut(word(given.start)), bytes, 0)
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

type Heap = Dlmalloc<Pages>;

/// The allocator of the image.
struct Heaps {
    loading: Single<Heap>,
    run: Single<Heap>,
    running: Single<bool>,
}

#[global_allocator]
static GLOBAL: Heaps = Heaps {
    loading: Single::new(Dlmalloc::new_with_allocator(Pages::new(0..0, LOADING))),
    run: Single::new(Dlmalloc::new_with_allocator(Pages::new(RUN_HEAP, RUN))),
    running: Single::new(false),
};

/// From here on, what is allocated is a run's.
pub(crate) fn begin_run() {
    if let Some(mut heap) = GLOBAL.run.borrow() {
        // What dlmalloc writes when it gets its first pages is written now, and not in every run.
        // SAFETY: the block is given back as it was got.
        unsafe {
            let block = heap.malloc(1, 1);
            if !block.is_null() {
                heap.free(block, 1, 1);
            }
        }
    }
    if let Some(mut running) = GLOBAL.running.borrow() {
        *running = true;
    }
}

impl Heaps {
    /// The heap for what is allocated now.
    fn current(&self) -> Option<RefMut<'_, Heap>> {
        if self.is_running() { self.run.borrow() } else { self.loading.borrow() }
    }

    /// The heap that an address came from.
    fn of(&self, ptr: *mut u8) -> Option<RefMut<'_, Heap>> {
        if is_loading(ptr) { self.loading.borrow() } else { self.run.borrow() }
    }

    fn is_running(&self) -> bool {
        self.running.borrow().is_some_and(|running| *running)
    }
}

fn is_loading(ptr: *mut u8) -> bool {
    LOADING.contains(&(ptr.addr() as u64))
}

// SAFETY: dlmalloc keeps the contract of GlobalAlloc, each of the two for its own addresses; its state is
// never entered twice, because the only code it calls out to is `Pages::alloc`, which does not allocate.
unsafe impl GlobalAlloc for Heaps {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.current() {
            // SAFETY: size and alignment come from a Layout.
            Some(mut heap) => unsafe { heap.malloc(layout.size(), layout.align()) },
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.current() {
            // SAFETY: as in `alloc`.
            Some(mut heap) => unsafe { heap.calloc(layout.size(), layout.align()) },
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(mut heap) = self.of(ptr) {
            // SAFETY: the caller got `ptr` from this heap with this layout.
            unsafe { heap.free(ptr, layout.size(), layout.align()) };
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if is_loading(ptr) && self.is_running() {
            let Ok(new) = Layout::from_size_align(new_size, layout.align()) else {
                return core::ptr::null_mut();
            };
            // SAFETY: a caller of `realloc` gives no size of 0.
            let moved = unsafe { self.alloc(new) };
            if !moved.is_null() {
                // SAFETY: both have the bytes that are copied, and belong to different heaps; `ptr` is
                // not used after.
                unsafe {
                    ptr.copy_to_nonoverlapping(moved, layout.size().min(new_size));
                    self.dealloc(ptr, layout);
                }
            }
            return moved;
        }
        match self.of(ptr) {
            // SAFETY: as in `dealloc`; the new size comes from the caller's Layout.
            Some(mut heap) => unsafe { heap.realloc(ptr, layout.size(), layout.align(), new_size) },
            None => core::ptr::null_mut(),
        }
    }
}
