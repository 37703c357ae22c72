//! Loads the compiled program, gives it WASI and runs it.
//!
//! The settings are those of [`abi::engine`], which the compiler on the host uses too. The code is run
//! where the host has mapped it: nothing is copied, relocated or made executable here.
#![expect(unsafe_code, reason = "runs machine code that the host compiled")]
// UNSAFETY: Wasmtime cannot prove that the bytes are its own compiler's; the host vouches for them.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt::Write;

use abi::AbortKind;
use abi::boot::BootInfo;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, CustomCodeMemory, Engine, Error, Result, Store, Trap, WasmBacktrace};

use crate::wasi::bindings::CommandPre;
use crate::wasi::{self, Wasi};
use crate::{doorbell, entry};

/// Exit status of a program that trapped: 128 + SIGABRT, as a native program that aborts.
const TRAP_STATUS: i32 = 134;

/// Runs the program and returns its exit status.
pub(crate) fn run(boot: &BootInfo<'_>) -> i32 {
    let name = String::from_utf8_lossy(boot.program_name).into_owned();
    let command = match load(boot) {
        Ok(command) => command,
        Err(error) => refuse(&error),
    };
    let mut store = Store::new(command.engine(), Wasi::new(boot));
    let instance = match command.instantiate(&mut store) {
        Ok(instance) => instance,
        // A start function may trap like any other.
        Err(error) if error.is::<Trap>() => return report_trap(&store, &name, &error),
        Err(error) => refuse(&error),
    };
    let status = match instance.wasi_cli_run().call_run(&mut store) {
        Ok(Ok(())) => 0,
        Ok(Err(())) => 1,
        Err(error) => return report_trap(&store, &name, &error),
    };
    store.data().flush();
    status
}

/// Loads and links the program.
fn load(boot: &BootInfo<'_>) -> Result<CommandPre<Wasi>> {
    let engine = Engine::new(&config())?;
    // SAFETY: the host has mapped its own compiler's output read-only for as long as this guest runs.
    let component =
        unsafe { Component::deserialize_raw(&engine, entry::program(boot.header.program_bytes))? };
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker)?;
    CommandPre::new(linker.instantiate_pre(&component)?)
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .signals_based_traps(true)
        .memory_reservation(abi::engine::MEMORY_RESERVATION_BYTES)
        .memory_guard_size(abi::engine::MEMORY_GUARD_BYTES)
        .memory_reservation_for_growth(abi::engine::MEMORY_GROWTH_RESERVATION_BYTES)
        .memory_init_cow(false)
        .max_wasm_stack(abi::engine::WASM_STACK_BYTES)
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

/// Tells what ended the program, with the wasm functions that were active, on standard error.
fn report_trap(store: &Store<Wasi>, name: &str, error: &Error) -> i32 {
    store.data().flush();
    let mut text = String::new();
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "hyperlight: {name}: {reason}");
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for (depth, frame) in backtrace.frames().iter().enumerate() {
            let module = frame.module().name().unwrap_or("<module>");
            let function = match frame.func_name() {
                Some(function) => function.to_string(),
                None => alloc::format!("<function {}>", frame.func_index()),
            };
            let _ = write!(text, "  {depth:>3}: {module}!{function}");
            if let Some(offset) = frame.module_offset() {
                let _ = write!(text, " (wasm {offset:#x})");
            }
            text.push('\n');
        }
    }
    store.data().tell(&text);
    TRAP_STATUS
}
