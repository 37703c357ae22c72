//! Read-only preopens.

use abi::{Errno, Handle, OpenFlags, Request, TimesMask};

use super::{CREATE, READ, WRITE};
use crate::host::tests::{Guest, INSIDE, READ_ONLY};

#[test]
fn a_read_only_directory_can_be_read() {
    let mut guest = Guest::new();
    let file = guest.open(READ_ONLY, "file", READ).expect("open");
    assert_eq!(guest.read(file, 0), Ok(b"content".to_vec()));
    assert_eq!(guest.stat_at(READ_ONLY, "file", true), guest.stat(file));
    assert_eq!(guest.read_link(READ_ONLY, "link"), Ok(b"file".to_vec()));
    assert_eq!(guest.list(READ_ONLY, 4096).len(), 3);
    assert_eq!(guest.call(Request::Sync { handle: file, data_only: false }), Ok(0));
}

/// Every call that changes something in `dir`, which has a `file` in it.
fn every_change(dir: Handle) -> Vec<Request<'static>> {
    let (path, from, to) = (b"file", b"file", b"new");
    let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 0);
    let mut requests = vec![
        Request::SetTimes { handle: dir, mask, atime_ns, mtime_ns },
        Request::SetTimesAt { dir, follow: false, mask, atime_ns, mtime_ns, path },
        Request::SetTimesAt { dir, follow: true, mask, atime_ns, mtime_ns, path },
        Request::MkdirAt { dir, path: b"new" },
        Request::UnlinkAt { dir, directory: false, path },
        Request::UnlinkAt { dir, directory: true, path: b"dir" },
        Request::RenameAt { from_dir: dir, to_dir: dir, from, to },
        Request::RenameAt { from_dir: dir, to_dir: INSIDE, from, to },
        Request::RenameAt { from_dir: INSIDE, to_dir: dir, from, to },
        Request::LinkAt { from_dir: dir, to_dir: dir, follow: false, from, to },
        Request::LinkAt { from_dir: INSIDE, to_dir: dir, follow: false, from, to },
        Request::SymlinkAt { dir, target: b"target", path: b"new" },
    ];
    for flags in [WRITE, READ.with(WRITE), CREATE, READ.with(CREATE), OpenFlags::TRUNCATE] {
        requests.push(Request::OpenAt { dir, flags, path });
    }
    requests
}

#[test]
fn a_read_only_directory_refuses_each_change() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let below = guest.open(READ_ONLY, "dir", READ).expect("open");
    for dir in [READ_ONLY, below] {
        for request in every_change(dir) {
            assert_eq!(guest.ask(request).err(), Some(Errno::ReadOnly), "{request:?}");
        }
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_file_from_a_read_only_directory_refuses_each_change() {
    let mut guest = Guest::new();
    let handle = guest.open(READ_ONLY, "file", READ).expect("open");
    let name_only = guest.open(READ_ONLY, "file", OpenFlags::default()).expect("open");
    let (mask, atime_ns, mtime_ns) = (TimesMask::ATIME_NOW, 0, 0);
    for handle in [handle, name_only] {
        let times = Request::SetTimes { handle, mask, atime_ns, mtime_ns };
        assert_eq!(guest.call(times), Err(Errno::ReadOnly));
        assert_eq!(guest.call(Request::SetSize { handle, size: 0 }), Err(Errno::ReadOnly));
        assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::BadHandle));
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_hard_link_does_not_make_a_read_only_file_writable() {
    let mut guest = Guest::new();
    let (from_dir, to_dir, from, to) = (READ_ONLY, INSIDE, b"file", b"mine");
    for follow in [false, true] {
        let link = Request::LinkAt { from_dir, to_dir, follow, from, to };
        assert_eq!(guest.call(link), Err(Errno::CrossDevice));
    }
    assert!(!guest.inside("mine").exists());
}
