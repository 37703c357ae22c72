//! From nothing to a program's first result, and what KVM alone takes for that.
//!
//! All are measured in turns in one process: a round has one of each, or some in a row. Ends of micro-VMs are not in
//! the figures but that of the floor has a row: the kernel takes it in the background of whoever is in no hurry.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Goal, Report, Row, Samples, us};
use integration::floor::{Floor, Machine};
use integration::scratch::Scratch;
use integration::subject::{self, Subject, silent_host};
use integration::{hyperlight, programs, workspace};
use vmm::host::Host;
use vmm::{Idle, Shell};

/// Rounds, unless they take longer than [`LIMIT`].
const ROUNDS: usize = 300;

/// How many exits, resets and calls follow each other in a round: one alone, between other work, takes longer. Of a reset
/// there are rows of both.
const IN_A_ROW: u32 = 10;

/// Time for all rounds.
const LIMIT: Duration = Duration::from_secs(40);

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(std::path::Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let small = subject("small.wat")?;
    let directory = Scratch::new()?;
    let snapshot = small.snapshot(&directory)?;
    let floor = Floor::open()?;
    let standing = RefCell::new(floor.create()?);
    let (mut destroy, mut end) = (Vec::new(), Vec::new());
    let first = || small.start(Shell::new()?, &snapshot, silent_host()?);
    // A command runs once in an instance, so what is called again is a function.
    let function = small.clone().invoke("work()", &[]);
    let called = function.start(Shell::new()?, &snapshot, silent_host()?)?;
    let (resets, calls) = (RefCell::new(Some(first()?)), RefCell::new(Some(called)));
    let reset_and_call = |idle, host| Ok((small.reset(idle, host)?, None));
    let [create, exit_alone, exit, cold, shell, reset_alone, reset, call, boot] =
        Samples::in_turns(
            ROUNDS,
            LIMIT,
            [
                &mut || {
                    let start = Instant::now();
                    let mut machine = floor.create()?;
                    machine.exit()?;
                    let took = us(start);
                    destroy.push(drop_us(machine));
                    Ok(took)
                },
                &mut || exits(&standing, 1),
                &mut || exits(&standing, IN_A_ROW),
                &mut || {
                    let start = Instant::now();
                    let idle = first()?;
                    let took = us(start);
                    end.push(drop_us(idle));
                    Ok(took)
                },
                &mut || {
                    let shell = small.shell()?;
                    let start = Instant::now();
                    let idle = small.start(shell, &snapshot, silent_host()?)?;
                    let took = us(start);
                    drop(idle);
                    Ok(took)
                },
                &mut || again(&resets, 1, reset_and_call),
                &mut || again(&resets, IN_A_ROW, reset_and_call),
                &mut || {
                    again(&calls, IN_A_ROW, |idle, host| Ok((Subject::again(idle)?, Some(host))))
                },
                &mut || {
                    let start = Instant::now();
                    small.boot_and_run()?;
                    Ok(us(start))
                },
            ],
        )?;
    let (destroy, end) = (Samples::new(destroy)?, Samples::new(end)?);
    let (to_exit, round_trip) = ("create to first exit", "exit round trip");
    report.add(Row::new("KVM floor: create to first exit", "µs", &create));
    report.add(Row::new("KVM floor: destroy", "µs", &destroy));
    report.add(Row::new("KVM floor: exit round trip", "µs", &exit));
    let row = Row::new("cold start from a cached snapshot to first result", "µs", &cold);
    report.add(row.over(to_exit, &create).goal(Goal::RatioAtMost(1.4)));
    let row = Row::new("start from a shell to first result", "µs", &shell);
    report.add(row.over(to_exit, &create).goal(Goal::RatioAtMost(0.6)));
    let row = Row::new("reset and call, ten in a row", "µs", &reset);
    report.add(row.over(round_trip, &exit).goal(Goal::RatioAtMost(1.3)));
    let row = Row::new("reset and call, alone between other work", "µs", &reset_alone);
    report.add(row.over("an exit round trip there", &exit_alone).goal(Goal::RatioAtMost(1.3)));
    report.add(Row::new("warm call, ten in a row", "µs", &call).over(round_trip, &exit));
    let row = Row::new("boot without a snapshot to first result", "µs", &boot);
    report.add(row.over(to_exit, &create));
    report.add(Row::new("end of a micro-VM", "µs", &end).over("destroy", &destroy));
    Ok(())
}

/// Microseconds of each of `times` exits.
fn exits(machine: &RefCell<Machine>, times: u32) -> Result<f64> {
    let mut machine = machine.borrow_mut();
    let start = Instant::now();
    (0..times).try_for_each(|_| machine.exit())?;
    Ok(us(start) / f64::from(times))
}

/// Microseconds of each of `times` more runs of the same micro-VM. A host that is not used is given back, to be dropped
/// later.
fn again(
    idle: &RefCell<Option<Idle>>,
    times: u32,
    run: impl Fn(Idle, Host) -> Result<(Idle, Option<Host>)>,
) -> Result<f64> {
    let hosts = (0..times).map(|_| silent_host()).collect::<Result<Vec<_>>>()?;
    let mut unused = Vec::with_capacity(hosts.len());
    let mut now = idle.take().context("the run before failed")?;
    let start = Instant::now();
    for host in hosts {
        let (after, rest) = run(now, host)?;
        now = after;
        unused.push(rest);
    }
    let took = us(start) / f64::from(times);
    idle.replace(Some(now));
    Ok(took)
}

fn drop_us<T>(it: T) -> f64 {
    let start = Instant::now();
    drop(it);
    us(start)
}

/// The program `name` of `benches/programs`, a `.wat`, compiled.
pub(crate) fn subject(name: &str) -> Result<Subject> {
    let cache = Scratch::new()?;
    let wasm = programs::assemble(&workspace().join("integration/benches/programs").join(name))?;
    let compiled = subject::compile(&hyperlight()?, &wasm, &cache)?;
    Subject::new(&subject::guest_image()?, &compiled.program)
}
