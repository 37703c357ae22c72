//! Snapshots: what they hold, what a micro-VM started from one finds, and what going back leaves.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod guest;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use abi::boot::BootInfo;
use abi::layout::{self, LARGE_PAGE, PAGE};
use abi::{Access, Handle, Readiness, Request};
use guest::{Guest, MAP, MIB, silent_host};
use vmm::host::http::{Incoming, Unanswered};
use vmm::host::{Host, Stdio};
use vmm::{
    BootParams, Config, Error, Exit, Fault, Idle, Image, Made, MicroVm, Program, Rewound, Shell,
    Snapshot,
};

const HEAP: u64 = layout::RUN_HEAP.start;

/// A guest with its snapshot.
struct Fixture {
    image: Image,
    program: Program,
    config: Config,
    snapshot: Snapshot,
}

impl Fixture {
    fn new(guest: &Guest) -> Self {
        let image = Image::parse(&guest.elf()).unwrap();
        let program = Program::from_bytes(b"program").unwrap();
        let config = Config::new(64 * MIB).unwrap();
        let made = Snapshot::make(&config, &image, &program, Duration::from_secs(10)).unwrap();
        let Made::Snapshot(snapshot) = made else { panic!("{made:?}") };
        Self { image, program, config, snapshot }
    }

    fn start_in(&self, memory_bytes: u64, host: Host) -> Result<MicroVm, Error> {
        let Self { image, program, snapshot, .. } = self;
        let config = Config::new(memory_bytes).unwrap();
        let params = BootParams::default();
        MicroVm::start(Shell::new().unwrap(), image, program, snapshot, &config, &params, host)
    }

    fn run(&self) -> (Exit, Idle) {
        let vm = self.start_in(self.config.memory_bytes(), silent_host()).unwrap();
        let (exit, _, idle) = vm.run_and_keep().unwrap();
        (exit, idle)
    }
}

fn reset(idle: Idle) -> (Exit, Idle) {
    let vm = idle.reset(&BootParams::default(), silent_host()).unwrap();
    let (exit, _, idle) = vm.run_and_keep().unwrap();
    (exit, idle)
}

fn call(idle: Idle) -> (Exit, Idle) {
    let (exit, _, idle) = idle.call(&BootParams::default()).unwrap().run_and_keep().unwrap();
    (exit, idle)
}

fn again(idle: Idle) -> (Exit, Idle) {
    let (exit, _, idle) = idle.again().unwrap().run_and_keep().unwrap();
    (exit, idle)
}

/// `mov rbx, address; inc qword [rbx]; mov rax, [rbx]`
fn count(guest: Guest, address: u64) -> Guest {
    guest
        .code(&[0x48, 0xbb])
        .code(&address.to_le_bytes())
        .code(&[0x48, 0xff, 0x03, 0x48, 0x8b, 0x03])
}

/// `mov rdi, address; mov ecx, len; mov al, byte; rep stosb`
fn fill(guest: Guest, address: u64, len: u64, byte: u8) -> Guest {
    let guest = guest.code(&[0x48, 0xbf]).code(&address.to_le_bytes());
    let guest = guest.code(&[0xb9]).code(&u32::try_from(len).unwrap().to_le_bytes());
    guest.code(&[0xb0, byte, 0xf3, 0xaa])
}

/// Exits with `status` unless every byte of the range is `byte`.
fn expect(guest: Guest, address: u64, len: u64, byte: u8, status: i32) -> Guest {
    // mov rdi, address; mov ecx, len; mov al, byte; repe scasb; je over
    let guest = guest.code(&[0x48, 0xbf]).code(&address.to_le_bytes());
    let guest = guest.code(&[0xb9]).code(&u32::try_from(len).unwrap().to_le_bytes());
    let guest = guest.code(&[0xb0, byte, 0xf3, 0xae, 0x0f, 0x84]);
    // The length of the jump is known when what it jumps over is.
    let before = guest.here() + 4;
    let over = guest.clone().code(&[0; 4]).exit(status).here() - before;
    guest.code(&u32::try_from(over).unwrap().to_le_bytes()).exit(status)
}

/// A guest that counts, in the heap of the run.
fn counter() -> Guest {
    count(Guest::new().ready(), HEAP).exit_with_rax()
}

/// After the exit, the guest goes on here: the same again.
fn counter_that_is_called_again() -> Guest {
    (0..3).fold(Guest::new().ready(), |guest, _| count(guest, HEAP).exit_with_rax())
}

