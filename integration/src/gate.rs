//! The gate for speed: numbers of instructions, not times.
//!
//! An emulated CPU that counts (see [`crate::svm`]) takes one nanosecond an instruction whatever else its
//! host does, so a count repeats to less than 1 %. Each phase of a micro-VM's life is counted and compared
//! with the count that lies beside the sources; a rise of more than [`TOLERANCE`] is a failure. What the
//! kernel and KVM take there is a count of its own, the phase's floor: where another kernel than the stored
//! counts' raises the floor, it may raise the phase as much.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::svm::Job;
use crate::{binaries, hyperlight, programs, subject, workspace};

/// How much more than the stored count is no change.
pub const TOLERANCE: f64 = 0.03;

/// The command that accepts the counts of this tree.
pub const UPDATE: &str = "make gate-update";

/// The phase that is the floor of starts, and the one of calls.
pub const FLOORS: [&str; 2] = ["KVM floor: create to first exit", "KVM floor: exit round trip"];

/// A count that must fail against the one of [`FLOORS`]'s second phase, for it is that with 5 % more
/// instructions: what shows in each run that the gate can fail.
pub const SLOWER: &str = "KVM floor: exit round trip and 5 % more";

/// A request of HTTP that is handled in the state of the snapshot, and one in the instance that has handled the
/// one before: everything but the server.
pub const REQUESTS: [&str; 2] = ["HTTP request, isolation=request", "HTTP request, isolation=none"];

/// How many instructions more the first of [`REQUESTS`] may take than the second.
pub const ISOLATION_MAX: u64 = 300_000;

/// Instructions of a phase.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Count {
    /// The median of several runs.
    pub instructions: u64,
    /// Which of [`FLOORS`] is in it; none for a floor.
    pub floor: Option<usize>,
}

/// Counts by phase.
pub type Counts = BTreeMap<String, Count>;

/// What became of a phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Within the tolerance.
    Same,
    /// Fewer instructions: the stored count allows a rise that nobody would see.
    Better,
    /// More instructions.
    Worse,
    /// Counted or stored, not both.
    Unknown,
}

/// A phase with both counts.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Its name.
    pub phase: String,
    /// The stored count.
    pub stored: u64,
    /// The count of this tree.
    pub counted: u64,
    /// The two, compared.
    pub verdict: Verdict,
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = (ratio(self.counted, self.stored) - 1.0) * 100.0;
        let verdict = match self.verdict {
            Verdict::Same => String::new(),
            Verdict::Better => format!("better: `{UPDATE}` keeps it so"),
            Verdict::Worse => format!("WORSE: find out why, or accept it by `{UPDATE}`"),
            Verdict::Unknown => format!("not stored, or not counted: `{UPDATE}`"),
        };
        let line = format!(
            "{:44} {:>12} {:>12} {change:>+8.2} % {verdict}",
            self.phase, self.stored, self.counted
        );
        formatter.write_str(line.trim_end())
    }
}

/// Where the stored counts are.
#[must_use]
pub fn file() -> PathBuf {
    workspace().join("integration/gate/counts.json")
}

