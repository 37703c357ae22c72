//! HTTP, against `wasmtime serve` with the same component, by one client on the same processors, in turns.
//!
//! What is counted is whole requests over kept connections. `wasmtime serve` makes a new instance for each
//! request in its own process; here each has the state of a new micro-VM.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Report, Row, Samples};
use integration::process::{self, wait_until};
use integration::{hyperlight, programs, tools, workspace};

/// Rounds of each.
const ROUNDS: usize = 5;
/// How long one round is.
const ROUND: &str = "2s";
/// How long a server may take to listen: it compiles.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that ends with this.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let (wasm, path) = component()?;
    let theirs = wasmtime(&wasm, path)?;
    for isolation in ["request", "instance", "none"] {
        let ours = ours(&wasm, path, isolation)?;
        for connections in ["1", "16", "64"] {
            let mut rates = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (server, rates) in [&ours, &theirs].into_iter().zip(&mut rates) {
                    rates.push(requests_per_second(&server.url, connections)?);
                }
            }
            let [ours, theirs] = rates.map(Samples::new);
            let name = format!("isolation={isolation}, {connections} connections");
            let row = Row::new(name, "requests/s", &ours?);
            report.add(row.over("wasmtime serve", &theirs?));
        }
    }
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
    let addr = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(" on ")?.1.to_owned()))
        .context("hyperlight serve ended")?;
    Ok(Server { child, url: format!("{addr}{path}") })
}

fn wasmtime(wasm: &Path, path: &str) -> Result<Server> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let addr = format!("127.0.0.1:{port}");
    let mut command = tools::tree("wasmtime")?.script("wasmtime")?;
    command.args(["serve", "-Scli", "--addr", &addr]).arg(wasm);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.context("start wasmtime serve")?;
    let server = Server { child, url: format!("http://{addr}{path}") };
    wait_until("wasmtime serve listens", PATIENCE, || TcpStream::connect(&addr).is_ok())?;
    Ok(server)
}

/// By wrk, on one thread.
fn requests_per_second(url: &str, connections: &str) -> Result<f64> {
    let mut wrk = tools::tree("clients")?.command("wrk")?;
    wrk.args(["-t", "1", "-c", connections, "-d", ROUND, url]);
    let said = process::run(&mut wrk)?.success()?;
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.context("wrk tells no rate")?.trim().parse().context("read wrk's rate")
}
