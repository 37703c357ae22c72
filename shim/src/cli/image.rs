//! `hyperlight image`: images in containerd's store.

use std::io::Write;

use clap::{Args, Subcommand};

use super::CliError;
use crate::image::adapt;

const EXAMPLES: &str = "\
Examples:
  hyperlight image adapt registry.example/app:1
  hyperlight image adapt --namespace k8s.io --json registry.example/app:1";

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
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Adapt {
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

impl Image {
    /// Does it and prints what came of it.
    pub(super) fn execute(self) -> Result<(), CliError> {
        let Command::Adapt(options) = self.command;
        let adapted = adapt(&options.address, &options.namespace, &options.reference)?;
        let mut out = std::io::stdout();
        if options.json {
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
}
