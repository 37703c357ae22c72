//! Containers of this shim and of runc, on one containerd, in turns.
//!
//! `ctr run --rm` is measured from outside: wall time of the command, and CPU time of everything that it
//! sets in motion. What the shim does for a start is its own account, a line of its log for each task; of its
//! steps, those of more than a millisecond have a row.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Goal, Report, Row, Samples};
use integration::process::{self, wait_until};
use integration::{Node, RUNTIME, oci, programs, tools, workspace};

use crate::family;

/// Rounds of one container of each; the CPU time is that of a batch of so many.
const BATCHES: usize = 5;
const BATCH: usize = 6;

/// How long what ends may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of container.
struct Kind {
    runtime: &'static [&'static str],
    runc: Option<PathBuf>,
    hello: String,
    idle: String,
    /// Replaces the image's command.
    hello_arguments: &'static [&'static str],
    idle_arguments: &'static [&'static str],
}

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let node = Node::start()?;
    let (ours, runc) = (ours(&node)?, runc(&node)?);
    // The first container of each compiles, unpacks and fills caches.
    run(&node, &ours, "first")?;
    run(&node, &runc, "first-runc")?;
    let seen = log(&node)?.len();

    let (mut walls, mut cpus) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for batch in 0..BATCHES {
        for (index, kind) in [&ours, &runc].into_iter().enumerate() {
            let before = cpu_seconds(&node)?;
            for number in 0..BATCH {
                let start = Instant::now();
                run(&node, kind, &format!("run-{index}-{batch}-{number}"))?;
                walls[index].push(start.elapsed().as_secs_f64() * 1e3);
            }
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            cpus[index].push((cpu_seconds(&node)? - before) * 1e3 / BATCH as f64);
        }
    }
    let ([wall, runc_wall], [cpu, runc_cpu]) = (walls.map(Samples::new), cpus.map(Samples::new));
    let (wall, runc_wall, cpu, runc_cpu) = (wall?, runc_wall?, cpu?, runc_cpu?);
    report.add(Row::new("ctr run --rm, wall", "ms", &wall).over("runc", &runc_wall));
    report.add(Row::new("ctr run --rm, CPU of all processes", "ms", &cpu).over("runc", &runc_cpu));
    steps(report, log(&node)?.get(seen..).unwrap_or_default())?;
    idle(report, &node, &ours, &runc)?;
    node.nothing_left()
}

fn ours(node: &Node) -> Result<Kind> {
    let idle = workspace().join("integration/benches/programs/idle.wat");
    let idle = fs::read(programs::assemble(&idle)?).context("read the idle program")?;
    Ok(Kind {
        runtime: &["--runtime", RUNTIME],
        runc: None,
        hello: node.pull_component("hello", &programs::program("hello")?)?,
        idle: node.pull("idle", &oci::runwasi("idle.wasm", &idle)?)?,
        hello_arguments: &[],
        idle_arguments: &[],
    })
}

/// A static busybox as the whole file system.
fn runc(node: &Node) -> Result<Kind> {
    let busybox = tools::tree("qemu")?.file(&["usr/bin/busybox", "bin/busybox"])?;
    let busybox = fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))?;
    let image = oci::rootfs(&[("bin/busybox", &busybox)], "/bin/busybox")?;
    let reference = node.pull("busybox", &image)?;
    Ok(Kind {
        runtime: &["--runtime", "io.containerd.runc.v2"],
        runc: Some(tools::tree("runc")?.file(&["runc"])?),
        hello: reference.clone(),
        idle: reference,
        hello_arguments: &["/bin/busybox", "echo", "hello, world"],
        idle_arguments: &["/bin/busybox", "sleep", "3600"],
    })
}

fn command(node: &Node, kind: &Kind, options: &[&str], reference: &str, id: &str) -> Command {
    let mut command = node.ctr_command(["run"]);
    command.args(kind.runtime).arg("--fifo-dir").arg(node.directory().join("fifo"));
    if let Some(runc) = &kind.runc {
        command.arg("--runc-binary").arg(runc);
        command.arg("--runc-root").arg(node.directory().join("runc"));
    }
    command.args(options).args([reference, id]);
    command
}

fn run(node: &Node, kind: &Kind, id: &str) -> Result<()> {
    let mut command = command(node, kind, &["--rm"], &kind.hello, id);
    let outcome = process::run(command.args(kind.hello_arguments))?;
    ensure!(outcome.stdout == "hello, world\n", "{outcome:?}\n{}", node.log());
    Ok(())
}

