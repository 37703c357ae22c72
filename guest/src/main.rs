//! The guest image: the only code inside a micro-VM.
//!
//! It runs in ring 3 from its first instruction, with one stack and no other thread. It loads the
//! compiled program that the host has mapped, gives it WASI and says that it is ready; gets the boot
//! information as the answer, runs what it says and ends the call by a host call, which may have another
//! call for an answer. Whatever it needs from outside goes through [`doorbell`], nothing else.
//!
//! Unsafe code is where the guest meets the machine: `entry` (first instructions, exceptions, panics),
//! `doorbell` (the call window), `resume` (where snapshots start), `heap` (the allocator), `mem` (memory functions), `memories` (of
//! wasm), `platform` (what Wasmtime asks of a system), `single` (statics) and `engine` (running compiled code).
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod doorbell;
mod engine;
mod entry;
mod heap;
mod mem;
mod memories;
mod platform;
mod resume;
mod single;

use abi::Readiness;
use abi::boot::BootInfo;
use libos::{Calls, Prepared};

use crate::doorbell::Doorbell;

/// Loads the program, waits for whom it is to run, and runs it.
fn main() -> ! {
    let mut program = engine::load();
    let mut boot_bytes = wait(&mut program);
    let calls = Calls::new(Doorbell);
    loop {
        let bytes = boot::read(boot_bytes);
        let Some(mut boot) = BootInfo::decode(&bytes) else {
            boot::malformed(format_args!("a record or the header is cut short"));
        };
        boot_bytes = loop {
            let status = engine::call(&mut program, &boot, &calls);
            // Entropy is given once. Where the same call is made again, the generators go on.
            boot.header.seed = [0; 32];
            match doorbell::exit(status) {
                0 => {}
                bytes => break bytes,
            }
        };
    }
}

/// Says that the program is ready until there is boot information, whose bytes it returns. Whatever
/// micro-VM this is then, it was made from the state of the last call in here.
fn wait(program: &mut Prepared) -> u64 {
    resume::detect();
    heap::begin_run();
    let mut readiness = Readiness::Linked;
    loop {
        match doorbell::ready(readiness) {
            0 if program.instantiate() => readiness = Readiness::Instantiated,
            // Why it was not possible is told if it is not possible with boot information either.
            0 => doorbell::forget_declined_memory(),
            boot_bytes => return boot_bytes,
        }
    }
}

/// An address or size of the contract as Rust's own: both have 64 bits in this image.
const fn word(value: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, see above")]
    let word = value as usize;
    word
}
