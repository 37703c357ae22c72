//! `oracle FILE.wasm [ARGS]`: runs a command component in Wasmtime on the host, without a micro-VM.
//!
//! It is the same version of Wasmtime with the same compiler settings that matter for speed, and
//! Wasmtime's own WASI. The program's standard streams are this process's; its last line on standard
//! error is `run NANOSECONDS`: the time from a compiled program in memory to its end, which is what a
//! guest does from its first instruction on (engine, loading, linking, instantiation, the program).

#![expect(unsafe_code, reason = "loads machine code")]
// UNSAFETY: Wasmtime cannot prove that compiled bytes are its own compiler's.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, OptLevel, Store};
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

struct Program {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Program {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let file = args.first().cloned().ok_or("usage: oracle FILE.wasm [ARGS]")?;
    // Argument 0 of a program is the file's name.
    if let (Some(first), Some(name)) = (args.first_mut(), file.rsplit('/').next()) {
        name.clone_into(first);
    }

    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed);
    let compiled = Engine::new(&config)?.precompile_component(&std::fs::read(&file)?)?;

    let start = Instant::now();
    let engine = Engine::new(&config)?;
    // SAFETY: the bytes are what the compiler above has made of the file.
    let component = unsafe { Component::deserialize(&engine, &compiled)? };
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    let context = WasiCtx::builder().inherit_stdio().args(&args).build();
    let mut store = Store::new(&engine, Program { context, table: ResourceTable::new() });

    let command = Command::instantiate(&mut store, &component, &linker)?;
    let outcome = command.wasi_cli_run().call_run(&mut store);
    let elapsed = start.elapsed();
    let failed = match outcome {
        Ok(result) => result.is_err(),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(status)) => *status != 0,
            None => return Err(error.into()),
        },
    };
    eprintln!("run {}", elapsed.as_nanos());
    Ok(ExitCode::from(u8::from(failed)))
}
