//! Reading, writing, the size of files, and the room they take.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use abi::layout::CALL_DATA_BYTES;
use abi::{APPEND, Advice, Errno, Handle, OpenFlags, Request};

use super::{CREATE, READ, WRITE};
use crate::host::DirAccess;
use crate::host::tests::{Guest, INSIDE, READ_ONLY};

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
    assert_eq!(guest.append(file, b" off"), Ok((4, offset + 7)));
    assert_eq!(guest.read(file, offset), Ok(b"far off".to_vec()));
    // Not what a counter of 32 bits would make of it.
    assert_eq!(guest.read(file, offset - (4 << 30)), Ok(vec![0; CALL_DATA_BYTES]));

    let size = (6 << 30) + 5;
    assert_eq!(guest.call(Request::SetSize { handle: file, size }), Ok(0));
    assert_eq!(guest.stat(file).expect("stat").size, size);
    assert_eq!(guest.read(file, size - 1), Ok(vec![0]));
    assert_eq!(guest.read(file, size), Ok(vec![]));
    assert_eq!(guest.call(allocate(file, 7 << 30, 4096)), Ok(0));
    assert_eq!(guest.stat_at(INSIDE, "file", true).expect("stat").size, (7 << 30) + 4096);
    assert_eq!(guest.call(advise(file, 5 << 30, 4 << 30, Advice::WillNeed)), Ok(0));
    assert!(blocks(&guest, "file") < (1 << 20) / 512, "sparse");
}

#[test]
fn the_largest_offset_is_told_from_one_too_large() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let last = i64::MAX.cast_unsigned() - CALL_DATA_BYTES as u64;
    assert_eq!(guest.read(file, last), Ok(vec![]));
    assert_eq!(guest.read(file, last + 1), Err(Errno::Invalid));
    // How large a file may be is its file system's to say.
    let written = guest.write(file, last, b"x");
    assert!(matches!(written, Ok(1) | Err(Errno::FileTooLarge)), "{written:?}");
    for request in [allocate(file, last, 1), Request::SetSize { handle: file, size: last }] {
        let done = guest.call(request);
        assert!(matches!(done, Ok(0) | Err(Errno::FileTooLarge)), "{request:?}: {done:?}");
    }
    assert_eq!(guest.call(allocate(file, last, last)), Err(Errno::FileTooLarge));
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
        let append = |_| match other.append(log, [byte; 64]) {
            Ok((64, end)) => (byte, usize::try_from(end).expect("small")),
            other => panic!("{other:?}"),
        };
        (0..LINES).map(append).collect::<Vec<_>>()
    };
    let ends = thread::scope(|scope| {
        let append = &append;
        let threads = [b'a', b'b'].map(|byte| scope.spawn(move || append(byte)));
        threads.map(|thread| thread.join().expect("appends")).concat()
    });
    let log = fs::read(guest.inside("log")).expect("read");
    assert_eq!(log.len(), 2 * LINES * 64);
    // Each is where the answer says, whatever the other has appended meanwhile.
    for (byte, end) in ends {
        assert!(log[end - 64..end].iter().all(|found| *found == byte), "{end}");
    }
}

#[test]
fn an_append_whose_end_cannot_be_told_is_not_made() {
    let mut guest = Guest::new();
    let handle = guest.create("file");
    let request = Request::Write { handle, offset: APPEND, wait: false, data: b"text" };
    assert_eq!(guest.host.call(request, &mut [0; 7]), Err(Errno::TooBig));
    assert_eq!(guest.stat(handle).expect("stat").size, 0);
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

// Allocate.

fn allocate(handle: Handle, offset: u64, len: u64) -> Request<'static> {
    Request::Allocate { handle, offset, len }
}

/// Room that a file takes on the medium, in blocks of 512 bytes.
fn blocks(guest: &Guest, path: &str) -> u64 {
    fs::metadata(guest.inside(path)).expect("stat").blocks()
}

#[test]
fn allocating_grows_a_file_and_reserves_room_for_it() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    guest.write(file, 0, b"text").expect("write");
    assert_eq!(guest.call(allocate(file, 0, 1 << 20)), Ok(0));
    assert_eq!(guest.stat(file).expect("stat").size, 1 << 20);
    assert!(blocks(&guest, "file") >= (1 << 20) / 512, "{}", blocks(&guest, "file"));
    assert_eq!(guest.read(file, 0).expect("read")[..6], *b"text\0\0");
}

