//! Many micro-VMs at once: their memory, how long one more takes, and how many come and go in a second.
//!
//! The live ones are made in a process of their own that does nothing else, and have given their first
//! result. Beside it, another process does the same with machines of the KVM floor. Figures by micro-VM are those of
//! one more beside the first two, which have opened and mapped what all share.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
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

use crate::family::{self, Memory};
use crate::start;

/// The first argument of the process that holds live ones.
pub(crate) const ARGUMENT: &str = "live";

/// How many live before any is counted.
const FIRST: usize = 2;

/// How many live beside the first two of a process when it tells.
const LEVELS: [usize; 3] = [1, 100, 1000];

/// How many live at last, in processes of as many as a process may have files for.
const ALL: usize = 10_000;
const OF_A_PROCESS: usize = 3000;

/// More starts at each level, whose time is taken, and which end at once.
const STARTS: usize = 20;

/// Time for all processes to reach their last levels.
const LIMIT: Duration = Duration::from_secs(45);

/// Time for throughput, for each side.
const THROUGHPUT: Duration = Duration::from_secs(4);

/// What is held.
enum Live {
    Floor { _machine: floor::Machine },
    MicroVm { _idle: Box<Idle> },
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

/// The process that holds: `bench live floor COUNT` or `bench live micro-vm COUNT`.
pub(crate) fn hold(kind: &str, count: &str) -> Result<()> {
    let count: usize = count.parse().context("a number of micro-VMs")?;
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
        Ok(Live::MicroVm { _idle: Box::new(idle) })
    };
    // What only one maps is private to it, and shared between two: from the second on all are alike.
    let mut live = (0..FIRST).map(|_| make()).collect::<Result<Vec<_>>>()?;
    let own = i32::try_from(std::process::id())?;
    let tell = |live: usize| -> Result<()> {
        let timed = || {
            let start = Instant::now();
            let made = make()?;
            let took = us(start);
            drop(made);
            Ok(took)
        };
        let start_us = std::iter::repeat_with(timed).take(STARTS).collect::<Result<_>>()?;
        // The end of those is the kernel's to finish.
        std::thread::sleep(Duration::from_millis(300));
        let Memory { private_dirty, pss } = family::memory(own)?;
        let kernel = kernel()?;
        let level = Level { live, private_dirty, pss, kernel, start_us };
        println!("{}", serde_json::to_string(&level)?);
        Ok(())
    };
    tell(0)?;
    for level in LEVELS.into_iter().filter(|level| *level < count).chain([count]) {
        while live.len() < level + FIRST {
            live.push(make()?);
        }
        tell(level)?;
    }
    // They live until nobody wants them any more.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // The kernel ends them sooner than one drop after the other.
    std::process::exit(0)
}

/// Bytes that the kernel says it has for itself (proc_meminfo(5)): of the whole machine. Its stacks are in
/// `VmallocUsed`.
fn kernel() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let fields = ["Slab:", "PageTables:", "SecPageTables:", "Percpu:", "VmallocUsed:"];
    Ok(fields.iter().filter_map(|field| family::kib(&text, field)).sum())
}

/// Measures the sections of memory and of scaling.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(std::path::Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let memory_level = LEVELS[LEVELS.len() - 1];
    let floor = Holder::start("floor", memory_level)?.levels()?;
    let mut holders = vec![Holder::start("micro-vm", memory_level)?];
    let ours = holders[0].levels()?;
    let (Some(first_floor), Some(first)) = (floor.first(), ours.first()) else {
        anyhow::bail!("the process that holds micro-VMs told nothing")
    };
    let one = |value: f64| Samples::new(vec![value]);
    for level in ours.iter().filter(|level| level.live > 0) {
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
        if level.live == memory_level {
            let all =
                |level: &Level, first: &Level| one((level.pss + level.kernel - first.kernel) / 1e6);
            let row = Row::new("1 000 live: PSS and kernel memory", "MB", &all(level, first)?);
            let least = all(same, first_floor)?;
            report.add(row.over("KVM floor", &least).goal(Goal::AtMost(300.0)));
        }
    }
    scaling(report, holders, &ours)?;
    throughput(report)
}

/// How long one more takes, the more live.
fn scaling(report: &mut Report, mut holders: Vec<Holder>, levels: &[Level]) -> Result<()> {
    let start_us = |level: &Level| Samples::new(level.start_us.clone());
    let [_, alone, more @ ..] = levels else { anyhow::bail!("too few levels") };
    let alone = start_us(alone)?;
    report.add(Row::new("cold start beside 1 live", "µs", &alone));
    let mut add = |live: usize, level: &Level| -> Result<()> {
        let row = Row::new(format!("cold start beside {live} live"), "µs", &start_us(level)?);
        report.add(row.over("beside 1 live", &alone));
        Ok(())
    };
    more.iter().try_for_each(|level| add(level.live, level))?;
    let began = Instant::now();
    let mut live = more.last().map_or(0, |level| level.live);
    while live < ALL && began.elapsed() < LIMIT {
        let mut holder = Holder::start("micro-vm", OF_A_PROCESS.min(ALL - live))?;
        if let Some(last) = holder.levels()?.last() {
            live += last.live;
            add(live, last)?;
        }
        holders.push(holder);
    }
    if live < ALL {
        report.missing("10 000 live", &format!("only {live} after {} s", LIMIT.as_secs()));
    }
    Ok(())
}

/// A process that holds.
struct Holder {
    child: Child,
    told: BufReader<ChildStdout>,
    count: usize,
}

impl Holder {
    fn start(kind: &str, count: usize) -> Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(own)
            .args([ARGUMENT, kind, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the process that holds")?;
        let told = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, told, count })
    }

    /// What it tells up to its last level.
    fn levels(&mut self) -> Result<Vec<Level>> {
        let mut levels = Vec::new();
        for line in (&mut self.told).lines() {
            let level: Level = serde_json::from_str(&line?).context("read a level")?;
            let is_last = level.live == self.count;
            levels.push(level);
            if is_last {
                return Ok(levels);
            }
        }
        anyhow::bail!("the process that holds {} has ended before it did", self.count)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The end of its input is the word to end; what it holds takes the kernel a while.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// Micro-VMs started, run and ended in a second, by one thread for each CPU.
fn throughput(report: &mut Report) -> Result<()> {
    let directory = Scratch::new()?;
    let small = start::subject("small.wat")?;
    let snapshot = small.snapshot(&directory)?;
    let floor = Floor::open()?;
    let threads = std::thread::available_parallelism()?.get();
    let rate = |once: &(dyn Fn() -> Result<()> + Sync)| -> Result<Samples> {
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
    let machines = rate(&|| floor.create()?.exit())?;
    let micro_vms = rate(&|| small.start(Shell::new()?, &snapshot, silent_host()?).map(drop))?;
    let row = Row::new(format!("started, run and ended by {threads} threads"), "1/s", &micro_vms);
    report.add(row.over("KVM floor", &machines));
    Ok(())
}
