//! Host calls as a guest makes them: answers, refusals, violations, memory.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod guest;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use abi::boot::{BootInfo, Preopen};
use abi::{AbortKind, Access, Errno, Frame, Handle, LogLevel, Nr, Request, Violation, layout};
use guest::{Guest, MAP, MIB, PAGE_FAULT, PRESENT, USER, WRITE, silent_host};
use vmm::host::{Host, Stdio};
use vmm::{BootParams, Config, Exit, Fault, Image, MicroVm, Program};

const PAGE: u64 = layout::PAGE;
const LARGE_PAGE: u64 = layout::LARGE_PAGE;

fn violation(guest: &Guest) -> Violation {
    match guest.run() {
        Exit::Fault(Fault::Violation(violation)) => violation,
        other => panic!("expected a violation, got {other:?}"),
    }
}

#[test]
fn exit_status_comes_back() {
    require_kvm!();
    for status in [0, 1, 42, 255, -1, i32::MIN, i32::MAX] {
        assert_eq!(Guest::new().exit(status).run(), Exit::Status(status));
    }
}

#[test]
fn an_unknown_call_is_a_violation() {
    require_kvm!();
    let frame = Frame { nr: 0xdead, ..Frame::default() };
    assert_eq!(violation(&Guest::new().ring(frame, b"")), Violation::UnknownCall(0xdead));
}

#[test]
fn data_beyond_the_window_are_a_violation() {
    require_kvm!();
    let window = u32::try_from(layout::CALL_DATA_BYTES).unwrap();
    for data_len in [window + 1, u32::MAX] {
        let frame = Frame { nr: Nr::Log as u32, data_len, ..Frame::default() };
        assert_eq!(violation(&Guest::new().ring(frame, b"")), Violation::DataOverrun(data_len));
    }
}

#[test]
fn a_bad_argument_is_a_violation() {
    require_kvm!();
    let frame = Frame { nr: Nr::Map as u32, args: [MAP + 1, PAGE, 3, 0, 0, 0], ..Frame::default() };
    assert_eq!(violation(&Guest::new().ring(frame, b"")), Violation::BadArgument(Nr::Map));
}

#[test]
fn mapping_outside_the_map_area_is_a_violation() {
    require_kvm!();
    for gva in [0, layout::PRIVATE.start, TEXT_PAGE, layout::MAP_AREA.end] {
        let frame = Frame { nr: Nr::Map as u32, args: [gva, PAGE, 3, 0, 0, 0], ..Frame::default() };
        assert_eq!(violation(&Guest::new().ring(frame, b"")), Violation::BadArgument(Nr::Map));
    }
}
const TEXT_PAGE: u64 = guest::TEXT;

#[test]
fn an_abort_is_a_fault_with_its_message() {
    require_kvm!();
    let request = Request::Abort { kind: AbortKind::BadProgram, message: b"no start\nat\xff all" };
    let message = "no start at\u{fffd} all".to_owned();
    let fault = Fault::Abort { kind: AbortKind::BadProgram, message };
    assert_eq!(Guest::new().call(request).run(), Exit::Fault(fault));
}

#[test]
fn a_log_line_is_answered() {
    require_kvm!();
    let request = Request::Log { level: LogLevel::Info, message: b"hello" };
    assert_eq!(Guest::new().call(request).exit_with_ret().run(), Exit::Status(0));
}

#[test]
fn a_write_reaches_standard_output() {
    require_kvm!();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let stdio = Stdio { stdin: null(), stdout: writer.into(), stderr: null() };
    let request =
        Request::Write { handle: Handle::STDOUT, offset: 0, wait: false, data: b"hello, world\n" };
    let vm = Guest::new().call(request).exit_with_ret().boot(MIB, Host::new(stdio).unwrap());
    assert_eq!(vm.run().unwrap().0, Exit::Status(13));
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert_eq!(output, "hello, world\n");
}

