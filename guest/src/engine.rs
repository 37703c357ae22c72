//! Loads the compiled program, gives it WASI and calls it.
//!
//! The settings are those of [`abi::engine`], which the compiler on the host uses too. The code is run
//! where the host has mapped it: nothing is copied, relocated or made executable here.
#![expect(unsafe_code, reason = "runs machine code that the host compiled")]
// UNSAFETY: Wasmtime cannot prove that the bytes are its own compiler's; the host vouches for them.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;

use abi::boot::BootInfo;
use abi::{AbortKind, Request};
use libos::{Calls, Prepared, Program};
use wasmtime::component::Component;
use wasmtime::{Collector, Config, CustomCodeMemory, Engine, Error, Module, Precompiled, Result};

use crate::doorbell;
use crate::entry;
use crate::memories::Memories;

/// Loads and links the program.
pub(crate) fn load() -> Prepared {
    link().unwrap_or_else(|error| refuse(&error))
}

/// Calls the program and returns its exit status.
pub(crate) fn call(program: &mut Prepared, boot: &BootInfo<'_>, calls: &Calls) -> i32 {
    program.call(boot, calls).unwrap_or_else(|error| refuse(&error))
}

fn link() -> Result<Prepared> {
    let engine = Engine::new(&config())?;
    let bytes = doorbell::call_without_data(&Request::Program)
        .map_err(|errno| Error::msg(format!("the host answered {errno:?} for the program")))?;
    let code = entry::program(bytes);
    // SAFETY: the host has mapped its own compiler's output read-only for as long as this guest runs.
    let bytes = unsafe { code.as_ref() };
    let program = match Engine::detect_precompiled(bytes) {
        Some(Precompiled::Module) => {
            // SAFETY: as above.
            Program::Module(unsafe { Module::deserialize_raw(&engine, code)? })
        }
        // What is neither is refused with the reason.
        Some(Precompiled::Component) | None => {
            // SAFETY: as above.
            Program::Component(unsafe { Component::deserialize_raw(&engine, code)? })
        }
    };
    Prepared::link(&engine, &program)
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .signals_based_traps(true)
        .memory_reservation(abi::engine::MEMORY_RESERVATION_BYTES)
        .memory_guard_size(abi::engine::MEMORY_GUARD_BYTES)
        .memory_reservation_for_growth(abi::engine::MEMORY_GROWTH_RESERVATION_BYTES)
        .memory_init_cow(false)
        .wasm_gc(true)
        .wasm_function_references(true)
        .wasm_exceptions(true)
        .collector(Collector::Copying)
        .max_wasm_stack(abi::engine::WASM_STACK_BYTES)
        .with_host_memory(Arc::new(Memories))
        .with_custom_code_memory(Some(Arc::new(HostMapped)));
    // SAFETY: the host compiled for the CPU that runs this guest, with the features it offers to guests.
    unsafe { config.detect_host_feature(|_| Some(true)) };
    config
}

/// Code memory that the host has mapped executable already.
struct HostMapped;

impl CustomCodeMemory for HostMapped {
    fn required_alignment(&self) -> usize {
        crate::word(abi::layout::PAGE)
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }
}

/// Ends the micro-VM because the program cannot start.
fn refuse(error: &Error) -> ! {
    match doorbell::memory_declined() {
        Some(bytes) => doorbell::abort(
            AbortKind::OutOfMemory,
            format_args!("no memory left in the micro-VM for {bytes} more bytes"),
        ),
        None => doorbell::abort(AbortKind::BadProgram, format_args!("{}", one_line(error))),
    }
}

/// An error and its causes on one line.
fn one_line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        if !line.is_empty() {
            line.push_str(": ");
        }
        // Writing to a String cannot fail.
        let _ = write!(line, "{cause}");
    }
    line.replace('\n', " ")
}
