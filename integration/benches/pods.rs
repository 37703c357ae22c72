//! Pods of this shim and of runc, on one containerd, in turns: what a kubelet has done, by `crictl` and CNI.
//!
//! A pod's life is the pod, one container that says hello and ends, and the removal of both. Measured
//! from outside: wall time, and CPU time of everything that it sets in motion. The client's seven commands, which a kubelet
//! does not start, are in the wall times; their CPU time is measured beside it, and taken off.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Goal, Report, Row, Samples};
use integration::cri::{self, HYPERLIGHT, RUNC};
use integration::process::{HANG_LIMIT, wait_until};
use integration::{Cri, programs, workspace};

use crate::{containers, family};

/// Rounds of each; the CPU time is that of a batch of so many pods.
const BATCHES: usize = 5;
const BATCH: usize = 4;

/// Idle pods at once: what all share is shared by so many.
const IDLE: u32 = 20;

/// Commands of `crictl` in a pod's life.
const COMMANDS: usize = 7;

/// A kind of pod.
struct Kind {
    handler: &'static str,
    hello: String,
    hello_command: &'static [&'static str],
    idle: String,
    idle_command: &'static [&'static str],
}

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let cri = Cri::start()?;
    let kinds = [ours(&cri)?, runc(&cri)?];
    // The first of each compiles, unpacks and fills caches.
    kinds.iter().try_for_each(|kind| life(&cri, kind, &format!("first-{}", kind.handler)))?;

    let (mut walls, mut cpus) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut clients = Vec::new();
    for batch in 0..BATCHES {
        let before = containers::cpu_seconds(cri.node())?;
        for _ in 0..COMMANDS * BATCH {
            cri.text(&["version"])?;
        }
        let client = per_pod(containers::cpu_seconds(cri.node())? - before);
        clients.push(client);
        for (index, kind) in kinds.iter().enumerate() {
            let before = containers::cpu_seconds(cri.node())?;
            for number in 0..BATCH {
                let start = Instant::now();
                life(&cri, kind, &format!("{}-{batch}-{number}", kind.handler))?;
                walls[index].push(start.elapsed().as_secs_f64() * 1e3);
            }
            cpus[index].push(per_pod(containers::cpu_seconds(cri.node())? - before) - client);
        }
    }
    let ([wall, runc_wall], [cpu, runc_cpu]) = (walls.map(Samples::new), cpus.map(Samples::new));
    let (wall, runc_wall, cpu, runc_cpu) = (wall?, runc_wall?, cpu?, runc_cpu?);
    report.add(Row::new("pod life, wall", "ms", &wall).over("runc", &runc_wall));
    let row = Row::new("pod life, CPU of all processes but crictl", "ms", &cpu);
    report.add(row.over("runc", &runc_cpu).goal(Goal::RatioAtMost(0.5)));
    report.add(Row::new("  beside it, seven commands of crictl", "ms", &Samples::new(clients)?));
    idle(report, &cri, &kinds)
}

#[expect(clippy::cast_precision_loss, reason = "a few")]
fn per_pod(seconds: f64) -> f64 {
    seconds * 1e3 / BATCH as f64
}

fn ours(cri: &Cri) -> Result<Kind> {
    let idle = workspace().join("integration/benches/programs/idle.wat");
    Ok(Kind {
        handler: HYPERLIGHT,
        hello: cri.pull_wasm("hello", &programs::program("hello")?)?,
        hello_command: &[],
        idle: cri.pull_wasm("idle", &programs::assemble(&idle)?)?,
        idle_command: &[],
    })
}

fn runc(cri: &Cri) -> Result<Kind> {
    let busybox = cri.pull_busybox()?;
    Ok(Kind {
        handler: RUNC,
        hello: busybox.clone(),
        hello_command: &["/bin/busybox", "echo", "hello, world"],
        idle: busybox,
        idle_command: &["/bin/busybox", "sleep", "3600"],
    })
}

/// From runp over create, start, inspect, rm and stopp to rmp.
fn life(cri: &Cri, kind: &Kind, name: &str) -> Result<()> {
    let sandbox = cri.run_pod(&cri.pod(name).handler(kind.handler))?;
    let id = cri.run(&sandbox, &cri::container("hello", &kind.hello, kind.hello_command))?;
    // Looking at the log costs less than asking the CRI again and again, which would be in the figures.
    let log = sandbox.logs.join("hello.log");
    wait_until("the container to say hello", HANG_LIMIT, || {
        fs::read_to_string(&log).is_ok_and(|log| log.ends_with("F hello, world\n"))
    })
    .with_context(|| cri.node().log())?;
    // Its end is a moment behind. Stopping it in that moment is what runc's shim cannot answer ("ttrpc: closed").
    let status = cri.wait(&id)?;
    ensure!(status["exitCode"] == 0, "{status:#}");
    cri.text(&["rm", &id])?;
    cri.stop_pod(&sandbox)?;
    cri.remove_pod(&sandbox)
}

/// Memory of pods whose containers wait: their shims and what is below.
fn idle(report: &mut Report, cri: &Cri, kinds: &[Kind; 2]) -> Result<()> {
    let mut memories = Vec::new();
    for kind in kinds {
        let mut sandboxes = Vec::new();
        for number in 0..IDLE {
            let pod = cri.pod(&format!("idle-{number}")).handler(kind.handler);
            let sandbox = cri.run_pod(&pod)?;
            cri.run(&sandbox, &cri::container("idle", &kind.idle, kind.idle_command))?;
            sandboxes.push(sandbox);
        }
        // They have come to their sleep, and the shims to their rest.
        std::thread::sleep(Duration::from_secs(2));
        memories.push(family::memory_of(&containers::processes(cri.node()))?);
        for sandbox in sandboxes {
            cri.stop_pod(&sandbox)?;
            cri.remove_pod(&sandbox)?;
        }
    }
    let [ours, runc] = memories[..] else { return Ok(()) };
    let mib = |bytes: f64| Samples::new(vec![bytes / f64::from(1 << 20) / f64::from(IDLE)]);
    let name = format!("{IDLE} idle pods: PSS of each, all its processes");
    let row = Row::new(name, "MiB", &mib(ours.pss)?);
    report.add(row.over("runc", &mib(runc.pss)?).goal(Goal::AtMost(3.0)));
    let name = format!("{IDLE} idle pods: private dirty of each");
    let row = Row::new(name, "MiB", &mib(ours.private_dirty)?);
    report.add(row.over("runc", &mib(runc.private_dirty)?));
    Ok(())
}
