//! Standard streams: pipes, sockets, files, terminals.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, FOREVER, FileKind, Handle, OpenFlags, Request, TimesMask, poll_events};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::pipe;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Action, tcflow};
use tempfile::TempDir;

use super::super::{Answer, Host, Stdio};
use super::{Guest, fill, guest_reading_from_a_pipe, guest_writing_to_a_pipe, null};
use crate::Kick;

#[test]
fn standard_input_gives_again_then_data_then_the_end() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::Again));
    writer.write_all(b"data").expect("write");
    assert_eq!(guest.read(Handle::STDIN, u64::MAX), Ok(b"data".to_vec()));
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::Again));
    drop(writer);
    assert_eq!(guest.read(Handle::STDIN, 0), Ok(vec![]));
}

#[test]
fn a_read_gives_no_more_than_was_asked_for() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    writer.write_all(b"abcdef").expect("write");
    let request = Request::Read { handle: Handle::STDIN, offset: 0, len: 4, wait: false };
    assert_eq!(guest.ask(request), Ok((4, b"abcd".to_vec())));
}

#[test]
fn a_read_gives_no_more_than_the_reply_holds() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    writer.write_all(b"abcdef").expect("write");
    let request = Request::Read { handle: Handle::STDIN, offset: 0, len: u32::MAX, wait: false };
    let mut reply = [0; 3];
    let answer = guest.host.call(request, &mut reply);
    assert_eq!(answer, Ok(Answer { value: 3, data_bytes: 3 }));
    assert_eq!(&reply, b"abc");
}

#[test]
fn standard_output_reaches_a_pipe() {
    let (mut guest, mut reader) = guest_writing_to_a_pipe();
    assert_eq!(guest.write(Handle::STDOUT, 7, b"hello"), Ok(5));
    drop(guest);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
}

#[test]
fn a_full_pipe_gives_again_until_it_is_read() {
    let (mut guest, mut reader) = guest_writing_to_a_pipe();
    let written = fill(&mut guest);
    assert!(written >= 65536, "{written}");
    let mut buffer = vec![0; 8192];
    reader.read_exact(&mut buffer).expect("read");
    assert_eq!(guest.write(Handle::STDOUT, 0, [b'x'; CALL_DATA_BYTES]), Ok(8192));
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::Again));
}

#[test]
fn a_read_that_waits_gives_what_comes_later() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        writer.write_all(b"later").expect("write");
    });
    let request = Request::Read { handle: Handle::STDIN, offset: 0, len: 9, wait: true };
    assert_eq!(guest.ask(request), Ok((5, b"later".to_vec())));
    later.join().expect("write");
    // The writer is gone.
    assert_eq!(guest.ask(request), Ok((0, vec![])));
}

#[test]
fn a_write_that_waits_returns_when_something_was_taken() {
    let (mut guest, mut reader) = guest_writing_to_a_pipe();
    fill(&mut guest);
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        reader.read_exact(&mut [0; 4096]).expect("read");
        reader
    });
    let data = &[b'x'; 9000];
    let request = Request::Write { handle: Handle::STDOUT, offset: 0, wait: true, data };
    assert_eq!(guest.call(request), Ok(4096));
    drop(later.join().expect("read"));
    assert_eq!(guest.call(request), Err(Errno::BrokenPipe));
}

#[test]
fn a_write_that_waits_for_a_stream_with_too_little_room_is_interrupted_by_a_kick() {
    // A counter polls as writable whatever is to be added, and refuses what would exceed it.
    let counter = eventfd(1, EventfdFlags::NONBLOCK).expect("make a counter");
    let mut guest = Guest::with_stdio(null(), counter);
    let kick = Kick::default();
    let entered = kick.enter().expect("signal handler");
    let stop = thread::spawn({
        let kick = kick.clone();
        move || kick.stop()
    });
    let data = &(u64::MAX - 1).to_le_bytes();
    let write = |wait| Request::Write { handle: Handle::STDOUT, offset: 0, wait, data };
    assert_eq!(guest.call(write(false)), Err(Errno::Again));
    assert_eq!(guest.call(write(true)), Err(Errno::Interrupted));
    drop(entered);
    stop.join().expect("kick");
}

#[test]
fn a_full_pipe_that_does_not_block_gives_again() {
    let (_reader, writer) = pipe().expect("pipe");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("set O_NONBLOCK");
    let mut guest = Guest::with_stdio(null(), writer);
    assert_eq!(fill(&mut guest), 65536);
}

#[test]
fn a_full_socket_gives_again() {
    let (ours, _theirs) = UnixStream::pair().expect("socket pair");
    let mut guest = Guest::with_stdio(null(), ours.into());
    assert!(fill(&mut guest) > 0);
}

