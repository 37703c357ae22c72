//! Speed of wasm code in a micro-VM against the same Wasmtime on the host.
//!
//! Each program runs in turns in a micro-VM (`hyperlight run --stats`) and in `oracle`. On both sides the
//! time is from the compiled program in memory to its end: in the micro-VM from the guest's first
//! instruction. CoreMark chooses its own number of iterations, so its time is that of 100 000 at the rate
//! it tells. No program can trap more than once, so what stands for traps is exceptions: a million thrown and
//! caught. (What a trap itself costs in a micro-VM is a row of the host calls' section.) Programs of the corpus join
//! in where it lies beside the tree.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Goal, Report, Row, Samples};
use integration::{cargo, hyperlight, process, programs, target_directory, workspace};

/// Least speed in a micro-VM, as a part of the speed on the host.
const SPEED: f64 = 0.97;

/// Runs of a program on each side, unless they take longer together than [`TIME_MAX`].
const RUNS: usize = 25;

/// Time for one program, both sides together.
const TIME_MAX: Duration = Duration::from_secs(18);

/// Far beyond what building the oracle takes.
const BUILD_MAX: Duration = Duration::from_secs(1800);

/// Iterations of CoreMark whose time is compared.
const COREMARK_ITERATIONS: f64 = 1e5;

/// Programs of the corpus.
const CORPUS: [(&str, &str); 2] = [
    ("rs_bench: SHA-256, regex, JSON, image", "rs_bench_p2"),
    ("CoreMark, 100 000 iterations", "c_coremark_p2adapted"),
];

/// Own programs.
const OWN: [(&str, &str); 5] = [
    ("hash: integers", "hash.c"),
    ("matrix: floating point", "matrix.c"),
    ("sort: branches, 4 MiB", "sort.c"),
    ("simd: vectors of 128 bits", "simd.c"),
    ("throws: a million exceptions", "throws.wat"),
];

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    let oracle = oracle()?;
    for (name, source) in OWN {
        let source = workspace().join("integration/benches/programs").join(source);
        let is_text = source.extension().is_some_and(|extension| extension == "wat");
        let wasm = if is_text { programs::assemble(&source)? } else { programs::build(&source)? };
        add(report, &oracle, name, &wasm);
    }
    for (name, file) in CORPUS {
        let wasm = workspace().join("../shared/corpus").join(file).with_extension("wasm");
        if wasm.exists() {
            add(report, &oracle, name, &wasm);
        } else {
            report.missing(name, "the corpus does not lie beside the tree");
        }
    }
    Ok(())
}

/// Adds a program's row, or why there is none.
fn add(report: &mut Report, oracle: &Path, name: &str, wasm: &Path) {
    match compare(oracle, wasm) {
        Ok([inside, outside]) => {
            let row = Row::new(name, "ms", &inside).speed_of("same Wasmtime on the host", &outside);
            report.add(row.goal(Goal::RatioAtLeast(SPEED)));
        }
        Err(error) => report.missing(name, &format!("{error:#}")),
    }
}

/// Milliseconds in a micro-VM and on the host.
fn compare(oracle: &Path, wasm: &Path) -> Result<[Samples; 2]> {
    let hyperlight = hyperlight()?;
    let printed = Cell::new(None);
    let run = |command: &mut Command| -> Result<f64> {
        let (time, output) = time(command)?;
        let before = printed.replace(Some(steady(&output)));
        let same = before.is_none_or(|before| before == steady(&output));
        ensure!(same, "the micro-VM and the host print different things: {output:?}");
        Ok(time.as_secs_f64() * 1e3)
    };
    Samples::in_turns(
        RUNS,
        TIME_MAX,
        [&mut || run(Command::new(&hyperlight).args(["run", "--stats"]).arg(wasm)), &mut || {
            run(Command::new(oracle).arg(wasm))
        }],
    )
}

/// Builds what runs components on the host.
fn oracle() -> Result<PathBuf> {
    let target = target_directory().join("oracle");
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--release", "--manifest-path"])
        .arg(workspace().join("integration/oracle/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target);
    // It has a compiler of its own to build where nobody has built it before.
    build.stdin(Stdio::null());
    process::finish_within(process::start(&mut build)?, BUILD_MAX)?.success()?;
    Ok(target.join("release/oracle"))
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
fn steady(output: &str) -> String {
    const VARIES: [&str; 8] = [
        "Total ticks",
        "Total time",
        "Iterations",
        "[0]crcfinal",
        "CoreMark 1.0",
        // On a fast machine, or a busy one, its calibration ends below the ten seconds that it wants.
        "ERROR! Must execute",
        "Errors detected",
        "Correct operation validated",
    ];
    let steady = output.lines().filter(|line| !VARIES.iter().any(|start| line.starts_with(start)));
    steady.collect::<Vec<_>>().join("\n")
}