#[test]
fn an_answer_with_data_reaches_the_window() {
    require_kvm!();
    // mov rax, [CALL_DATA]; shr rax, 32: the high half of the real time in nanoseconds.
    let before = realtime_ns() >> 32;
    let guest = Guest::new().call_ok(Request::Clock).load(layout::CALL_DATA);
    let exit = guest.code(&[0x48, 0xc1, 0xe8, 0x20]).exit_with_rax().run();
    let Exit::Status(status) = exit else { panic!("{exit:?}") };
    assert!((before..=realtime_ns() >> 32).contains(&u64::from(status.cast_unsigned())));
}

fn realtime_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

#[test]
fn a_refusal_is_answered_and_the_guest_goes_on() {
    require_kvm!();
    let guest = Guest::new().call(Request::Close { handle: Handle(77) }).exit_with_ret();
    assert_eq!(guest.run(), Exit::Status(-i32::from(Errno::BadHandle as u16)));
}

#[test]
fn calls_are_counted() {
    require_kvm!();
    let guest = Guest::new().call(Request::Clock).call(Request::Clock).exit(0);
    let (_, stats) = guest.run_in(MIB);
    assert_eq!(stats.doorbell_exits, 3);
    assert_eq!(stats.calls().collect::<Vec<_>>(), [(Nr::Exit, 1), (Nr::Clock, 2)]);
}

#[test]
fn the_guest_is_told_what_it_was_given() {
    require_kvm!();
    // The guest writes what lies in the window to standard output.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let stdio = Stdio { stdin: null(), stdout: writer.into(), stderr: null() };
    let mut host = Host::new(stdio).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let dir = File::open(directory.path()).unwrap();
    host.preopen(dir.into(), b"/data", vmm::host::DirAccess::ReadWrite).unwrap();
    let mut frame = Request::Write { handle: Handle::STDOUT, offset: 0, wait: false, data: b"" }
        .encode(&mut [])
        .unwrap();
    frame.data_len = 2048;
    let guest = Guest::new().ready().call_ok(Request::Program).ring(frame, b"").exit(0);
    let params = BootParams {
        program_name: b"app.wasm".to_vec(),
        args: vec![b"app".to_vec(), b"--flag".to_vec()],
        env: vec![b"K=V".to_vec()],
        cwd: b"/data/below".to_vec(),
        request: b"request".to_vec(),
        new_instance: true,
        invoke: b"add(1, 2)".to_vec(),
    };
    let image = Image::parse(&guest.elf()).unwrap();
    let program = Program::from_bytes(b"program").unwrap();
    let config = Config::new(4 * MIB).unwrap();
    let vm = MicroVm::boot(&config, &image, &program, &params, host).unwrap();
    assert_eq!(vm.run().unwrap().0, Exit::Status(0));
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let info = BootInfo::decode(&bytes).unwrap();
    assert_ne!(info.header.seed, [0; 32]);
    assert_eq!((info.program_name, info.args), (&b"app.wasm"[..], vec![&b"app"[..], b"--flag"]));
    assert_eq!(info.env, [b"K=V"]);
    assert_eq!((info.cwd, info.invoke), (&b"/data/below"[..], &b"add(1, 2)"[..]));
    assert_eq!(info.request, b"request");
    assert_eq!(info.header.flags, abi::boot::boot_flags::NEW_INSTANCE);
    let data = Preopen { handle: Handle(3), writable: true, guest_path: b"/data" };
    assert_eq!(info.preopens, [data]);
}

#[test]
fn mapped_memory_is_zero_and_writable() {
    require_kvm!();
    for len in [PAGE, 16 * PAGE, LARGE_PAGE, LARGE_PAGE + PAGE] {
        let last = MAP + len - PAGE;
        let guest = Guest::new().map_ok(MAP, len, Access::ReadWrite);
        let guest = guest.load(last).code(&[0x89, 0xc2]); // mov edx, eax
        let exit = guest.poke(last, 5).load(last).code(&[0x01, 0xd0]).exit_with_rax().run();
        assert_eq!(exit, Exit::Status(5), "{len:#x}");
    }
}