#[test]
fn a_pipe_without_a_reader_is_broken() {
    let (mut guest, reader) = guest_writing_to_a_pipe();
    drop(reader);
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::BrokenPipe));
}

#[test]
fn a_socket_without_a_reader_is_broken() {
    let (ours, theirs) = UnixStream::pair().expect("socket pair");
    let mut guest = Guest::with_stdio(null(), ours.into());
    drop(theirs);
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::BrokenPipe));
}

#[test]
fn the_flags_of_inherited_streams_stay_as_they_are() {
    let (mut guest, reader) = guest_writing_to_a_pipe();
    let flags = |guest: &Guest| {
        rustix::fs::fcntl_getfl(guest.host.handles.get(Handle::STDOUT).expect("open").fd())
    };
    let before = flags(&guest);
    fill(&mut guest);
    assert_eq!(flags(&guest), before);
    drop(reader);
}

#[test]
fn standard_output_that_is_a_file_is_written_at_its_own_position() {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(b"before ").expect("write");
    let mut guest = Guest::with_stdio(null(), file.try_clone().expect("duplicate").into());
    assert_eq!(guest.write(Handle::STDOUT, 0, b"one "), Ok(4));
    assert_eq!(guest.write(Handle::STDOUT, 0, b"two "), Ok(4));
    file.write_all(b"after").expect("write");
    assert_eq!(content(&file), "before one two after");
}

#[test]
fn standard_output_that_is_a_file_opened_to_append_is_appended_to() {
    let dir = TempDir::new().expect("temporary directory");
    let path = dir.path().join("log");
    fs::write(&path, "before ").expect("write");
    let append = || fs::File::options().append(true).open(&path).expect("open");
    let mut guest = Guest::with_stdio(null(), append().into());
    assert_eq!(guest.write(Handle::STDOUT, 0, b"one "), Ok(4));
    append().write_all(b"other ").expect("write");
    assert_eq!(guest.write(Handle::STDOUT, 0, b"two"), Ok(3));
    assert_eq!(fs::read_to_string(&path).expect("read"), "before one other two");
}

#[test]
fn standard_output_that_is_a_file_takes_a_large_write_whole() {
    let file = tempfile::tempfile().expect("temporary file");
    let mut guest = Guest::with_stdio(null(), file.try_clone().expect("duplicate").into());
    let written = guest.write(Handle::STDOUT, 0, [b'x'; CALL_DATA_BYTES]);
    assert_eq!(written, Ok(CALL_DATA_BYTES as u64));
    assert_eq!(content(&file).len(), CALL_DATA_BYTES);
}

#[test]
fn standard_input_that_is_a_file_is_read_from_its_own_position() {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(b"abcdef").expect("write");
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(2)).expect("seek");
    let mut guest = Guest::with_stdio(file.try_clone().expect("duplicate").into(), null());
    let request = Request::Read { handle: Handle::STDIN, offset: 0, len: 2, wait: false };
    assert_eq!(guest.ask(request), Ok((2, b"cd".to_vec())));
    assert_eq!(guest.ask(request), Ok((2, b"ef".to_vec())));
    assert_eq!(guest.ask(request), Ok((0, vec![])));
}

#[test]
fn a_directory_as_standard_input_reads_as_a_directory() {
    let dir = TempDir::new().expect("temporary directory");
    let stdin = fs::File::open(dir.path()).expect("open").into();
    let mut guest = Guest::with_stdio(stdin, null());
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::IsDirectory));
    let open = guest.open(Handle::STDIN, ".", OpenFlags::READ);
    assert_eq!(open, Err(Errno::BadHandle));
}

#[test]
fn standard_streams_go_one_way() {
    let mut guest = Guest::new();
    assert_eq!(guest.write(Handle::STDIN, 0, b"x"), Err(Errno::BadHandle));
    assert_eq!(guest.read(Handle::STDOUT, 0), Err(Errno::BadHandle));
    assert_eq!(guest.read(Handle::STDERR, 0), Err(Errno::BadHandle));
    assert_eq!(guest.write(Handle::STDERR, 0, b"x"), Ok(1));
}

#[test]
fn a_file_that_serves_as_a_standard_stream_keeps_its_size_and_times() {
    let file = tempfile::tempfile().expect("temporary file");
    let mut guest = Guest::with_stdio(null(), file.into());
    guest.write(Handle::STDOUT, 0, b"log").expect("write");
    let size = Request::SetSize { handle: Handle::STDOUT, size: 0 };
    assert_eq!(guest.call(size), Err(Errno::Invalid));
    let times = Request::SetTimes {
        handle: Handle::STDOUT,
        mask: TimesMask::MTIME,
        atime_ns: 0,
        mtime_ns: 0,
    };
    assert_eq!(guest.call(times), Err(Errno::NotPermitted));
    assert_eq!(guest.stat(Handle::STDOUT).expect("stat").size, 3);
}

