//! Reading, writing and the size of files.

use std::fs;
use std::thread;

use abi::{APPEND, Errno, Handle, Request};

use super::{CREATE, WRITE};
use crate::host::DirAccess;
use crate::host::tests::{Guest, INSIDE};

#[test]
fn positions_beyond_the_range_are_invalid() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let beyond = i64::MAX.cast_unsigned() + 1;
    assert_eq!(guest.read(file, beyond), Err(Errno::Invalid));
    assert_eq!(guest.read(file, u64::MAX), Err(Errno::Invalid));
    assert_eq!(guest.write(file, beyond, b"x"), Err(Errno::Invalid));
    let size = Request::SetSize { handle: file, size: beyond };
    assert_eq!(guest.call(size), Err(Errno::Invalid));
}

#[test]
fn a_sparse_file_goes_beyond_4_gib() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let offset = (5 << 30) + 1;
    assert_eq!(guest.write(file, offset, b"far"), Ok(3));
    assert_eq!(guest.read(file, offset), Ok(b"far".to_vec()));
    assert_eq!(guest.stat(file).expect("stat").size, offset + 3);
    assert_eq!(guest.write(file, APPEND, b" off"), Ok(4));
    assert_eq!(guest.read(file, offset), Ok(b"far off".to_vec()));
}

#[test]
fn appends_of_two_guests_do_not_overwrite_each_other() {
    const LINES: usize = 2_000;
    let guest = Guest::new();
    let append = |byte: u8| {
        let mut other = Guest::new();
        let dir = fs::File::open(guest.inside(".")).expect("open").into();
        let dir = other.host.preopen(dir, "/data", DirAccess::ReadWrite).expect("preopen");
        let log = other.open(dir, "log", WRITE.with(CREATE)).expect("open");
        for _ in 0..LINES {
            assert_eq!(other.write(log, APPEND, [byte; 64]), Ok(64));
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| append(b'a'));
        scope.spawn(|| append(b'b'));
    });
    let log = fs::read(guest.inside("log")).expect("read");
    assert_eq!(log.len(), 2 * LINES * 64);
    assert!(log.chunks(64).all(|line| line.iter().all(|byte| *byte == line[0])));
}

#[test]
fn the_size_of_a_file_can_be_set() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    guest.write(file, 0, b"text").expect("write");
    assert_eq!(guest.call(Request::SetSize { handle: file, size: 2 }), Ok(0));
    assert_eq!(guest.call(Request::SetSize { handle: file, size: 4 }), Ok(0));
    assert_eq!(guest.read(file, 0), Ok(b"te\0\0".to_vec()));
    let unknown = Request::SetSize { handle: Handle(4711), size: 0 };
    assert_eq!(guest.call(unknown), Err(Errno::BadHandle));
}

#[test]
fn files_and_directories_can_be_synced() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    for handle in [file, INSIDE] {
        for data_only in [false, true] {
            assert_eq!(guest.call(Request::Sync { handle, data_only }), Ok(0));
        }
    }
    let unknown = Request::Sync { handle: Handle(4711), data_only: false };
    assert_eq!(guest.call(unknown), Err(Errno::BadHandle));
}