#[test]
fn allocating_within_a_file_changes_neither_size_nor_content() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    guest.write(file, 0, b"0123456789").expect("write");
    assert_eq!(guest.call(allocate(file, 2, 4)), Ok(0));
    assert_eq!(guest.read(file, 0), Ok(b"0123456789".to_vec()));
    assert_eq!(guest.call(allocate(file, 8, 4)), Ok(0));
    assert_eq!(guest.read(file, 0), Ok(b"0123456789\0\0".to_vec()));
}

#[test]
fn allocating_needs_the_write_right() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    let reader = guest.open(INSIDE, "file", READ).expect("open");
    let creator = guest.open(INSIDE, "file", CREATE).expect("open");
    let name_only = guest.open(INSIDE, "file", OpenFlags::default()).expect("open");
    let read_only = guest.open(READ_ONLY, "file", READ).expect("open");
    for handle in [reader, creator, name_only, read_only, Handle::STDIN, Handle(4711)] {
        assert_eq!(guest.call(allocate(handle, 0, 100)), Err(Errno::BadHandle), "{handle:?}");
    }
    assert_eq!(fs::read(guest.inside("file")).expect("read"), b"text");
    guest.assert_nothing_outside_changed();
}

#[test]
fn only_a_file_has_room_to_allocate() {
    let mut guest = Guest::new();
    guest.fifo("fifo");
    let fifo = guest.open(INSIDE, "fifo", READ.with(WRITE)).expect("open");
    assert_eq!(guest.call(allocate(INSIDE, 0, 100)), Err(Errno::BadHandle));
    assert_eq!(guest.call(allocate(fifo, 0, 100)), Err(Errno::NotSeekable));
    assert_eq!(guest.call(allocate(Handle::STDOUT, 0, 100)), Err(Errno::NotSeekable));
}

#[test]
fn allocating_no_bytes_or_beyond_the_range_is_invalid() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    for (offset, len) in [(0, 0), (5, 0), (1 << 63, 1), (u64::MAX, 1), (0, 1 << 63), (0, u64::MAX)]
    {
        let result = guest.call(allocate(file, offset, len));
        assert_eq!(result, Err(Errno::Invalid), "{offset:#x} {len:#x}");
    }
    assert_eq!(guest.stat(file).expect("stat").size, 0);
}

// Advise.

const ADVICE: [Advice; 6] = [
    Advice::Normal,
    Advice::Sequential,
    Advice::Random,
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::NoReuse,
];

fn advise(handle: Handle, offset: u64, len: u64, advice: Advice) -> Request<'static> {
    Request::Advise { handle, offset, len, advice }
}

#[test]
fn every_advice_is_taken_for_a_file_and_changes_nothing() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    guest.write(file, 0, b"text").expect("write");
    let reader = guest.open(READ_ONLY, "file", READ).expect("open");
    for advice in ADVICE {
        for (offset, len) in [(0, 0), (0, 4), (100, 1), (i64::MAX.cast_unsigned(), 0)] {
            assert_eq!(guest.call(advise(file, offset, len, advice)), Ok(0), "{advice:?}");
            assert_eq!(guest.call(advise(reader, offset, len, advice)), Ok(0), "{advice:?}");
        }
    }
    assert_eq!(guest.read(file, 0), Ok(b"text".to_vec()));
}

#[test]
fn only_a_file_takes_advice() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.fifo("fifo");
    let fifo = guest.open(INSIDE, "fifo", READ).expect("open");
    let name_only = guest.open(INSIDE, "file", OpenFlags::default()).expect("open");
    for advice in ADVICE {
        for handle in [INSIDE, name_only, Handle(4711)] {
            let result = guest.call(advise(handle, 0, 0, advice));
            assert_eq!(result, Err(Errno::BadHandle), "{handle:?}");
        }
        for handle in [fifo, Handle::STDIN, Handle::STDOUT] {
            let result = guest.call(advise(handle, 0, 0, advice));
            assert_eq!(result, Err(Errno::NotSeekable), "{handle:?}");
        }
    }
}

#[test]
fn advice_beyond_the_range_is_invalid() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    for (offset, len) in [(1 << 63, 0), (u64::MAX, 1), (0, 1 << 63), (0, u64::MAX)] {
        let result = guest.call(advise(file, offset, len, Advice::Normal));
        assert_eq!(result, Err(Errno::Invalid), "{offset:#x} {len:#x}");
    }
}
