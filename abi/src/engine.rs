//! Settings of the wasm engine on which the compiler on the host and the runtime in the guest must agree.
//!
//! Wasmtime refuses a program whose settings differ, so a difference is an error and not a danger; the
//! constants stand here so that there is none.

/// Version of Wasmtime on both sides. Part of the key of every compiled program.
pub const WASMTIME_VERSION: &str = "48.0.8";
/// Guest-virtual bytes reserved for a linear memory: all that a 32-bit index reaches, so that wasm code
/// needs no bounds checks.
pub const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Guest-virtual bytes that stay unmapped behind the reservation, for static offsets of loads and stores.
pub const MEMORY_GUARD_BYTES: u64 = 32 << 20;
/// Extra guest-virtual bytes for memories that must move to grow.
pub const MEMORY_GROWTH_RESERVATION_BYTES: u64 = 2 << 30;
/// Stack that wasm code may use before it traps.
pub const WASM_STACK_BYTES: usize = 512 << 10;

const _: () = assert!(
    (WASM_STACK_BYTES as u64) + (512 << 10)
        <= crate::layout::STACK.end - crate::layout::STACK.start,
    "the guest's own functions need half a MiB of the stack beside wasm"
);
