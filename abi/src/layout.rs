//! Where things lie in a micro-VM's memory.
//!
//! The image and the program are identity-mapped (GVA = GPA); for all else the host chooses the frames, and the
//! guest sees virtual addresses only.
//!
//! ```text
//! GPA / GVA                     slot      ring 3   what
//! 0x0000_0000_0000              –         –        never mapped: a null pointer faults
//! 0x0000_0020_0000  GDT_TSS     private   –        descriptor tables, TSS with I/O bitmap
//! 0x0000_0020_1000  IDT         private   –        32 exception gates
//! 0x0000_0020_2000  STUBS       private   –        32 ring-0 exception stubs
//! 0x0000_0020_3000  RING0_STACK private   –        the stack the CPU switches to on an exception
//! 0x0000_0020_4000              –         –        guard
//! 0x0000_0020_5000  EXCEPTION_STACK       RW       the ring-3 exception handler's stack
//! 0x0000_0020_e000              –         –        guard
//! 0x0000_0021_b000  STACK       private   RW       the guest's stack, growing down from 0x32_b000
//! 0x0000_0032_b000  CALL_FRAME  private   RW       the frame of a host call
//! 0x0000_0032_c000  GUEST_DATA  private   RW       .data and .bss of the guest image
//! 0x0000_0032_e000  RUN_HEAP    private   RW       the first of the heap that a run uses
//! 0x0000_0036_e000              –         –        guard
//! 0x0000_0037_0000  EXCEPTION_RECORD      RW       what the stubs tell the ring-3 handler
//! 0x0000_0037_1000  CALL_DATA   private   RW       512 KiB payload of a host call
//! 0x0000_0040_0000  IMAGE_TEXT  image     R X      .text of the guest image
//! 0x0000_0080_0000  IMAGE_RODATA image    R        .rodata of the guest image
//! 0x0001_0000_0000  PROGRAM     program   R X      the compiled program
//! 0x0010_0000_0000  RAM         RAM       –        GPA: frames for page tables and for Request::Map
//! 0x0010_0000_0000  MAP_AREA    (GVA)     by Map   linear memories, heap, tables
//! 0x7000_0000_0000              –         –        end of the map area
//! ```
//!
//! What every run writes lies together: the top of the stack, the frame of host calls, the image's data and the
//! start of the heap are eight pages. A KVM that shadows page tables maps the eight neighbours of a page that is
//! touched, where they begin at a multiple of eight, so one fault maps all of it, and few pages are private.
//!
//! Nothing is both writable and executable.

use core::ops::Range;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a large page (a page-directory entry with PS set; SDM vol. 3, 4.5).
pub const LARGE_PAGE: u64 = 2 << 20;

/// The private pages: everything small that a micro-VM writes. One large page.
pub const PRIVATE: Range<u64> = 0x20_0000..0x40_0000;
/// GDT at the start of the page, TSS at [`TSS`].
pub const GDT: u64 = 0x20_0000;
/// Task-state segment with the I/O permission bitmap.
pub const TSS: u64 = GDT + 0x100;
/// Interrupt descriptor table: 32 gates of 16 bytes.
pub const IDT: u64 = 0x20_1000;
/// Exception stubs: 32 of [`STUB_BYTES`].
pub const STUBS: u64 = 0x20_2000;
/// Bytes reserved for one exception stub.
pub const STUB_BYTES: u64 = 128;
/// Ring-0 stack, one page.
pub const RING0_STACK: Range<u64> = 0x20_3000..0x20_4000;
/// Stack of the ring-3 exception handler, with a guard page below.
pub const EXCEPTION_STACK: Range<u64> = 0x20_5000..0x20_e000;
/// The guest's stack, with a guard below: wasm may use [`crate::engine::WASM_STACK_BYTES`] of it.
pub const STACK: Range<u64> = 0x21_b000..0x32_b000;
/// The [`crate::Frame`] of a host call; with [`CALL_DATA`] the call window.
pub const CALL_FRAME: u64 = 0x32_b000;
/// `.data` and `.bss` of the guest image.
pub const GUEST_DATA: Range<u64> = 0x32_c000..0x32_e000;
/// Where the heap begins that the guest uses from its [`crate::Request::Ready`] on.
pub const RUN_HEAP: Range<u64> = 0x32_e000..0x36_e000;
/// The [`ExceptionRecord`].
pub const EXCEPTION_RECORD: u64 = 0x37_0000;
/// The payload of a host call.
pub const CALL_DATA: u64 = 0x37_1000;
/// Bytes of the payload area: what one read or write moves at most. Eight of the 64 KiB that programs
/// copy at a time, so that what an exit costs is shared; pages that no call uses are not touched.
pub const CALL_DATA_BYTES: usize = 512 << 10;
/// `.text` of the guest image.
pub const IMAGE_TEXT: Range<u64> = 0x40_0000..0x80_0000;
/// `.rodata` of the guest image.
pub const IMAGE_RODATA: Range<u64> = 0x80_0000..0xc0_0000;
/// The image slot: text and rodata, shared by every micro-VM of a process.
pub const IMAGE: Range<u64> = IMAGE_TEXT.start..IMAGE_RODATA.end;
/// The program slot: the compiled program, at most 4 GiB.
pub const PROGRAM: Range<u64> = 0x1_0000_0000..0x2_0000_0000;
/// First guest-physical address of RAM, whose size is the micro-VM's memory limit. The frames of the
/// private pages lie before it, so that both are one memory slot of KVM.
pub const RAM_START: u64 = 0x10_0000_0000;
/// Largest memory of a micro-VM in bytes: with [`RAM_START`] it stays within 39 physical address bits.
pub const RAM_BYTES_MAX: u64 = 256 << 30;
/// Guest-virtual area in which [`crate::Request::Map`] works.
pub const MAP_AREA: Range<u64> = 0x10_0000_0000..0x7000_0000_0000;