#[test]
fn the_page_behind_a_mapping_faults() {
    require_kvm!();
    for len in [PAGE, LARGE_PAGE] {
        let guest = Guest::new().map_ok(MAP, len, Access::ReadWrite).poke(MAP + len - 1, 1);
        let record = guest.poke(MAP + len, 1).run_to_exception();
        assert_eq!((record.fault_address, record.error_code), (MAP + len, WRITE | USER));
    }
}

#[test]
fn mapping_beyond_the_limit_is_refused_whole() {
    require_kvm!();
    let no_memory = -i32::from(Errno::NoMemory as u16);
    let guest = Guest::new().map(MAP, 4 * MIB, Access::ReadWrite);
    assert_eq!(guest.clone().exit_with_ret().run_in(4 * MIB).0, Exit::Status(no_memory));
    let exit = guest.load(MAP).run_in(4 * MIB).0;
    assert!(matches!(exit, Exit::Fault(Fault::Exception(record)) if record.error_code == USER));
}

#[test]
fn the_whole_map_area_at_once_is_refused() {
    require_kvm!();
    let len = layout::MAP_AREA.end - MAP;
    for (access, status) in [(Access::ReadWrite, -17), (Access::Read, -17), (Access::None, 0)] {
        let guest = Guest::new().map(MAP, len, access).exit_with_ret();
        assert_eq!(guest.run(), Exit::Status(status), "{access:?}");
    }
}

#[test]
fn after_a_refusal_what_fits_is_given() {
    require_kvm!();
    let guest = Guest::new().map(MAP, 4 * MIB, Access::ReadWrite);
    let guest = guest.map_ok(MAP, 3 * MIB, Access::ReadWrite).poke(MAP + 3 * MIB - 1, 1);
    assert_eq!(guest.exit(0).run_in(4 * MIB).0, Exit::Status(0));
}

#[test]
fn unmapped_memory_faults_each_time() {
    require_kvm!();
    let handler_skips = Guest::new().exit(9);
    for len in [PAGE, 3 * PAGE, LARGE_PAGE] {
        let mut guest = handler_skips.clone().entry_here();
        for _ in 0..5 {
            guest = guest.map_ok(MAP, len, Access::ReadWrite).poke(MAP, 1);
            guest = guest.map_ok(MAP, len, Access::None);
        }
        let record = guest.load(MAP).run_to_exception();
        assert_eq!((record.vector, record.error_code), (PAGE_FAULT, USER), "{len:#x}");
    }
}

#[test]
fn memory_mapped_again_is_zero() {
    require_kvm!();
    for len in [PAGE, LARGE_PAGE] {
        let guest = Guest::new().map_ok(MAP, len, Access::ReadWrite).poke(MAP, 0x77);
        let guest = guest.map_ok(MAP, len, Access::None).map_ok(MAP, len, Access::ReadWrite);
        assert_eq!(guest.load(MAP).exit_with_rax().run_in(5 * MIB).0, Exit::Status(0), "{len:#x}");
    }
}

#[test]
fn memory_made_read_only_keeps_its_content_and_faults_on_write() {
    require_kvm!();
    for len in [PAGE, LARGE_PAGE] {
        let guest = Guest::new().map_ok(MAP, len, Access::ReadWrite).poke(MAP, 0x77);
        let guest = guest.map_ok(MAP, len, Access::Read);
        let exit = guest.clone().load(MAP).exit_with_rax().run();
        assert_eq!(exit, Exit::Status(0x77), "{len:#x}");
        let record = guest.load(MAP).poke(MAP, 1).run_to_exception();
        assert_eq!(record.error_code, PRESENT | WRITE | USER, "{len:#x}");
    }
}

#[test]
fn memory_made_writable_again_is_writable() {
    require_kvm!();
    let guest = Guest::new().map_ok(MAP, LARGE_PAGE, Access::ReadWrite).poke(MAP, 1);
    let guest = guest.map_ok(MAP, LARGE_PAGE, Access::Read).load(MAP);
    let guest = guest.map_ok(MAP, LARGE_PAGE, Access::ReadWrite).poke(MAP, 2).load(MAP);
    assert_eq!(guest.exit_with_rax().run(), Exit::Status(2));
}

