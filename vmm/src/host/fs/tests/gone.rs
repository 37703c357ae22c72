//! What goes away or is used up meanwhile: a preopened directory, the room on a disk.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use abi::layout::CALL_DATA_BYTES;
use abi::{APPEND, Errno, Handle, Request};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::paths::every_path_call;
use super::{CREATE, READ, WRITE};
use crate::host::DirAccess;
use crate::host::tests::{Guest, INSIDE, null};

#[test]
fn a_preopened_directory_that_is_removed_has_nothing_in_it() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    guest.mkdir("dir").expect("mkdir");
    let dir = guest.open(INSIDE, "dir", READ).expect("open");
    fs::remove_dir_all(guest.inside(".")).expect_err("`.` is refused");
    fs::remove_dir_all(guest.root.path().join("inside")).expect("remove");

    for request in every_path_call(b"file") {
        assert_eq!(guest.ask(request).err(), Some(Errno::NotFound), "{request:?}");
    }
    let from_below = Request::OpenAt { dir, flags: WRITE.with(CREATE), path: b"new" };
    assert_eq!(guest.ask(from_below).err(), Some(Errno::NotFound));
    for path in ["..", "../inside", "/"] {
        assert_eq!(guest.stat_at(INSIDE, path, true), Err(Errno::NotPermitted), "{path}");
    }
    let listed = guest.page(INSIDE, 0, &mut [0; 4096]);
    assert!(matches!(listed.as_deref(), Ok([]) | Err(Errno::NotFound)), "{listed:?}");
    // What is open stays open.
    assert_eq!(guest.stat(INSIDE).expect("stat").links, 0);
    assert_eq!(guest.write(file, 0, b"text"), Ok(4));
    assert_eq!(guest.read(file, 0), Ok(b"text".to_vec()));
    assert_eq!(guest.call(Request::Sync { handle: INSIDE, data_only: false }), Ok(0));
    assert_eq!(guest.call(Request::Close { handle: INSIDE }), Ok(0));
}

#[test]
fn a_preopened_directory_that_is_moved_is_followed_and_not_what_takes_its_place() {
    let mut guest = Guest::new();
    guest.write_inside("file", "mine");
    let root = guest.root.path().to_owned();
    let path = |name| root.join(name);
    let (inside, moved) = (path("inside"), path("outside/moved"));
    fs::rename(&inside, &moved).expect("rename");
    fs::create_dir(&inside).expect("mkdir");
    fs::write(inside.join("file"), "other").expect("write");

    let file = guest.open(INSIDE, "file", READ).expect("open");
    assert_eq!(guest.read(file, 0), Ok(b"mine".to_vec()));
    assert_eq!(guest.stat_at(INSIDE, "../file", true), Err(Errno::NotPermitted));
    fs::rename(&moved, path("outside-no-more")).expect("rename");
    fs::remove_dir_all(&inside).expect("remove");
    fs::rename(path("outside-no-more"), &inside).expect("rename");
    guest.assert_nothing_outside_changed();
}

/// A file system of its own with room for `bytes`, mounted nowhere: it is gone when it is closed.
fn disk(bytes: usize, inodes: usize) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", bytes.to_string())?;
    fsconfig_set_string(&context, "nr_inodes", inodes.to_string())?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(mount, ".", flags, Mode::empty())
}

/// Makes a [`disk`], or returns from the test if this process may not.
macro_rules! disk_or_skip {
    ($test:ident, $bytes:expr, $inodes:expr) => {
        match disk($bytes, $inodes) {
            Ok(disk) => disk,
            Err(errno) => {
                println!("skipped: {}: no file system to fill: {errno}", stringify!($test));
                return;
            }
        }
    };
}

/// Room for one whole write and a half.
const ROOM: usize = CALL_DATA_BYTES + CALL_DATA_BYTES / 2;

/// Bytes that tell where they belong.
fn pattern(start: usize) -> Vec<u8> {
    (start..start + CALL_DATA_BYTES).map(|at| (at / 251 + at % 251).to_le_bytes()[0]).collect()
}

/// Writes to `handle` until there is no room; returns what was reported as written.
fn fill(guest: &mut Guest, handle: Handle, offset: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut written = Vec::new();
    loop {
        let (data, offset) = (pattern(written.len()), offset(written.len()));
        let result = match offset {
            APPEND => guest.append(handle, &data).map(|(len, end)| {
                assert_eq!(end, written.len() as u64 + len);
                len
            }),
            offset => guest.write(handle, offset, &data),
        };
        match result {
            Ok(len) => written.extend(&data[..usize::try_from(len).expect("no more than asked")]),
            Err(errno) => {
                assert_eq!(errno, Errno::NoSpace);
                return written;
            }
        }
    }
}