/// CPU time of containerd, of what it and this process have waited for: shims are orphans and come here.
pub(crate) fn cpu_seconds(node: &Node) -> Result<f64> {
    wait_until("the shims to end", PATIENCE, || node.shims().is_empty())?;
    family::cpu_seconds(node.containerd())
}

/// The shim's account of each start: milliseconds by step.
fn log(node: &Node) -> Result<Vec<BTreeMap<String, f64>>> {
    let log =
        fs::read_to_string(node.directory().join("containerd.log")).context("read the log")?;
    let line = |line: &str| -> BTreeMap<String, f64> {
        let words = line.split_whitespace().filter_map(|word| word.split_once("_ms="));
        words
            .filter_map(|(step, ms)| Some((step.to_owned(), ms.trim_matches('"').parse().ok()?)))
            .collect()
    };
    Ok(log.lines().map(line).filter(|steps| steps.contains_key("create")).collect())
}

fn steps(report: &mut Report, tasks: &[BTreeMap<String, f64>]) -> Result<()> {
    let of = |step: &str| -> Result<Samples> {
        Samples::new(tasks.iter().filter_map(|steps| steps.get(step).copied()).collect())
            .with_context(|| format!("the shim's log tells no {step}_ms"))
    };
    let all: Vec<f64> =
        tasks.iter().filter_map(|steps| Some(steps.get("cpu")? + steps.get("vmm_cpu")?)).collect();
    let all = Samples::new(all).context("the shim's log tells no CPU time")?;
    let row = Row::new("Task.Create to started: CPU of shim and VMM", "ms", &all);
    report.add(row.goal(Goal::AtMost(15.0)));
    report.add(Row::new("Task.Create, wall", "ms", &of("create")?));
    let names = tasks.first().into_iter().flat_map(|steps| steps.keys());
    for name in names.filter(|name| !["create", "cpu", "vmm_cpu"].contains(&name.as_str())) {
        let step = of(name)?;
        if step.median() > 1.0 {
            report.add(Row::new(format!("  of it, step {name}"), "ms", &step));
        }
    }
    Ok(())
}

/// Memory of a container that waits: its shim and what is below, and what the kernel keeps for its cgroup.
fn idle(report: &mut Report, node: &Node, ours: &Kind, runc: &Kind) -> Result<()> {
    let mut memories = Vec::new();
    for (kind, id) in [(ours, "idle"), (runc, "idle-runc")] {
        let mut command = command(node, kind, &["-d"], &kind.idle, id);
        process::run(command.args(kind.idle_arguments))?.success()?;
        // It has come to its sleep, and the shim to its rest.
        std::thread::sleep(Duration::from_secs(1));
        let memory = family::memory_of(&processes(node))?;
        let kernel =
            format!("/sys/fs/cgroup/memory/{}/{id}/memory.kmem.usage_in_bytes", node.namespace());
        let kernel: Option<f64> =
            fs::read_to_string(kernel).ok().and_then(|text| text.trim().parse().ok());
        memories.push((memory, kernel));
        node.ctr(["task", "kill", "--signal", "SIGKILL", id])?.success()?;
        wait_until("the container to end", PATIENCE, || {
            node.ctr(["task", "delete", id]).is_ok_and(|outcome| outcome.code() == 0)
        })?;
        node.ctr(["container", "delete", id])?.success()?;
        wait_until("the shims to end", PATIENCE, || node.shims().is_empty())?;
    }
    let [(ours, kernel), (runc, runc_kernel)] = memories[..] else { return Ok(()) };
    let mib = |bytes: f64| Samples::new(vec![bytes / f64::from(1 << 20)]);
    let mut add = |name: &str, ours: f64, runc: f64| -> Result<()> {
        report.add(Row::new(name, "MiB", &mib(ours)?).over("runc", &mib(runc)?));
        Ok(())
    };
    add("idle container: PSS of all its processes", ours.pss, runc.pss)?;
    add("idle container: private dirty", ours.private_dirty, runc.private_dirty)?;
    match (kernel, runc_kernel) {
        (Some(kernel), Some(runc)) => {
            add("idle container: kernel memory of its cgroup", kernel, runc)
        }
        _ => {
            report.missing(
                "kernel memory of a container",
                "its cgroup does not tell (cgroup v1 does)",
            );
            Ok(())
        }
    }
}

/// The shims and all below them.
pub(crate) fn processes(node: &Node) -> Vec<i32> {
    let mut pids: Vec<i32> = node.shims().into_iter().flat_map(family::below).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
