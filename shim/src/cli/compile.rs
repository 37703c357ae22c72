//! `hyperlight compile`: fills the cache.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::cache::CacheOptions;
use super::{CliError, program};
use crate::aot::{CompiledProgram, Origin, Wasm};
use crate::compile::Entry;
use crate::snapshots;
use crate::workload::size;

const EXAMPLES: &str = "\
Examples:
  hyperlight compile app.wasm
  hyperlight compile --json app.wasm
  hyperlight compile --cache-dir /mnt/cache app.wasm";

/// What `compile` is told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Compile {
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: CacheOptions,
    /// The component or module; a library too, whose functions `hyperlight run --invoke` calls
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
}

impl Compile {
    /// Compiles and prints where the program is, how large, and what it took.
    pub(super) fn execute(self) -> Result<(), CliError> {
        let cache = self.cache.open();
        let wasm = cache.wasm(&self.file)?;
        let program = program(&wasm, Entry::Any, &cache)?;
        snapshots::prepare(&cache, &program);
        let file = self.file.to_string_lossy();
        print(self.json, ("file", &file, wasm.name()), &wasm, &program)
    }
}

/// Prints where the program is, how large, and what it took. In JSON, `what` it was compiled from has a
/// key; for people it has a name.
pub(super) fn print(
    json: bool,
    what: (&str, &str, &str),
    wasm: &Wasm,
    program: &CompiledProgram,
) -> Result<(), CliError> {
    let (key, subject, name) = what;
    let (path, cost) = match &program.origin {
        Origin::Cached { path } => (Some(path), None),
        Origin::Compiled { path, cost } => (Some(path), Some(*cost)),
        Origin::Uncached { cost, .. } => (None, Some(*cost)),
    };
    let mut out = std::io::stdout();
    if json {
        let answer = serde_json::json!({
            key: subject,
            "digest": format!("sha256:{}", wasm.sha256()),
            "wasm_bytes": wasm.bytes(),
            "program": path.map(|path| path.to_string_lossy()),
            "program_bytes": program.bytes,
            "is_command": program.entry_points.command,
            "is_handler": program.entry_points.handler,
            "cached": cost.is_none(),
            "compile_ms": cost.map(|cost| cost.time.as_millis()),
            "compile_peak_bytes": cost.and_then(|cost| cost.peak_bytes),
        });
        serde_json::to_writer_pretty(&mut out, &answer)?;
        writeln!(out)?;
        return Ok(());
    }
    let sizes = format!("{} of wasm, {} compiled", size(wasm.bytes()), size(program.bytes));
    match (path, cost) {
        (Some(path), None) => {
            writeln!(out, "{name}: in the cache ({sizes}): {}", path.display())?;
        }
        (Some(path), Some(cost)) => {
            writeln!(out, "{name}: compiled in {cost} ({sizes}): {}", path.display())?;
        }
        (None, _) => writeln!(out, "{name}: can be compiled ({sizes}), but was not kept")?,
    }
    Ok(())
}
