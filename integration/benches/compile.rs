//! Compiling ahead of time, and what a program's size costs when it is in the cache.
//!
//! A compiler's floor is the wasmtime command's on the same file, both as whole processes with nothing
//! cached; each is a rate, milliseconds for a megabyte of wasm. A cached start is `hyperlight run` from its
//! start to its end, so the program's own work is in it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::bench::{Goal, Report, Row, Samples};
use integration::scratch::Scratch;
use integration::{hyperlight, process, programs, tools, workspace};

/// Compilations of a file on each side, unless they take longer together than [`LIMIT`].
const COMPILATIONS: usize = 5;

/// Time for one file.
const LIMIT: Duration = Duration::from_secs(25);

/// Starts of each program.
const STARTS: usize = 40;

/// The large program: StarlingMonkey with a script in it.
const LARGE: &str = "exit_status.js_p2";

/// When an entry of the cache is old enough to be known again.
const SETTLES: Duration = Duration::from_secs(4);

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let cache = Scratch::new()?;
    let small = programs::program("hello")?;
    let middle = workspace().join("../shared/corpus/rs_bench_p2.wasm");
    if middle.exists() {
        compile(report, "rs_bench", &middle)?;
    } else {
        report.missing("compile rs_bench", "the corpus does not lie beside the tree");
    }
    let large = programs::program(LARGE).context("build a JavaScript component")?;
    compile(report, "JavaScript component", &large)?;
    ensure!(Path::new("/dev/kvm").exists(), "no /dev/kvm");
    start(report, &cache, &small, &large)
}

fn compile(report: &mut Report, name: &str, wasm: &Path) -> Result<()> {
    let megabytes = megabytes(wasm)?;
    let (hyperlight, wasmtime) = (hyperlight()?, tools::tree("wasmtime")?);
    let time = |command: &mut Command| -> Result<f64> {
        let start = Instant::now();
        process::run(command)?.success()?;
        Ok(start.elapsed().as_secs_f64() * 1e3 / megabytes)
    };
    let [ours, theirs] = Samples::in_turns(
        COMPILATIONS,
        LIMIT,
        [
            &mut || {
                let cache = Scratch::new()?;
                let mut command = Command::new(&hyperlight);
                time(command.args(["compile", "--cache-dir"]).arg(&*cache).arg(wasm))
            },
            &mut || {
                let directory = Scratch::new()?;
                let mut command = wasmtime.script("wasmtime")?;
                time(command.args(["compile", "-o"]).arg(directory.join("out")).arg(wasm))
            },
        ],
    )?;
    let row = Row::new(format!("compile {name}, {megabytes:.1} MB"), "ms/MB", &ours);
    report.add(row.over("wasmtime compile", &theirs));
    Ok(())
}

fn start(report: &mut Report, cache: &Path, small: &Path, large: &Path) -> Result<()> {
    let hyperlight = hyperlight()?;
    let run = |wasm: &Path| -> Result<f64> {
        let mut command = Command::new(&hyperlight);
        command.args(["run", "--cache-dir"]).arg(cache).arg(wasm);
        let start = Instant::now();
        process::run(&mut command)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    // The first runs compile, the second find a program sound. One that is younger than three seconds is verified at each
    // use, as the times of files do not tell whether it has changed since.
    for _ in 0..2 {
        run(small)?;
        run(large)?;
        std::thread::sleep(SETTLES);
    }
    let [small_ran, large_ran] =
        Samples::in_turns(STARTS, LIMIT, [&mut || run(small), &mut || run(large)])?;
    report.add(Row::new("cached run of a small component (hello)", "ms", &small_ran));
    let name = format!("cached run of a JavaScript component, {:.1} MB", megabytes(large)?);
    let row = Row::new(name, "ms", &large_ran).over("cached run of a small one", &small_ran);
    report.add(row.goal(Goal::RatioAtMost(2.0)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files stay below 2^52")]
fn megabytes(file: &Path) -> Result<f64> {
    let metadata = file.metadata().with_context(|| format!("look at {}", file.display()))?;
    Ok(metadata.len() as f64 / 1e6)
}
