//! What clients may do, and for how long.

use std::time::Duration;

use abi::Errno;
use shim::http::server::Limits;

use super::{Server, telling};
use crate::guest::Given;

/// A limit that is to be passed, and nothing else.
const SHORT: Duration = Duration::from_millis(100);

/// A limit within which something has to happen, on a machine that is busy with other tests too.
const LONG: Duration = Duration::from_secs(1);

fn ok(mut given: Given) {
    given.respond(200, &[], "ok");
}

/// A guest that answers once it has the body, and tells what came of that.
fn reader(mut given: Given) -> Result<Vec<u8>, Errno> {
    let body = given.body();
    if body.is_ok() {
        given.respond(200, &[], "ok");
    }
    body
}

#[test]
fn a_header_section_that_is_too_large_is_refused() {
    let limits = Limits { header_bytes: 1000, ..Limits::default() };
    let server = Server::with(limits, ok);
    let field = |len| format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n\r\n", "v".repeat(len));
    assert_eq!(server.connect().send(field(900)).response().status, 200);
    assert_eq!(server.connect().send(field(1000)).response().status, 431);
    assert_eq!(server.connect().send(field(1_000_000)).response().status, 431);
}

#[test]
fn a_header_section_of_too_many_fields_is_refused() {
    let server = Server::of(ok);
    let fields = "x: y\r\n".repeat(5000);
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    assert_eq!(server.connect().send(request).response().status, 431);
}

#[test]
fn a_target_that_is_too_long_is_refused() {
    let limits = Limits { target_bytes: 1000, ..Limits::default() };
    let server = Server::with(limits, ok);
    assert_eq!(server.connect().get(&format!("/{}", "p".repeat(999))).status, 200);
    for len in [1000, 20_000, 70_000] {
        assert_eq!(server.connect().get(&format!("/{}", "p".repeat(len))).status, 414, "{len}");
    }
}

#[test]
fn a_body_that_is_announced_as_too_large_reaches_nobody() {
    let limits = Limits { body_bytes: Some(10), ..Limits::default() };
    let server = Server::with(limits, ok);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.header("connection")), (413, Some("close")));
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n0123456789");
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_body_that_becomes_too_large_is_broken_off() {
    let limits = Limits { body_bytes: Some(10), ..Limits::default() };
    let (guest, outcomes) = telling(reader);
    let server = Server::with(limits, guest);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n");
    client.send("transfer-encoding: chunked\r\n\r\n");
    assert_eq!(client.head().status, 100, "the guest reads");
    client.send("8\r\n01234567\r\n8\r\n01234567\r\n");
    assert_eq!(client.response().status, 413);
    assert_eq!(outcomes.next(), Err(Errno::ConnectionAborted));
}

#[test]
fn a_client_that_sends_on_is_told_that_its_body_is_too_large() {
    let limits = Limits { body_bytes: Some(10), ..Limits::default() };
    let server = Server::with(limits, ok);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n");
    client.send(vec![0; 2_000_000]);
    assert_eq!(client.response().status, 413);
    // As large, which nothing has announced.
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1e8480\r\n");
    client.send(vec![0; 2_000_000]);
    assert_eq!(client.response().status, 413);
}

#[test]
fn a_header_section_that_does_not_come_in_time_ends_the_connection() {
    let limits = Limits { header_timeout: LONG, ..Limits::default() };
    let server = Server::with(limits, ok);
    server.connect().assert_closed();
    server.connect().send("GET / HTTP/1.1\r\nhost:").assert_closed();
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 200);
    client.send("GET / HTTP/1.1\r\nx-a").assert_closed();
}

#[test]
fn a_header_section_that_comes_byte_by_byte_ends_the_connection() {
    let limits = Limits { header_timeout: SHORT, ..Limits::default() };
    let server = Server::with(limits, ok);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n");
    let sent = (0..1000).take_while(|_| {
        std::thread::sleep(Duration::from_millis(10));
        client.try_send("x").is_ok()
    });
    assert!(sent.count() < 1000, "the server would take it for ever");
}

#[test]
fn a_connection_that_is_idle_is_closed() {
    let limits = Limits { idle_timeout: LONG, ..Limits::default() };
    let server = Server::with(limits, ok);
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 200);
    client.assert_closed();
}

#[test]
fn a_request_in_flight_is_not_idle() {
    let limits = Limits { idle_timeout: LONG, header_timeout: LONG, ..Limits::default() };
    let server = Server::with(limits, |given| {
        std::thread::sleep(LONG * 2);
        ok(given);
    });
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 200);
    client.assert_closed();
}

#[test]
fn a_body_that_does_not_come_in_time_is_broken_off() {
    let limits = Limits { body_timeout: SHORT, ..Limits::default() };
    let (guest, outcomes) = telling(reader);
    let server = Server::with(limits, guest);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab");
    assert_eq!(client.response().status, 408);
    assert_eq!(outcomes.next(), Err(Errno::ConnectionAborted));
    client.assert_closed();
}

#[test]
fn a_guest_that_reads_slowly_is_no_fault_of_the_client() {
    let limits = Limits { body_timeout: LONG, ..Limits::default() };
    let server = Server::with(limits, |mut given| {
        std::thread::sleep(LONG * 2);
        let len = given.body().expect("a body").len();
        given.respond(200, &[], len.to_string());
    });
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n");
    client.send(vec![0; 500_000]);
    assert_eq!(client.response().body, b"500000");
}

#[test]
fn a_guest_that_takes_too_long_is_not_waited_for() {
    let limits = Limits { request_timeout: Some(SHORT), ..Limits::default() };
    let (guest, outcomes) = telling(|mut given| {
        std::thread::sleep(LONG * 2);
        given.begin(&[]);
        given.write("x")
    });
    let server = Server::with(limits, guest);
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 504);
    assert_eq!(outcomes.next(), Err(Errno::ConnectionReset));
}

#[test]
fn a_response_that_takes_too_long_is_broken_off() {
    let limits = Limits { request_timeout: Some(LONG), ..Limits::default() };
    let (guest, outcomes) = telling(|mut given| {
        given.begin(&[]);
        loop {
            std::thread::sleep(Duration::from_millis(5));
            if let Err(errno) = given.write("x") {
                return errno;
            }
        }
    });
    let server = Server::with(limits, guest);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let (rest, _) = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert_eq!(outcomes.next(), Errno::ConnectionReset);
}

#[test]
fn a_connection_beyond_their_number_waits_for_another_to_end() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = Server::with(limits, ok);
    let (mut first, mut second) = (server.connect(), server.connect());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = server.connect();
    third.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    third.stream.get_ref().set_read_timeout(Some(SHORT)).expect("set");
    std::io::BufRead::fill_buf(&mut third.stream).expect_err("it is not served");
    third.stream.get_ref().set_read_timeout(Some(crate::raw::HANG)).expect("set");
    drop(first);
    assert_eq!(third.response().status, 200);
}
