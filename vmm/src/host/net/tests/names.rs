//! Names.

use std::sync::mpsc;

use super::*;
use crate::host::LookupError;

fn resolve(guest: &mut Guest, name: &str) -> Result<Handle, Errno> {
    let value = guest.call(Request::Resolve { name: name.as_bytes() })?;
    Ok(Handle(u32::try_from(value).expect("a handle")))
}

fn ips(data: &[u8]) -> Vec<IpAddr> {
    <[SocketAddress]>::ref_from_bytes(data)
        .expect("whole addresses")
        .iter()
        .map(|wire| std_address(*wire))
        .inspect(|address| assert_eq!(address.port(), 0))
        .map(|address| address.ip())
        .collect()
}

fn some_addresses() -> Vec<IpAddr> {
    ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(|ip| ip.parse().expect("address")).to_vec()
}

/// A guest whose lookups wait for the test.
fn guest_and_requests() -> (Guest, mpsc::Receiver<LookupRequest>) {
    let (sender, requests) = mpsc::channel();
    let look_up = move |request| sender.send(request).expect("the test listens");
    (guest_with(Policy::everything(), look_up), requests)
}

#[test]
fn a_name_has_the_addresses_that_were_found() {
    let (mut guest, requests) = guest_and_requests();
    let handle = resolve(&mut guest, "example.com").expect("resolve");
    let request = requests.recv().expect("request");
    assert_eq!(request.name(), "example.com");
    request.answer(Ok(some_addresses()));
    assert_eq!(ips(&guest.read_next(handle).expect("read")), some_addresses());
    assert_eq!(guest.read_next(handle), Ok(vec![]));
}

#[test]
fn addresses_come_in_pieces_that_fit() {
    let mut guest =
        guest_with(Policy::everything(), |request| request.answer(Ok(some_addresses())));
    let handle = resolve(&mut guest, "example.com").expect("resolve");
    let mut read = |len| {
        let request = Request::Read { handle, offset: 0, len, wait: false };
        guest.ask(request).map(|(_, data)| ips(&data))
    };
    assert_eq!(read(27), Err(Errno::TooBig));
    assert_eq!(read(2 * 28 + 27), Ok(some_addresses()[..2].to_vec()));
    assert_eq!(read(28), Ok(some_addresses()[2..].to_vec()));
    assert_eq!(read(28), Ok(vec![]));
    assert_eq!(read(0), Ok(vec![]));
}

#[test]
fn a_lookup_that_goes_on_is_polled() {
    let (mut guest, requests) = guest_and_requests();
    let handle = resolve(&mut guest, "example.com").expect("resolve");
    assert_eq!(guest.read(handle, 0), Err(Errno::Again));
    assert_eq!(guest.poll(&[(handle, READ)], 1_000_000), Ok(vec![0]));
    let answer = std::thread::spawn(move || {
        requests.recv().expect("request").answer(Ok(some_addresses()));
    });
    assert_eq!(guest.poll(&[(handle, READ)], LONG_NS), Ok(vec![READ]));
    assert_eq!(ips(&guest.read(handle, 0).expect("read")), some_addresses());
    answer.join().expect("answer");
}

#[test]
fn a_lookup_that_fails_refuses_to_be_read() {
    let errors = [
        (LookupError::NotFound, Errno::NameNotFound),
        (LookupError::TimedOut, Errno::NameTryAgain),
        (LookupError::ServerFailed, Errno::NameTryAgain),
        (LookupError::Failed, Errno::NameFailure),
    ];
    for (error, errno) in errors {
        let look_up = move |request: LookupRequest| request.answer(Err(error));
        let mut guest = guest_with(Policy::everything(), look_up);
        let handle = resolve(&mut guest, "example.com").expect("resolve");
        assert_eq!(guest.read_next(handle), Err(errno));
        assert_eq!(guest.read(handle, 0), Err(errno), "it is told each time");
    }
}

#[test]
fn a_lookup_that_is_given_up_has_failed() {
    let mut guest = guest_with(Policy::everything(), drop);
    let handle = resolve(&mut guest, "example.com").expect("resolve");
    assert_eq!(guest.poll(&[(handle, READ)], LONG_NS), Ok(vec![READ]));
    assert_eq!(guest.read(handle, 0), Err(Errno::NameFailure));
}

#[test]
fn an_address_is_an_address_of_itself_and_nobody_is_asked() {
    let never = |request: LookupRequest| panic!("{request:?}");
    let mut guest = guest_with(Policy::everything(), never);
    for text in ["192.0.2.1", "2001:db8::1", "::"] {
        let handle = resolve(&mut guest, text).expect("resolve");
        let expected: IpAddr = text.parse().expect("address");
        assert_eq!(ips(&guest.read(handle, 0).expect("read")), [expected]);
    }
}

#[test]
fn what_cannot_be_a_name_is_refused() {
    let never = |request: LookupRequest| panic!("{request:?}");
    let mut guest = guest_with(Policy::everything(), never);
    for name in [&b""[..], b"a b", b"a\0", b"a\n", b"\xff"] {
        assert_eq!(guest.call(Request::Resolve { name }), Err(Errno::Invalid), "{name:?}");
    }
}

#[test]
fn a_lookup_is_neither_written_nor_a_socket() {
    let (mut guest, _requests) = guest_and_requests();
    let handle = resolve(&mut guest, "example.com").expect("resolve");
    assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::BadHandle));
    assert_eq!(guest.address(handle, false), Err(Errno::BadHandle));
    assert_eq!(guest.poll(&[(handle, READ | WRITE)], LONG_NS), Ok(vec![WRITE]));
}

#[test]
fn whoever_looks_up_knows_that_the_guest_has_closed() {
    let (mut guest, requests) = guest_and_requests();
    let handle = resolve(&mut guest, "example.com").expect("resolve");
    let request = requests.recv().expect("request");
    assert!(request.is_wanted());
    guest.call(Request::Close { handle }).expect("close");
    assert!(!request.is_wanted());
    request.answer(Ok(some_addresses())); // and nothing happens
}

#[test]
fn lookups_that_are_not_answered_are_bounded_open_or_closed() {
    let (mut guest, requests) = guest_and_requests();
    for _ in 0..32 {
        let handle = resolve(&mut guest, "example.com").expect("resolve");
        guest.call(Request::Close { handle }).expect("close");
    }
    assert_eq!(resolve(&mut guest, "example.com"), Err(Errno::NameTryAgain));
    drop(requests.recv().expect("request"));
    resolve(&mut guest, "example.com").expect("resolve");
}

#[test]
fn a_name_with_very_many_addresses_has_the_first_ones() {
    let many = |request: LookupRequest| request.answer(Ok(vec![Ipv4Addr::LOCALHOST.into(); 999]));
    let mut guest = guest_with(Policy::everything(), many);
    let handle = resolve(&mut guest, "example.com").expect("resolve");
    assert_eq!(ips(&guest.read(handle, 0).expect("read")).len(), 256);
    assert_eq!(guest.read(handle, 0), Ok(vec![]));
}