#[test]
fn a_start_finds_what_was_there_when_the_guest_was_ready() {
    require_kvm!();
    let guest = Guest::new()
        .map_ok(MAP, 2 * PAGE, Access::ReadWrite)
        .poke(MAP + PAGE + 5, 40)
        .poke(HEAP, 1)
        .ready();
    let guest = expect(guest, MAP + PAGE + 5, 1, 40, 1);
    let guest = expect(guest, HEAP, 1, 1, 2);
    let guest = expect(guest, layout::GUEST_DATA.start, 1, b'd', 3);
    let fixture = Fixture::new(&expect(guest, MAP, PAGE, 0, 4).exit(7));
    assert!(fixture.snapshot.is_instantiated());
    assert_eq!(fixture.run().0, Exit::Status(7));
}

#[test]
fn micro_vms_of_one_snapshot_do_not_see_each_other() {
    require_kvm!();
    let fixture = Fixture::new(&counter());
    let (first, second) = (fixture.run(), fixture.run());
    assert_eq!((first.0, second.0), (Exit::Status(1), Exit::Status(1)));
}

#[test]
fn every_reset_starts_from_the_same_state() {
    require_kvm!();
    let (mut exit, mut idle) = Fixture::new(&counter()).run();
    for _ in 0..50 {
        assert_eq!(exit, Exit::Status(1));
        (exit, idle) = reset(idle);
    }
}

#[test]
fn a_call_finds_what_the_last_one_left() {
    require_kvm!();
    let (exit, idle) = Fixture::new(&counter_that_is_called_again()).run();
    let (second, idle) = call(idle);
    let (third, idle) = call(idle);
    assert_eq!([exit, second, third], [1, 2, 3].map(Exit::Status));
    assert_eq!(reset(idle).0, Exit::Status(1));
}

#[test]
fn entropy_is_never_given_twice() {
    require_kvm!();
    let write = Request::Write { handle: Handle::STDOUT, offset: 0, wait: false, data: b"" };
    let mut frame = write.encode(&mut []).unwrap();
    frame.data_len = 256;
    let guest = (0..2).fold(Guest::new().ready(), |guest, _| guest.ring(frame, b"").exit(0));
    let fixture = Fixture::new(&guest);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let host = || {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let stdout = writer.try_clone().unwrap().into();
        Host::new(Stdio { stdin: null(), stdout, stderr: null() }).unwrap()
    };
    let mut read = || {
        let mut bytes = [0; 256];
        reader.read_exact(&mut bytes).unwrap();
        BootInfo::decode(&bytes).unwrap().header.seed
    };
    let (params, mut seeds) = (BootParams::default(), vec![[0; 32]]);
    for _ in 0..3 {
        let vm = fixture.start_in(64 * MIB, host()).unwrap();
        let (_, _, idle) = vm.run_and_keep().unwrap();
        seeds.push(read());
        let (_, _, idle) = idle.reset(&params, host()).unwrap().run_and_keep().unwrap();
        seeds.push(read());
        // Another call in the same instance goes on with what that has.
        idle.call(&params).unwrap().run_and_keep().unwrap();
        assert_eq!(read(), [0; 32]);
    }
    let given = seeds.len();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), given);
}

/// What the guests of these tests map.
const MAP_BYTES: u64 = 3 * LARGE_PAGE + 5 * PAGE;

/// Where a guest can write that maps [`MAP_BYTES`], and a fresh one finds zeros. The record of exceptions must work
/// in the end, the stack is not used by these guests, and the call window begins with boot information.
fn writable() -> [(u64, u64); 8] {
    [
        (layout::STACK.start, layout::STACK.end - layout::STACK.start),
        (HEAP, layout::RUN_HEAP.end - HEAP),
        (
            layout::EXCEPTION_STACK.start,
            layout::EXCEPTION_STACK.end - layout::EXCEPTION_STACK.start,
        ),
        (layout::GUEST_DATA.start + 4, layout::GUEST_DATA.end - layout::GUEST_DATA.start - 4),
        (layout::CALL_DATA + PAGE, layout::CALL_DATA_BYTES as u64 - PAGE),
        (layout::CALL_FRAME + 64, PAGE - 64),
        (layout::EXCEPTION_RECORD + 16, PAGE - 16),
        (MAP, MAP_BYTES),
    ]
}

#[test]
fn a_reset_takes_back_every_writable_byte() {
    require_kvm!();
    let areas = writable();
    let mut guest = Guest::new().map_ok(MAP, MAP_BYTES, Access::ReadWrite).ready();
    for (status, (address, len)) in (1..).zip(areas) {
        guest = expect(guest, address, len, 0, status);
    }
    for (address, len) in areas {
        guest = fill(guest, address, len, 0xaa);
    }
    let (mut exit, mut idle) = Fixture::new(&guest.exit(0)).run();
    for _ in 0..4 {
        assert_eq!(exit, Exit::Status(0));
        (exit, idle) = reset(idle);
    }
}

