//! `make bench`: what everything costs, in one table, each figure over its own floor.
//!
//! `make bench BENCH="--json"` prints JSON instead, and words select the sections whose names contain one of
//! them. The JSON is also left in `bench.json` in cargo's target directory. A section that cannot be
//! measured says why, and a goal that is missed fails nothing: the exit status is 0.

mod calls;
mod compile;
mod containers;
mod family;
mod host;
mod http;
mod instructions;
mod kubernetes;
mod live;
mod machine;
mod pods;
mod start;
mod wasm;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use integration::bench::Report;
use integration::{say, target_directory};

/// A section: its name on the command line, its title, what measures it.
type Section = (&'static str, &'static str, fn(&mut Report) -> Result<()>);

const SECTIONS: &[Section] = &[
    ("start", "Start of a micro-VM", start::measure),
    ("instructions", "Start of a micro-VM, counted on an emulated AMD host", instructions::measure),
    ("wasm", "Speed of wasm", wasm::measure),
    ("calls", "Host calls", calls::measure),
    ("host", "Host calls, the host's side", host::measure),
    ("exits", "VM exits of one operation", calls::exits),
    ("live", "Many micro-VMs", live::measure),
    ("containers", "Containers, against runc on the same containerd", containers::measure),
    ("pods", "Pods by the CRI, against runc on the same containerd", pods::measure),
    ("kubernetes", "Pods on a Kubernetes of one node, against runc", kubernetes::measure),
    ("http", "HTTP, against `wasmtime serve`", http::measure),
    ("compile", "Compiling, and starting what is compiled", compile::measure),
];

fn main() -> Result<ExitCode> {
    // `cargo bench` gives `--bench` to each.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    if let [live::ARGUMENT, kind, count] =
        &*arguments.iter().map(String::as_str).collect::<Vec<_>>()
    {
        live::hold(kind, count)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (options, words): (Vec<_>, Vec<_>) = arguments.iter().partition(|it| it.starts_with('-'));
    if options.iter().any(|option| *option != "--json") {
        say("usage: bench [--json] [SECTION...]; sections:");
        SECTIONS.iter().for_each(|(name, title, _)| say(&format!("  {name:12} {title}")));
        return Ok(ExitCode::from(2));
    }
    let mut report = Report::new();
    for (name, title, measure) in SECTIONS {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            report.section(title, measure);
        }
    }
    let json = report.json()?;
    let directory = target_directory().canonicalize().context("find the target directory")?;
    let file = directory.join("bench.json");
    std::fs::write(&file, &json).with_context(|| format!("write {}", file.display()))?;
    if options.is_empty() {
        println!("{}", report.table())
    } else {
        println!("{json}")
    }
    say(&format!("the same as JSON: {}", file.display()));
    Ok(ExitCode::SUCCESS)
}
