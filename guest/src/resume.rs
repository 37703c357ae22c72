//! The host calls after which this may be another micro-VM: one that was made from the state of the call.
//!
//! Rule: behind the doorbell nothing is expected of the registers but what the host restores (the general
//! ones and the flags), and the vector and floating-point registers are in their initial state: whatever
//! an earlier run left in them is gone, even if it was not wasm that wrote it.
#![expect(unsafe_code, reason = "the doorbell, and state of the CPU")]
// UNSAFETY: no Rust code can name the registers.

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Frame};

use crate::doorbell;

/// An area of XRSTOR in the standard format (SDM vol. 1, 13.4), whose header says that every component is
/// in its initial state. Its first 512 bytes are an area of FXRSTOR (SDM vol. 1, 10.5) with the same.
#[repr(C, align(64))]
struct XsaveArea {
    /// x87 control word.
    fcw: u16,
    /// x87 status and tags, instruction and data pointer.
    x87: [u8; 22],
    mxcsr: u32,
    mxcsr_mask: u32,
    registers: [u8; 480],
    /// XSTATE_BV, XCOMP_BV and what is reserved.
    header: [u64; 8],
}

const _: () = assert!(size_of::<XsaveArea>() == 576, "legacy region and header");

/// Initial values: SDM vol. 1, 13.6; all exceptions are masked.
static INITIAL: XsaveArea = XsaveArea {
    fcw: 0x37f,
    x87: [0; 22],
    mxcsr: 0x1f80,
    mxcsr_mask: 0,
    registers: [0; 480],
    header: [0; 8],
};

/// The CPU has XRSTOR, and the host lets it be used.
static HAS_XRSTOR: AtomicBool = AtomicBool::new(false);

/// Looks at what the CPU has. Once: CPUID is an exit of a virtual machine.
pub(crate) fn detect() {
    // CPUID.01H:ECX.OSXSAVE (SDM vol. 2, CPUID).
    HAS_XRSTOR.store(__cpuid(1).ecx & 1 << 27 != 0, Ordering::Relaxed);
}

/// Makes a call that has no payload.
pub(crate) fn ring(frame: &Frame) -> Result<u64, Errno> {
    doorbell::write_frame(frame);
    // SAFETY: the port is open to ring 3; the host changes memory of the call window. Where memory is
    // that of a snapshot, so are the registers that are not declared as clobbered. Both areas are those
    // of their instruction, which is the one that the CPU has.
    unsafe {
        asm!(
            "out {port}, al",
            "cmp byte ptr [rip + {has_xrstor}], 0",
            "je 2f",
            "mov eax, -1",
            "mov edx, eax",
            "xrstor64 [rip + {initial}]",
            "jmp 3f",
            "2:",
            "fxrstor64 [rip + {initial}]",
            "3:",
            port = const abi::DOORBELL_PORT,
            has_xrstor = sym HAS_XRSTOR,
            initial = sym INITIAL,
            clobber_abi("sysv64"),
        );
    }
    doorbell::answer()
}