/// A guest that looks for anything but zeros in all that it may write, then takes the request's text wherever it can
/// write, and leaves the exchange as it is.
fn thief(secret_bytes: u32) -> Guest {
    let areas = writable();
    let mut guest = Guest::new().map_ok(MAP, MAP_BYTES, Access::ReadWrite).ready();
    for (status, (address, len)) in (1..).zip(areas) {
        guest = expect(guest, address, len, 0, status);
    }
    for (address, len) in areas {
        // For as long as a copy fits: mov rdi, address; mov edx, copies;
        let copies = u32::try_from(len / u64::from(secret_bytes)).unwrap();
        guest = guest.code(&[0x48, 0xbf]).code(&address.to_le_bytes());
        guest = guest.code(&[0xba]).code(&copies.to_le_bytes());
        // again: mov esi, CALL_DATA; mov ecx, bytes; rep movsb; dec edx; jnz again
        let source = u32::try_from(layout::CALL_DATA).unwrap();
        guest = guest.code(&[0xbe]).code(&source.to_le_bytes());
        guest = guest.code(&[0xb9]).code(&secret_bytes.to_le_bytes());
        guest = guest.code(&[0xf3, 0xa4, 0xff, 0xca, 0x75, 0xf0]);
    }
    guest.exit(0)
}

