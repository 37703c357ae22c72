//! `hyperlight inspect`: what a file is, and whether it can run here.

mod grants;
mod text;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use self::grants::Grants;
use super::CliError;
use super::cache::CacheOptions;
use crate::aot::{CompiledProgram, Origin, Wasm};
use crate::compile::{Compiler, Inspection};
use crate::microvm::tell;

const EXAMPLES: &str = "\
Examples:
  hyperlight inspect app.wasm
  hyperlight inspect --json app.wasm

Exit status:
  0 if the file could be read, also if it cannot run here (then that is said); 126 if it is
  no WebAssembly, 127 if there is none";

/// What `inspect` is told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: CacheOptions,
    /// The component or module
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
}

impl Inspect {
    /// Prints what the file is.
    pub(super) fn execute(self) -> Result<(), CliError> {
        let wasm = Wasm::open(&self.file)?;
        let failed = |source| CliError::compile(wasm.name().to_owned(), source);
        let waiting = || tell(&format!("inspecting {} ...", wasm.name()));
        let inspection = Compiler::this_executable().inspect(&wasm, &waiting).map_err(failed)?;
        let compiled = self.cache.open().find(&wasm).map_err(failed)?;
        let compiled = compiled.as_ref().and_then(Compiled::of);
        let mut out = std::io::stdout();
        if self.json {
            let file = self.file.to_string_lossy();
            serde_json::to_writer_pretty(&mut out, &json(&file, &wasm, &inspection, compiled))?;
            writeln!(out)?;
        } else {
            out.write_all(text::of(&wasm, &inspection, compiled.as_ref()).as_bytes())?;
        }
        Ok(())
    }
}

/// The compiled program in the cache.
struct Compiled {
    path: String,
    bytes: u64,
}

impl Compiled {
    fn of(program: &CompiledProgram) -> Option<Self> {
        match &program.origin {
            Origin::Cached { path } => {
                Some(Self { path: path.display().to_string(), bytes: program.bytes })
            }
            Origin::Compiled { .. } | Origin::Uncached { .. } => None,
        }
    }
}

fn json(
    file: &str,
    wasm: &Wasm,
    inspection: &Inspection,
    compiled: Option<Compiled>,
) -> serde_json::Value {
    let grants = Grants::of(inspection);
    let reason = |refusal: Option<&_>| refusal.map(ToString::to_string);
    let (program, program_bytes) = compiled.map(|it| (it.path, it.bytes)).unzip();
    serde_json::json!({
        "file": file,
        "digest": format!("sha256:{}", wasm.sha256()),
        "wasm_bytes": wasm.bytes(),
        "kind": inspection.kind,
        "world": inspection.world,
        "wasi": inspection.wasi,
        "runs": inspection.refusal.is_none() && inspection.entry_points.command,
        "serves": inspection.refusal.is_none() && inspection.entry_points.handler,
        "refusal": reason(inspection.refusal.as_ref()),
        "invokes": inspection.invoke_refusal.is_none(),
        "invoke_refusal": reason(inspection.invoke_refusal.as_ref()),
        "imports": inspection.imports,
        "exports": inspection.exports,
        "proposals": inspection.proposals,
        "granted": grants.by_default,
        "granted_by_options": grants.by_options,
        "not_granted": grants.never,
        "memory": inspection.memory,
        "program": program,
        "program_bytes": program_bytes,
    })
}
