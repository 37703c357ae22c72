//! Positions of files: what moves them, and what does not.

use std::path::Path;

use oracle::Wasi;

use super::{P1, RESULT, ROOT};

/// `rights` to read and to write, `fdflags` to append.
const READ_WRITE: u64 = 1 << 1 | 1 << 6;
const APPEND: u64 = 1;

/// A program that has a file of 7 bytes open as 4, with these flags.
fn program(directory: &Path, flags: u64) -> P1 {
    std::fs::write(directory.join("file"), "content").unwrap();
    let mut program = P1::start(Wasi::Ours, directory);
    assert_eq!(program.open(ROOT, b"file", 0, READ_WRITE, flags), Ok(4));
    program
}

fn position(program: &mut P1) -> u64 {
    let arguments = [4, RESULT.into()];
    let (errno, position) = program.call_with(&[], "fd_tell", &arguments, (RESULT, 8)).unwrap();
    assert_eq!(errno, 0);
    u64::from_le_bytes(position.try_into().unwrap())
}

#[test]
fn appending_goes_to_the_end_whatever_others_have_written_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path(), APPEND);
    assert_eq!(program.write(4, b"one"), Ok(3));
    assert_eq!(position(&mut program), 10);
    let mut other =
        std::fs::File::options().append(true).open(directory.path().join("file")).unwrap();
    std::io::Write::write_all(&mut other, b"two").unwrap();
    assert_eq!(program.write(4, b"three"), Ok(5));
    assert_eq!(position(&mut program), 18);
    assert_eq!(std::fs::read(directory.path().join("file")).unwrap(), b"contentonetwothree");
}

#[test]
fn appending_nothing_moves_no_position() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path(), APPEND);
    assert_eq!(program.write(4, b""), Ok(0));
    assert_eq!(position(&mut program), 0);
}

#[test]
fn a_position_beyond_the_end_leaves_a_hole_when_it_is_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path(), 0);
    let far = (5_u64 << 30) + 1;
    assert_eq!(program.errno("fd_seek", &[4, far, 0, RESULT.into()]), 0);
    assert_eq!(program.write(4, b"x"), Ok(1));
    assert_eq!(position(&mut program), far + 1);
    let file = std::fs::File::open(directory.path().join("file")).unwrap();
    let mut bytes = [1; 2];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, far - 1).unwrap();
    assert_eq!(bytes, [0, b'x']);
    assert_eq!(file.metadata().unwrap().len(), far + 1);
}

#[test]
fn a_position_before_the_start_is_refused_and_the_position_stays() {
    const INVAL: u16 = 28;
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path(), 0);
    assert_eq!(program.errno("fd_seek", &[4, 3, 0, RESULT.into()]), 0);
    for (offset, whence) in [(-4, 1), (-8, 2), (-1, 0), (i64::MIN, 1)] {
        let arguments = [4, i64::cast_unsigned(offset), whence, RESULT.into()];
        assert_eq!(program.errno("fd_seek", &arguments), INVAL);
    }
    assert_eq!(position(&mut program), 3);
}

#[test]
fn what_another_has_changed_is_read_although_reading_is_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut program = program(directory.path(), 0);
    std::fs::write(&path, [b'a'; 100_000]).unwrap();
    let (mut rest, mut round) = (100_000_u32, 0_u8);
    let buffer = super::vector(1000);
    let arguments = [4, super::VECTOR.into(), 1, RESULT.into()];
    while rest > 0 {
        let pokes = [(super::VECTOR, &buffer[..])];
        let (errno, data) =
            program.call_with(&pokes, "fd_read", &arguments, (super::DATA, 1000)).unwrap();
        assert_eq!(errno, 0);
        assert!(data.iter().all(|byte| *byte == b'a' + round), "after {rest} bytes to go");
        rest -= 1000;
        // The next read comes after a host call of another kind, which is how a program learns that time
        // has passed.
        round = (round + 1) % 20;
        std::fs::write(&path, [b'a' + round; 100_000]).unwrap();
        assert_eq!(program.errno("fd_filestat_get", &[4, u64::from(super::RESULT) + 64]), 0);
    }
}