/// Longest path of a request in bytes (`PATH_MAX` of Linux without its NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Most entries of a [`crate::Request::Poll`]: one for each handle that a guest may have.
pub const POLL_ENTRIES_MAX: usize = 4096;

/// What the ring-0 exception stubs tell the ring-3 handler, at [`EXCEPTION_RECORD`].
///
/// The stub of vector `v` looks at `handler_rip` and `active`. With a handler and `active == 0` it
/// fills in the rest, sets `active` to 1 and returns to ring 3 at `handler_rip` on `handler_rsp`.
/// Otherwise it fills in the rest and reports to the host ([`crate::EXCEPTION_PORT`]), which ends the
/// micro-VM. The handler sets `active` back to 0 when it has read the record.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct ExceptionRecord {
    /// Ring-3 handler; 0 while there is none.
    pub handler_rip: u64,
    /// Stack pointer for the handler.
    pub handler_rsp: u64,
    /// 1 from the exception until the handler has read the record.
    pub active: u64,
    /// Exception vector, 0 to 31 (SDM vol. 3, table 6-1).
    pub vector: u64,
    /// Error code, 0 for vectors without one.
    pub error_code: u64,
    /// Where it happened.
    pub rip: u64,
    /// Stack pointer there.
    pub rsp: u64,
    /// Frame pointer there.
    pub rbp: u64,
    /// Flags there.
    pub rflags: u64,
    /// CR2; meaningful for page faults.
    pub fault_address: u64,
}

/// Whether `[gva, gva + len)` is a range that [`crate::Request::Map`] accepts.
#[must_use]
pub fn map_range_is_valid(gva: u64, len: u64) -> bool {
    let aligned = gva.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len != 0;
    aligned && gva >= MAP_AREA.start && gva.checked_add(len).is_some_and(|end| end <= MAP_AREA.end)
}

const _: () = {
    const MESSAGE: &str =
        "memory map inconsistent: keep the areas disjoint and in order, and bump ABI_VERSION";
    assert!(size_of::<ExceptionRecord>() == 80, "guest ABI changed: bump ABI_VERSION");
    assert!(TSS + 0x100 <= IDT && IDT + 32 * 16 <= STUBS, "{}", MESSAGE);
    assert!(STUBS + 32 * STUB_BYTES <= RING0_STACK.start, "{}", MESSAGE);
    assert!(RING0_STACK.end < EXCEPTION_STACK.start, "{}", MESSAGE);
    assert!(EXCEPTION_STACK.end < STACK.start && STACK.end <= CALL_FRAME, "{}", MESSAGE);
    assert!(CALL_FRAME + PAGE <= GUEST_DATA.start, "{}", MESSAGE);
    assert!(GUEST_DATA.end <= RUN_HEAP.start && RUN_HEAP.end < EXCEPTION_RECORD, "{}", MESSAGE);
    assert!(EXCEPTION_RECORD + PAGE <= CALL_DATA, "{}", MESSAGE);
    assert!(CALL_DATA + CALL_DATA_BYTES as u64 <= PRIVATE.end, "{}", MESSAGE);
    assert!(
        POLL_ENTRIES_MAX * size_of::<crate::PollEntry>() <= CALL_DATA_BYTES,
        "poll entries exceed the window"
    );
    assert!(PRIVATE.start == GDT, "{}", MESSAGE);
    assert!(PRIVATE.end <= IMAGE.start && IMAGE_TEXT.end == IMAGE_RODATA.start, "{}", MESSAGE);
    assert!(IMAGE.end <= PROGRAM.start, "{}", MESSAGE);
    assert!(PROGRAM.end <= RAM_START && PROGRAM.end <= MAP_AREA.start, "{}", MESSAGE);
    assert!(RAM_START + RAM_BYTES_MAX <= 1 << 39 && MAP_AREA.end <= 1 << 47, "{}", MESSAGE);
    assert!(
        PRIVATE.start.is_multiple_of(LARGE_PAGE) && IMAGE_TEXT.start.is_multiple_of(LARGE_PAGE),
        "{}",
        MESSAGE
    );
    assert!(
        IMAGE_RODATA.start.is_multiple_of(LARGE_PAGE) && RAM_START.is_multiple_of(LARGE_PAGE),
        "{}",
        MESSAGE
    );
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_area_is_accepted_whole() {
        assert!(map_range_is_valid(MAP_AREA.start, MAP_AREA.end - MAP_AREA.start));
    }

    #[test]
    fn a_range_that_wraps_is_refused() {
        assert!(!map_range_is_valid(MAP_AREA.start, !(PAGE - 1)));
    }
}
