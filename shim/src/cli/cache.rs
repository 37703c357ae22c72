//! `hyperlight cache`: what the cache of compiled programs holds. And the options by which all commands
//! find it.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use rustix::process::geteuid;

use super::{CliError, parse};
use crate::aot::{self, AotCache, CacheEntry};
use crate::compile::Compiler;
use crate::workload::size;

const EXAMPLES: &str = "\
Examples:
  hyperlight cache list
  hyperlight cache list --json
  hyperlight cache clear";

/// Where the cache is, and how large it may become.
#[derive(Debug, Args)]
pub(super) struct CacheOptions {
    /// Keep compiled programs in this directory [default: that of the node for root, else
    /// ~/.cache/hyperlight]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Let the directory take this much of the disk; what was not used for longest goes first [default:
    /// $HYPERLIGHT_CACHE_SIZE, else 4GiB or a tenth of the file system, whichever is less]
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes)]
    cache_size: Option<u64>,
}

impl CacheOptions {
    /// The cache that they name.
    pub(super) fn open(&self) -> AotCache {
        let dir = self.cache_dir.clone().unwrap_or_else(default_dir);
        let cache = AotCache::new(dir, Compiler::this_executable());
        match self.cache_size {
            Some(bytes) => cache.with_size(bytes),
            None => cache,
        }
    }
}

/// The cache for the user's own runs: the node's for root, for others the one of the XDG base directory
/// specification.
fn default_dir() -> PathBuf {
    if geteuid().is_root() {
        return aot::CACHE_DIR.into();
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map_or_else(|| aot::CACHE_DIR.into(), |base| base.join("hyperlight"))
}

/// What `cache` is told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Cache {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the programs, the most recently used first
    List(Options),
    /// Remove all programs
    ///
    /// What runs goes on running; what is being compiled stays.
    Clear(Options),
}

#[derive(Debug, Args)]
struct Options {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: CacheOptions,
}

impl Cache {
    /// Does it and prints what there is, or was.
    pub(super) fn execute(self) -> Result<(), CliError> {
        match self.command {
            Command::List(options) => list(&options),
            Command::Clear(options) => clear(&options),
        }
    }
}

fn list(options: &Options) -> Result<(), CliError> {
    let cache = options.cache.open();
    let (entries, bytes_max) = (cache.entries()?, cache.bytes_max()?);
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut out = std::io::stdout();
    if options.json {
        let answer = serde_json::json!({
            "directory": cache.path().to_string_lossy(),
            "bytes": bytes,
            "bytes_max": bytes_max,
            "programs": entries.iter().map(json).collect::<Vec<_>>(),
        });
        serde_json::to_writer_pretty(&mut out, &answer)?;
        writeln!(out)?;
        return Ok(());
    }
    let mut text = String::new();
    if !entries.is_empty() {
        text += &row("SHA256", "DISK", "SNAPSHOT", "USED", "NAME");
    }
    for entry in &entries {
        let sha256 = entry.sha256.get(..12).unwrap_or("-");
        let snapshot = if entry.has_snapshot { "yes" } else { "no" };
        let name = if entry.name.is_empty() { "-" } else { entry.name.as_str() };
        // It comes from whoever named the file.
        let name: String = name.chars().filter(|it| !it.is_control()).collect();
        text += &row(sha256, &size(entry.bytes).to_string(), snapshot, &ago(entry.used), &name);
    }
    let (count, directory) = (entries.len(), cache.path().display());
    let (bytes, bytes_max) = (size(bytes), size(bytes_max));
    text += &format!("{directory}: {count} programs, {bytes} of at most {bytes_max}\n");
    Ok(out.write_all(text.as_bytes())?)
}

fn row(sha256: &str, disk: &str, snapshot: &str, used: &str, name: &str) -> String {
    format!("{sha256:<12}  {disk:>10}  {snapshot:<8}  {used:<14}  {name}\n")
}

fn json(entry: &CacheEntry) -> serde_json::Value {
    let used = entry.used.duration_since(UNIX_EPOCH).unwrap_or_default();
    serde_json::json!({
        "name": entry.name,
        "digest": (!entry.sha256.is_empty()).then(|| format!("sha256:{}", entry.sha256)),
        "program": entry.path.to_string_lossy(),
        "bytes": entry.bytes,
        "snapshot": entry.has_snapshot,
        "used_unix_s": used.as_secs(),
    })
}

/// `3h ago`: the largest unit will do.
fn ago(time: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    match seconds {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn clear(options: &Options) -> Result<(), CliError> {
    let cache = options.cache.open();
    let cleared = cache.clear()?;
    let mut out = std::io::stdout();
    if options.json {
        let answer = serde_json::json!({
            "directory": cache.path().to_string_lossy(),
            "programs_removed": cleared.programs,
            "bytes_removed": cleared.bytes,
            "programs_kept": cleared.kept,
        });
        serde_json::to_writer_pretty(&mut out, &answer)?;
        return Ok(writeln!(out)?);
    }
    let (programs, bytes) = (cleared.programs, size(cleared.bytes));
    let kept = match cleared.kept {
        0 => String::new(),
        kept => format!("; {kept} being made were kept"),
    };
    Ok(writeln!(out, "{}: removed {programs} programs, {bytes}{kept}", cache.path().display())?)
}
