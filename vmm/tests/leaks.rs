//! A micro-VM that is gone leaves nothing. Alone in its process, so that nobody else opens anything.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod guest;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use guest::{Guest, MIB, silent_host};
use vmm::Exit;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn a_hundred_micro_vms_leave_nothing_behind() {
    require_kvm!();
    let guest = Guest::new().exit(0);
    let run = || assert_eq!(guest.boot(16 * MIB, silent_host()).run().unwrap().0, Exit::Status(0));
    // The first opens what stays open for the process, and warms the allocator.
    (0..3).for_each(|_| run());
    thread::sleep(Duration::from_millis(500));
    let before = (descriptors(), mappings());
    (0..100).for_each(|_| run());
    // And some that never run.
    (0..20).for_each(|_| drop(guest.boot(16 * MIB, silent_host())));
    // Machines go in the background. Each has four mappings of its own; the threads that drop them leave
    // a few stacks and arenas with the allocator, however many there were.
    let left = || (descriptors() - before.0, mappings().saturating_sub(before.1) >= 100);
    let deadline = Instant::now() + Duration::from_secs(60);
    while left() != (0, false) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(left(), (0, false), "descriptors, many mappings");
}
