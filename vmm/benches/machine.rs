//! What the machine costs: boot, host call, exception, growth of memory.
//!
//! `cargo bench -p vmm --bench machine`. Each line is the best and the median of several runs on an
//! otherwise idle machine, in microseconds. Without /dev/kvm it says so and measures nothing.
#![expect(clippy::unwrap_used, reason = "a measurement that fails ends by a panic")]

#[path = "../tests/guest/mod.rs"]
mod guest;

use std::time::Instant;

use abi::{Access, Request, layout};
use guest::{Guest, MAP, MIB, TEXT, silent_host};

fn main() {
    if !std::path::Path::new("/dev/kvm").exists() {
        println!("no /dev/kvm: nothing measured");
        return;
    }
    let nothing = Guest::new().exit(0);
    // The first micro-VM of a process also opens KVM and tries the doorbell.
    report("first boot of the process", 1, 1, || boot_us(&nothing));
    report("boot", 50, 1, || boot_us(&nothing));
    report("run of a guest that exits at once", 50, 1, || run_us(&nothing, 16 * MIB));
    report("boot, run and drop", 50, 1, || {
        let start = Instant::now();
        nothing.run_in(16 * MIB);
        us(start)
    });
    let (few, many) = (repeat(10, &clock()), repeat(1010, &clock()));
    report("host call (clock)", 20, 1000, || run_us(&many, MIB) - run_us(&few, MIB));
    let (few, many) = (repeat(10, &exception()), repeat(1010, &exception()));
    report("exception to ring 3 and back", 20, 1000, || run_us(&many, MIB) - run_us(&few, MIB));
    for (name, touches) in [
        ("grow 64 MiB by 64 KiB, touch nothing", 0),
        ("grow 64 MiB by 64 KiB, touch it while growing", 1),
        ("the same, and touch it all again", 2),
    ] {
        let guest = grow(touches);
        report(name, 5, 1, || run_us(&guest, 80 * MIB));
    }
    let guest = grow_then_touch();
    report("grow 64 MiB by 64 KiB, then touch it", 5, 1, || run_us(&guest, 80 * MIB));
    let guest = touch(Guest::new().map_ok(MAP, 64 * MIB, Access::ReadWrite)).exit(0);
    report("map 64 MiB at once, touch it", 5, 1, || run_us(&guest, 80 * MIB));
}

/// Prints best and median of `runs` measurements, each of `count` operations.
fn report(name: &str, runs: u32, count: u32, mut measure: impl FnMut() -> f64) {
    let mut results: Vec<f64> = (0..runs).map(|_| measure() / f64::from(count)).collect();
    results.sort_by(f64::total_cmp);
    let median = results[results.len() / 2];
    println!("{name:50} {:10.1} {median:10.1}", results[0]);
}

fn us(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

fn boot_us(guest: &Guest) -> f64 {
    let vm = guest.boot(16 * MIB, silent_host());
    let (_, stats) = vm.run().unwrap();
    stats.boot.as_secs_f64() * 1e6
}

fn run_us(guest: &Guest, memory_bytes: u64) -> f64 {
    let (exit, stats) = guest.run_in(memory_bytes);
    assert_eq!(exit, vmm::Exit::Status(0));
    stats.run.as_secs_f64() * 1e6
}

/// A guest that does something `count` times and exits; `body` keeps EBP.
fn repeat(count: u32, body: &dyn Fn(Guest) -> Guest) -> Guest {
    let guest = Guest::new().store(layout::EXCEPTION_RECORD + 16, 0).code(&[0xff, 0xe7]);
    let guest = guest.entry_here().handler(TEXT).code(&[0xbd]).code(&count.to_le_bytes());
    let start = guest.here();
    loop_to(body(guest), start).exit(0)
}

/// `dec ebp; jnz start`
fn loop_to(guest: Guest, start: u64) -> Guest {
    let guest = guest.code(&[0xff, 0xcd, 0x0f, 0x85]);
    let back = start.cast_signed() - guest.here().cast_signed() - 4;
    guest.code(&i32::try_from(back).unwrap().to_le_bytes())
}

fn clock() -> impl Fn(Guest) -> Guest {
    |guest| guest.call(Request::Clock)
}

/// `mov edi, next; ud2`: the handler clears the record and jumps to EDI.
fn exception() -> impl Fn(Guest) -> Guest {
    |guest| {
        let next = u32::try_from(guest.here() + 7).unwrap();
        guest.code(&[0xbf]).code(&next.to_le_bytes()).code(&[0x0f, 0x0b])
    }
}

const STEP: u32 = 0x1_0000;

/// Grows by 1024 steps; `touches` times each page of a step, the second time after all of it.
fn grow(touches: u32) -> Guest {
    let mut guest = grow_steps(touches > 0);
    if touches > 1 {
        guest = touch(guest);
    }
    guest.exit(0)
}

fn grow_then_touch() -> Guest {
    touch(grow_steps(false)).exit(0)
}

fn grow_steps(touch_it: bool) -> Guest {
    let args = u32::try_from(layout::CALL_FRAME + 8).unwrap().to_le_bytes();
    let mut guest = Guest::new()
        .map_ok(MAP, u64::from(STEP), Access::ReadWrite)
        .code(&[0xbd])
        .code(&1023_u32.to_le_bytes());
    let start = guest.here();
    // add qword [args[0]], STEP; out
    guest = guest.code(&[0x48, 0x81, 0x04, 0x25]).code(&args).code(&STEP.to_le_bytes()).doorbell();
    if touch_it {
        // mov rbx, [args[0]]; mov ecx, 16
        guest = guest.code(&[0x48, 0x8b, 0x1c, 0x25]).code(&args).code(&[0xb9, 16, 0, 0, 0]);
        guest = touch_pages(guest);
    }
    loop_to(guest, start)
}

/// Writes to each page of 64 MiB.
fn touch(guest: Guest) -> Guest {
    // mov rbx, MAP; mov ecx, 16384
    let guest = guest.code(&[0x48, 0xbb]).code(&MAP.to_le_bytes());
    touch_pages(guest.code(&[0xb9]).code(&16384_u32.to_le_bytes()))
}

/// `mov byte [rbx], 1; add rbx, 4096; dec ecx; jnz`
fn touch_pages(guest: Guest) -> Guest {
    guest.code(&[0xc6, 0x03, 1, 0x48, 0x81, 0xc3, 0, 0x10, 0, 0, 0xff, 0xc9, 0x75, 0xf2])
}
