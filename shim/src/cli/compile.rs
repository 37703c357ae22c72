//! `hyperlight compile`: fills the cache.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{CliError, program};
use crate::aot::{Origin, Wasm};
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
    /// Keep compiled programs in this directory [default: that of the node for root, else
    /// ~/.cache/hyperlight]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
}

impl Compile {
    /// Compiles and prints where the program is, how large, and how long it took.
    pub(super) fn execute(self) -> Result<(), CliError> {
        let wasm = Wasm::open(&self.file)?;
        let program = program(&wasm, self.cache_dir.as_deref())?;
        let (path, took) = match &program.origin {
            Origin::Cached { path } => (Some(path), None),
            Origin::Compiled { path, took } => (Some(path), Some(*took)),
            Origin::Uncached { took, .. } => (None, Some(*took)),
        };
        let mut out = std::io::stdout();
        if self.json {
            let answer = serde_json::json!({
                "file": self.file.to_string_lossy(),
                "digest": format!("sha256:{}", wasm.sha256()),
                "wasm_bytes": wasm.bytes(),
                "program": path.map(|path| path.to_string_lossy()),
                "program_bytes": program.bytes,
                "cached": took.is_none(),
                "compile_ms": took.as_ref().map(Duration::as_millis),
            });
            serde_json::to_writer_pretty(&mut out, &answer)?;
            writeln!(out)?;
            return Ok(());
        }
        let name = wasm.name();
        let sizes = format!("{} of wasm, {} compiled", size(wasm.bytes()), size(program.bytes));
        match (path, took) {
            (Some(path), None) => {
                writeln!(out, "{name}: in the cache ({sizes}): {}", path.display())?
            }
            (Some(path), Some(took)) => {
                writeln!(out, "{name}: compiled in {took:.1?} ({sizes}): {}", path.display())?;
            }
            (None, _) => writeln!(out, "{name}: can be compiled ({sizes}), but was not kept")?,
        }
        Ok(())
    }
}
