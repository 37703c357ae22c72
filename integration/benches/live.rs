//! Many micro-VMs at once: their memory, how long one more takes, and how many come and go in a second.
//!
//! The live ones are made in a process of their own that does nothing else, and have given their first
//! result. Beside it, another process does the same with machines of the KVM floor. Figures by micro-VM are those of
//! one more beside the first, which has opened and mapped what all share.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Goal, Report, Row, Samples, us};
use integration::floor::{self, Floor};
use integration::scratch::Scratch;
use integration::subject::silent_host;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use vmm::{Idle, Shell};

use crate::{family, start};

/// The first argument of the process that holds live ones.
pub(crate) const ARGUMENT: &str = "live";

/// How many live beside the first when it is measured.
const LEVELS: [usize; 4] = [1, 100, 1000, 10_000];

/// The highest of them for which memory has a row.
const MEMORY_LEVEL: usize = 1000;

/// Most starts that a level's time is taken of.
const STARTS: usize = 100;

/// Time for a process to reach the last level.
const LIMIT: Duration = Duration::from_secs(90);

/// Time for throughput, for each side.
const THROUGHPUT: Duration = Duration::from_secs(4);

/// What is held.
enum Live {
    Floor { _machine: floor::Machine },
    MicroVm { _idle: Idle },
}

/// What the process tells of a level, a line of JSON each.
#[derive(Debug, Deserialize, Serialize)]
struct Level {
    live: usize,
    private_dirty: f64,
    pss: f64,
    kernel: f64,
    start_us: Vec<f64>,
}

/// The process that holds: `bench live floor` or `bench live micro-vm`.
pub(crate) fn hold(kind: &str) -> Result<()> {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    let floor = Floor::open()?;
    let directory = Scratch::new()?;
    let small = start::subject("small.wat")?;
    let snapshot = small.snapshot(&directory)?;
    let make = || -> Result<Live> {
        if kind == "floor" {
            let mut machine = floor.create()?;
            machine.exit()?;
            return Ok(Live::Floor { _machine: machine });
        }
        let idle = small.start(Shell::new()?, &snapshot, silent_host()?)?;
        Ok(Live::MicroVm { _idle: idle })
    };
    let began = Instant::now();
    let mut live = vec![make()?];
    let own = i32::try_from(std::process::id())?;
    let mut tell = |live: usize, start_us: Vec<f64>| -> Result<()> {
        let memory = family::memory(own)?;
        let level = Level {
            live,
            private_dirty: memory.private_dirty,
            pss: memory.pss,
            kernel: kernel()?,
            start_us,
        };
        println!("{}", serde_json::to_string(&level)?);
        Ok(())
    };
    tell(0, Vec::new())?;
    for level in LEVELS {
        let mut took = Vec::new();
        while live.len() <= level {
            let start = Instant::now();
            live.push(make()?);
            took.push(us(start));
            ensure!(began.elapsed() < LIMIT, "{} after {} s", live.len(), LIMIT.as_secs());
        }
        let last = took.split_off(took.len().saturating_sub(STARTS));
        tell(level, last)?;
    }
    Ok(())
}

/// Bytes that the kernel says it has for itself (proc_meminfo(5)): of the whole machine.
fn kernel() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let fields =
        ["Slab:", "KernelStack:", "PageTables:", "SecPageTables:", "Percpu:", "VmallocUsed:"];
    Ok(fields.iter().filter_map(|field| family::kib(&text, field)).sum())
}

