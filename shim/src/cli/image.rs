//! `hyperlight image`: images in containerd's store.

use std::io::Write;

use clap::{Args, Subcommand};

use super::cache::CacheOptions;
use super::{CliError, compile, program};
use crate::compile::Entry;
use crate::image::{adapt, wasm};
use crate::snapshots;

const ADAPT_EXAMPLES: &str = "\
Examples:
  hyperlight image adapt registry.example/app:1
  hyperlight image adapt --namespace k8s.io --json registry.example/app:1";

const PREPARE_EXAMPLES: &str = "\
Examples:
  hyperlight image prepare registry.example/app:1
  hyperlight image prepare --namespace k8s.io --json registry.example/app:1";

/// What `image` is told.
#[derive(Debug, Args)]
pub(super) struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a pulled wasm artifact (wkg's layout) runnable by `ctr run` and by Pods without a command
    ///
    /// Writes an image configuration and a manifest for the same wasm layer into containerd's content
    /// store and points the image there. The original manifest is kept; adapting twice is harmless. A
    /// later pull of the image undoes it.
    Adapt(Adapt),
    /// Compile a pulled wasm artifact into the node's cache, so that its first container need not
    ///
    /// For use after a pull, as root: the cache is the one that the shim uses. What is in the cache
    /// already is found there.
    Prepare(Prepare),
}

/// Which image, and how to tell of it.
#[derive(Debug, Args)]
struct Options {
    /// containerd's socket
    #[arg(long, value_name = "SOCKET", default_value = "/run/containerd/containerd.sock")]
    address: String,
    /// containerd's namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
    /// The image, as `ctr image ls` lists it
    #[arg(value_name = "REFERENCE")]
    reference: String,
}

#[derive(Debug, Args)]
#[command(after_help = ADAPT_EXAMPLES)]
struct Adapt {
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
#[command(after_help = PREPARE_EXAMPLES)]
struct Prepare {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    cache: CacheOptions,
}

impl Image {
    /// Does it and prints what came of it.
    pub(super) fn execute(self) -> Result<(), CliError> {
        match self.command {
            Command::Adapt(Adapt { options }) => options.adapt(),
            Command::Prepare(Prepare { options, cache }) => options.prepare(&cache),
        }
    }
}

impl Options {
    fn adapt(self) -> Result<(), CliError> {
        let adapted = adapt(&self.address, &self.namespace, &self.reference)?;
        let mut out = std::io::stdout();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &adapted)?;
            writeln!(out)?;
        } else if adapted.changed {
            let (reference, entrypoint) = (&adapted.reference, &adapted.entrypoint);
            writeln!(out, "{reference}: adapted, runs {entrypoint}: {}", adapted.manifest)?;
        } else {
            writeln!(out, "{}: runs already: {}", adapted.reference, adapted.manifest)?;
        }
        Ok(())
    }

    fn prepare(self, cache: &CacheOptions) -> Result<(), CliError> {
        let wasm = wasm(&self.address, &self.namespace, &self.reference)?;
        let cache = cache.open();
        let program = program(&wasm, Entry::Task, &cache)?;
        snapshots::prepare(&cache, &program);
        let subject = ("reference", self.reference.as_str(), self.reference.as_str());
        compile::print(self.json, subject, &wasm, &program)
    }
}
