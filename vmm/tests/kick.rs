//! Ending a run from outside, and what a micro-VM leaves behind.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod guest;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use abi::{FOREVER, Handle, PollEntry, Request, poll_events};
use guest::{Guest, MIB, silent_host};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Action, tcflow};
use vmm::host::{Host, Stdio};
use vmm::{Exit, Fault, MicroVm};
use zerocopy::IntoBytes;

/// A hang, on the slowest machine that runs these tests.
const HANG: Duration = Duration::from_secs(20);

/// Runs `vm`, stops it after a while, and prints how long that took.
fn stop_after(vm: MicroVm, delay: Duration) -> Exit {
    stop_when(vm, || thread::sleep(delay))
}

/// Runs `vm`, stops it when `wait` returns, and prints how long that took.
fn stop_when(vm: MicroVm, wait: impl FnOnce()) -> Exit {
    let kick = vm.kick();
    let run = thread::spawn(move || vm.run().unwrap().0);
    wait();
    let start = Instant::now();
    kick.stop();
    let took = start.elapsed();
    println!("stopped within {took:?}");
    assert!(took < HANG, "{took:?}");
    run.join().unwrap()
}

fn spin() -> Guest {
    Guest::new().code(&[0xeb, 0xfe]) // jmp to itself
}

#[test]
fn a_spinning_guest_is_stopped() {
    require_kvm!();
    for delay_ms in [0, 1, 50, 100] {
        let vm = spin().boot(MIB, silent_host());
        let exit = stop_after(vm, Duration::from_millis(delay_ms));
        assert_eq!(exit, Exit::Fault(Fault::Stopped));
    }
}

#[test]
fn a_guest_that_keeps_calling_is_stopped() {
    require_kvm!();
    let guest = Guest::new().call(Request::Clock).code(&[0xe6, abi::DOORBELL_PORT, 0xeb, 0xfc]);
    let exit = stop_after(guest.boot(MIB, silent_host()), Duration::from_millis(20));
    assert_eq!(exit, Exit::Fault(Fault::Stopped));
}

#[test]
fn a_guest_that_faults_without_end_is_stopped() {
    require_kvm!();
    // The handler clears `active` and faults again, for ever.
    let active = abi::layout::EXCEPTION_RECORD + 16;
    let guest = Guest::new().store(active, 0).code(&[0x0f, 0x0b]);
    let guest = guest.entry_here().handler(guest::TEXT).code(&[0x0f, 0x0b]);
    let exit = stop_after(guest.boot(MIB, silent_host()), Duration::from_millis(20));
    assert_eq!(exit, Exit::Fault(Fault::Stopped));
}

#[test]
fn a_guest_that_waits_for_ever_is_stopped() {
    require_kvm!();
    let (_reader, writer) = std::io::pipe().unwrap();
    let (stdin, _keep_open) = std::io::pipe().unwrap();
    let stderr = OwnedFd::from(File::create("/dev/null").unwrap());
    let stdio = Stdio { stdin: stdin.into(), stdout: writer.into(), stderr };
    let entry =
        PollEntry { handle: Handle::STDIN.0, events: poll_events::READ, ..PollEntry::default() };
    let request = Request::Poll { timeout_ns: FOREVER, entries: entry.as_bytes() };
    let vm = Guest::new().call(request).exit(1).boot(MIB, Host::new(stdio).unwrap());
    assert_eq!(stop_after(vm, Duration::from_millis(50)), Exit::Fault(Fault::Stopped));
}

/// How a guest waits for room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    /// Not at all.
    Never,
    /// In the write.
    Writing,
    /// By a poll after the write.
    Polling,
}

const WAITS: [Wait; 3] = [Wait::Never, Wait::Writing, Wait::Polling];

/// A guest that writes to standard output over and over, whatever the answer.
fn writer(stdout: OwnedFd, how: Wait) -> MicroVm {
    let (wait, data) = (how == Wait::Writing, &[b'x'; 8192]);
    let mut guest =
        Guest::new().call(Request::Write { handle: Handle::STDOUT, offset: 0, wait, data });
    if how == Wait::Polling {
        let handle = Handle::STDOUT.0;
        let entry = PollEntry { handle, events: poll_events::WRITE, ..PollEntry::default() };
        guest = guest.call(Request::Poll { timeout_ns: FOREVER, entries: entry.as_bytes() });
    }
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    let stdio = Stdio { stdin: null(), stdout, stderr: null() };
    guest.jump(guest::TEXT).boot(MIB, Host::new(stdio).unwrap())
}

#[test]
fn a_guest_that_writes_to_a_full_pipe_is_stopped() {
    require_kvm!();
    for wait in WAITS {
        let (reader, writer_end) = std::io::pipe().unwrap();
        let start = Instant::now();
        let full = || {
            while rustix::io::ioctl_fionread(&reader).unwrap() < 1 << 16 {
                assert!(start.elapsed() < HANG, "the pipe does not get full");
                thread::sleep(Duration::from_millis(5));
            }
        };
        let exit = stop_when(writer(writer_end.into(), wait), full);
        assert_eq!(exit, Exit::Fault(Fault::Stopped), "{wait:?}");
    }
}

/// A terminal: its screen, and the side of the program.
fn terminal() -> (OwnedFd, OwnedFd) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&screen).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let program = ioctl_tiocgptpeer(&screen, flags).unwrap();
    (screen, program)
}

#[test]
fn a_guest_that_writes_to_a_terminal_whose_output_is_stopped_is_stopped() {
    require_kvm!();
    for wait in WAITS {
        let (_screen, program) = terminal();
        tcflow(&program, Action::OOff).unwrap();
        let exit = stop_after(writer(program, wait), Duration::from_millis(50));
        assert_eq!(exit, Exit::Fault(Fault::Stopped), "{wait:?}");
    }
}

#[test]
fn a_guest_that_writes_to_a_terminal_that_nobody_reads_is_stopped() {
    require_kvm!();
    for wait in WAITS {
        let (_screen, program) = terminal();
        let exit = stop_after(writer(program, wait), Duration::from_millis(50));
        assert_eq!(exit, Exit::Fault(Fault::Stopped), "{wait:?}");
    }
}

#[test]
fn a_guest_that_writes_to_a_socket_that_nobody_reads_is_stopped() {
    require_kvm!();
    for wait in WAITS {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let exit = stop_after(writer(ours.into(), wait), Duration::from_millis(50));
        assert_eq!(exit, Exit::Fault(Fault::Stopped), "{wait:?}");
    }
}

#[test]
fn a_run_that_was_stopped_before_it_began_does_not_begin() {
    require_kvm!();
    let vm = Guest::new().exit(0).boot(MIB, silent_host());
    vm.kick().stop();
    assert_eq!(vm.run().unwrap().0, Exit::Fault(Fault::Stopped));
}

#[test]
fn stopping_a_run_that_has_ended_returns() {
    require_kvm!();
    let vm = Guest::new().exit(4).boot(MIB, silent_host());
    let kick = vm.kick();
    assert_eq!(vm.run().unwrap().0, Exit::Status(4));
    kick.stop();
}

#[test]
fn several_may_stop_one_run() {
    require_kvm!();
    let vm = spin().boot(MIB, silent_host());
    let kicks = [vm.kick(), vm.kick(), vm.kick()];
    let run = thread::spawn(move || vm.run().unwrap().0);
    thread::sleep(Duration::from_millis(10));
    let stops = kicks.map(|kick| thread::spawn(move || kick.stop()));
    stops.into_iter().for_each(|stop| stop.join().unwrap());
    assert_eq!(run.join().unwrap(), Exit::Fault(Fault::Stopped));
}
