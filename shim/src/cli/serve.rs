//! `hyperlight serve`: a component that handles HTTP requests, on a port of this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::granted::{Granted, Grants};
use super::{CliError, cached, parse, program};
use crate::compile::Entry;
use crate::http::{Isolation, PORT_DEFAULT, Port, Service, Serving};
use crate::jail;
use crate::microvm::{RunError, Source, message, status, tell};
use crate::workload::{Text, Workload};

const EXAMPLES: &str = "\
Examples:
  hyperlight serve hello.wasm
  hyperlight serve --addr 0.0.0.0:80 --env GREETING=hi hello.wasm
  hyperlight serve --isolation none --max-concurrency 8 counter.wasm

SIGTERM or ctrl-c closes the port and lets what is in flight end, the second one does not wait.

Exit status:
  0 after SIGTERM or ctrl-c; or 125 after an error of hyperlight, 126 if the file cannot be served,
  127 if there is none, 130 or 143 if it was told twice to end";

/// What `serve` is told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// Take connections here
    #[arg(
        long, value_name = "ADDR:PORT",
        default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT)
    )]
    addr: SocketAddr,
    /// What one request may leave to the next
    #[arg(long, value_enum, default_value_t)]
    isolation: Isolation,
    /// Handle at most so many requests at a time, each in a micro-VM of its own; others wait
    #[arg(long, value_name = "N", default_value_t = crate::http::MAX_CONCURRENCY_DEFAULT)]
    max_concurrency: NonZeroU32,
    /// End a request that takes longer, with status 504 [default: none]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    request_timeout: Option<Duration>,
    /// Give requests in flight so long when told to end [default: 25s]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    drain_timeout: Option<Duration>,
    /// Print on stderr, at the end, what the requests cost
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    granted: Granted,
    /// The component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
}

impl Serve {
    /// Serves until a signal ends it, and returns the exit status.
    pub(super) fn execute(self) -> Result<u8, CliError> {
        let Grants { env, preopens, memory, network, cache } = self.granted.parse()?;
        let wasm = cache.wasm(&self.file)?;
        let program_name = Text::try_from(wasm.name().to_owned())?;
        let program = program(&wasm, Entry::Handler, &cache)?;
        let serving = Serving {
            addr: self.addr,
            isolation: self.isolation,
            max_concurrency: self.max_concurrency,
            request_timeout: self.request_timeout,
            drain: self.drain_timeout.unwrap_or(crate::http::DRAIN_DEFAULT),
        };
        let workload = Workload {
            program_name: program_name.clone(),
            cwd: None,
            invoke: None,
            args: vec![program_name],
            env,
            preopens,
            memory,
            network,
            serving: Some(serving.clone()),
        };
        let cached = cached(&cache, &program);
        let source = match Source::open(&workload, &program.file, cached)? {
            Ok(source) => source,
            Err(exit) => {
                if let Some(message) = message(&workload, &exit) {
                    tell(&message);
                }
                return Ok(status(&exit));
            }
        };
        let port = Port::bind(&serving).map_err(RunError::from)?;
        let addr = port.addr();
        let jail = jail::lock_by_hand(&workload);
        let service = Service::new(source, workload, port);
        let (name, costs) = (wasm.name(), service.costs());
        let listening = || tell(&format!("hyperlight: serving {name} on http://{addr}"));
        let status = service.serve(listening)?;
        if self.stats {
            tell(&costs.to_string());
            tell(&format!("jail        {jail}"));
        }
        Ok(status)
    }
}
