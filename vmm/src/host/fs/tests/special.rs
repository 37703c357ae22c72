//! FIFOs, devices and sockets in a directory.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;

use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, FOREVER, Request, poll_events};

use super::{FOLLOW, READ, WRITE};
use crate::host::DirAccess;
use crate::host::tests::{Guest, INSIDE};

#[test]
fn a_fifo_gives_again_until_a_writer_writes() {
    let mut guest = Guest::new();
    guest.fifo("fifo");
    let reader = guest.open(INSIDE, "fifo", READ).expect("open without a writer");
    assert_eq!(guest.read(reader, 0), Err(Errno::Again));
    assert_eq!(guest.poll(&[(reader, poll_events::READ)], 0), Ok(vec![0]));
    let mut writer =
        fs::File::options().write(true).open(guest.inside("fifo")).expect("open to write");
    assert_eq!(guest.read(reader, 0), Err(Errno::Again));
    writer.write_all(b"data").expect("write");
    assert_eq!(guest.poll(&[(reader, poll_events::READ)], FOREVER), Ok(vec![poll_events::READ]));
    assert_eq!(guest.read(reader, u64::MAX), Ok(b"data".to_vec()));
    drop(writer);
    assert_eq!(guest.read(reader, 0), Ok(vec![]));
}

#[test]
fn a_fifo_opened_to_write_needs_a_reader() {
    let mut guest = Guest::new();
    guest.fifo("fifo");
    assert_eq!(guest.open(INSIDE, "fifo", WRITE), Err(Errno::NoDevice));
    let reader = guest.open(INSIDE, "fifo", READ).expect("open");
    let writer = guest.open(INSIDE, "fifo", WRITE).expect("open");
    assert_eq!(guest.write(writer, 0, b"data"), Ok(4));
    assert_eq!(guest.read(reader, 0), Ok(b"data".to_vec()));
    while guest.write(writer, 0, [0; CALL_DATA_BYTES]).is_ok() {}
    assert_eq!(guest.write(writer, 0, b"x"), Err(Errno::Again));
    guest.call(Request::Close { handle: reader }).expect("close");
    assert_eq!(guest.write(writer, 0, b"x"), Err(Errno::BrokenPipe));
}

#[test]
fn a_fifo_has_no_size() {
    let mut guest = Guest::new();
    guest.fifo("fifo");
    let handle = guest.open(INSIDE, "fifo", READ.with(WRITE)).expect("open");
    assert_eq!(guest.call(Request::SetSize { handle, size: 0 }), Err(Errno::Invalid));
}

#[test]
fn a_device_is_a_stream() {
    let mut guest = Guest::new();
    let dev = fs::File::open("/dev").expect("open /dev").into();
    let dev = guest.host.preopen(dev, "/dev", DirAccess::ReadWrite).expect("preopen");
    let zero = guest.open(dev, "zero", READ).expect("open");
    let request = Request::Read { handle: zero, offset: u64::MAX, len: 4, wait: false };
    assert_eq!(guest.ask(request), Ok((4, vec![0; 4])));
    let null = guest.open(dev, "null", WRITE).expect("open");
    assert_eq!(guest.write(null, 0, b"text"), Ok(4));
}

#[test]
fn a_socket_in_a_directory_cannot_be_opened() {
    let mut guest = Guest::new();
    let _listener = std::os::unix::net::UnixListener::bind(guest.inside("socket")).expect("bind");
    assert_eq!(guest.open(INSIDE, "socket", READ), Err(Errno::NoDevice));
    assert!(fs::metadata(guest.inside("socket")).expect("stat").file_type().is_socket());
}

#[test]
fn magic_links_are_not_followed() {
    let mut guest = Guest::new();
    let proc = fs::File::open("/proc/self/fd").expect("open /proc/self/fd").into();
    let proc = guest.host.preopen(proc, "/fd", DirAccess::ReadOnly).expect("preopen");
    assert_eq!(guest.open(proc, "0", READ.with(FOLLOW)), Err(Errno::Loop));
}
