//! Speed of wasm code in a micro-VM against the same Wasmtime on the host.
//!
//! Each program runs alternately in a micro-VM (`hyperlight run --stats`) and in `oracle`, and the best
//! run of each side counts, so that what else the machine does weighs on both alike. On both sides the
//! time is from the compiled program in memory to its end: in the micro-VM from the guest's first
//! instruction. CoreMark chooses its own number of iterations, so its time is that of 100 000 at the rate
//! it tells. No ratio may fall below [`RATIO_MIN`]. Programs of the corpus join in where it lies beside
//! the tree.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::{hyperlight, kvm_is_there, process, programs, target_directory, workspace};

/// Least speed in a micro-VM, as a part of the speed on the host.
const RATIO_MIN: f64 = 0.95;

/// Runs of a program on each side, unless they take longer together than [`TIME_MAX`].
const RUNS: usize = 15;

/// Time for one program, both sides together.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Iterations of CoreMark whose time is compared.
const COREMARK_ITERATIONS: f64 = 1e5;

const CORPUS: [&str; 2] = ["rs_bench_p2", "c_coremark_p2adapted"];

fn main() -> Result<ExitCode> {
    if !kvm_is_there() {
        return Ok(ExitCode::SUCCESS);
    }
    let oracle = oracle()?;
    let own = workspace().join("integration/benches/programs");
    let mut files = Vec::new();
    for name in ["hash", "matrix", "sort"] {
        files.push((name, programs::build(&own.join(name).with_extension("c"))?));
    }
    let corpus = workspace().join("../shared/corpus");
    files.extend(
        CORPUS
            .map(|name| (name, corpus.join(name).with_extension("wasm")))
            .into_iter()
            .filter(|(_, file)| file.exists()),
    );
    println!("{:24} {:>12} {:>12} {:>8}", "program", "micro-VM ms", "host ms", "ratio");
    let mut slow = Vec::new();
    for (name, file) in files {
        let (inside, outside) =
            compare(&oracle, &file).with_context(|| format!("measure {name}"))?;
        let ratio = outside.as_secs_f64() / inside.as_secs_f64();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("{name:24} {:12.1} {:12.1} {ratio:8.3}", ms(inside), ms(outside));
        if ratio < RATIO_MIN {
            slow.push(name);
        }
    }
    if slow.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("below {RATIO_MIN}: {}", slow.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Builds what runs components on the host.
fn oracle() -> Result<PathBuf> {
    let target = target_directory().join("oracle");
    let mut build = Command::new("cargo");
    build
        .args(["build", "--quiet", "--release", "--manifest-path"])
        .arg(workspace().join("integration/oracle/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target);
    process::run(&mut build)?.success()?;
    Ok(target.join("release/oracle"))
}

/// The best time in a micro-VM and the best on the host.
fn compare(oracle: &Path, file: &Path) -> Result<(Duration, Duration)> {
    let mut best = (Duration::MAX, Duration::MAX);
    let start = Instant::now();
    for _ in 0..RUNS {
        let (inside, in_micro_vm) =
            time(Command::new(hyperlight()?).args(["run", "--stats"]).arg(file))?;
        let (outside, on_host) = time(Command::new(oracle).arg(file))?;
        ensure!(
            steady(&in_micro_vm) == steady(&on_host),
            "the micro-VM printed {in_micro_vm:?}, the host {on_host:?}"
        );
        best = (best.0.min(inside), best.1.min(outside));
        if start.elapsed() > TIME_MAX {
            break;
        }
    }
    Ok(best)
}

/// Runs a command and reads the time of its program: at CoreMark's own rate, or from the last line on
/// stderr that tells it.
fn time(command: &mut Command) -> Result<(Duration, String)> {
    let outcome = process::run(command)?;
    ensure!(outcome.code() == 0, "{outcome:?}");
    let rate = outcome.stdout.lines().find_map(|line| line.strip_prefix("Iterations/Sec   : "));
    let time = match rate {
        Some(rate) => Duration::try_from_secs_f64(COREMARK_ITERATIONS / rate.parse::<f64>()?).ok(),
        None => {
            let mut lines = outcome.stderr.lines().rev();
            let text = lines.find_map(|line| line.strip_prefix("run "));
            text.and_then(|text| text.trim_start().split([' ', ',']).next()).and_then(parse_time)
        }
    };
    let time = time.with_context(|| format!("no time in {outcome:?}"))?;
    Ok((time, outcome.stdout))
}

/// `12.3ms` as Rust prints a duration, or plain nanoseconds.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..)? {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" | "" => 1e-9,
        _ => return None,
    };
    Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * unit).ok()
}

/// What a program prints, without what depends on its speed.
fn steady(output: &str) -> Vec<&str> {
    const VARIES: [&str; 5] =
        ["Total ticks", "Total time", "Iterations", "[0]crcfinal", "CoreMark 1.0"];
    output.lines().filter(|line| !VARIES.iter().any(|start| line.starts_with(start))).collect()
}
