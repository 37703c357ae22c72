//! `hyperlight run`: one component or module, one micro-VM, this process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::granted::{Granted, Grants};
use super::{CliError, cached, parse, program, text};
use crate::aot::{CompiledProgram, Origin};
use crate::compile::Entry;
use crate::jail::{self, Missing};
use crate::microvm::{self, Outcome, Standby, tell};
use crate::workload::{Text, Workload, size};

const EXAMPLES: &str = "\
Examples:
  hyperlight run hello.wasm
  hyperlight run app.wasm --verbose input.txt
  hyperlight run --dir . --dir /srv/data::/data:ro app.wasm
  hyperlight run --env LANG=C --env HOME --memory 1GiB --timeout 30s app.wasm
  hyperlight run --allow api.example.com:443 --allow 10.0.0.0/8 client.wasm
  hyperlight run --no-network app.wasm
  hyperlight run --invoke 'add(1, 2)' component.wasm
  hyperlight run --invoke add module.wasm 1 2

Exit status:
  that of the program; or 124 after --timeout, 125 after an error of hyperlight, 126 if the
  file cannot run here, 127 if there is none, 134 after a trap, 137 when memory ran out";

/// What `run` is told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Run {
    #[command(flatten)]
    granted: Granted,
    /// Call an exported function and print its results, instead of running the command
    ///
    /// Of a component the call, in WAVE: `add(1, 2)`, `greet("you")`. Of a core module the name of the
    /// function; its arguments follow the file. `hyperlight inspect` lists the functions.
    #[arg(long, value_name = "CALL", value_parser = NonEmptyStringValueParser::new())]
    invoke: Option<String>,
    /// Give the program this name as argument 0 [default: the name of the file]
    #[arg(long, value_name = "NAME")]
    argv0: Option<OsString>,
    /// End the run after this time, with status 124
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    timeout: Option<Duration>,
    /// Print on stderr, at the end, what the run cost
    #[arg(long)]
    stats: bool,
    /// The component or module
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Arguments for the program: everything behind the file, with or without `--` before it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Run {
    /// Runs and returns the exit status.
    pub(super) fn execute(self) -> Result<u8, CliError> {
        let Grants { env, preopens, memory, network, cache } = self.granted.parse()?;
        let invoke = self.invoke.map(Text::try_from).transpose()?;
        let entry = if invoke.is_some() { Entry::Any } else { Entry::Command };
        let wasm = cache.wasm(&self.file)?;
        let program_name = Text::try_from(wasm.name().to_owned())?;
        let argv0 = self.argv0.map(|name| text("argument 0", name)).transpose()?;
        let mut args = vec![argv0.unwrap_or_else(|| program_name.clone())];
        for arg in self.args {
            args.push(text("argument", arg)?);
        }
        let program = program(&wasm, entry, &cache)?;
        let workload = Workload {
            program_name,
            cwd: None,
            invoke,
            args,
            env,
            preopens,
            memory,
            network,
            serving: None,
        };
        let cached = cached(&cache, &program);
        let booted = microvm::boot(&workload, &program.file, Standby::new()?, cached)?;
        let jail = jail::lock_by_hand(&workload);
        let outcome = booted.run(self.timeout)?;
        if let Some(message) = microvm::message(&workload, &outcome.exit) {
            match self.timeout {
                Some(timeout) if outcome.status() == microvm::STATUS_TIMED_OUT => {
                    let timeout = humantime::format_duration(timeout);
                    tell(&format!("hyperlight: {}: ended by --timeout {timeout}", wasm.name()));
                }
                _ => tell(&message),
            }
        }
        if self.stats {
            tell_stats(&program, &outcome, &jail);
        }
        Ok(outcome.status())
    }
}

/// What the run cost, for a person who wants to know where the time goes.
fn tell_stats(program: &CompiledProgram, outcome: &Outcome, jail: &Missing) {
    let compile = match &program.origin {
        Origin::Cached { path } => format!("not needed: {}", path.display()),
        Origin::Compiled { cost, .. } | Origin::Uncached { cost, .. } => cost.to_string(),
    };
    let stats = &outcome.stats;
    let calls: u64 = stats.calls().map(|(_, count)| count).sum();
    let by_name: Vec<String> = stats.calls().map(|(nr, count)| format!("{nr:?} {count}")).collect();
    tell(&format!("compile     {compile}"));
    tell(&format!("program     {}", size(program.bytes)));
    tell(&format!("boot        {:.1?}", stats.boot));
    tell(&format!(
        "run         {:.1?}, of it answering host calls {:.1?}",
        stats.run, stats.answering
    ));
    tell(&format!(
        "VM exits    {} by the doorbell, {} by signals",
        stats.doorbell_exits, stats.interrupted_exits
    ));
    tell(&format!("host calls  {calls}: {}", by_name.join(", ")));
    tell(&format!("jail        {jail}"));
    tell(&format!("status      {}", outcome.status()));
}
