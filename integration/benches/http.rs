//! HTTP, against `wasmtime serve` with the same component, by one client on the same processors, in turns.
//!
//! What is counted is whole requests over kept connections. `wasmtime serve` makes a new instance for each
//! request in its own process; here each has the state of a new micro-VM.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Goal, Report, Row, Samples};
use integration::process;
use integration::scratch::Scratch;
use integration::{hyperlight, programs, tools, workspace};

/// Rounds of each.
const ROUNDS: usize = 5;
/// Starts of each.
const STARTS: usize = 15;
/// What it is measured against.
const PEER: &str = "wasmtime serve";
/// How long one round is.
const ROUND: &str = "2s";

/// A server that ends with this.
struct Server {
    child: Child,
    url: String,
    /// Open as long as it runs.
    stderr: Option<BufReader<ChildStderr>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one round of load shows.
struct Load {
    per_second: f64,
    /// Latencies, in microseconds.
    half: f64,
    p99: f64,
    /// CPU time of the server for each request, in microseconds.
    cpu: f64,
}

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let (wasm, path) = component()?;
    let directory = Scratch::new()?;
    let precompiled = directory.join("program.cwasm");
    let mut compile = tools::tree("wasmtime")?.script("wasmtime")?;
    process::run(compile.arg("compile").arg(&wasm).arg("-o").arg(&precompiled))?.success()?;
    // Once, so that the program and its snapshot are in the cache.
    drop(ours(&wasm, path, "request")?);
    first_request(report, &wasm, &precompiled, path)?;
    let theirs = wasmtime(&precompiled, path)?;
    for (isolation, goal) in [("request", 0.7), ("instance", 1.0), ("none", 1.0)] {
        let ours = ours(&wasm, path, isolation)?;
        for connections in ["1", "16", "64"] {
            let mut loads = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (server, loads) in [&ours, &theirs].into_iter().zip(&mut loads) {
                    loads.push(load(server, connections)?);
                }
            }
            let name = |what| format!("isolation={isolation}, {connections} connections{what}");
            let row = |what, unit, pick: fn(&Load) -> f64| {
                let [ours, theirs] =
                    loads.each_ref().map(|all| Samples::new(all.iter().map(pick).collect()));
                Ok::<_, anyhow::Error>(Row::new(name(what), unit, &ours?).over(PEER, &theirs?))
            };
            let rate = row("", "requests/s", |load| load.per_second)?;
            report.add(rate.goal(Goal::RatioAtLeast(goal)));
            report.add(row(", half within", "us", |load| load.half)?);
            report.add(row(", 99 of 100 within", "us", |load| load.p99)?);
            let cpu = row(", CPU per request", "us", |load| load.cpu)?;
            report.add(if isolation == "request" { cpu } else { cpu.goal(Goal::RatioAtMost(1.0)) });
        }
    }
    Ok(())
}

