//! What `run` and `serve` give a program beside its file.

use std::ffi::OsString;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::cache::CacheOptions;
use super::network::NetworkArgs;
use super::parse::{self, DirOption};
use super::{CliError, text};
use crate::aot::AotCache;
use crate::net::NetworkGrant;
use crate::workload::{EnvEntry, MEMORY_BYTES_DEFAULT, MemoryBytes, Preopen};

/// The options.
#[derive(Debug, Args)]
pub(super) struct Granted {
    /// Give the program an environment variable; without a value, the one set here
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Give the program a directory, at GUEST if that is named; `:ro` lets it change nothing
    #[arg(
        long, value_name = "HOST[::GUEST][:ro]",
        value_parser = OsStringValueParser::new().try_map(parse::dir)
    )]
    dir: Vec<DirOption>,
    /// Limit the memory of the micro-VM [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes)]
    memory: Option<u64>,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    cache: CacheOptions,
}

/// What they say, parsed.
#[derive(Debug)]
pub(super) struct Grants {
    pub(super) env: Vec<EnvEntry>,
    pub(super) preopens: Vec<Preopen>,
    pub(super) memory: MemoryBytes,
    pub(super) network: Option<NetworkGrant>,
    pub(super) cache: AotCache,
}

impl Granted {
    /// Parses the options; what is wrong with them is known before anything is compiled.
    ///
    /// # Errors
    ///
    /// A text that is not UTF-8, a variable that is not set, a memory that no micro-VM has.
    pub(super) fn parse(self) -> Result<Grants, CliError> {
        let memory = self.memory.unwrap_or(MEMORY_BYTES_DEFAULT);
        Ok(Grants {
            memory: MemoryBytes::try_from(memory).map_err(CliError::Memory)?,
            env: self.env.into_iter().map(env_entry).collect::<Result<_, _>>()?,
            preopens: self.dir.into_iter().map(preopen).collect::<Result<_, _>>()?,
            network: self.network.grant(),
            cache: self.cache.open(),
        })
    }
}

/// `NAME=VALUE`, or `NAME` for the value that it has here.
fn env_entry(option: OsString) -> Result<EnvEntry, CliError> {
    let entry = String::from(text("environment variable", option)?);
    if entry.contains('=') {
        return Ok(EnvEntry::try_from(entry)?);
    }
    let Some(value) = std::env::var_os(&entry) else {
        return Err(CliError::NotSet { name: entry });
    };
    let value = text("environment variable", value)?;
    Ok(EnvEntry::try_from(format!("{entry}={}", value.as_str()))?)
}

fn preopen(dir: DirOption) -> Result<Preopen, CliError> {
    let guest_path = text("guest path", dir.guest)?;
    Ok(Preopen { host_path: dir.host, guest_path, read_only: dir.read_only })
}
