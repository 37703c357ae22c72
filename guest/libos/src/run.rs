//! Runs a compiled program: links it, instantiates it, calls it, and says with which status it ended.
//!
//! A component runs by `wasi:cli/run`, a core module by `_start`; either by an exported function where
//! the boot information names one. A request in the boot information goes to a component's
//! `wasi:http/incoming-handler`.
//!
//! # Before the boot information
//!
//! A program is linked, and instantiated where that goes, before it is known for whom: the state of
//! [`Prepared`] may be kept and used for any number of micro-VMs. Invariant: nothing of a tenant, no
//! entropy and no time is in it. It holds because there is no [`Process`] then and no [`Calls`] to make a
//! host call by; a start function that wants anything of them traps, and the whole instance is given up.
//!
//! # After a call
//!
//! What is called by name, or has answered a request, leaves its instance for the next call, unless that
//! wants a new one. What traps or exits does not: WebAssembly
//! forbids to enter a component again whose call did not return, and the stack and locks of a core module
//! are in no known state. A command does not either: its instance is for one call of `_start` or `run`, and
//! the toolchains' startup code traps on a second. The call after that gets a new instance.

mod component;
mod module;

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use abi::boot::BootInfo;
use wasmtime::component::Component;
use wasmtime::{Engine, Error, Module, Result, Trap, WasmBacktrace};

use crate::call::Calls;
use crate::process::{Exited, Process};

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

/// A program that is linked, with its instance as soon as it has one.
pub struct Prepared(Kind);

enum Kind {
    Component(component::Prepared),
    Module(module::Prepared),
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

impl Prepared {
    /// Links `program`.
    ///
    /// # Errors
    ///
    /// An import is not provided.
    pub fn link(engine: &Engine, program: &Program) -> Result<Self> {
        Ok(Self(match program {
            Program::Component(component) => {
                Kind::Component(component::Prepared::link(engine, component)?)
            }
            Program::Module(module) => Kind::Module(module::Prepared::link(engine, module)?),
        }))
    }

    /// Instantiates the program, unless its start functions want anything of the world, trap, or find no
    /// memory: then nothing remains of the attempt, and [`call`](Self::call) makes another. Returns
    /// whether there is an instance.
    pub fn instantiate(&mut self) -> bool {
        match &mut self.0 {
            Kind::Component(prepared) => prepared.instantiate(),
            Kind::Module(prepared) => prepared.instantiate(),
        }
    }

    /// Calls the program with what `boot` grants, and returns its exit status. Another call goes to the
    /// same instance where that can be entered again; `calls` are those of the first then.
    ///
    /// A trap is told on the program's standard error; its status is 134.
    ///
    /// # Errors
    ///
    /// Why the program cannot run here: nothing to run, no memory to start.
    pub fn call(&mut self, boot: &BootInfo<'_>, calls: &Calls) -> Result<i32> {
        match &mut self.0 {
            Kind::Component(prepared) => prepared.call(boot, calls),
            Kind::Module(prepared) => prepared.call(boot, calls),
        }
    }
}

/// Tells what ended a program while it was instantiated from why it could not be: a start function may
/// trap or exit like any other.
fn started(error: Error) -> Result<Error> {
    if error.is::<Trap>() || error.is::<Exited>() { Ok(error) } else { Err(error) }
}

/// The status of a program that ran, after its output is delivered.
fn status(process: &mut Process, boot: &BootInfo<'_>, outcome: Result<i32>) -> i32 {
    let (status, told) = match outcome {
        Ok(status) => (status, None),
        Err(error) => match error.downcast_ref::<Exited>() {
            Some(Exited(status)) => (*status, None),
            None => {
                let name = String::from_utf8_lossy(boot.program_name);
                (TRAP_STATUS, Some(report(&name, &error)))
            }
        },
    };
    // What a program that failed has not finished is not whole.
    process.bodies.end(status != 0);
    if let Some(text) = told {
        process.tell(&text);
    }
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
