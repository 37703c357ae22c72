//! Runs a compiled program: links it, starts it, and says with which status it ended.
//!
//! A component runs by `wasi:cli/run`, a core module by `_start`; either by an exported function where
//! the boot information names one.

use alloc::string::{String, ToString};
use core::fmt::Write;

use abi::boot::BootInfo;
use wasmtime::component::{self, Component};
use wasmtime::{Engine, Error, Linker, Module, Result, Store, Trap, WasmBacktrace};

use crate::call::Calls;
use crate::invoke;
use crate::p2::bindings::Command;
use crate::process::{Exited, Process};
use crate::{p1, p2};

/// Exit status of a program that trapped: 128 + SIGABRT, as a native program that aborts.
const TRAP_STATUS: i32 = 134;

/// A compiled program.
#[derive(Clone, Debug)]
pub enum Program {
    /// A component, which imports WASI 0.2.
    Component(Component),
    /// A core module, which imports WASI preview 1.
    Module(Module),
}

/// Runs `program` with what `boot` grants, and returns its exit status.
///
/// A trap is told on the program's standard error; its status is 134.
///
/// # Errors
///
/// Why the program cannot run here: an import that is not provided, nothing to run, no memory to start.
pub fn run(engine: &Engine, program: &Program, boot: &BootInfo<'_>, calls: Calls) -> Result<i32> {
    let name = String::from_utf8_lossy(boot.program_name).into_owned();
    let process = Process::new(calls, boot);
    match program {
        Program::Component(component) => {
            let mut linker = component::Linker::new(engine);
            p2::add_to_linker(&mut linker)?;
            let before = linker.instantiate_pre(component)?;
            let mut store = Store::new(engine, p2::Wasi::new(process));
            let outcome = match before.instantiate(&mut store) {
                Err(error) => Err(started(error)?),
                Ok(instance) if boot.invoke.is_empty() => {
                    let command = Command::new(&mut store, &instance)?;
                    let ended = command.wasi_cli_run().call_run(&mut store);
                    ended.map(|result| i32::from(result.is_err()))
                }
                Ok(instance) => {
                    let call = invoke::ComponentCall::find(&mut store, component, &instance, boot)?;
                    call.call(&mut store).map(|()| 0)
                }
            };
            Ok(status(&mut store.data_mut().process, &name, outcome))
        }
        Program::Module(module) => {
            let mut linker = Linker::new(engine);
            p1::add_to_linker(&mut linker)?;
            let before = linker.instantiate_pre(module)?;
            let mut store = Store::new(engine, p1::Wasi::new(process));
            let outcome = match before.instantiate(&mut store) {
                Err(error) => Err(started(error)?),
                Ok(instance) if boot.invoke.is_empty() => {
                    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                    start.call(&mut store, ()).map(|()| 0)
                }
                Ok(instance) => {
                    let call = invoke::ModuleCall::find(&mut store, module, &instance, boot)?;
                    call.call(&mut store, &instance).map(|()| 0)
                }
            };
            Ok(status(&mut store.data_mut().process, &name, outcome))
        }
    }
}

/// Tells what ended a program while it was instantiated from why it could not be: a start function may
/// trap or exit like any other.
fn started(error: Error) -> Result<Error> {
    if error.is::<Trap>() || error.is::<Exited>() { Ok(error) } else { Err(error) }
}

/// The status of a program that ran, after its output is delivered.
fn status(process: &mut Process, name: &str, outcome: Result<i32>) -> i32 {
    let status = match outcome {
        Ok(status) => status,
        Err(error) => match error.downcast_ref::<Exited>() {
            Some(Exited(status)) => *status,
            None => {
                process.tell(&report(name, &error));
                TRAP_STATUS
            }
        },
    };
    process.flush();
    status
}

/// What ended the program, with the wasm functions that were active.
fn report(name: &str, error: &Error) -> String {
    let mut text = String::new();
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "hyperlight: {name}: {reason}");
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames);
    for (depth, frame) in frames.unwrap_or_default().iter().enumerate() {
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
    text
}