#[test]
fn a_request_finds_nothing_of_another_whatever_that_has_written() {
    require_kvm!();
    let fixture = Fixture::new(&thief(512));
    let Fixture { image, program, config, snapshot } = &fixture;
    let mut rewound =
        Rewound::new(Shell::new().unwrap(), image, program, snapshot, config).unwrap();
    for number in 0..6 {
        let mut host = silent_host();
        let secret = format!("http://secret-{number}.test/{}", "s".repeat(600));
        let head = http::Request::get(secret).body(()).unwrap();
        let (incoming, _body, response) = Incoming::new(head);
        let request = host.admit(incoming).unwrap();
        let params = BootParams { request, ..BootParams::default() };
        let vm = rewound.start(&params, host).unwrap();
        let (exit, _, idle) = vm.run_and_keep().unwrap();
        assert_eq!(exit, Exit::Status(0), "request {number}");
        rewound = idle.rewind().unwrap();
        // What it was granted is closed with it.
        let answer = pin!(response.response()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(
            matches!(answer, Poll::Ready(Err(Unanswered::Closed))),
            "request {number}: {answer:?}"
        );
    }
}

#[test]
fn large_pages_full_of_content_are_taken_back_too() {
    require_kvm!();
    let guest = Guest::new().map_ok(MAP, 2 * LARGE_PAGE, Access::ReadWrite);
    let guest = fill(guest, MAP, LARGE_PAGE + LARGE_PAGE / 2, 7).ready();
    let guest = expect(guest, MAP, LARGE_PAGE + LARGE_PAGE / 2, 7, 1);
    let guest = expect(guest, MAP + LARGE_PAGE + LARGE_PAGE / 2, LARGE_PAGE / 2, 0, 2);
    let guest = fill(guest, MAP, 2 * LARGE_PAGE, 0xaa);
    let (mut exit, mut idle) = Fixture::new(&guest.exit(0)).run();
    for _ in 0..4 {
        assert_eq!(exit, Exit::Status(0));
        (exit, idle) = reset(idle);
    }
}

#[test]
fn segment_bases_are_taken_back() {
    require_kvm!();
    if !std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains(" fsgsbase ") {
        println!("skipped: this CPU has no FSGSBASE");
        return;
    }
    // rdfsbase rax; mov ecx, 77; wrfsbase rcx
    let guest = Guest::new().ready().code(&[0xf3, 0x48, 0x0f, 0xae, 0xc0]);
    let guest = guest.code(&[0xb9, 77, 0, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd1]).exit_with_rax();
    let (first, idle) = Fixture::new(&guest).run();
    assert_eq!((first, reset(idle).0), (Exit::Status(0), Exit::Status(0)));
}

#[test]
fn what_a_run_mapped_is_gone_after_a_reset() {
    require_kvm!();
    // The first page of a run is there or not, as another run left it; so a run looks before it maps.
    // A page fault ends the guest with a fault, after which a reset takes another machine: so the guest
    // asks for memory at places of its own and counts on zeros.
    let far = MAP + (3 << 39);
    let guest = Guest::new().map_ok(MAP, PAGE, Access::ReadWrite).ready();
    let guest = guest.map_ok(MAP + PAGE, 6 * PAGE, Access::ReadWrite);
    let guest = expect(guest, MAP + PAGE, 6 * PAGE, 0, 1);
    let guest = guest.map_ok(far, 2 * LARGE_PAGE, Access::ReadWrite);
    let guest = expect(guest, far, 2 * LARGE_PAGE, 0, 2);
    let guest = fill(guest, MAP, 7 * PAGE, 0xbb);
    let guest = fill(guest, far, 2 * LARGE_PAGE, 0xcc);
    let guest = guest.map_ok(MAP, PAGE, Access::None).map_ok(far, PAGE, Access::Read).exit(0);
    let (mut exit, mut idle) = Fixture::new(&guest).run();
    // Often enough for the frames of page tables to be used again.
    for _ in 0..200 {
        assert_eq!(exit, Exit::Status(0));
        (exit, idle) = reset(idle);
    }
}

#[test]
fn a_page_that_another_run_mapped_faults() {
    require_kvm!();
    // A run with an even count of calls maps and writes, another one reads without mapping: the count is
    // the length of the arguments, which the boot information's length tells.
    let guest = Guest::new().ready();
    let ret = layout::CALL_FRAME + 56;
    // mov rbx, ret; mov rax, [rbx]; test al, 1; jnz read
    let guest = guest.load(ret).code(&[0xa8, 1, 0x0f, 0x85]);
    let before = guest.here() + 4;
    let mapping = |guest: Guest| guest.map_ok(MAP, PAGE, Access::ReadWrite).poke(MAP, 9).exit(0);
    let over = mapping(guest.clone().code(&[0; 4])).here() - before;
    let guest = mapping(guest.code(&u32::try_from(over).unwrap().to_le_bytes()));
    let fixture = Fixture::new(&guest.load(MAP).exit(1));
    let (_, mut idle) = fixture.run();
    let args = |len| BootParams { args: vec![vec![b'x'; len]], ..BootParams::default() };
    let mut seen = [0, 0];
    for len in 0..40 {
        let vm = idle.reset(&args(len), silent_host()).unwrap();
        let (exit, _, next) = vm.run_and_keep().unwrap();
        match exit {
            Exit::Status(0) => seen[0] += 1,
            Exit::Fault(Fault::Exception(record)) if record.fault_address == MAP => seen[1] += 1,
            other => panic!("{other:?}"),
        }
        idle = next;
    }
    assert_eq!(seen, [20, 20]);
}

#[test]
fn a_call_made_again_comes_without_boot_information() {
    require_kvm!();
    let guest = (0..4).fold(Guest::new().ready(), |guest, _| guest.exit_with_ret());
    let (first, idle) = Fixture::new(&guest).run();
    assert!(matches!(first, Exit::Status(1..)), "{first:?}");
    let (exit, idle) = again(idle);
    assert_eq!(exit, Exit::Status(0));
    let (exit, idle) = call(idle);
    assert_eq!(exit, first);
    let (exit, _) = again(idle);
    assert_eq!(exit, Exit::Status(0));
}

#[test]
fn a_guest_that_ended_by_a_fault_is_replaced() {
    require_kvm!();
    let (exit, idle) = Fixture::new(&Guest::new().ready().poke(0, 1)).run();
    assert!(matches!(exit, Exit::Fault(Fault::Exception(_))), "{exit:?}");
    assert!(matches!(idle.call(&BootParams::default()), Err(Error::Ended)));
    let (_, idle) = Fixture::new(&Guest::new().ready().poke(0, 1)).run();
    assert!(matches!(idle.again(), Err(Error::Ended)));
    let (_, idle) = Fixture::new(&Guest::new().ready().poke(0, 1)).run();
    let (exit, _) = reset(idle);
    assert!(matches!(exit, Exit::Fault(Fault::Exception(_))), "{exit:?}");
}

#[test]
fn a_guest_that_ends_before_it_is_ready_has_no_snapshot() {
    require_kvm!();
    let image = Image::parse(&Guest::new().exit(3).elf()).unwrap();
    let program = Program::from_bytes(b"program").unwrap();
    let config = Config::new(MIB).unwrap();
    let made = Snapshot::make(&config, &image, &program, Duration::from_secs(1)).unwrap();
    assert!(matches!(made, Made::Ended(Exit::Status(3))), "{made:?}");
}

#[test]
fn a_program_that_is_not_instantiated_in_time_is_kept_linked() {
    require_kvm!();
    // After an answer of 0 the guest spins; with boot information it exits.
    let linked = Request::Ready { readiness: Readiness::Linked };
    // mov rbx, ret; mov rax, [rbx]; test rax, rax; jz itself
    let guest = Guest::new().call(linked).load(layout::CALL_FRAME + 56);
    let guest = guest.code(&[0x48, 0x85, 0xc0, 0x74, 0xfe]).exit(5);
    let image = Image::parse(&guest.elf()).unwrap();
    let program = Program::from_bytes(b"program").unwrap();
    let config = Config::new(MIB).unwrap();
    let made = Snapshot::make(&config, &image, &program, Duration::from_millis(50)).unwrap();
    let Made::Snapshot(snapshot) = made else { panic!("{made:?}") };
    assert!(!snapshot.is_instantiated());
    let fixture = Fixture { image, program, config, snapshot };
    assert_eq!(fixture.run().0, Exit::Status(5));
}

#[test]
fn less_memory_than_the_snapshot_takes_is_an_error() {
    require_kvm!();
    let guest = Guest::new().map_ok(MAP, 8 * MIB, Access::ReadWrite).ready().exit(0);
    let fixture = Fixture::new(&guest);
    let error = fixture.start_in(8 * MIB, silent_host()).unwrap_err();
    assert!(matches!(error, Error::MemoryTooSmall { .. }), "{error}");
    let vm = fixture.start_in(16 * MIB, silent_host()).unwrap();
    assert_eq!(vm.run().unwrap().0, Exit::Status(0));
}

/// A snapshot's file, as it is on a disk.
fn written(snapshot: &Snapshot) -> File {
    let file = tempfile::tempfile().unwrap();
    snapshot.write_to(&file).unwrap();
    file
}

#[test]
fn a_snapshot_survives_its_file() {
    require_kvm!();
    let guest = Guest::new().map_ok(MAP, 2 * LARGE_PAGE, Access::ReadWrite);
    let guest = fill(guest, MAP + PAGE, LARGE_PAGE, 7).ready();
    let guest = expect(guest, MAP + PAGE, LARGE_PAGE, 7, 1);
    let mut fixture = Fixture::new(&count(guest, HEAP).exit_with_rax());
    fixture.snapshot = Snapshot::from_file(written(&fixture.snapshot)).unwrap();
    assert!(fixture.snapshot.is_instantiated());
    let (exit, idle) = fixture.run();
    assert_eq!((exit, reset(idle).0), (Exit::Status(1), Exit::Status(1)));
}

#[test]
fn a_damaged_snapshot_is_an_error_or_a_guest_that_goes_astray() {
    require_kvm!();
    let guest = Guest::new().map_ok(MAP, 5 * PAGE, Access::ReadWrite).ready();
    let mut fixture = Fixture::new(&guest.exit(0));
    let whole = written(&fixture.snapshot);
    let len = usize::try_from(whole.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; len];
    whole.read_exact_at(&mut bytes, 0).unwrap();
    let used: Vec<usize> = (0..len).filter(|at| bytes[*at] != 0).collect();
    let (mut refused, mut started) = (0, 0);
    for at in used.iter().step_by(used.len() / 100 + 1) {
        for flip in [1, 0x80] {
            let file = written(&fixture.snapshot);
            file.write_all_at(&[bytes[*at] ^ flip], *at as u64).unwrap();
            match Snapshot::from_file(file) {
                Ok(snapshot) => {
                    let whole = std::mem::replace(&mut fixture.snapshot, snapshot);
                    if let Ok(vm) = fixture.start_in(64 * MIB, silent_host()) {
                        let kick = vm.kick();
                        std::thread::spawn(move || {
                            std::thread::sleep(Duration::from_millis(50));
                            kick.stop();
                        });
                        let _ = vm.run().unwrap();
                        started += 1;
                    }
                    fixture.snapshot = whole;
                }
                Err(error) => {
                    assert!(matches!(error, Error::Snapshot(_)), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 5 && started > 5, "{refused} refused, {started} started");
}

#[test]
fn a_snapshot_that_is_cut_off_is_refused() {
    require_kvm!();
    let fixture = Fixture::new(&counter());
    let len = written(&fixture.snapshot).metadata().unwrap().len();
    for cut in [0, 1, 255, 256, 4096, 2 << 20, len - 1] {
        let file = written(&fixture.snapshot);
        file.set_len(cut).unwrap();
        assert!(matches!(Snapshot::from_file(file), Err(Error::Snapshot(_))), "{cut}");
    }
}
