//! Opening, and the rights of what was opened.

use std::fs;

use abi::{Errno, FileKind, Handle, OpenFlags, Request, TimesMask};

use super::{CREATE, FOLLOW, READ, WRITE};
use crate::host::fs::DSYNC;
use crate::host::tests::{Guest, INSIDE, READ_ONLY};

#[test]
fn a_file_is_created_written_and_read_back() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    assert_eq!(guest.write(file, 0, b"hello world"), Ok(11));
    assert_eq!(guest.write(file, 6, b"there"), Ok(5));
    assert_eq!(guest.read(file, 0), Ok(b"hello there".to_vec()));
    assert_eq!(guest.read(file, 6), Ok(b"there".to_vec()));
    assert_eq!(guest.read(file, 11), Ok(vec![]));
    assert_eq!(fs::read(guest.inside("file")).expect("read"), b"hello there");
}

#[test]
fn a_name_that_does_not_exist_is_not_created_unless_asked() {
    let mut guest = Guest::new();
    assert_eq!(guest.open(INSIDE, "file", READ), Err(Errno::NotFound));
    assert_eq!(guest.open(INSIDE, "file", WRITE), Err(Errno::NotFound));
    assert_eq!(guest.open(INSIDE, "file", OpenFlags::default()), Err(Errno::NotFound));
}

#[test]
fn exclusive_creation_fails_if_the_name_exists() {
    let mut guest = Guest::new();
    let flags = WRITE.with(CREATE).with(OpenFlags::EXCLUSIVE);
    assert!(guest.open(INSIDE, "file", flags).is_ok());
    assert_eq!(guest.open(INSIDE, "file", flags), Err(Errno::Exists));
    assert!(guest.open(INSIDE, "file", WRITE.with(OpenFlags::EXCLUSIVE)).is_ok());
}

#[test]
fn truncation_empties_the_file() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.open(INSIDE, "file", WRITE.with(OpenFlags::TRUNCATE)).expect("open");
    assert_eq!(fs::read(guest.inside("file")).expect("read"), b"");
}

#[test]
fn rights_are_those_asked_for() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    let reader = guest.open(INSIDE, "file", READ).expect("open");
    let writer = guest.open(INSIDE, "file", WRITE).expect("open");
    let creator = guest.open(INSIDE, "file", CREATE).expect("open");
    assert_eq!(guest.write(reader, 0, b"x"), Err(Errno::BadHandle));
    assert_eq!(guest.read(writer, 0), Err(Errno::BadHandle));
    assert_eq!(guest.read(creator, 0), Err(Errno::BadHandle));
    assert_eq!(guest.write(creator, 0, b"x"), Err(Errno::BadHandle));
    let size = |handle| Request::SetSize { handle, size: 0 };
    assert_eq!(guest.call(size(reader)), Err(Errno::BadHandle));
    assert_eq!(guest.call(size(creator)), Err(Errno::BadHandle));
}

#[test]
fn a_handle_without_read_and_write_serves_to_describe_and_to_set_times() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.symlink("nowhere", "link").expect("symlink");
    guest.fifo("fifo");
    for name in ["file", "link", "fifo", "."] {
        let handle = guest.open(INSIDE, name, OpenFlags::default()).expect("open");
        let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 5_000_000_000);
        let times = Request::SetTimes { handle, mask, atime_ns, mtime_ns };
        assert_eq!(guest.call(times), Ok(0), "{name}");
        let stat = guest.stat(handle).expect("stat");
        assert_eq!(stat.mtime_ns, 5_000_000_000, "{name}");
        assert_eq!(guest.stat_at(INSIDE, name, false), Ok(stat), "{name}");
        assert_eq!(guest.read(handle, 0), Err(Errno::BadHandle), "{name}");
        assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::BadHandle), "{name}");
        let sync = Request::Sync { handle, data_only: false };
        assert_eq!(guest.call(sync), Err(Errno::BadHandle), "{name}");
        let list = Request::ReadDir { handle, cookie: 0 };
        assert_eq!(guest.ask(list), Err(Errno::BadHandle), "{name}");
    }
}