#[test]
fn a_full_disk_has_every_byte_that_was_reported_as_written() {
    let disk = disk_or_skip!(a_full_disk_has_every_byte_that_was_reported_as_written, ROOM, 100);
    let mut guest = Guest::new();
    let dir = guest.host.preopen(disk, "/disk", DirAccess::ReadWrite).expect("preopen");
    for append in [false, true] {
        let file = guest.open(dir, "file", READ.with(WRITE).with(CREATE)).expect("create");
        let written = fill(&mut guest, file, |at| if append { APPEND } else { at as u64 });
        assert_eq!(written.len(), ROOM, "the last write was short");
        assert_eq!(guest.stat(file).expect("stat").size, ROOM as u64);
        let mut found = guest.read(file, 0).expect("read");
        found.extend(guest.read(file, CALL_DATA_BYTES as u64).expect("read"));
        assert!(found == written, "append: {append}");
        assert_eq!(guest.call(Request::Sync { handle: file, data_only: false }), Ok(0));

        // What is there can be changed; what is given back can be used again.
        assert_eq!(guest.write(file, 0, b"changed"), Ok(7));
        let unlink = Request::UnlinkAt { dir, directory: false, path: b"file" };
        assert_eq!(guest.call(unlink), Ok(0));
        guest.call(Request::Close { handle: file }).expect("close");
    }
}

#[test]
fn a_full_disk_refuses_to_allocate_and_leaves_the_file_as_it_was() {
    let disk =
        disk_or_skip!(a_full_disk_refuses_to_allocate_and_leaves_the_file_as_it_was, ROOM, 100);
    let mut guest = Guest::new();
    let dir = guest.host.preopen(disk, "/disk", DirAccess::ReadWrite).expect("preopen");
    let file = guest.open(dir, "file", READ.with(WRITE).with(CREATE)).expect("create");
    guest.write(file, 0, b"text").expect("write");
    let allocate = |offset: usize, len: usize| Request::Allocate {
        handle: file,
        offset: offset as u64,
        len: len as u64,
    };
    assert_eq!(guest.call(allocate(0, ROOM + 1)), Err(Errno::NoSpace));
    assert_eq!(guest.read(file, 0), Ok(b"text".to_vec()));
    // A size is no room, but a reservation is.
    let size = 1 << 30;
    assert_eq!(guest.call(Request::SetSize { handle: file, size }), Ok(0));
    assert_eq!(guest.call(allocate(0, ROOM)), Ok(0));
    assert_eq!(guest.write(file, size, b"x"), Err(Errno::NoSpace));
    assert_eq!(guest.write(file, 8, b"reserved"), Ok(8));
}

#[test]
fn a_disk_without_room_for_names_says_so() {
    let disk = disk_or_skip!(a_disk_without_room_for_names_says_so, ROOM, 3);
    let mut guest = Guest::new();
    let dir = guest.host.preopen(disk, "/disk", DirAccess::ReadWrite).expect("preopen");
    guest.open(dir, "first", WRITE.with(CREATE)).expect("create");
    guest.call(Request::MkdirAt { dir, path: b"second" }).expect("mkdir");
    assert_eq!(guest.open(dir, "third", WRITE.with(CREATE)), Err(Errno::NoSpace));
    let mkdir = Request::MkdirAt { dir, path: b"third" };
    assert_eq!(guest.call(mkdir), Err(Errno::NoSpace));
    let symlink = Request::SymlinkAt { dir, target: b"first", path: b"third" };
    assert_eq!(guest.call(symlink), Err(Errno::NoSpace));
    assert!(guest.open(dir, "first", READ).is_ok());
}

#[test]
fn standard_output_to_a_full_disk_has_every_byte_that_was_reported_as_written() {
    let disk = disk_or_skip!(
        standard_output_to_a_full_disk_has_every_byte_that_was_reported_as_written,
        ROOM,
        100
    );
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let log = openat(disk, "log", flags, Mode::from_raw_mode(0o600)).expect("create");
    let mut guest = Guest::with_stdio(null(), log.try_clone().expect("duplicate"));
    let written = fill(&mut guest, Handle::STDOUT, |_| 0);
    assert_eq!(written.len(), ROOM, "the last write was short");
    let mut log = fs::File::from(log);
    rustix::fs::seek(&log, rustix::fs::SeekFrom::Start(0)).expect("seek");
    let mut found = Vec::new();
    log.read_to_end(&mut found).expect("read");
    assert!(found == written);
}
