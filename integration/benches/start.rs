//! From nothing to a program's first result, and what KVM alone takes for that.
//!
//! All are measured in turns, one of each a round, in one process. Ends of micro-VMs are not in the figures
//! but that of the floor has a row: the kernel takes it in the background of whoever is in no hurry.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::bench::{Report, Row, Samples, us};
use integration::floor::Floor;
use integration::scratch::Scratch;
use integration::subject::{self, Subject};
use integration::{hyperlight, programs, workspace};

/// Rounds, unless they take longer than [`LIMIT`].
const ROUNDS: usize = 300;

/// Time for all rounds.
const LIMIT: Duration = Duration::from_secs(40);

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(std::path::Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let small = subject("small.wat")?;
    let floor = Floor::open()?;
    let mut standing = floor.create()?;
    let mut destroy = Vec::new();
    let [create, exit, boot] = Samples::in_turns(
        ROUNDS,
        LIMIT,
        [
            &mut || {
                let start = Instant::now();
                let mut machine = floor.create()?;
                machine.exit()?;
                let took = us(start);
                let start = Instant::now();
                drop(machine);
                destroy.push(us(start));
                Ok(took)
            },
            &mut || {
                let start = Instant::now();
                standing.exit()?;
                Ok(us(start))
            },
            &mut || {
                let start = Instant::now();
                small.boot_and_run()?;
                Ok(us(start))
            },
        ],
    )?;
    let destroy = Samples::new(destroy)?;
    report.add(Row::new("KVM floor: create to first exit", "µs", &create));
    report.add(Row::new("KVM floor: destroy", "µs", &destroy));
    report.add(Row::new("KVM floor: exit round trip", "µs", &exit));
    let row = Row::new("boot without a snapshot to first result", "µs", &boot);
    report.add(row.over("create to first exit", &create));
    Ok(())
}

/// The program `name` of `benches/programs`, a `.wat`, compiled.
pub(crate) fn subject(name: &str) -> Result<Subject> {
    let cache = Scratch::new()?;
    let wasm = programs::assemble(&workspace().join("integration/benches/programs").join(name))?;
    let compiled = subject::compile(&hyperlight()?, &wasm, &cache)?;
    Subject::new(&subject::guest_image()?, &compiled.program)
}