#[test]
fn one_page_of_a_large_page_can_be_taken_away() {
    require_kvm!();
    let hole = MAP + 5 * PAGE;
    let guest = Guest::new().map_ok(MAP, LARGE_PAGE, Access::ReadWrite);
    let guest = guest.poke(hole - PAGE, 3).poke(hole, 3).map_ok(hole, PAGE, Access::None);
    let record = guest.load(hole - PAGE).load(hole + PAGE).load(hole).run_to_exception();
    assert_eq!((record.fault_address, record.error_code), (hole, USER));
}

#[test]
fn memory_that_becomes_a_large_page_keeps_its_content() {
    require_kvm!();
    let mut guest = Guest::new();
    for (value, gva) in (1..).zip((MAP..MAP + LARGE_PAGE).step_by(0x1_0000)) {
        guest = guest.map_ok(gva, 16 * PAGE, Access::ReadWrite).poke(gva, value);
    }
    // Adds up the first byte of every step.
    guest = guest.code(&[0x31, 0xd2]); // xor edx, edx
    for gva in (MAP..MAP + LARGE_PAGE).step_by(0x1_0000) {
        guest = guest.load(gva).code(&[0x01, 0xc2]); // add edx, eax
    }
    let exit = guest.code(&[0x89, 0xd0]).exit_with_rax().run();
    assert_eq!(exit, Exit::Status((1..=32).sum()));
}

#[test]
fn tables_outlast_the_frames_for_them() {
    require_kvm!();
    // Thousands of edits that retire tables, in a memory of 256 frames. mov ebp, 1000; loop.
    let guest = Guest::new().code(&[0xbd]).code(&1000_u32.to_le_bytes());
    let start = guest.here();
    let guest = guest.map_ok(MAP, 8 * PAGE, Access::ReadWrite).poke(MAP, 1);
    let guest = guest.map_ok(MAP, 8 * PAGE, Access::Read).load(MAP);
    let guest = guest.map_ok(MAP, 8 * PAGE, Access::None).code(&[0xff, 0xcd, 0x0f, 0x85]); // dec; jnz
    let back = i32::try_from(start.cast_signed() - guest.here().cast_signed() - 4).unwrap();
    let (exit, stats) = guest.code(&back.to_le_bytes()).exit(0).run_in(MIB);
    assert_eq!(exit, Exit::Status(0));
    assert_eq!(stats.root_changes, 2000);
    assert!((1..200).contains(&stats.slot_changes), "{stats:?}");
}

#[test]
fn memory_that_is_used_up_can_be_given_back() {
    require_kvm!();
    // Maps page by page until there is no memory, unmaps all, maps half of it at once.
    let guest = Guest::new().map(MAP, PAGE, Access::ReadWrite);
    let args = u32::try_from(layout::CALL_FRAME + 8).unwrap().to_le_bytes();
    let ret = u32::try_from(layout::CALL_FRAME + 56).unwrap().to_le_bytes();
    let start = guest.here();
    // add qword [args[0]], 4096; out; cmp qword [ret], 0; je start
    let guest = guest.code(&[0x48, 0x81, 0x04, 0x25]).code(&args).code(&4096_u32.to_le_bytes());
    let guest = guest.doorbell().code(&[0x48, 0x83, 0x3c, 0x25]).code(&ret).code(&[0, 0x74]);
    let back = i8::try_from(start.cast_signed() - guest.here().cast_signed() - 1).unwrap();
    let guest = guest.code(&back.to_le_bytes()).map_ok(MAP, 1 << 30, Access::None);
    let guest = guest.map_ok(MAP, 2 * MIB, Access::ReadWrite).load(MAP + MIB).exit_with_rax();
    assert_eq!(guest.run_in(4 * MIB).0, Exit::Status(0));
}

