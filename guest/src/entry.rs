//! First instruction, exceptions and panics.
//!
//! The host starts the vCPU at `_start` in ring 3 with the stack pointer at the end of
//! [`layout::STACK`]. Exceptions come through the ring-0 stubs to `exception_entry` on a stack of
//! their own, with what happened in the [`ExceptionRecord`]. If Wasmtime knows the instruction, the
//! exception is a trap of wasm and continues at the entry of the wasm call; if not, it ends the micro-VM.
#![expect(unsafe_code, reason = "entry points and fixed memory")]
// UNSAFETY: the CPU enters here with nothing but registers set; records lie at fixed addresses.

use core::arch::global_asm;

use abi::AbortKind;
use abi::layout::{self, ExceptionRecord};

use crate::{doorbell, platform, word};

/// Header of the image, by which the host knows what it loads; at the start of `.rodata`.
#[repr(C)]
struct ImageHeader {
    magic: [u8; 8],
    abi_version: u32,
}

// SAFETY: the name of the section is this image's own; guest.ld places it at IMAGE_RODATA.start.
#[unsafe(link_section = ".image_header")]
#[used]
static IMAGE_HEADER: ImageHeader =
    ImageHeader { magic: *b"HLGUEST\0", abi_version: abi::ABI_VERSION };

global_asm!(
    ".section .text.start,\"ax\"",
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    ".globl exception_entry",
    "exception_entry:",
    "cld",
    "call {on_exception}",
    "ud2",
    start = sym start,
    on_exception = sym on_exception,
);

unsafe extern "C" {
    /// Where the stubs send the vCPU.
    fn exception_entry();
}

/// Installs the exception handler and enters the safe part.
extern "C" fn start() -> ! {
    let record = layout::EXCEPTION_RECORD as *mut ExceptionRecord;
    let handler = ExceptionRecord {
        handler_rip: exception_entry as *const () as u64,
        handler_rsp: layout::EXCEPTION_STACK.end,
        ..ExceptionRecord::default()
    };
    // SAFETY: the host has mapped the record's page writable; nothing else refers to it.
    unsafe { record.write_volatile(handler) };
    crate::main()
}

/// Takes an exception of ring 3.
extern "C" fn on_exception() -> ! {
    let record = layout::EXCEPTION_RECORD as *mut ExceptionRecord;
    // SAFETY: as in `start`.
    let exception = unsafe { record.read_volatile() };
    let armed = ExceptionRecord { active: 0, ..exception };
    // SAFETY: as in `start`.
    unsafe { record.write_volatile(armed) };
    platform::trap(&exception);
    doorbell::abort(
        AbortKind::Exception,
        format_args!(
            "CPU exception {} (error code {:#x}) at {:#x}, address {:#x}, stack {:#x}",
            exception.vector,
            exception.error_code,
            exception.rip,
            exception.fault_address,
            exception.rsp
        ),
    )
}

/// The compiled program.
pub(crate) fn program(bytes: u64) -> core::ptr::NonNull<[u8]> {
    let start = core::ptr::with_exposed_provenance_mut::<u8>(word(layout::PROGRAM.start));
    let len = word(bytes);
    // SAFETY: layout::PROGRAM does not start at 0.
    let start = unsafe { core::ptr::NonNull::new_unchecked(start) };
    core::ptr::NonNull::slice_from_raw_parts(start, len)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match doorbell::memory_declined() {
        Some(bytes) => doorbell::abort(
            AbortKind::OutOfMemory,
            format_args!("no memory left in the micro-VM for {bytes} more bytes"),
        ),
        None => doorbell::abort(AbortKind::Panic, format_args!("guest panicked: {info}")),
    }
}

// SAFETY: the linker wants the symbol; nothing unwinds in this image.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    doorbell::abort(AbortKind::Panic, format_args!("unwinding in an image that cannot unwind"))
}
