//! The phases of a micro-VM's life in instructions, which no noise of the host changes: what the gate of
//! `make test` counts, here against the goals.

use anyhow::{Context as _, Result};
use integration::bench::{Goal, Report, Row, Samples};
use integration::gate::{self, FLOORS, ISOLATION_MAX, SLOWER};

/// Goals of phases, in instructions.
const GOALS: [(&str, f64); 3] = [
    ("cold start from a snapshot", 1_500_000.0),
    ("reset and call", 60_000.0),
    ("warm call", 8_000.0),
];

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let counts = gate::count()?;
    #[expect(clippy::cast_precision_loss, reason = "counts of instructions stay below 2^52")]
    let samples = |phase: &str| -> Result<Samples> {
        let count = counts.get(phase).with_context(|| format!("{phase} was not counted"))?;
        Samples::new(vec![count.instructions as f64])
    };
    for (phase, count) in counts.iter().filter(|(phase, _)| *phase != SLOWER) {
        let mut row = Row::new(phase, "instructions", &samples(phase)?);
        if let Some(floor) = count.floor.and_then(|floor| FLOORS.get(floor)) {
            row = row.over(floor.trim_start_matches("KVM floor: "), &samples(floor)?);
        }
        if let Some((_, goal)) = GOALS.iter().find(|(name, _)| name == phase) {
            row = row.goal(Goal::AtMost(*goal));
        }
        report.add(row);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of instructions stay below 2^52")]
    let [isolation, most] = [gate::isolation(&counts)?, ISOLATION_MAX].map(|count| count as f64);
    let row = Row::new(
        "isolation=request beyond isolation=none",
        "instructions",
        &Samples::new(vec![isolation])?,
    );
    report.add(row.goal(Goal::AtMost(most)));
    report.missing(
        "hyperlight-wasm beside it",
        "its package on PyPI carries a script engine's guest only, and a Python to drive it",
    );
    Ok(())
}
