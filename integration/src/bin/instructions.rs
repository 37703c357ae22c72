//! Counts the instructions of each phase of a micro-VM's life: `instructions HYPERLIGHT GUEST-IMAGE SMALL.wasm
//! LINES.wasm HANDLER.wasm` prints them as JSON.
//!
//! It is meant for the emulated CPU of `integration::svm` that counts: there a nanosecond of the monotonic
//! clock is one instruction. Anywhere else it prints times.
//! Of what makes a virtual machine, only what this process executes is counted, not what it waits for.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use integration::bench::Samples;
use integration::floor::{Floor, Machine};
use integration::gate::{Count, Counts, FLOORS, REQUESTS, SLOWER};
use integration::subject::{self, Subject, silent_host};
use rustix::time::{ClockId, clock_gettime};
use vmm::host::Host;
use vmm::host::http::{Incoming, ResponseReader};
use vmm::{Idle, Shell};

/// Runs of a phase that makes a virtual machine.
const STARTS: usize = 15;

/// A rest before each such run, in which the kernel ends what the last one left to it. It costs nothing where
/// the clock counts: it jumps.
const REST: Duration = Duration::from_millis(100);

/// Runs of a phase that does not.
const CALLS: usize = 201;

/// Lines that the program writes in one run, and in the other.
const LINES: [u32; 2] = [20, 2020];

fn main() -> Result<()> {
    let [_, hyperlight, image, small, lines, handler] =
        std::env::args_os().map(PathBuf::from).collect::<Vec<_>>().try_into().ok().context(
            "usage: instructions HYPERLIGHT GUEST-IMAGE SMALL.wasm LINES.wasm HANDLER.wasm",
        )?;
    let cache = std::env::temp_dir().join("instructions");
    std::fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let subject = |wasm: &Path| -> Result<Subject> {
        Subject::new(&image, &subject::compile(&hyperlight, wasm, &cache)?.program)
    };
    let mut counts = Counts::new();
    let mut put = |phase: &str, floor, samples: &Samples, each: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of nanoseconds, far below 2^52"
        )]
        let instructions = (samples.median() / each).round() as u64;
        counts.insert(phase.to_owned(), Count { instructions, floor });
    };

    let floor = Floor::open()?;
    put(FLOORS[0], None, &Samples::take(STARTS, || executed(|| create(&floor)))?, 1.0);
    let exit = exits(&floor, 0)?;
    put(FLOORS[1], None, &exit, 1.0);
    // A turn of the loop is some three instructions.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
    let more = (exit.median() * 0.05 / 2.0) as u32;
    put(SLOWER, None, &exits(&floor, more)?, 1.0);

    let small = subject(&small)?;
    let boot = Samples::take(STARTS, || executed(|| small.boot_and_run()))?;
    put("boot without a snapshot, to the end", Some(0), &boot, 1.0);
    let snapshot = small.snapshot(&cache)?;
    let cold = Samples::take(STARTS, || {
        executed(|| small.start(Shell::new()?, &snapshot, silent_host()?))
    })?;
    put("cold start from a snapshot", Some(0), &cold, 1.0);
    let from_shell = Samples::take(STARTS, || {
        let shell = small.shell()?;
        executed(|| small.start(shell, &snapshot, silent_host()?))
    })?;
    put("start from a shell", Some(0), &from_shell, 1.0);
    let idle = small.start(Shell::new()?, &snapshot, silent_host()?)?;
    let reset = again(idle, |idle, host| Ok((small.reset(idle, host)?, None)))?;
    put("reset and call", Some(1), &reset, 1.0);
    // A command runs once in an instance, so what is called again is a function.
    let function = small.clone().invoke("work()", &[]);
    let idle = function.start(Shell::new()?, &snapshot, silent_host()?)?;
    put(
        "warm call",
        Some(1),
        &again(idle, |idle, host| Ok((Subject::again(idle)?, Some(host))))?,
        1.0,
    );

    let lines = subject(&lines)?;
    let [few, many] = LINES.map(|count| count.to_string());
    let few = Subject::invoke(lines, "lines", &[&few]);
    let few_ran = Samples::take(STARTS, || executed(|| few.boot_and_run()))?;
    let many = few.invoke("lines", &[&many]);
    let many_ran = Samples::take(STARTS, || executed(|| many.boot_and_run()))?;
    let difference = Samples::new(vec![many_ran.median() - few_ran.median()])?;
    put("host call", Some(1), &difference, f64::from(LINES[1] - LINES[0]));

    let handler = subject(&handler)?;
    let snapshot = handler.snapshot(&cache)?;
    let rewound = handler.rewound(Shell::new()?, &snapshot)?;
    let reset =
        in_turn(rewound, |rewound, incoming| Ok(handler.handle(rewound, incoming)?.rewind()?))?;
    put(REQUESTS[0], Some(1), &reset, 1.0);
    let first = handler.rewound(Shell::new()?, &snapshot)?;
    let (incoming, response) = request()?;
    let idle = handler.handle(first, incoming)?;
    answered(response)?;
    let kept = in_turn(idle, |idle, incoming| handler.handle_another(idle, incoming))?;
    put(REQUESTS[1], Some(1), &kept, 1.0);

    println!("{}", serde_json::to_string(&counts).context("write the counts as JSON")?);
    Ok(())
}

