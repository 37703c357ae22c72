//! What Wasmtime asks of a system: virtual memory, traps and a little thread-local storage.
//!
//! The symbols and their contracts are Wasmtime's "custom platform" (`vm/sys/custom/capi.rs`), in its
//! order. What Wasmtime maps by them it keeps: memories, which come and go, are those of [`crate::memories`].
//! So addresses are handed out once and never again. Nothing here is ever executable: compiled code lies in
//! the program slot, which the host maps.
#![expect(unsafe_code, reason = "C symbols that Wasmtime links against")]
// UNSAFETY: the symbols are found by name, and some take raw pointers.

use core::ops::Range;

use abi::layout::{ExceptionRecord, LARGE_PAGE, MAP_AREA, PAGE};
use abi::{Access, Errno};

use crate::heap::HEAPS;
use crate::memories;
use crate::single::Single;
use crate::word;

/// Guest-virtual addresses for Wasmtime's mappings.
const MAPPINGS: Range<u64> = HEAPS.end..MAP_AREA.end;

/// Vector of a page fault (SDM vol. 3, table 6-1).
const PAGE_FAULT: u64 = 14;

/// Failure codes: Linux' numbers, for whoever reads them in a message.
const EINVAL: i32 = 22;
const ENOMEM: i32 = 12;
const EPERM: i32 = 1;

const PROT_READ: u32 = 1 << 0;
const PROT_WRITE: u32 = 1 << 1;
const PROT_EXEC: u32 = 1 << 2;

type TrapHandler =
    extern "C" fn(ip: usize, fp: usize, has_faulting_addr: bool, faulting_addr: usize);

static NEXT_MAPPING: Single<u64> = Single::new(MAPPINGS.start);
static TRAP_HANDLER: Single<Option<TrapHandler>> = Single::new(None);
static TLS: Single<[usize; 2]> = Single::new([0; 2]);

/// Guest-virtual addresses that nobody has: `len` at least, from an aligned one on. `None` if there are not as many.
pub(crate) fn addresses(len: u64) -> Option<u64> {
    let mut next = NEXT_MAPPING.borrow()?;
    let end = next.checked_add(len.checked_next_multiple_of(LARGE_PAGE)?)?;
    (end <= MAPPINGS.end).then(|| core::mem::replace(&mut *next, end))
}

/// Lets Wasmtime take an exception. Returns if it is not a trap of wasm.
pub(crate) fn trap(exception: &ExceptionRecord) {
    let handler = TRAP_HANDLER.borrow().and_then(|handler| *handler);
    if let Some(handler) = handler {
        let is_page_fault = exception.vector == PAGE_FAULT;
        handler(
            word(exception.rip),
            word(exception.rbp),
            is_page_fault,
            word(exception.fault_address),
        );
    }
}

/// The access that these protection bits stand for.
fn access_of(prot: u32) -> Result<Access, i32> {
    if prot & PROT_EXEC != 0 {
        return Err(EPERM);
    }
    Ok(match (prot & PROT_READ != 0, prot & PROT_WRITE != 0) {
        (_, true) => Access::ReadWrite,
        (true, false) => Access::Read,
        (false, false) => Access::None,
    })
}

/// Changes the access to whole pages, as a status of the C symbols.
fn map(gva: u64, size: usize, access: Access) -> i32 {
    let Some(len) = (size as u64).checked_next_multiple_of(PAGE) else {
        return EINVAL;
    };
    if len == 0 {
        return 0;
    }
    match memories::map(gva, len, access) {
        Ok(()) => 0,
        Err(Errno::NoMemory) => ENOMEM,
        Err(_) => EINVAL,
    }
}

// SAFETY: the name and signature are Wasmtime's.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_new(size: usize, prot_flags: u32, ret: &mut *mut u8) -> i32 {
    let Some(gva) = addresses(size as u64) else {
        return ENOMEM;
    };
    let status = match access_of(prot_flags) {
        Ok(Access::None) => 0,
        Ok(access) => map(gva, size, access),
        Err(status) => status,
    };
    if status == 0 {
        *ret = core::ptr::with_exposed_provenance_mut(word(gva));
    }
    status
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_remap(addr: *mut u8, size: usize, prot_flags: u32) -> i32 {
    match map(addr as u64, size, Access::None) {
        0 => wasmtime_mprotect(addr, size, prot_flags),
        status => status,
    }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_munmap(ptr: *mut u8, size: usize) -> i32 {
    map(ptr as u64, size, Access::None)
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mprotect(ptr: *mut u8, size: usize, prot_flags: u32) -> i32 {
    match access_of(prot_flags) {
        // No access gives the pages back, content and all: Wasmtime takes access away only from
        // memory that it does not read again.
        Ok(access) => map(ptr as u64, size, access),
        Err(status) => status,
    }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_page_size() -> usize {
    word(PAGE)
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_init_traps(handler: TrapHandler) -> i32 {
    match TRAP_HANDLER.borrow() {
        Some(mut slot) => {
            *slot = Some(handler);
            0
        }
        None => EINVAL,
    }
}

// SAFETY: as above. No images: `memory_init_cow` is off, and a null image is a success.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_new(_: *const u8, _: usize, ret: &mut *mut u8) -> i32 {
    *ret = core::ptr::null_mut();
    0
}

// SAFETY: as above. Never called, because there is no image.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_map_at(_: *mut u8, _: *mut u8, _: usize) -> i32 {
    EINVAL
}

// SAFETY: as above. Never called, because there is no image.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_free(_: *mut u8) {}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    let value = TLS.borrow().and_then(|tls| tls.get(slot).copied()).unwrap_or(0);
    core::ptr::with_exposed_provenance_mut(value)
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(slot: usize, ptr: *mut u8) {
    if let Some(mut tls) = TLS.borrow()
        && let Some(value) = tls.get_mut(slot)
    {
        *value = ptr.expose_provenance();
    }
}
