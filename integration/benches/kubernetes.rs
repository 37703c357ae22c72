//! Pods of this runtime and of runc on a real Kubernetes, in turns: as their users wait for them, and as their node
//! pays for them.
//!
//! Times are from the request to the API server until it tells the outcome, so what scheduler and kubelet take is in both.
//! The runtime's share is what the kubelet has waited for containerd meanwhile, by its own metrics. Memory is that of each
//! pod's shim and all that is below it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use integration::bench::{Goal, Report, Row, Samples};
use integration::kubernetes::{Cluster, NODE, Space, linux, pod, wasm};
use serde_json::{Value, json};

use crate::family;

/// Pods of each, one after the other.
const ROUNDS: usize = 10;

/// What the kubelet asks containerd for until a pod runs, and until it is gone.
const STARTING: &[&str] = &["run_podsandbox", "create_container", "start_container"];
const STOPPING: &[&str] = &["stop_container", "stop_podsandbox"];

/// Pods of each at once.
const AT_ONCE: usize = 30;

/// Measures the section, in threads of its own: they are in the cluster's network.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let measured = std::thread::scope(|scope| scope.spawn(|| in_cluster(report)).join());
    measured.map_err(|_| anyhow!("the measuring thread has panicked"))?
}

fn in_cluster(report: &mut Report) -> Result<()> {
    let cluster = Cluster::start()?;
    let measured = pods(report, &cluster);
    cluster.stop()?;
    measured
}

fn pods(report: &mut Report, cluster: &Cluster) -> Result<()> {
    let space = cluster.space("bench")?;
    let kinds = [ours(cluster)?, runc(cluster)?];
    // The first of each pulls, compiles, and fills caches.
    for kind in &kinds {
        life(&space, kind)?;
    }
    let mut steps: [[Vec<f64>; 2]; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (index, kind) in kinds.iter().enumerate() {
            for (step, took) in steps.iter_mut().zip(life(&space, kind)?) {
                step[index].push(took);
            }
        }
    }
    let [ready, starting, gone, stopping] = steps;
    let row = |name: &str, [ours, runc]: [Vec<f64>; 2]| -> Result<Row> {
        Ok(Row::new(name, "ms", &Samples::new(ours)?).over("runc", &Samples::new(runc)?))
    };
    report.add(row("a pod, from its creation until it is ready", ready)?);
    let share = row("  of it, the runtime: run, create, start", starting)?;
    report.add(share.goal(Goal::RatioAtMost(0.7)));
    report.add(row("a pod, from its deletion until it is gone", gone)?);
    let share = row("  of it, the runtime: stop", stopping)?;
    report.add(share.goal(Goal::RatioAtMost(0.7)));
    let (mut times, mut memories) = ([vec![], vec![]], [vec![], vec![]]);
    for (index, kind) in kinds.iter().enumerate() {
        let (time, memory) = many(cluster, &space, kind)?;
        times[index].push(time);
        memories[index].push(memory);
    }
    report.add(row("30 pods at once, until all are ready", times)?);
    let [ours, runc] = memories;
    let row = Row::new("30 pods: PSS of each, all its processes", "MiB", &Samples::new(ours)?);
    report.add(row.over("runc", &Samples::new(runc)?).goal(Goal::RatioAtMost(0.5)));
    Ok(())
}

/// A server that waits, and ends by SIGTERM.
fn ours(cluster: &Cluster) -> Result<Value> {
    let server = cluster.program("tcp_server.rs_p2")?;
    Ok(pod("ours", &[wasm("server", &server, &["0.0.0.0:9000"])]))
}

fn runc(cluster: &Cluster) -> Result<Value> {
    let script = "trap 'exit 0' TERM; /bin/busybox sleep 100000 & wait";
    let mut pod = pod("runc", &[linux("server", &cluster.busybox()?, script)]);
    pod["spec"]["runtimeClassName"] = Value::Null;
    Ok(pod)
}

/// Milliseconds of one pod until it is ready, and until it is gone; each with what the kubelet has waited for containerd.
fn life(space: &Space<'_>, pod: &Value) -> Result<[f64; 4]> {
    let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
    let path = format!("pods/{name}");
    let [(ready, starting), (gone, stopping)] = [
        timed(space, STARTING, || space.create_object(pod).and_then(|_| space.ready(name)))?,
        timed(space, STOPPING, || {
            space.api().delete(&space.path(&path))?;
            space.wait_until_gone(&path)
        })?,
    ];
    Ok([ready, starting, gone, stopping])
}

/// Milliseconds of `work`, and of the kubelet's waiting for `operations` of containerd meanwhile.
fn timed<T>(
    space: &Space<'_>,
    operations: &[&str],
    work: impl FnOnce() -> Result<T>,
) -> Result<(f64, f64)> {
    let before = waited(space, operations)?;
    let start = Instant::now();
    work()?;
    Ok((milliseconds(start), waited(space, operations)? - before))
}

/// Milliseconds that the kubelet has waited for `operations` of containerd in its life (Kubernetes metrics reference,
/// `kubelet_runtime_operations_duration_seconds`).
fn waited(space: &Space<'_>, operations: &[&str]) -> Result<f64> {
    let metrics = space.api().text(&format!("/api/v1/nodes/{NODE}/proxy/metrics"))?;
    let sum = |operation: &&str| {
        let metric = "kubelet_runtime_operations_duration_seconds_sum";
        let begin = format!("{metric}{{operation_type=\"{operation}\"}} ");
        let seconds = metrics.lines().find_map(|line| line.strip_prefix(begin.as_str()));
        // One that was not called is not told.
        seconds.map_or(Ok(0.0), |it| it.parse::<f64>().context("parse the kubelet's metrics"))
    };
    Ok(operations.iter().map(sum).sum::<Result<f64>>()? * 1e3)
}

/// Milliseconds until many pods are ready, and MiB of each of them.
fn many(cluster: &Cluster, space: &Space<'_>, pod: &Value) -> Result<(f64, f64)> {
    let name = |number: usize| format!("many-{number}");
    let start = Instant::now();
    for number in 0..AT_ONCE {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = json!(name(number));
        space.create_object(&pod)?;
    }
    for number in 0..AT_ONCE {
        space.ready(&name(number))?;
    }
    let time = milliseconds(start);
    // They have come to their wait, and the shims to their rest.
    std::thread::sleep(Duration::from_secs(2));
    let shims = cluster.own()?.shims();
    ensure!(shims.len() == AT_ONCE, "{} shims for {AT_ONCE} pods", shims.len());
    let processes: Vec<_> = shims.into_iter().flat_map(family::below).collect();
    let bytes = family::memory_of(&processes)?.pss;
    for number in 0..AT_ONCE {
        space.api().delete(&space.path(&format!("pods/{}", name(number))))?;
    }
    for number in 0..AT_ONCE {
        space.wait_until_gone(&format!("pods/{}", name(number)))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let each = bytes / f64::from(1 << 20) / AT_ONCE as f64;
    Ok((time, each))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