/// Measures the sections of memory and of scaling.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(std::path::Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let (floor, ours) = (levels("floor")?, levels("micro-vm")?);
    let (Some(first_floor), Some(first)) = (floor.first(), ours.first()) else {
        anyhow::bail!("the process that holds micro-VMs told nothing")
    };
    let one = |value: f64| Samples::new(vec![value]);
    for level in ours.iter().filter(|level| (1..=MEMORY_LEVEL).contains(&level.live)) {
        let Some(same) = floor.iter().find(|it| it.live == level.live) else { continue };
        #[expect(clippy::cast_precision_loss, reason = "at most ten thousand")]
        let each = |after: f64, before: f64| one((after - before) / level.live as f64 / 1024.0);
        let of = |what: &str| format!("{what} of each, {} live", level.live);
        let dirty = each(level.private_dirty, first.private_dirty)?;
        let least = each(same.private_dirty, first_floor.private_dirty)?;
        let row = Row::new(of("private dirty"), "KiB", &dirty).over("KVM floor", &least);
        report.add(row.goal(Goal::AtMost(64.0)));
        let pss = each(level.pss, first.pss)?;
        let least = each(same.pss, first_floor.pss)?;
        report.add(Row::new(of("PSS"), "KiB", &pss).over("KVM floor", &least));
        // What the rest of the machine does hides what one takes.
        if level.live > 1 {
            let kernel = each(level.kernel, first.kernel)?;
            let least = each(same.kernel, first_floor.kernel)?;
            let row = Row::new(of("kernel memory"), "KiB", &kernel).over("KVM floor", &least);
            report.add(row);
        }
        if level.live == MEMORY_LEVEL {
            let all =
                |level: &Level, first: &Level| one((level.pss + level.kernel - first.kernel) / 1e6);
            let row = Row::new("1 000 live: PSS and kernel memory", "MB", &all(level, first)?);
            let least = all(same, first_floor)?;
            report.add(row.over("KVM floor", &least).goal(Goal::AtMost(300.0)));
        }
    }
    for level in ours.iter().filter(|level| level.live > 0) {
        let name = format!("cold start beside {} live", level.live);
        let row = Row::new(name, "µs", &Samples::new(level.start_us.clone())?);
        let same = floor.iter().find(|it| it.live == level.live);
        report.add(match same {
            Some(same) => row.over("KVM floor", &Samples::new(same.start_us.clone())?),
            None => row,
        });
    }
    for (what, levels) in [("KVM floor", &floor), ("micro-VMs", &ours)] {
        if let Some(missing) =
            LEVELS.iter().find(|it| levels.iter().all(|level| level.live != **it))
        {
            report.missing(&format!("{missing} live: {what}"), "see above on standard error");
        }
    }
    throughput(report)
}

/// Runs the process and takes what it tells, as far as it gets.
fn levels(kind: &str) -> Result<Vec<Level>> {
    let own = std::env::current_exe().context("find this program")?;
    let mut child = Command::new(own)
        .args([ARGUMENT, kind])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the process that holds")?;
    let told = BufReader::new(child.stdout.take().context("no standard output")?);
    let levels: Result<Vec<Level>> =
        told.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect();
    child.wait().context("wait for the process that holds")?;
    levels
}

/// Micro-VMs started, run and ended in a second, by one thread for each CPU.
fn throughput(report: &mut Report) -> Result<()> {
    let directory = Scratch::new()?;
    let small = start::subject("small.wat")?;
    let snapshot = small.snapshot(&directory)?;
    let floor = Floor::open()?;
    let threads = std::thread::available_parallelism()?.get();
    let each_us = |once: &(dyn Fn() -> Result<()> + Sync)| -> Result<Samples> {
        let done = AtomicUsize::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let turn = || -> Result<()> {
                while start.elapsed() < THROUGHPUT {
                    once()?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(turn)).collect();
            running.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => anyhow::bail!("a thread has panicked"),
            })
        })?;
        let seconds = start.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        Samples::new(vec![done.into_inner() as f64 / seconds])
    };
    let machines = each_us(&|| floor.create()?.exit())?;
    let micro_vms =
        each_us(&|| Ok(drop(small.start(Shell::new()?, &snapshot, silent_host()?)?)))?;
    let row = Row::new(format!("started, run and ended by {threads} threads"), "1/s", &micro_vms);
    report.add(row.over("KVM floor", &machines));
    Ok(())
}
