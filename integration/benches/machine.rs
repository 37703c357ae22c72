//! What the machine costs beside a program: host calls, exceptions, growth of memory.
//!
//! The guests are a few dozen bytes of machine code, so nothing of Wasmtime or the library OS is in the
//! figures. A call's floor is the exit round trip of KVM alone; that of memory is a process of the host that
//! touches as much.
#![expect(clippy::unwrap_used, reason = "a measurement that fails ends by a panic")]

#[path = "../../vmm/tests/guest/mod.rs"]
mod guest;

use std::time::{Duration, Instant};

use abi::{Access, Request, layout};
use anyhow::Result;
use guest::{Guest, MAP, MIB, TEXT};
use integration::bench::{Report, Row, Samples, us};
use integration::floor::Floor;

/// Rounds, unless they take longer than [`LIMIT`].
const ROUNDS: usize = 25;

/// Time for all rounds.
const LIMIT: Duration = Duration::from_secs(15);

/// Operations of the shorter run and of the longer one, whose difference is measured.
const FEW: u32 = 10;
const MANY: u32 = 510;

/// Adds host calls and exceptions.
pub(crate) fn calls(report: &mut Report) -> Result<()> {
    let mut standing = Floor::open()?.create()?;
    let of = |body: &dyn Fn(Guest) -> Guest| [repeat(FEW, body), repeat(MANY, body)];
    let (clock, exception) = (of(&clock()), of(&exception()));
    let each = |[few, many]: &[Guest; 2]| {
        Ok((run_us(many, MIB) - run_us(few, MIB)) / f64::from(MANY - FEW))
    };
    let [exit, clock, exception] = Samples::in_turns(
        ROUNDS,
        LIMIT,
        [
            &mut || {
                let start = Instant::now();
                (FEW..MANY).try_for_each(|_| standing.exit())?;
                Ok(us(start) / f64::from(MANY - FEW))
            },
            &mut || each(&clock),
            &mut || each(&exception),
        ],
    )?;
    let floor = "KVM: exit round trip";
    report.add(Row::new("host call of bare machine code (clock)", "µs", &clock).over(floor, &exit));
    let row = Row::new("trap: exception to ring 3 and back", "µs", &exception);
    report.add(row.over(floor, &exit));
    Ok(())
}

/// Adds growth of memory.
pub(crate) fn growth(report: &mut Report) -> Result<()> {
    let at_once = touch(Guest::new().map_ok(MAP, 64 * MIB, Access::ReadWrite)).exit(0);
    let (untouched, while_growing, afterwards) =
        (grow_steps(false).exit(0), grow_steps(true).exit(0), grow_then_touch());
    let [process, at_once, untouched, while_growing, afterwards] = Samples::in_turns(
        ROUNDS,
        LIMIT,
        [
            &mut || Ok(touch_in_process()),
            &mut || Ok(run_us(&at_once, 80 * MIB)),
            &mut || Ok(run_us(&untouched, 80 * MIB)),
            &mut || Ok(run_us(&while_growing, 80 * MIB)),
            &mut || Ok(run_us(&afterwards, 80 * MIB)),
        ],
    )?;
    let mut add = |name: &str, samples: &Samples| {
        report.add(Row::new(name, "µs", samples).over("64 MiB in a process", &process));
    };
    add("map 64 MiB at once, touch them", &at_once);
    add("grow to 64 MiB by 64 KiB, touch nothing", &untouched);
    add("grow to 64 MiB by 64 KiB, touch while growing", &while_growing);
    add("grow to 64 MiB by 64 KiB, touch afterwards", &afterwards);
    Ok(())
}

/// Takes 64 MiB from the kernel and writes to each page.
fn touch_in_process() -> f64 {
    let start = Instant::now();
    let mut memory = vec![0_u8; 64 << 20];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
    us(start)
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

fn grow_then_touch() -> Guest {
    touch(grow_steps(false)).exit(0)
}

/// Grows by 1024 steps; `touch_it` as it goes.
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
