//! Handles and preopens.

use std::fs;
use std::io::Read as _;

use abi::boot::Preopen;
use abi::{Errno, Handle, OpenFlags, Request};

use super::super::handles::Handles;
use super::super::{DirAccess, Error};
use super::{Guest, INSIDE, READ_ONLY, guest_writing_to_a_pipe};

#[test]
fn a_standard_stream_can_be_closed_and_its_number_is_given_again() {
    let (mut guest, mut reader) = guest_writing_to_a_pipe();
    assert_eq!(guest.call(Request::Close { handle: Handle::STDOUT }), Ok(0));
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::BadHandle));
    assert_eq!(reader.read(&mut [0]).expect("read"), 0);
    assert_eq!(guest.create("file"), Handle::STDOUT);
}

#[test]
fn closing_twice_is_a_bad_handle() {
    let mut guest = Guest::new();
    let handle = guest.create("file");
    assert_eq!(guest.call(Request::Close { handle }), Ok(0));
    assert_eq!(guest.call(Request::Close { handle }), Err(Errno::BadHandle));
}

#[test]
fn a_closed_preopen_is_no_longer_listed() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(Request::Close { handle: INSIDE }), Ok(0));
    assert_eq!(guest.stat_at(INSIDE, ".", true), Err(Errno::BadHandle));
    let read_only = Preopen { handle: READ_ONLY, writable: false, guest_path: b"/etc" };
    assert_eq!(guest.host.preopens().collect::<Vec<_>>(), [read_only]);
}

#[test]
fn preopens_are_listed_with_their_paths_and_access() {
    let guest = Guest::new();
    let inside = Preopen { handle: INSIDE, writable: true, guest_path: b"/data" };
    let read_only = Preopen { handle: READ_ONLY, writable: false, guest_path: b"/etc" };
    assert_eq!(guest.host.preopens().collect::<Vec<_>>(), [inside, read_only]);
}

#[test]
fn only_a_directory_can_be_preopened() {
    let mut guest = Guest::new();
    let file = fs::File::open(guest.root.path().join("sentinel")).expect("open").into();
    let error = guest.host.preopen(file, "/data", DirAccess::ReadOnly).expect_err("refused");
    assert!(matches!(error, Error::NotADirectory { .. }), "{error:?}");
}

#[test]
fn guest_paths_are_checked() {
    let mut guest = Guest::new();
    let too_long = vec![b'a'; abi::layout::PATH_BYTES_MAX + 1];
    for path in [&b""[..], b"/a\0b", &too_long] {
        let dir = fs::File::open(guest.root.path()).expect("open").into();
        let error = guest.host.preopen(dir, path, DirAccess::ReadOnly).expect_err("refused");
        assert!(matches!(error, Error::GuestPath { .. }), "{error:?}");
    }
}

#[test]
fn a_guest_that_uses_up_its_handles_recovers_by_closing_one() {
    let mut guest = Guest::new();
    guest.host.handles = Handles::with_limit(16);
    let dir = fs::File::open(guest.root.path().join("inside")).expect("open").into();
    let dir = guest.host.preopen(dir, "/data", DirAccess::ReadWrite).expect("preopen");
    let create = OpenFlags::READ.with(OpenFlags::CREATE);
    for number in 1..16 {
        assert_eq!(guest.open(dir, format!("file{number}"), create), Ok(Handle(number)));
    }
    assert_eq!(guest.open(dir, "one-more", create), Err(Errno::TooManyHandles));
    assert!(!guest.inside("one-more").exists(), "created without a handle");
    assert_eq!(guest.call(Request::Close { handle: Handle(7) }), Ok(0));
    assert_eq!(guest.open(dir, "one-more", create), Ok(Handle(7)));
}

#[test]
fn more_preopens_than_handles_are_refused() {
    let mut guest = Guest::new();
    guest.host.handles = Handles::with_limit(1);
    let mut preopen = || {
        let dir = fs::File::open(guest.root.path()).expect("open").into();
        guest.host.preopen(dir, "/data", DirAccess::ReadOnly)
    };
    preopen().expect("the first");
    assert!(matches!(preopen(), Err(Error::TooManyHandles { limit: 1 })));
}

#[test]
fn the_calls_of_the_micro_vm_are_not_the_hosts() {
    let mut guest = Guest::new();
    let requests = [
        Request::Exit { status: 0 },
        Request::Abort { kind: abi::AbortKind::Panic, message: b"" },
        Request::Log { level: abi::LogLevel::Info, message: b"" },
        Request::Map { gva: 0, len: 4096, access: abi::Access::Read },
    ];
    for request in requests {
        assert_eq!(guest.call(request), Err(Errno::NotSupported), "{request:?}");
    }
}