#[test]
fn random_frames_never_harm_the_host() {
    require_kvm!();
    // xorshift64, so that a failure repeats.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..60 {
        let mut guest = Guest::new();
        for _ in 0..20 {
            let nr = Nr::ALL[usize::try_from(next()).unwrap() % Nr::ALL.len()];
            // Exit, abort and a wait without end would hide what follows.
            if matches!(nr, Nr::Exit | Nr::Abort | Nr::Poll) {
                continue;
            }
            let pages = next() % 3000;
            let args = [next() % 5, next() % 4, next() % 9, next() % 3, 0, 0];
            let args = if nr == Nr::Map {
                [
                    MAP + (next() % 3000) * PAGE,
                    pages * PAGE,
                    [0, 1, 3][usize::try_from(next() % 3).unwrap()],
                    0,
                    0,
                    0,
                ]
            } else {
                args
            };
            let data = next().to_le_bytes();
            let data_len = u32::try_from(next() % 9).unwrap();
            guest = guest.ring(Frame { nr: nr as u32, data_len, args, ret: 0 }, &data);
        }
        let exit = guest.exit(0).run();
        assert!(matches!(exit, Exit::Status(0) | Exit::Fault(Fault::Violation(_))), "{exit:?}");
    }
}

#[test]
fn wholly_random_frames_never_harm_the_host() {
    require_kvm!();
    let mut state = 0x0123_4567_89ab_cdef_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..40 {
        let nr = u32::try_from(next() % 0x40).unwrap();
        let data_len = u32::try_from(next() >> 40).unwrap();
        let args = [next(), next(), next(), next(), next(), next()];
        // A wait of random length is none that this test is for.
        if nr == Nr::Poll as u32 {
            continue;
        }
        let exit = Guest::new().ring(Frame { nr, data_len, args, ret: 0 }, b"").exit(0).run();
        assert!(matches!(exit, Exit::Status(_) | Exit::Fault(_)), "{exit:?}");
    }
}

#[test]
fn a_guest_is_told_how_long_its_program_is() {
    require_kvm!();
    assert_eq!(Guest::new().call(Request::Program).exit_with_ret().run(), Exit::Status(7));
}

#[test]
fn boot_information_beyond_the_window_comes_in_pieces() {
    require_kvm!();
    let params = BootParams { args: vec![vec![b'x'; 600 << 10]], ..BootParams::default() };
    let status = |guest: Guest| {
        let image = Image::parse(&guest.exit_with_ret().elf()).unwrap();
        let program = Program::from_bytes(b"program").unwrap();
        let config = Config::new(MIB).unwrap();
        let vm = MicroVm::boot(&config, &image, &program, &params, silent_host()).unwrap();
        match vm.run().unwrap().0 {
            Exit::Status(status) => i64::from(status),
            Exit::Fault(fault) => panic!("{fault}"),
        }
    };
    let total = status(Guest::new().ready());
    let window = i64::try_from(layout::CALL_DATA_BYTES).unwrap();
    assert!((600 << 10..601 << 10).contains(&total), "{total}");
    let rest = |offset: i64| {
        let offset = offset.cast_unsigned();
        status(Guest::new().ready().call(Request::BootInfo { offset }))
    };
    let offsets = [0, window, total - 1, total, i64::MAX];
    assert_eq!(offsets.map(rest), [window, total - window, 1, 0, 0]);
}

#[test]
fn more_arguments_than_a_guest_may_have_are_refused() {
    require_kvm!();
    let params = BootParams { env: vec![vec![b'x'; 5 << 20]], ..BootParams::default() };
    let image = Image::parse(&Guest::new().exit(0).elf()).unwrap();
    let program = Program::from_bytes(b"program").unwrap();
    let config = Config::new(64 * MIB).unwrap();
    let error = MicroVm::boot(&config, &image, &program, &params, silent_host()).unwrap_err();
    assert!(matches!(error, vmm::Error::BootInfoSize { .. }), "{error}");
}
