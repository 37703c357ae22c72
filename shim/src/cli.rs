//! The `hyperlight` command: the engine for a person without containerd.
//!
//! Rule: stdout belongs to the program, or to the answer that was asked for. What we have to say is one
//! line on stderr that begins with `hyperlight:` and says what to do; the exit status says whose it is
//! (the table in [`crate::microvm`]).

mod cache;
mod compile;
mod granted;
mod image;
mod inspect;
mod network;
mod node;
mod parse;
mod run;
mod serve;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::aot::{AotCache, CacheError, CompiledProgram, Origin, Wasm, WasmError};
use crate::compile::{CompileError, Entry};
use crate::error::line;
use crate::image::ImageError;
use crate::microvm::{Cached, RunError, STATUS_CANNOT_RUN, STATUS_ERROR, STATUS_NOT_FOUND, tell};
use crate::node::NodeError;
use crate::snapshots;
use crate::workload::{Text, WorkloadError, size};

const EXAMPLES: &str = "\
Examples:
  hyperlight run hello.wasm
  hyperlight serve --addr 127.0.0.1:8080 service.wasm
  hyperlight inspect app.wasm
  hyperlight compile --json app.wasm
  hyperlight help run";

/// Run WebAssembly in micro-VMs: components of WASI 0.2 and core modules of WASI preview 1.
#[derive(Debug, Parser)]
#[command(name = "hyperlight", after_help = EXAMPLES, arg_required_else_help = true)]
#[command(disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a component or module, in a micro-VM of its own
    ///
    /// The program has the standard streams and the network of this process, its arguments, and what the
    /// options grant: no directory and no variable by default.
    Run(run::Run),
    /// Serve a component that handles HTTP requests, each in a micro-VM as fresh as a new one
    ///
    /// A request finds nothing of those before it: the micro-VM is reset to its snapshot in between,
    /// unless `--isolation` says otherwise.
    Serve(serve::Serve),
    /// Compile a component or module into the cache, so that its first run need not
    Compile(compile::Compile),
    /// Show what a component or module imports, exports and needs, and whether it can run here
    Inspect(inspect::Inspect),
    /// Show what the cache of compiled programs holds, or empty it
    Cache(cache::Cache),
    /// Work with images in containerd's store
    Image(image::Image),
    /// Install the shim on a node with containerd, remove it, or tell whether it works
    Node(Box<node::Node>),
    /// Print the version
    Version,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Wasm(#[from] WasmError),
    #[error("{name}")]
    Compile { name: String, source: CompileError },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("{what} {value:?} is not UTF-8, which WASI needs")]
    NotUtf8 { what: &'static str, value: OsString },
    #[error("environment variable {name} is not set: give it a value with --env {name}=VALUE")]
    NotSet { name: String },
    #[error("--memory: {0}")]
    Memory(#[source] WorkloadError),
    #[error("write the answer")]
    Write(#[from] std::io::Error),
    #[error("write the answer as JSON")]
    Json(#[from] serde_json::Error),
}

impl CliError {
    const fn compile(name: String, source: CompileError) -> Self {
        Self::Compile { name, source }
    }

    /// The exit status, as shells and container runtimes have it.
    fn status(&self) -> u8 {
        match self {
            Self::Wasm(WasmError::Open { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                STATUS_NOT_FOUND
            }
            Self::Wasm(_) => STATUS_CANNOT_RUN,
            Self::Compile { source, .. } if source.is_about_the_file() => STATUS_CANNOT_RUN,
            Self::Compile { .. }
            | Self::Run(_)
            | Self::Workload(_)
            | Self::Image(_)
            | Self::Node(_)
            | Self::Cache(_)
            | Self::NotUtf8 { .. }
            | Self::NotSet { .. }
            | Self::Memory(_)
            | Self::Write(_)
            | Self::Json(_) => STATUS_ERROR,
        }
    }
}

/// Runs the command line `args`, the program's name first, and returns the status to exit with.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(status) = args.get(1..).and_then(crate::compile::child_main) {
        return status;
    }
    if args.get(1..).is_some_and(|args| args == [snapshots::SUBCOMMAND]) {
        return snapshots::maker_main();
    }
    log_to_stderr();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help that cannot be printed has no reader.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { STATUS_ERROR } else { 0 });
        }
    };
    let status = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Serve(serve) => serve.execute(),
        Command::Compile(compile) => compile.execute().map(|()| 0),
        Command::Inspect(inspect) => inspect.execute().map(|()| 0),
        Command::Cache(cache) => cache.execute().map(|()| 0),
        Command::Image(image) => image.execute().map(|()| 0),
        Command::Node(node) => node.execute().map(|()| 0),
        Command::Version => print_version().map(|()| 0),
    };
    ExitCode::from(status.unwrap_or_else(|error| {
        tell(&format!("hyperlight: {}", line(&error)));
        error.status()
    }))
}

fn print_version() -> Result<(), CliError> {
    use std::io::Write;
    let version = env!("CARGO_PKG_VERSION");
    let wasmtime = abi::engine::WASMTIME_VERSION;
    let abi = abi::ABI_VERSION;
    Ok(writeln!(std::io::stdout(), "hyperlight {version} (Wasmtime {wasmtime}, guest ABI {abi})")?)
}

/// The text that `value` is.
fn text(what: &'static str, value: OsString) -> Result<Text, CliError> {
    let value = value.into_string().map_err(|value| CliError::NotUtf8 { what, value })?;
    Ok(Text::try_from(value)?)
}

/// What the cache has for a start of `program`, or has afterwards.
fn cached(cache: &AotCache, program: &CompiledProgram) -> Cached {
    let maker = Path::new(snapshots::THIS_EXECUTABLE);
    let found = snapshots::find_or_make(cache, program, maker);
    Cached { image: snapshots::image(cache), snapshot: found.map(|it| it.file) }
}

/// Gets the program of `wasm`, and tells what takes long and what is wrong with the cache.
fn program(wasm: &Wasm, entry: Entry, cache: &AotCache) -> Result<CompiledProgram, CliError> {
    let told = std::cell::Cell::new(false);
    let waiting = || {
        if !told.replace(true) {
            tell(&format!("compiling {} ({}) ...", wasm.name(), size(wasm.bytes())));
        }
    };
    let program = cache
        .program(wasm, entry, &waiting)
        .map_err(|source| CliError::compile(wasm.name().to_owned(), source))?;
    let cost = match &program.origin {
        // Another process has compiled it.
        Origin::Cached { .. } => None,
        Origin::Compiled { cost, .. } | Origin::Uncached { cost, .. } => Some(cost),
    };
    if told.get() {
        let cost = cost.map_or_else(String::new, |cost| format!(" in {cost}"));
        tell(&format!("compiled {}{cost}", wasm.name()));
    }
    if let Origin::Uncached { cause, .. } = &program.origin {
        tell(&format!("hyperlight: each run compiles anew: {}", line(cause)));
    }
    Ok(program)
}

/// Sends what the libraries log to stderr, from warnings on.
fn log_to_stderr() {
    struct Stderr;
    impl log::Log for Stderr {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() <= log::Level::Warn
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                tell(&format!("hyperlight: {}", record.args()));
            }
        }
        fn flush(&self) {}
    }
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}