#[test]
fn a_stream_has_no_medium_to_sync() {
    let (mut guest, _reader) = guest_writing_to_a_pipe();
    let request = Request::Sync { handle: Handle::STDOUT, data_only: false };
    assert_eq!(guest.call(request), Err(Errno::Invalid));
}

#[test]
fn a_standard_stream_describes_what_it_is() {
    let (mut guest, _reader) = guest_writing_to_a_pipe();
    let kind =
        |guest: &mut Guest, handle| FileKind::from_wire(guest.stat(handle).expect("stat").kind);
    assert_eq!(kind(&mut guest, Handle::STDIN), FileKind::CharacterDevice);
    assert_eq!(kind(&mut guest, Handle::STDOUT), FileKind::Fifo);
}

#[test]
fn a_terminal_is_told_from_other_streams() {
    let (_keyboard, terminal) = terminal();
    let guest = Guest::with_stdio(null(), terminal);
    assert_eq!(guest.host.terminal_flags(), abi::boot::boot_flags::STDOUT_IS_TERMINAL);
}

#[test]
fn a_terminal_gives_again_then_a_line() {
    let (mut keyboard, terminal) = terminal();
    let mut guest = Guest::with_stdio(terminal, null());
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::Again));
    keyboard.write_all(b"li").expect("type");
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::Again));
    keyboard.write_all(b"ne\n").expect("type");
    let ready = guest.poll(&[(Handle::STDIN, poll_events::READ)], FOREVER);
    assert_eq!(ready, Ok(vec![poll_events::READ]));
    assert_eq!(guest.read(Handle::STDIN, 0), Ok(b"line\n".to_vec()));
}

#[test]
fn a_terminal_whose_output_is_stopped_gives_again_until_it_goes_on() {
    let (mut keyboard, terminal) = terminal();
    let flow = terminal.try_clone().expect("duplicate");
    let mut guest = Guest::with_stdio(null(), terminal);
    tcflow(&flow, Action::OOff).expect("stop the output");
    assert_eq!(guest.write(Handle::STDOUT, 0, b"text"), Err(Errno::Again));
    assert_eq!(guest.poll(&[(Handle::STDOUT, poll_events::WRITE)], 0), Ok(vec![0]));
    tcflow(&flow, Action::OOn).expect("go on");
    let ready = guest.poll(&[(Handle::STDOUT, poll_events::WRITE)], FOREVER);
    assert_eq!(ready, Ok(vec![poll_events::WRITE]));
    assert_eq!(guest.write(Handle::STDOUT, 0, b"text"), Ok(4));
    let mut screen = [0; 4];
    keyboard.read_exact(&mut screen).expect("read the screen");
    assert_eq!(&screen, b"text");
}

#[test]
fn a_terminal_that_hangs_up_ends_reads_and_fails_writes() {
    let (keyboard, terminal) = terminal();
    let input = terminal.try_clone().expect("duplicate");
    let mut guest = Guest::with_stdio(input, terminal);
    drop(keyboard);
    let both = [(Handle::STDIN, poll_events::READ), (Handle::STDOUT, poll_events::WRITE)];
    let ready = vec![poll_events::READ, poll_events::WRITE];
    assert_eq!(guest.poll(&both, FOREVER), Ok(ready));
    let read = guest.read(Handle::STDIN, 0);
    assert!(matches!(read.as_deref(), Ok([]) | Err(Errno::Io)), "{read:?}");
    assert_eq!(guest.write(Handle::STDOUT, 0, b"text"), Err(Errno::Io));
}

#[test]
fn a_device_without_room_says_so() {
    let full = fs::File::options().write(true).open("/dev/full").expect("open /dev/full");
    let mut guest = Guest::with_stdio(null(), full.into());
    assert_eq!(guest.write(Handle::STDOUT, 0, b"text"), Err(Errno::NoSpace));
}

#[test]
fn the_streams_of_this_process_can_be_inherited() {
    let mut host = Host::new(Stdio::inherit().expect("inherit")).expect("host");
    let request = Request::Write { handle: Handle::STDERR, offset: 0, wait: false, data: b"" };
    assert_eq!(host.call(request, &mut []), Ok(Answer::DONE));
}

/// A terminal: keyboard and screen, and the side of the program. It hangs up when the first is dropped.
fn terminal() -> (fs::File, OwnedFd) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("open a terminal");
    unlockpt(&keyboard).expect("unlock the terminal");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let program = ioctl_tiocgptpeer(&keyboard, flags).expect("open the program's side");
    (keyboard.into(), program)
}

fn content(file: &fs::File) -> String {
    let mut text = vec![0; 1 << 20];
    let len = rustix::io::pread(file, &mut text, 0).expect("read");
    String::from_utf8(text[..len].to_vec()).expect("UTF-8")
}