/// Making a machine and coming out of it once.
fn create(floor: &Floor) -> Result<Machine> {
    let mut machine = floor.create()?;
    machine.exit()?;
    Ok(machine)
}

/// Runs of one micro-VM, one after the other. A host that is not used is given back, to be dropped later.
fn again(
    idle: Idle,
    mut run: impl FnMut(Idle, Host) -> Result<(Idle, Option<Host>)>,
) -> Result<Samples> {
    let mut idle = Some(idle);
    Samples::take(CALLS, || {
        let host = silent_host()?;
        let before = idle.take().context("the run before failed")?;
        let start = Instant::now();
        let (after, _unused) = run(before, host)?;
        let took = ns(start);
        idle = Some(after);
        Ok(took)
    })
}

/// Requests that one micro-VM handles, one after the other. What it is between them goes from one to the next.
fn in_turn<T>(first: T, mut handle: impl FnMut(T, Incoming) -> Result<T>) -> Result<Samples> {
    let mut standing = Some(first);
    Samples::take(CALLS, || {
        let (incoming, response) = request()?;
        let before = standing.take().context("the request before failed")?;
        let start = Instant::now();
        let after = handle(before, incoming)?;
        let took = ns(start);
        answered(response)?;
        standing = Some(after);
        Ok(took)
    })
}

/// A request without a body, and who waits for its response.
fn request() -> Result<(Incoming, ResponseReader)> {
    let head = http::Request::get("http://here/").header("host", "here");
    let head = head.header("accept", "*/*").header("user-agent", "instructions").body(())?;
    let (incoming, body, response) = Incoming::new(head);
    body.finish(http::HeaderMap::new());
    Ok((incoming, response))
}

/// Takes the response, which is there.
fn answered(response: ResponseReader) -> Result<()> {
    let context = &mut TaskContext::from_waker(Waker::noop());
    match pin!(response.response()).as_mut().poll(context) {
        Poll::Ready(Ok((head, _))) if head.status() == 200 => Ok(()),
        Poll::Ready(other) => bail!("the request was answered by {other:?}"),
        Poll::Pending => bail!("the request was not answered"),
    }
}

/// What `work` makes this process execute, in whichever thread, without what it waits for: KVM may wait for
/// the kernel's other processors, which takes time and no instructions. What `work` returns is dropped
/// afterwards.
fn executed<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let clock = || {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        Duration::try_from(now).context("the processor time of the process")
    };
    std::thread::sleep(REST);
    let start = clock()?;
    let done = work()?;
    let took = clock()? - start;
    drop(done);
    Ok(took.as_secs_f64() * 1e9)
}

fn exits(floor: &Floor, more: u32) -> Result<Samples> {
    let mut machine = floor.create()?;
    Samples::take(CALLS, || {
        let start = Instant::now();
        machine.exit()?;
        for turn in 0..more {
            black_box(turn);
        }
        Ok(ns(start))
    })
}

fn ns(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9
}
