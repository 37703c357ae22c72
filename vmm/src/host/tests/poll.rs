//! Waiting.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, FOREVER, Handle, PollEntry, Request, poll_events};
use zerocopy::IntoBytes as _;

use super::{Guest, INSIDE, fill, guest_reading_from_a_pipe, guest_writing_to_a_pipe};
use crate::Kick;

const READ: u32 = poll_events::READ;
const WRITE: u32 = poll_events::WRITE;

#[test]
fn a_poll_ends_when_its_time_is_over() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let begin = Instant::now();
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], 30_000_000), Ok(vec![0]));
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_poll_of_nothing_sleeps() {
    let mut guest = Guest::new();
    let begin = Instant::now();
    assert_eq!(guest.poll(&[], 30_000_000), Ok(vec![]));
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_poll_of_no_events_is_never_ready() {
    let (mut guest, writer) = guest_reading_from_a_pipe();
    drop(writer);
    assert_eq!(guest.poll(&[(Handle::STDIN, 0)], 1_000_000), Ok(vec![0]));
}

#[test]
fn a_poll_ends_when_data_arrive() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        writer.write_all(b"x").expect("write");
        writer
    });
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], FOREVER), Ok(vec![READ]));
    thread.join().expect("writer");
}

#[test]
fn a_poll_ends_when_the_writer_is_gone() {
    let (mut guest, writer) = guest_reading_from_a_pipe();
    drop(writer);
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], FOREVER), Ok(vec![READ]));
    assert_eq!(guest.read(Handle::STDIN, 0), Ok(vec![]));
}

#[test]
fn a_poll_ends_when_the_reader_is_gone() {
    let (mut guest, reader) = guest_writing_to_a_pipe();
    fill(&mut guest);
    assert_eq!(guest.poll(&[(Handle::STDOUT, WRITE)], 0), Ok(vec![0]));
    drop(reader);
    assert_eq!(guest.poll(&[(Handle::STDOUT, WRITE)], FOREVER), Ok(vec![WRITE]));
}

#[test]
fn a_poll_without_end_is_interrupted_by_a_kick() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let kick = Kick::default();
    let entered = kick.enter().expect("signal handler");
    let stop = thread::spawn({
        let kick = kick.clone();
        move || kick.stop()
    });
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], FOREVER), Err(Errno::Interrupted));
    drop(entered);
    stop.join().expect("kick");
}

#[test]
fn a_poll_tells_the_ready_entries_from_the_others() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let file = guest.create("file");
    let entries = [
        (Handle::STDIN, READ),
        (file, READ | WRITE),
        (Handle::STDOUT, WRITE),
        (file, WRITE),
        (Handle::STDIN, READ),
    ];
    let ready = vec![0, READ | WRITE, WRITE, WRITE, 0];
    assert_eq!(guest.poll(&entries, FOREVER), Ok(ready));
}

#[test]
fn what_a_call_would_refuse_is_ready() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let unknown = Handle(4711);
    assert_eq!(guest.poll(&[(unknown, READ | WRITE)], FOREVER), Ok(vec![READ | WRITE]));
    assert_eq!(guest.poll(&[(unknown, WRITE)], FOREVER), Ok(vec![WRITE]));
    assert_eq!(guest.poll(&[(Handle::STDIN, READ | WRITE)], FOREVER), Ok(vec![WRITE]));
    assert_eq!(guest.poll(&[(INSIDE, READ)], FOREVER), Ok(vec![READ]));
}

#[test]
fn as_many_entries_as_fit_are_polled() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    let entries = [(Handle::STDIN, READ); abi::layout::POLL_ENTRIES_MAX];
    assert_eq!(guest.poll(&entries, 0), Ok(vec![0; entries.len()]));
    writer.write_all(b"x").expect("write");
    assert_eq!(guest.poll(&entries, FOREVER), Ok(vec![READ; entries.len()]));
}

#[test]
fn malformed_polls_are_refused() {
    let mut guest = Guest::new();
    let mut poll = |entries: &[u8], reply: &mut [u8]| {
        guest.host.call(Request::Poll { timeout_ns: 0, entries }, reply)
    };
    let unknown_event = PollEntry { events: 4, ..PollEntry::default() };
    assert_eq!(poll(unknown_event.as_bytes(), &mut [0; 16]), Err(Errno::Invalid));
    assert_eq!(poll(&[0; 17], &mut [0; 32]), Err(Errno::Invalid));
    assert_eq!(poll(&[0; 16], &mut [0; 15]), Err(Errno::TooBig));
    let too_many = vec![0; CALL_DATA_BYTES + 16];
    assert_eq!(poll(&too_many, &mut too_many.clone()), Err(Errno::TooBig));
}
