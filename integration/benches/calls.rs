//! What a host call costs: operations of programs, by VM exits and time.
//!
//! Exits are counted; a test holds each operation to its number. Throughput is told by the
//! program itself, in turns in a micro-VM and by the wasmtime command. Files are in the page cache, and pipes
//! have `cat` at the other end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Report, Row, Samples, us};
use integration::exits::{self, OPERATIONS, WORLDS};
use integration::floor::Floor;
use integration::scratch::Scratch;
use integration::{hyperlight, tools};

use crate::{machine, start};

/// Runs of each side of a throughput.
const RUNS: usize = 7;

/// Time for one throughput.
const LIMIT: Duration = Duration::from_secs(15);

/// Pieces of 64 KiB that a run moves.
const PIECES: u32 = 2000;

/// Lines of the shorter run and of the longer one, whose difference is measured.
const LINES: [u32; 2] = [10, 510];

/// Measures the section of time.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    machine::calls(report)?;
    lines(report)?;
    let program = &exits::programs()?[0];
    let directory = Scratch::new()?;
    for operation in ["read-file", "write-file", "read-pipe", "write-pipe"] {
        let name = format!("64 KiB: {operation}");
        match compare(program, operation, &directory) {
            Ok([inside, outside]) => {
                let row = Row::new(name, "µs", &inside);
                report.add(row.over("wasmtime command", &outside));
            }
            Err(error) => report.missing(&name, &format!("{error:#}")),
        }
    }
    machine::growth(report)
}

/// Measures the section of VM exits.
pub(crate) fn exits(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let programs = exits::programs()?;
    let directory = Scratch::new()?;
    for (operation, _) in OPERATIONS {
        for (program, world) in programs.iter().zip(WORLDS) {
            let exits = Samples::new(vec![exits::of(program, operation, &directory)?])?;
            report.add(Row::new(format!("{operation}, {world}"), "exits", &exits));
        }
    }
    Ok(())
}

/// A line that a program writes: wasm, the library OS, one host call, a write to /dev/null.
fn lines(report: &mut Report) -> Result<()> {
    let [few, many] = LINES.map(|count| count.to_string());
    let few = start::subject("lines.wat")?.invoke("lines", &[&few]);
    let many = start::subject("lines.wat")?.invoke("lines", &[&many]);
    let count = f64::from(LINES[1] - LINES[0]);
    let mut standing = Floor::open()?.create()?;
    let [exit, line] = Samples::in_turns(
        25,
        LIMIT,
        [
            &mut || {
                let start = Instant::now();
                (LINES[0]..LINES[1]).try_for_each(|_| standing.exit())?;
                Ok(us(start) / count)
            },
            &mut || {
                let (few, many) = (few.boot_and_run()?.run, many.boot_and_run()?.run);
                Ok((many.as_secs_f64() - few.as_secs_f64()) * 1e6 / count)
            },
        ],
    )?;
    let row = Row::new("host call of a program (a line by fd_write)", "µs", &line);
    report.add(row.over("KVM: exit round trip", &exit));
    Ok(())
}

/// Microseconds of a piece in a micro-VM and by the wasmtime command.
fn compare(program: &Path, operation: &str, directory: &Path) -> Result<[Samples; 2]> {
    let granted = format!("{}::/data", directory.display());
    let pieces = PIECES.to_string();
    let (hyperlight, wasmtime) = (hyperlight()?, tools::tree("wasmtime")?);
    Samples::in_turns(
        RUNS,
        LIMIT,
        [
            &mut || {
                let mut inside = Command::new(&hyperlight);
                inside.args(["run", "--dir", &granted]).arg(program);
                inside.args(["--", operation, &pieces]);
                piece_us(inside)
            },
            &mut || {
                let mut outside = wasmtime.script("wasmtime")?;
                outside.args(["run", "--dir", &granted]).arg(program).args([operation, &pieces]);
                piece_us(outside)
            },
        ],
    )
}

/// Runs the program between two `cat`s and reads the nanoseconds that it tells.
fn piece_us(mut command: Command) -> Result<f64> {
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
    Ok(ns / f64::from(PIECES) / 1e3)
}
