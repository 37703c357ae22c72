//! Clocks, and waiting for them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use integration::programs::program;
use integration::run::Run;
use integration::{hyperlight, leaks, process};

crate::behaviours! {
    clocks_tell_the_time_and_sleep: clocks [c_p1 c_p2 rs_p1 rs_p2 go_p1 js_p2 py_p2];
    sleeping_costs_no_cpu: sleep [c_p1 c_p2 rs_p1 rs_p2 go_p1];
}

fn clocks_tell_the_time_and_sleep(name: &str) {
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let before = now();
    let told: u64 = Run::of(name).unwrap().in_micro_vm().unwrap().output().trim().parse().unwrap();
    assert!((before..=now()).contains(&told), "{told} is not in {before}..={}", now());
}

/// CPU time of a process with all its threads (`proc_pid_stat`(5): utime and stime, in ticks of 10 ms).
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(14) + ticks(15)))
}

fn sleeping_costs_no_cpu(name: &str) {
    let wasm = program(name).unwrap();
    let hyperlight = hyperlight().unwrap();
    let _watch = leaks::watch().unwrap();
    process::run(Command::new(&hyperlight).arg("compile").arg(&wasm)).unwrap().success().unwrap();
    let mut command = Command::new(&hyperlight);
    command.arg("run").arg(&wasm).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "asleep");
    let before = cpu_time(child.id());
    assert_eq!(lines.next().unwrap().unwrap(), "awake");
    let used = cpu_time(child.id()) - before;
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    // Of two seconds: a few host calls, and the ticks are coarse.
    assert!(used <= Duration::from_millis(100), "{} ms of CPU time", used.as_millis());
}
