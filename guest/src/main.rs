//! The guest image: the only code inside a micro-VM.
//!
//! It runs in ring 3 from its first instruction, with one stack and no other thread. It reads the boot
//! information, loads the compiled program that the host has mapped, gives it WASI, runs it and ends
//! the task by a host call. Whatever it needs from outside goes through [`doorbell`], nothing else.
//!
//! Unsafe code is where the guest meets the machine: `entry` (first instructions, exceptions, panics),
//! `doorbell` (the call window), `heap` (the allocator), `mem` (memory functions), `platform` (what
//! Wasmtime asks of a system), `single` (statics) and `engine` (running compiled code).
#![no_std]
#![no_main]

extern crate alloc;

mod doorbell;
mod engine;
mod entry;
mod heap;
mod mem;
mod platform;
mod single;

use abi::boot::BootInfo;
use abi::{AbortKind, Request};

/// Reads the boot information and runs the program.
fn main() -> ! {
    let Some(boot) = BootInfo::decode(entry::boot_bytes()) else {
        doorbell::abort(AbortKind::Panic, format_args!("boot information is malformed"));
    };
    if boot.header.abi_version != abi::ABI_VERSION {
        doorbell::abort(
            AbortKind::Panic,
            format_args!("guest speaks ABI {}, host {}", abi::ABI_VERSION, boot.header.abi_version),
        );
    }
    exit(engine::run(&boot))
}

/// Ends the task with `status`.
fn exit(status: i32) -> ! {
    doorbell::last_call(&Request::Exit { status })
}

/// An address or size of the contract as Rust's own: both have 64 bits in this image.
const fn word(value: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, see above")]
    let word = value as usize;
    word
}