/// The stored counts.
///
/// # Errors
///
/// The file cannot be read.
pub fn stored() -> Result<Counts> {
    let path = file();
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// Stores counts.
///
/// # Errors
///
/// The file cannot be written.
pub fn store(counts: &Counts) -> Result<()> {
    let mut text = serde_json::to_string_pretty(counts).context("write the counts as JSON")?;
    text.push('\n');
    fs::write(file(), text).with_context(|| format!("write {}", file().display()))
}

/// Counts, on an emulated CPU, what this tree takes.
///
/// # Errors
///
/// Something is not built, or fails there.
pub fn count() -> Result<Counts> {
    let sources = workspace().join("integration/benches/programs");
    let script = "instructions /bin/hyperlight /guest /small.wasm /lines.wasm /handler.wasm";
    let mut job = Job::new(script).counting();
    job.program(&hyperlight()?, "/bin/hyperlight")?;
    job.program(&binaries().join("instructions"), "/bin/instructions")?;
    job.file(&subject::guest_image()?, "/guest")?;
    for name in ["small", "lines"] {
        let wasm = programs::assemble(&sources.join(name).with_extension("wat"))?;
        job.file(&wasm, &format!("/{name}.wasm"))?;
    }
    job.file(&programs::handler("bare")?, "/handler.wasm")?;
    let told = job.run()?.success()?;
    serde_json::from_str(&told).with_context(|| format!("read {told:?}"))
}

/// Instructions that a reset for each request takes, beside the request.
///
/// # Errors
///
/// The requests were not counted.
pub fn isolation(counts: &Counts) -> Result<u64> {
    let [reset, kept] = REQUESTS.map(|phase| {
        let count = counts.get(phase).with_context(|| format!("{phase} was not counted"));
        count.map(|count| count.instructions)
    });
    Ok(reset?.saturating_sub(kept?))
}

/// Compares every phase that is stored or counted.
#[must_use]
pub fn compare(stored: &Counts, counted: &Counts) -> Vec<Comparison> {
    let phases = stored.keys().chain(counted.keys().filter(|phase| !stored.contains_key(*phase)));
    let instructions = |counts: &Counts, phase: &str| counts.get(phase).map(|it| it.instructions);
    let compared = phases.map(|phase| {
        let verdict = match (stored.get(phase), counted.get(phase)) {
            (Some(before), Some(after)) => {
                // What the kernel's part grew by, if that is more than a count varies.
                let floor = after.floor.and_then(|floor| FLOORS.get(floor)).and_then(|floor| {
                    Some(ratio(instructions(counted, floor)?, instructions(stored, floor)?))
                });
                let allowed = floor.filter(|growth| *growth > 1.01).unwrap_or(1.0);
                let change = ratio(after.instructions, before.instructions) / allowed;
                match change {
                    change if change > 1.0 + TOLERANCE => Verdict::Worse,
                    change if change * allowed < 1.0 - TOLERANCE => Verdict::Better,
                    _ => Verdict::Same,
                }
            }
            _ => Verdict::Unknown,
        };
        Comparison {
            phase: phase.clone(),
            stored: instructions(stored, phase).unwrap_or_default(),
            counted: instructions(counted, phase).unwrap_or_default(),
            verdict,
        }
    });
    compared.collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of instructions stay below 2^52")]
fn ratio(counted: u64, stored: u64) -> f64 {
    counted as f64 / stored as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The floor of starts, and a phase that stands on it.
    fn counts(floor: u64, phase: u64) -> Counts {
        let count = |instructions, floor| Count { instructions, floor };
        BTreeMap::from([
            (FLOORS[0].to_owned(), count(floor, None)),
            ("start".to_owned(), count(phase, Some(0))),
        ])
    }

    fn verdict(stored: &Counts, counted: &Counts) -> Verdict {
        let compared = compare(stored, counted);
        compared.iter().find(|it| it.phase == "start").unwrap().verdict
    }

    #[test]
    fn a_rise_beyond_the_tolerance_is_worse() {
        let stored = counts(1000, 100_000);
        assert_eq!(verdict(&stored, &counts(1000, 103_100)), Verdict::Worse);
        assert_eq!(verdict(&stored, &counts(1000, 102_900)), Verdict::Same);
    }

    #[test]
    fn a_fall_beyond_the_tolerance_is_better() {
        let stored = counts(1000, 100_000);
        assert_eq!(verdict(&stored, &counts(1000, 96_900)), Verdict::Better);
        assert_eq!(verdict(&stored, &counts(1000, 97_100)), Verdict::Same);
    }

    #[test]
    fn a_phase_may_rise_as_much_as_its_floor() {
        let stored = counts(1000, 100_000);
        assert_eq!(verdict(&stored, &counts(1100, 110_000)), Verdict::Same);
        assert_eq!(verdict(&stored, &counts(1100, 114_000)), Verdict::Worse);
    }

    #[test]
    fn a_phase_that_is_not_counted_any_more_is_unknown() {
        let mut counted = counts(1000, 100_000);
        counted.remove("start");
        assert_eq!(verdict(&counts(1000, 100_000), &counted), Verdict::Unknown);
    }
}
