//! Input and output of a program in a micro-VM: VM exits of each operation, and the throughput of files
//! and pipes in pieces of 64 KiB against the wasmtime command.
//!
//! Exits are counted and may not exceed what `integration::exits` allows. Throughput is measured by the
//! program itself, alternately in a micro-VM and by the wasmtime command; the best run of each counts.
//! Files are in the page cache, and pipes have `cat` at the other end.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use integration::exits::{self, OPERATIONS, WORLDS};
use integration::scratch::Scratch;
use integration::{hyperlight, kvm_is_there, tools};

/// Runs of each side.
const RUNS: usize = 7;

/// Pieces of 64 KiB that a run moves.
const PIECES: u32 = 4000;

/// Bytes of a piece.
const PIECE_BYTES: f64 = 65536.0;

fn main() -> Result<ExitCode> {
    if !kvm_is_there() {
        return Ok(ExitCode::SUCCESS);
    }
    let programs = exits::programs()?;
    let directory = Scratch::new()?;
    let mut failed = Vec::new();
    println!("{:24} {:>14} {:>14}", "VM exits of one", WORLDS[0], WORLDS[1]);
    for (operation, most) in OPERATIONS {
        let mut line = format!("{operation:24}");
        for (program, most) in programs.iter().zip(most) {
            let exits = exits::of(program, operation, &directory)?;
            line += &format!(" {exits:14.2}");
            if exits > f64::from(most) {
                failed.push(operation);
            }
        }
        println!("{line}");
    }
    println!();
    println!(
        "{:24} {:>14} {:>14} {:>8}",
        "64 KiB at a time, GB/s", "micro-VM", "wasmtime", "ratio"
    );
    for operation in ["read-file", "write-file", "read-pipe", "write-pipe"] {
        let (inside, outside) = compare(&programs[0], operation, &directory)?;
        println!("{operation:24} {inside:14.2} {outside:14.2} {:8.2}", inside / outside);
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("more exits than allowed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The best throughput in a micro-VM and by the wasmtime command, in GB/s.
fn compare(program: &Path, operation: &str, directory: &Path) -> Result<(f64, f64)> {
    let granted = format!("{}::/data", directory.display());
    let pieces = PIECES.to_string();
    let mut best = (0.0_f64, 0.0_f64);
    for _ in 0..RUNS {
        let mut inside = Command::new(hyperlight()?);
        inside.args(["run", "--dir", &granted]).arg(program).args(["--", operation, &pieces]);
        let mut outside = tools::tree("wasmtime")?.script("wasmtime")?;
        outside.args(["run", "--dir", &granted]).arg(program).args([operation, &pieces]);
        best.0 = best.0.max(throughput(inside)?);
        best.1 = best.1.max(throughput(outside)?);
    }
    Ok(best)
}

/// Runs the program between two `cat`s and reads the nanoseconds that it tells.
fn throughput(mut command: Command) -> Result<f64> {
    let mut source = Command::new("cat")
        .arg("/dev/zero")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start cat")?;
    let mut sink = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("start cat")?;
    if let (Some(input), Some(output)) = (source.stdout.take(), sink.stdin.take()) {
        command.stdin(input).stdout(output);
    }
    let program = command.stderr(Stdio::piped()).spawn().context("start the program")?;
    // What it was started with keeps an end of each pipe open, for which the cats would wait.
    drop(command);
    let outcome = program.wait_with_output().context("wait for the program")?;
    source.kill().and_then(|()| source.wait()).context("stop cat")?;
    sink.wait().context("wait for cat")?;
    ensure!(outcome.status.success(), "{outcome:?}");
    let told = String::from_utf8_lossy(&outcome.stderr);
    let ns: f64 = told.lines().last().context("no time told")?.parse()?;
    Ok(f64::from(PIECES) * PIECE_BYTES / ns)
}