/// From the start of the server's process to the end of the first answer, with a compiled program.
fn first_request(report: &mut Report, wasm: &Path, precompiled: &Path, path: &str) -> Result<()> {
    let answered = |server: Result<Server>, since: Instant| {
        let server = server?;
        let (_, rest) = server.url.split_once("//").context("an address")?;
        let addr = rest.split('/').next().unwrap_or_default();
        let mut connection = TcpStream::connect(addr).context("connect")?;
        write!(connection, "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).context("read the first answer")?;
        let took = since.elapsed();
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(took.as_secs_f64() * 1e3)
    };
    let mut of_ours = || {
        let since = Instant::now();
        answered(ours(wasm, path, "request"), since)
    };
    let mut of_theirs = || {
        let since = Instant::now();
        answered(wasmtime(precompiled, path), since)
    };
    let limit = Duration::from_secs(60);
    let [ours, theirs] = Samples::in_turns(STARTS, limit, [&mut of_ours, &mut of_theirs])?;
    let row = Row::new("from the start of the process to the first answer", "ms", &ours);
    report.add(row.over(PEER, &theirs).goal(Goal::RatioAtMost(1.5)));
    Ok(())
}

/// A small handler in Rust where the corpus is, else one in JavaScript; and what to ask of it.
fn component() -> Result<(PathBuf, &'static str)> {
    let small = workspace().join("../shared/corpus/rs_http_wstd.wasm");
    if small.exists() { Ok((small, "/")) } else { Ok((programs::handler("answers")?, "/method")) }
}

fn ours(wasm: &Path, path: &str, isolation: &str) -> Result<Server> {
    let mut command = Command::new(hyperlight()?);
    command.args(["serve", "--addr", "127.0.0.1:0", "--isolation", isolation]).arg(wasm);
    let mut child = command.stderr(Stdio::piped()).spawn().context("start hyperlight serve")?;
    let stderr = child.stderr.take().context("its standard error")?;
    let mut server = Server { child, url: String::new(), stderr: None };
    let mut lines = BufReader::new(stderr);
    let mut line = String::new();
    while server.url.is_empty() {
        line.clear();
        ensure!(lines.read_line(&mut line)? > 0, "hyperlight serve ended");
        if let Some((_, addr)) = line.trim_end().split_once(" on ") {
            server.url = format!("{addr}{path}");
        }
    }
    server.stderr = Some(lines);
    Ok(server)
}

/// `wasmtime serve` with a program that is compiled.
fn wasmtime(precompiled: &Path, path: &str) -> Result<Server> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let addr = format!("127.0.0.1:{port}");
    let mut command = tools::tree("wasmtime")?.script("wasmtime")?;
    command.args(["serve", "-Scli", "--allow-precompiled", "--addr", &addr]).arg(precompiled);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut server = Server {
        child: child.context("start wasmtime serve")?,
        url: format!("http://{addr}{path}"),
        stderr: None,
    };
    // It says when it listens. What it says later is not read, and fits into the pipe.
    let stderr = server.child.stderr.take().context("its standard error")?;
    let mut lines = BufReader::new(stderr);
    let mut line = String::new();
    while !line.contains("Serving HTTP") {
        line.clear();
        ensure!(lines.read_line(&mut line)? > 0, "wasmtime serve ended");
    }
    server.stderr = Some(lines);
    Ok(server)
}

/// By wrk, on one thread.
fn load(server: &Server, connections: &str) -> Result<Load> {
    let mut wrk = tools::tree("clients")?.command("wrk")?;
    wrk.args(["--latency", "-t", "1", "-c", connections, "-d", ROUND, &server.url]);
    let before = cpu_micros(server.child.id())?;
    let said = process::run(&mut wrk)?.success()?;
    let cpu = cpu_micros(server.child.id())? - before;
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    let told = |name: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
        line.with_context(|| format!("wrk tells no {name}")).map(str::trim)
    };
    let requests = said.lines().find_map(|line| line.split_once(" requests in "));
    let requests: f64 = requests.context("wrk counts no requests")?.0.trim().parse()?;
    Ok(Load {
        per_second: told("Requests/sec:")?.parse().context("read wrk's rate")?,
        half: micros(told("50%")?)?,
        p99: micros(told("99%")?)?,
        cpu: cpu / requests,
    })
}

/// A time as wrk writes it: `1.23ms`.
fn micros(text: &str) -> Result<f64> {
    for (unit, micros) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>().with_context(|| format!("read {text}"))? * micros);
        }
    }
    anyhow::bail!("{text:?} is no time")
}

/// CPU time of a process so far (proc_pid_stat(5), fields 14 and 15).
fn cpu_micros(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read its CPU time")?;
    let (_, fields) = stat.rsplit_once(')').context("a process's state")?;
    let ticks: Result<Vec<f64>, _> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(ticks?.iter().sum::<f64>() * 1e6 / per_second as f64)
}
