//! Waiting for exchanges, and for other things besides.

use std::thread;
use std::time::Duration;

use abi::{Errno, FOREVER, Handle, Request as Call, poll_events};
use http::{HeaderMap, Response};
use rustix::pipe::pipe;

use super::super::super::tests::{Guest, null};
use super::super::{BODY_BYTES_MAX, Incoming};
use super::{Given, admit, block_on, get, given, guest_with_client};
use crate::Kick;

const READ: u32 = poll_events::READ;
const WRITE: u32 = poll_events::WRITE;

#[test]
fn a_poll_ends_when_a_part_of_the_body_comes() {
    let Given { mut guest, exchange, mut body, .. } = given();
    assert_eq!(guest.poll(&[(exchange, READ)], 1_000_000), Ok(vec![0]));
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        block_on(body.write(b"x")).expect("write");
        body
    });
    assert_eq!(guest.poll(&[(exchange, READ)], FOREVER), Ok(vec![READ]));
    drop(writer.join().expect("writer"));
}

#[test]
fn a_poll_ends_when_the_body_ends() {
    let Given { mut guest, exchange, body, .. } = given();
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        body.finish(HeaderMap::new());
    });
    assert_eq!(guest.poll(&[(exchange, READ)], FOREVER), Ok(vec![READ]));
    assert_eq!(guest.read(exchange, 0), Ok(vec![]));
    writer.join().expect("writer");
}

#[test]
fn a_poll_ends_when_there_is_room() {
    let Given { mut guest, exchange, response, .. } = given();
    guest.begin_response(exchange);
    assert_eq!(guest.poll(&[(exchange, WRITE)], FOREVER), Ok(vec![WRITE]));
    guest.write(exchange, 0, [0; BODY_BYTES_MAX]).expect("write");
    assert_eq!(guest.poll(&[(exchange, WRITE)], 1_000_000), Ok(vec![0]));
    let reader = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let (_, mut body) = block_on(response.response()).expect("a response");
        block_on(body.read()).expect("read");
        body
    });
    assert_eq!(guest.poll(&[(exchange, WRITE)], FOREVER), Ok(vec![WRITE]));
    drop(reader.join().expect("reader"));
}

#[test]
fn a_poll_ends_when_the_server_is_gone() {
    let Given { mut guest, exchange, response, .. } = given();
    guest.begin_response(exchange);
    guest.write(exchange, 0, [0; BODY_BYTES_MAX]).expect("write");
    let server = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(response);
    });
    assert_eq!(guest.poll(&[(exchange, WRITE)], FOREVER), Ok(vec![WRITE]));
    assert_eq!(guest.write(exchange, 0, b"x"), Err(Errno::ConnectionReset));
    server.join().expect("server");
}

#[test]
fn an_outgoing_exchange_is_readable_when_there_is_a_response_and_then_for_its_body() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch(&get()).expect("fetch");
    assert_eq!(guest.poll(&[(exchange, READ)], 1_000_000), Ok(vec![0]));
    let outgoing = requests.recv().expect("a request");
    let client = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        outgoing.response.respond(Response::new(()))
    });
    assert_eq!(guest.poll(&[(exchange, READ)], FOREVER), Ok(vec![READ]));
    guest.head(exchange).expect("a head").expect("no error");
    assert_eq!(guest.poll(&[(exchange, READ)], 1_000_000), Ok(vec![0]));
    drop(client.join().expect("client"));
    assert_eq!(guest.poll(&[(exchange, READ)], FOREVER), Ok(vec![READ]));
}

#[test]
fn exchanges_and_descriptors_are_waited_for_together() {
    let (reader, writer) = pipe().expect("pipe");
    let mut guest = Guest::with_stdio(reader, null());
    let request = || http::Request::get("http://a/").body(()).expect("a request");
    let (one, mut body, _response) = Incoming::new(request());
    let (other, _other_body, _other_response) = Incoming::new(request());
    let (one, other) = (admit(&mut guest, one), admit(&mut guest, other));
    let entries = [(Handle::STDIN, READ), (one, READ), (other, READ)];
    assert_eq!(guest.poll(&entries, 1_000_000), Ok(vec![0, 0, 0]));

    rustix::io::write(&writer, b"x").expect("write");
    assert_eq!(guest.poll(&entries, FOREVER), Ok(vec![READ, 0, 0]));
    block_on(body.write(b"x")).expect("write");
    assert_eq!(guest.poll(&entries, FOREVER), Ok(vec![READ, READ, 0]));
    guest.read(Handle::STDIN, 0).expect("read");
    assert_eq!(guest.poll(&entries, FOREVER), Ok(vec![0, READ, 0]));
}

#[test]
fn a_ring_for_something_else_does_not_end_a_poll() {
    let Given { mut guest, exchange, mut body, .. } = given();
    let (other, mut other_body, _response) =
        Incoming::new(http::Request::get("http://a/").body(()).expect("a request"));
    admit(&mut guest, other);
    let writer = thread::spawn(move || {
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(5));
            block_on(other_body.write(b"x")).expect("write");
        }
        block_on(body.write(b"x")).expect("write");
        (body, other_body)
    });
    assert_eq!(guest.poll(&[(exchange, READ)], FOREVER), Ok(vec![READ]));
    drop(writer.join().expect("writer"));
}

#[test]
fn a_read_that_waits_is_interrupted_by_a_kick() {
    let Given { mut guest, exchange, body, .. } = given();
    let kick = Kick::default();
    let entered = kick.enter().expect("signal handler");
    let stop = thread::spawn({
        let kick = kick.clone();
        move || kick.stop()
    });
    let read = Call::Read { handle: exchange, offset: 0, len: 1, wait: true };
    assert_eq!(guest.ask(read), Err(Errno::Interrupted));
    drop(entered);
    stop.join().expect("kick");
    drop(body);
}

#[test]
fn no_ring_is_lost() {
    let Given { mut guest, exchange, mut body, .. } = given();
    let writer = thread::spawn(move || {
        for _ in 0..20_000 {
            block_on(body.write(b"x")).expect("write");
            thread::yield_now();
        }
        body.finish(HeaderMap::new());
    });
    let mut received = 0;
    loop {
        assert_eq!(guest.poll(&[(exchange, READ)], FOREVER), Ok(vec![READ]));
        match guest.read(exchange, 0).expect("read").len() {
            0 => break,
            len => received += len,
        }
    }
    assert_eq!(received, 20_000);
    writer.join().expect("writer");
}
