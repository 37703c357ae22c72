//! Wasmtime's own WASI.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;

use wasmtime::component::{self, ResourceTable};
use wasmtime::{Linker, Result, Store};
use wasmtime_wasi::cli::{InputFile, OutputFile};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::bindings::sync::{Command, LinkOptions};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2};

use crate::program::{Program, engine};
use crate::{Grants, Streams, TRAPPED};

/// Runs `program` over Wasmtime's WASI.
pub(crate) fn run(program: &Program, grants: &Grants, streams: Streams) -> Result<i32> {
    let stderr = File::from(streams.stderr.try_clone()?);
    let mut context = context(grants, streams)?;
    match &program.compiled {
        libos::Program::Component(component) => {
            let context = Context { context: context.build(), table: ResourceTable::new() };
            let mut store = Store::new(engine()?, context);
            let command = Command::instantiate(&mut store, component, component_linker()?)?;
            let outcome = command.wasi_cli_run().call_run(&mut store);
            Ok(status(outcome.map(|result| i32::from(result.is_err())), stderr))
        }
        libos::Program::Module(module) => {
            let mut store = Store::new(engine()?, context.build_p1());
            let instance = module_linker()?.instantiate(&mut store, module)?;
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            Ok(status(start.call(&mut store, ()).map(|()| 0), stderr))
        }
    }
}

struct Context {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

/// What the program is given. Files are used on the calling thread: nothing else runs there.
fn context(grants: &Grants, streams: Streams) -> Result<WasiCtxBuilder> {
    let mut context = WasiCtxBuilder::new();
    context
        .allow_blocking_current_thread(true)
        .args(&grants.args)
        .envs(&grants.env)
        .stdin(InputFile::new(streams.stdin.into()))
        .stdout(OutputFile::new(streams.stdout.into()))
        .stderr(OutputFile::new(streams.stderr.into()));
    if let Some(cwd) = &grants.cwd {
        context.initial_cwd(cwd);
    }
    if grants.network {
        context.inherit_network().allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true);
    }
    for directory in &grants.directories {
        let permissions = if directory.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        context.preopened_dir(&directory.host, &directory.guest, permissions)?;
    }
    Ok(context)
}

/// The status of a program that ran. What made it trap is told on its standard error, as ours does.
fn status(outcome: Result<i32>, mut stderr: File) -> i32 {
    match outcome {
        Ok(status) => status,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(status)) => *status,
            None => {
                // If nobody reads standard error, there is nobody left to tell.
                let _ = writeln!(stderr, "{error:?}");
                TRAPPED
            }
        },
    }
}

fn component_linker() -> Result<&'static component::Linker<Context>> {
    static LINKER: OnceLock<component::Linker<Context>> = OnceLock::new();
    if let Some(linker) = LINKER.get() {
        return Ok(linker);
    }
    let mut linker = component::Linker::new(engine()?);
    let mut options = LinkOptions::default();
    options.network_error_code(true);
    p2::add_to_linker_with_options_sync(&mut linker, &options)?;
    Ok(LINKER.get_or_init(|| linker))
}

fn module_linker() -> Result<&'static Linker<WasiP1Ctx>> {
    static LINKER: OnceLock<Linker<WasiP1Ctx>> = OnceLock::new();
    if let Some(linker) = LINKER.get() {
        return Ok(linker);
    }
    let mut linker = Linker::new(engine()?);
    p1::add_to_linker_sync(&mut linker, |context| context)?;
    Ok(LINKER.get_or_init(|| linker))
}
