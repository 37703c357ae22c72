//! What input and output cost in VM exits: one operation of `benches/programs/io.c` after the other.
//!
//! Each operation runs so many times and twice so many times in a micro-VM of its own; the difference
//! is its cost, without what starting and ending take. No operation may cost more than [`OPERATIONS`]
//! says: an exit is what a micro-VM has and a process has not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::programs::{self, Build};
use crate::{hyperlight, process, workspace};

/// How often an operation runs: less than a second even for those that wait, for the guest renews its
/// clocks once a second.
const TIMES: u64 = 64;

/// Operations, with the most exits that one costs a core module for WASI p1 and a component for WASI
/// 0.2. The component is the same module behind Wasmtime's adapter for p1, which asks for a hash beside
/// each description of a file and writes 4 KiB at a time.
pub const OPERATIONS: [(&str, [u32; 2]); 14] = [
    ("arguments", [0, 0]),
    ("environment", [0, 0]),
    ("clock", [0, 0]),
    ("random-16", [0, 0]),
    ("line", [1, 1]),
    ("open-close", [2, 2]),
    ("describe", [1, 2]),
    ("describe-path", [1, 2]),
    ("flags", [0, 0]),
    ("seek", [0, 0]),
    ("read-file", [1, 1]),
    ("write-file", [1, 16]),
    ("poll", [1, 1]),
    ("sleep", [1, 1]),
];

/// The worlds of the two numbers.
pub const WORLDS: [&str; 2] = ["WASI p1", "WASI 0.2"];

/// The program, for each of [`WORLDS`].
///
/// # Errors
///
/// It cannot be built.
pub fn programs() -> Result<[PathBuf; 2]> {
    let source = workspace().join("integration/benches/programs/io.c");
    let build = |build| programs::build_for(&source, build);
    Ok([build(Build::CP1)?, build(Build::CAdapted)?])
}

/// VM exits of one operation, in a directory that may be written.
///
/// # Errors
///
/// The program failed.
pub fn of(program: &Path, operation: &str, directory: &Path) -> Result<f64> {
    let once = total(program, operation, TIMES, directory)?;
    let twice = total(program, operation, 2 * TIMES, directory)?;
    // Both are small.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    Ok((twice as f64 - once as f64) / TIMES as f64)
}

/// VM exits of a whole run.
fn total(program: &Path, operation: &str, times: u64, directory: &Path) -> Result<u64> {
    let mut command = Command::new(hyperlight()?);
    command
        .args(["run", "--stats", "--dir"])
        .arg(format!("{}::/data", directory.display()))
        .arg(program)
        .args(["--", operation, &times.to_string()])
        .stdin(Stdio::null());
    let outcome = process::run(&mut command)?;
    ensure!(outcome.code() == 0, "{operation}: {outcome:?}");
    let line = outcome.stderr.lines().find_map(|line| line.strip_prefix("VM exits"));
    let exits = line.and_then(|line| line.split_whitespace().next()).context("no VM exits told")?;
    exits.parse().with_context(|| format!("{exits:?} is no number"))
}
