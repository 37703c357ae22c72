//! Streams: a full pipe, a reader that is gone, output that is pending when the program ends; names that
//! are no text.

use std::ffi::OsStr;
use std::io::{PipeReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::slice::from_ref;

use oracle::{Grants, Wasi};
use wasmtime::component::Val;

use super::{P2, bytes, text};
use crate::p1::seeing;

/// A program whose standard output is a pipe, and its stream.
fn program() -> (P2, Val, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut program = P2::start_ours(&Grants::default(), writer);
    let output = program.gives("stdout/get-stdout", &[]);
    (program, output, reader)
}

/// What `check-write` permits.
fn permit(program: &mut P2, output: &Val) -> Result<u64, String> {
    match program.gives("streams/output-stream.check-write", from_ref(output)) {
        Val::Result(Ok(Some(value))) => match *value {
            Val::U64(permit) => Ok(permit),
            other => panic!("{other:?}"),
        },
        Val::Result(Err(Some(error))) => match *error {
            Val::Variant(case, _) => Err(case),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Writes until nothing more is permitted; what was written.
fn fill(program: &mut P2, output: &Val) -> Vec<u8> {
    let mut written = Vec::new();
    loop {
        let permit = usize::try_from(permit(program, output).unwrap()).unwrap().min(50_000);
        if permit == 0 {
            return written;
        }
        let part: Vec<u8> = (written.len()..written.len() + permit)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        program.done("streams/output-stream.write", &[output.clone(), bytes(&part)]);
        written.extend(part);
    }
}

fn is_ready(program: &mut P2, output: &Val) -> bool {
    let pollable = program.gives("streams/output-stream.subscribe", from_ref(output));
    let ready = program.gives("poll/pollable.ready", from_ref(&pollable));
    program.gives_nothing("poll/drop-pollable", &[pollable]);
    ready == Val::Bool(true)
}

#[test]
fn a_full_pipe_permits_nothing_until_it_is_read() {
    let (mut program, output, mut reader) = program();
    let mut written = fill(&mut program, &output);
    assert!(!is_ready(&mut program, &output));
    let mut received = vec![0; 4096];
    reader.read_exact(&mut received).unwrap();
    let mut rest = vec![0; written.len() - received.len()];
    let reading = std::thread::spawn(move || {
        reader.read_exact(&mut rest).unwrap();
        (reader, rest)
    });
    program.done("streams/output-stream.blocking-flush", from_ref(&output));
    let (mut reader, rest) = reading.join().unwrap();
    received.extend(rest);
    assert!(is_ready(&mut program, &output));
    assert!(permit(&mut program, &output).unwrap() > 0);
    let more = b"more".to_vec();
    program.done("streams/output-stream.blocking-write-and-flush", &[output, bytes(&more)]);
    written.extend(more);
    drop(program);
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received, written);
}

#[test]
fn output_that_is_pending_when_the_program_ends_is_delivered() {
    let (mut program, output, mut reader) = program();
    let written = fill(&mut program, &output);
    // The program ends while the pipe is full, and its stream before it.
    program.gives_nothing("streams/drop-output-stream", &[output]);
    let ending = std::thread::spawn(move || program.session.finish());
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received, written);
    let end = ending.join().unwrap();
    assert_eq!((end.status, end.report.as_str()), (0, ""));
}

#[test]
fn what_two_streams_write_to_one_pipe_keeps_its_order() {
    let (mut program, output, mut reader) = program();
    let other = program.gives("stdout/get-stdout", &[]);
    let mut written = fill(&mut program, &output);
    assert_eq!(permit(&mut program, &other), Ok(0));
    let reading = std::thread::spawn(move || {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        received
    });
    let name = "streams/output-stream.blocking-write-and-flush";
    program.done(name, &[other, bytes(b"after")]);
    written.extend(b"after");
    drop(program);
    assert_eq!(reading.join().unwrap(), written);
}

#[test]
fn a_stream_whose_reader_is_gone_is_closed() {
    let (mut program, output, reader) = program();
    program.done("streams/output-stream.write", &[output.clone(), bytes(b"x")]);
    drop(reader);
    let name = "streams/output-stream.blocking-write-and-flush";
    for _ in 0..2 {
        let given = program.gives(name, &[output.clone(), bytes(b"x")]);
        let closed = Val::Variant("closed".to_owned(), None);
        assert_eq!(given, Val::Result(Err(Some(Box::new(closed)))));
    }
    let end = program.session.finish();
    assert_eq!((end.status, end.report.as_str()), (0, ""));
}

#[test]
fn a_reader_that_goes_away_from_pending_output_lets_the_program_end() {
    let (mut program, output, reader) = program();
    fill(&mut program, &output);
    drop(reader);
    let end = program.session.finish();
    assert_eq!(end.status, 0);
}

#[test]
fn more_than_check_write_permits_is_a_trap() {
    let (mut program, output, mut reader) = program();
    fill(&mut program, &output);
    // What is pending goes out before the program ends, by a trap too.
    let reading = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()).unwrap());
    let ended = loop {
        let permit = permit(&mut program, &output).unwrap();
        let too_much = vec![0; usize::try_from(permit).unwrap() + 1];
        let write = [output.clone(), bytes(&too_much)];
        if let Err(ended) = program.call("streams/output-stream.write", &write) {
            break ended;
        }
    };
    assert_eq!(ended.status, oracle::TRAPPED);
    assert!(ended.report.contains("check-write"), "{}", ended.report);
    reading.join().unwrap();
}

#[test]
fn a_name_that_is_no_text_is_an_error_of_its_entry_alone() {
    let directory = tempfile::tempdir().unwrap();
    let names = [&b"a"[..], b"\xff\xfe", b"b", b"caf\xe9", b"c"];
    for name in names {
        if std::fs::write(directory.path().join(OsStr::from_bytes(name)), "").is_err() {
            println!(
                "skipped: a_name_that_is_no_text_is_an_error_of_its_entry_alone: the file system refuses it"
            );
            return;
        }
    }
    std::os::unix::fs::symlink(OsStr::from_bytes(b"\xff"), directory.path().join("link")).unwrap();
    let mut program = P2::start(Wasi::Ours, &seeing(directory.path()));
    let root = program.root();
    let illegal = Val::Result(Err(Some(Box::new(Val::Enum("illegal-byte-sequence".to_owned())))));
    let target = program.gives("types/descriptor.readlink-at", &[root.clone(), text("link")]);
    assert_eq!(target, illegal);
    let stream = program.done("types/descriptor.read-directory", &[root]);
    let (mut told, mut errors) = (0, 0);
    loop {
        let name = "types/directory-entry-stream.read-directory-entry";
        match program.gives(name, from_ref(&stream)) {
            Val::Result(Ok(Some(entry))) if *entry == Val::Option(None) => break,
            Val::Result(Ok(_)) => told += 1,
            error => {
                assert_eq!(error, illegal);
                errors += 1;
            }
        }
    }
    assert_eq!((told, errors), (4, 2));
}
