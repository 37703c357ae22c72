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
    // Machines go in the background.
    let deadline = Instant::now() + Duration::from_secs(20);
    while (descriptors(), mappings()) != before && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((descriptors(), mappings()), before);
}