#[test]
fn a_directory_is_opened_for_reading_only() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("file", "");
    assert!(guest.open(INSIDE, "dir", READ).is_ok());
    assert!(guest.open(INSIDE, "dir", READ.with(OpenFlags::DIRECTORY)).is_ok());
    assert_eq!(guest.open(INSIDE, "dir", WRITE), Err(Errno::IsDirectory));
    assert_eq!(guest.open(INSIDE, "dir", READ.with(CREATE)), Err(Errno::IsDirectory));
    let not_a_directory = guest.open(INSIDE, "file", READ.with(OpenFlags::DIRECTORY));
    assert_eq!(not_a_directory, Err(Errno::NotDirectory));
    let create = guest.open(INSIDE, "new", READ.with(CREATE).with(OpenFlags::DIRECTORY));
    assert_eq!(create, Err(Errno::Invalid));
    assert!(!guest.inside("new").exists());
}

#[test]
fn a_directory_is_neither_read_nor_written_nor_resized() {
    let mut guest = Guest::new();
    assert_eq!(guest.read(INSIDE, 0), Err(Errno::BadHandle));
    assert_eq!(guest.write(INSIDE, 0, b"x"), Err(Errno::BadHandle));
    let size = Request::SetSize { handle: INSIDE, size: 0 };
    assert_eq!(guest.call(size), Err(Errno::BadHandle));
}

#[test]
fn opening_for_synchronous_writes_says_so_to_the_kernel() {
    let mut guest = Guest::new();
    let flags = |guest: &Guest, handle| {
        let object = guest.host.handles.get(handle).expect("open");
        rustix::fs::fcntl_getfl(object.fd()).expect("flags")
    };
    let (sync, dsync) = (rustix::fs::OFlags::SYNC, DSYNC);
    let open = WRITE.with(CREATE);
    let both = guest.open(INSIDE, "file", open.with(OpenFlags::SYNC)).expect("open");
    assert!(flags(&guest, both).contains(sync));
    let data = guest.open(INSIDE, "file", open.with(OpenFlags::DATA_SYNC)).expect("open");
    assert!(flags(&guest, data).contains(dsync) && !flags(&guest, data).contains(sync));
    assert_eq!(guest.write(both, 0, b"text"), Ok(4));
}

#[test]
fn a_regular_file_is_opened_to_block() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let object = guest.host.handles.get(file).expect("open");
    let flags = rustix::fs::fcntl_getfl(object.fd()).expect("flags");
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
}

#[test]
fn an_opened_object_is_described() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.mkdir("dir").expect("mkdir");
    guest.symlink("file", "link").expect("symlink");
    guest.fifo("fifo");
    let name_only = OpenFlags::default();
    let cases = [
        ("file", READ, FileKind::RegularFile, 4),
        ("file", WRITE, FileKind::RegularFile, 4),
        ("file", name_only, FileKind::RegularFile, 4),
        ("link", READ.with(FOLLOW), FileKind::RegularFile, 4),
        ("link", name_only, FileKind::SymbolicLink, 4),
        ("dir", READ, FileKind::Directory, guest.stat_at(INSIDE, "dir", true).expect("stat").size),
        ("fifo", READ, FileKind::Fifo, 0),
        ("fifo", name_only, FileKind::Fifo, 0),
        ("new", WRITE.with(CREATE), FileKind::RegularFile, 0),
        ("file", WRITE.with(OpenFlags::TRUNCATE), FileKind::RegularFile, 0),
    ];
    for (path, flags, kind, size) in cases {
        let (handle, described) = guest.open_described(INSIDE, path, flags).expect(path);
        assert_eq!(FileKind::from_wire(described.kind), kind, "{path}");
        assert_eq!(described.size, size, "{path}");
        assert_eq!(guest.stat(handle), Ok(described), "{path}");
        let follow = flags.contains(FOLLOW);
        assert_eq!(guest.stat_at(INSIDE, path, follow), Ok(described), "{path}");
    }
}

#[test]
fn an_opened_object_whose_description_does_not_fit_is_closed_again() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let request = Request::OpenAt { dir: INSIDE, flags: READ, path: b"file" };
    assert_eq!(guest.host.call(request, &mut [0; 63]), Err(Errno::TooBig));
    assert_eq!(guest.open(INSIDE, "file", READ), Ok(Handle(READ_ONLY.0 + 1)), "the next number");
}
