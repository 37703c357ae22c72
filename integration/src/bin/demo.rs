//! `make run`: the example component from a registry through a private containerd into a micro-VM.
//!
//! Every line it prints is what a command said or what was read from /proc while it ran.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::process::{self, Outcome};
use integration::{Node, RUNTIME, micro_vms, oci, programs, workspace};

fn main() -> ExitCode {
    match demonstrate() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<ExitCode> {
    let start = Instant::now();
    ensure!(
        std::path::Path::new("/dev/kvm").exists(),
        "no /dev/kvm: this machine has no KVM, or its module is not loaded"
    );
    let node = Node::start()?;
    let version = node.ctr(["--version"])?.success()?;
    step("started", &format!("containerd {}", version.split_whitespace().last().unwrap_or("?")));
    detail(&format!("and a registry on {}, private to this run", node.registry().address()));

    let source = workspace().join("examples/hello.c");
    let wasm = programs::build(&source)?;
    let bytes = std::fs::read(&wasm).with_context(|| format!("read {}", wasm.display()))?;
    step("built", &format!("examples/hello.c: a component of {} KiB", bytes.len() / 1024));

    let image = oci::wkg("hello.wasm", &bytes)?;
    let reference = node.registry().push("hello", &image)?;
    step("pushed", &format!("{reference} in the layout of `wkg oci push`"));

    let mut pull = node.ctr_command(["image", "pull", "--plain-http", &reference]);
    process::run(&mut pull)?.success().context("pull the image")?;
    step("pulled", &format!("ctr image pull --plain-http {reference}"));

    node.adapt(&reference)?;
    step("adapted", &format!("hyperlight image adapt {reference}"));

    let options = ["--env", "NAME=containerd"];
    step(
        "running",
        &format!(
            "ctr run --rm --runtime {RUNTIME} {} {reference} hello one two",
            options.join(" ")
        ),
    );
    let (first, place) = run_watched(&node, &reference, "greeter", &options)?;
    for line in first.stdout.lines() {
        println!("    | {line}");
    }
    for line in first.stderr.lines() {
        println!("    ! {line}");
    }
    step("ended", &format!("exit status {}", first.code()));
    step("where", &place);

    let (second, _) = run_watched(&node, &reference, "greeter-again", &options)?;
    ensure!(second.code() == first.code(), "the second run ended with {}", second.code());
    step(
        "times",
        &format!(
            "`ctr run` took {} ms, and {} ms again with the compiled program in the cache",
            first.elapsed.as_millis(),
            second.elapsed.as_millis()
        ),
    );

    drop(node);
    step("removed", "containerd, registry, images; no process, mount or cgroup is left");
    step("done", &format!("in {:.1} s", start.elapsed().as_secs_f32()));
    Ok(u8::try_from(first.code()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs the example; says which process had a micro-VM meanwhile.
fn run_watched(
    node: &Node,
    reference: &str,
    id: &str,
    options: &[&str],
) -> Result<(Outcome, String)> {
    let (sender, receiver) = channel::<()>();
    let watcher = std::thread::spawn(move || watch(&receiver));
    let outcome =
        process::run(&mut node.run_command(reference, id, options, &["hello", "one", "two"]));
    drop(sender);
    let place = watcher.join().unwrap_or_default();
    Ok((outcome?, place))
}

/// Looks for micro-VMs below this process until the sender is dropped; describes the first.
fn watch(end: &Receiver<()>) -> String {
    use std::sync::mpsc::RecvTimeoutError::Timeout;
    let mut place = String::new();
    while end.recv_timeout(Duration::from_millis(2)) == Err(Timeout) {
        // Without a vCPU it is one that waits for its work.
        for vm in micro_vms().into_iter().filter(|vm| vm.vcpus > 0) {
            place = format!("process {} of {} had a KVM virtual machine", vm.pid, vm.program);
            write!(place, " with {} vCPU", vm.vcpus).unwrap_or_default();
            if let Some(cgroup) = vm.cgroup {
                write!(place, " in cgroup {cgroup}").unwrap_or_default();
            }
        }
    }
    if place.is_empty() { "it ended before its process was seen".to_owned() } else { place }
}

fn step(what: &str, how: &str) {
    println!("{what:>8}  {how}");
}

fn detail(text: &str) {
    println!("          {text}");
}
