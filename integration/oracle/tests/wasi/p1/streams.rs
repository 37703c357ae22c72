//! Standard streams: a full pipe, a reader that is gone, a reader that is slow.

use std::io::{PipeReader, Read};
use std::time::Duration;

use oracle::{Grants, Wasi};

use super::{DATA, P1, RESULT};

const AGAIN: u16 = 6;
const PIPE: u16 = 64;
/// `fdflags`.
const NONBLOCK: u64 = 4;

/// More than any pipe holds.
const MUCH: usize = 1 << 20;

/// A program whose standard output is a pipe.
fn program() -> (P1, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    (P1::with_stdout(Wasi::Ours, &Grants::default(), writer), reader)
}

/// Bytes of which each part is known.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

/// Polls for room on standard output for at most 10 ms: whether there was any.
fn has_room(program: &mut P1) -> bool {
    let mut subscriptions = [0; 96];
    subscriptions[8] = 2;
    subscriptions[16] = 1;
    subscriptions[48 + 16] = 1;
    subscriptions[48 + 24..48 + 32].copy_from_slice(&10_000_000_u64.to_le_bytes());
    let arguments = [DATA.into(), u64::from(RESULT), 2, u64::from(RESULT) + 128];
    let pokes = [(DATA, &subscriptions[..])];
    let (errno, event) =
        program.call_with(&pokes, "poll_oneoff", &arguments, (RESULT, 32)).unwrap();
    assert_eq!(errno, 0);
    assert_eq!(event[8..10], [0, 0], "the event's error");
    event[10] == 2
}

#[test]
fn a_full_pipe_is_again_for_output_that_does_not_block() {
    let (mut program, mut reader) = program();
    assert_eq!(program.errno("fd_fdstat_set_flags", &[1, NONBLOCK]), 0);
    let sent = bytes(MUCH);
    assert!(has_room(&mut program));
    let mut written = program.write(1, &sent).unwrap() as usize;
    assert!(0 < written && written < MUCH);
    assert_eq!(program.write(1, &sent[written..]), Err(AGAIN));
    assert!(!has_room(&mut program));

    let mut received = vec![0; written];
    reader.read_exact(&mut received).unwrap();
    assert!(has_room(&mut program));
    let more = program.write(1, &sent[written..]).unwrap() as usize;
    written += more;
    drop(program);
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), written);
    assert_eq!(received, sent[..written]);
}

#[test]
fn output_that_blocks_waits_for_a_slow_reader_and_loses_nothing() {
    let (mut program, mut reader) = program();
    let received = std::thread::spawn(move || {
        let (mut received, mut part) = (Vec::new(), [0; 30_000]);
        loop {
            match reader.read(&mut part).unwrap() {
                0 => return received,
                len => received.extend_from_slice(&part[..len]),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let sent = bytes(MUCH);
    assert_eq!(program.write(1, &sent), Ok(u32::try_from(MUCH).unwrap()));
    drop(program);
    assert_eq!(received.join().unwrap(), sent);
}

#[test]
fn output_without_a_reader_is_a_broken_pipe_and_no_end() {
    let (mut program, reader) = program();
    assert_eq!(program.write(1, b"one"), Ok(3));
    drop(reader);
    for _ in 0..3 {
        assert_eq!(program.write(1, b"two"), Err(PIPE));
    }
    assert!(has_room(&mut program));
    let end = program.0.finish();
    assert_eq!((end.status, end.report.as_str()), (0, ""));
}

#[test]
fn a_reader_that_goes_away_ends_a_write_that_waits_for_it() {
    let (mut program, mut reader) = program();
    let gone = std::thread::spawn(move || {
        reader.read_exact(&mut [0; 10]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    });
    // What the pipe took before is reported; the next write meets the error.
    let taken = program.write(1, &bytes(MUCH));
    gone.join().unwrap();
    match taken {
        Ok(taken) => assert!((taken as usize) < MUCH),
        Err(errno) => assert_eq!(errno, PIPE),
    }
    assert_eq!(program.write(1, b"more"), Err(PIPE));
}

#[test]
fn standard_input_that_does_not_block_is_again_while_it_has_nothing() {
    let (mut program, _reader) = program();
    assert_eq!(program.errno("fd_fdstat_set_flags", &[0, NONBLOCK]), 0);
    let vector = super::vector(10);
    let arguments = [0, super::VECTOR.into(), 1, RESULT.into()];
    let pokes = [(super::VECTOR, &vector[..])];
    let (errno, _) = program.call_with(&pokes, "fd_read", &arguments, (0, 0)).unwrap();
    assert_eq!(errno, AGAIN);
}

#[test]
fn buffers_of_one_call_arrive_in_their_order() {
    let (mut program, mut reader) = program();
    // Two buffers of "ab" around an empty one.
    let vector: Vec<u8> = [(DATA, 2), (DATA, 0), (DATA, 2)]
        .iter()
        .flat_map(|(at, len): &(u32, u32)| [at.to_le_bytes(), len.to_le_bytes()].concat())
        .collect();
    let arguments = [1, super::VECTOR.into(), 3, RESULT.into()];
    let pokes = [(super::VECTOR, &vector[..]), (DATA, b"ab")];
    let (errno, count) = program.call_with(&pokes, "fd_write", &arguments, (RESULT, 4)).unwrap();
    assert_eq!((errno, super::word(&count)), (0, 4));
    let mut received = [0; 4];
    reader.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"abab");
}
