//! How bodies go, and how they end.

use std::thread;

use abi::http::{ErrorCode, ResponseHead};
use abi::{Errno, Handle, Request as Call};
use http::HeaderMap;

use super::super::super::tests::{Guest, Random};
use super::super::{BODY_BYTES_MAX, Part};
use super::{Given, block_on, failure, given, given_request, one_field, whole};

/// More than is on its way at once, by far.
const MANY: usize = 5_000_000;

fn noise(len: usize) -> Vec<u8> {
    let mut random = Random(7);
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect()
}

fn read_waiting(guest: &mut Guest, handle: Handle) -> Result<Vec<u8>, Errno> {
    let (_, data) = guest.ask(Call::Read { handle, offset: 0, len: 100_000, wait: true })?;
    Ok(data)
}

#[test]
fn a_long_body_reaches_the_guest_unchanged() {
    let Given { mut guest, exchange, mut body, .. } = given();
    let sent = noise(MANY);
    let writer = thread::spawn({
        let sent = sent.clone();
        move || {
            for part in sent.chunks(70_001) {
                block_on(body.write(part)).expect("write");
            }
            body.finish(one_field("x-sum", "7"));
        }
    });
    let mut received = Vec::new();
    loop {
        let part = read_waiting(&mut guest, exchange).expect("read");
        assert!(part.len() <= BODY_BYTES_MAX);
        if part.is_empty() {
            break;
        }
        received.extend(part);
    }
    assert!(received == sent);
    assert_eq!(guest.trailers(exchange), Ok(Ok(vec!["x-sum: 7".to_owned()])));
    writer.join().expect("writer");
}

#[test]
fn a_long_body_reaches_the_server_unchanged() {
    let Given { mut guest, exchange, response, .. } = given();
    let reader = thread::spawn(move || {
        let (_, body) = block_on(response.response()).expect("a response");
        whole(body).expect("a whole body")
    });
    guest.begin_response(exchange);
    let sent = noise(MANY);
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let data = &rest[..rest.len().min(100_001)];
        let call = Call::Write { handle: exchange, offset: 0, wait: true, data };
        let written = guest.call(call).expect("write");
        rest = &rest[usize::try_from(written).expect("small")..];
    }
    assert_eq!(guest.finish(exchange), Ok(0));
    let (received, trailers) = reader.join().expect("reader");
    assert!(received == sent && trailers.is_empty());
}

#[test]
fn a_guest_that_does_not_read_makes_the_server_wait() {
    let Given { mut guest, exchange, mut body, .. } = given();
    block_on(body.write(&[1; BODY_BYTES_MAX])).expect("write");
    let blocked = thread::spawn(move || {
        block_on(body.write(&[2; 10])).expect("write");
        body
    });
    assert_eq!(guest.read(exchange, 0).expect("read").len(), BODY_BYTES_MAX);
    let body = blocked.join().expect("writer");
    assert_eq!(guest.read(exchange, 0), Ok(vec![2; 10]));
    drop(body);
}

#[test]
fn a_server_that_does_not_read_makes_the_guest_wait() {
    let Given { mut guest, exchange, response, .. } = given();
    guest.begin_response(exchange);
    let most = BODY_BYTES_MAX as u64;
    assert_eq!(guest.write(exchange, 0, [1; BODY_BYTES_MAX + 1]), Ok(most));
    assert_eq!(guest.write(exchange, 0, [1]), Err(Errno::Again));
    let (_, mut body) = block_on(response.response()).expect("a response");
    assert_eq!(block_on(body.read()), Ok(Part::Data(vec![1; BODY_BYTES_MAX])));
    assert_eq!(guest.write(exchange, 0, [1]), Ok(1));
}

#[test]
fn a_response_may_begin_with_more_than_waits_of_a_body() {
    let Given { mut guest, exchange, response, .. } = given();
    let begin = vec![1; 3 * BODY_BYTES_MAX];
    assert_eq!(guest.respond(exchange, &super::ok(), &begin, false), Ok(0));
    assert_eq!(guest.write(exchange, 0, [1]), Err(Errno::Again));
    let (_, mut body) = block_on(response.response()).expect("a response");
    assert_eq!(block_on(body.read()), Ok(Part::Data(begin)));
}

#[test]
fn a_body_that_breaks_off_is_read_up_to_there_and_then_refused() {
    let Given { mut guest, exchange, mut body, .. } = given();
    block_on(body.write(b"beg")).expect("write");
    body.fail(ErrorCode::ConnectionReadTimeout.into());
    assert_eq!(guest.trailers(exchange), Err(Errno::Again));
    assert_eq!(guest.read(exchange, 0), Ok(b"beg".to_vec()));
    assert_eq!(guest.read(exchange, 0), Err(Errno::ConnectionAborted));
    assert_eq!(guest.trailers(exchange), Ok(Err(failure(ErrorCode::ConnectionReadTimeout))));
}

#[test]
fn a_body_whose_writer_is_gone_is_broken_off() {
    let Given { mut guest, exchange, body, .. } = given();
    drop(body);
    assert_eq!(guest.read(exchange, 0), Err(Errno::ConnectionAborted));
    assert_eq!(guest.trailers(exchange), Ok(Err(failure(ErrorCode::ConnectionTerminated))));
}

#[test]
fn a_body_of_a_guest_that_is_gone_is_read_up_to_there_and_then_broken_off() {
    let Given { mut guest, exchange, response, .. } = given();
    guest.begin_response(exchange);
    assert_eq!(guest.write(exchange, 0, b"beg"), Ok(3));
    drop(guest);
    let (_, mut body) = block_on(response.response()).expect("a response");
    assert_eq!(block_on(body.read()), Ok(Part::Data(b"beg".to_vec())));
    assert_eq!(block_on(body.read()), Err(failure(ErrorCode::ConnectionTerminated)));
}

#[test]
fn a_finished_body_stays_whole_when_the_guest_is_gone() {
    let Given { mut guest, exchange, response, .. } = given();
    assert_eq!(guest.respond(exchange, &super::ok(), b"text", true), Ok(0));
    drop(guest);
    let (_, body) = block_on(response.response()).expect("a response");
    assert_eq!(whole(body), Ok((b"text".to_vec(), HeaderMap::new())));
}

#[test]
fn a_server_learns_that_the_guest_wants_the_body() {
    let Given { mut guest, exchange, mut body, .. } = given();
    let server = thread::spawn(move || {
        block_on(body.wanted()).expect("it is there");
        block_on(body.write(b"text")).expect("write");
        body
    });
    assert_eq!(read_waiting(&mut guest, exchange), Ok(b"text".to_vec()));
    drop(server.join().expect("server"));
}

#[test]
fn a_server_learns_that_the_guest_reads_no_more() {
    let Given { mut guest, exchange, mut body, .. } = given();
    assert_eq!(guest.call(Call::Close { handle: exchange }), Ok(0));
    block_on(body.gone());
    block_on(body.wanted()).expect_err("it is gone");
    block_on(body.write(b"x")).expect_err("it is gone");
}

#[test]
fn a_body_that_is_longer_than_its_head_said_is_broken_off() {
    let Given { mut guest, exchange, response, .. } = given();
    let head = ResponseHead { status: 200, headers: vec![(b"content-length", b"5")] };
    assert_eq!(guest.respond(exchange, &head, b"abc", false), Ok(0));
    assert_eq!(guest.write(exchange, 0, b"def"), Err(Errno::Invalid));
    assert_eq!(guest.write(exchange, 0, b"de"), Err(Errno::ConnectionReset));
    let (_, body) = block_on(response.response()).expect("a response");
    assert_eq!(whole(body), Err(failure(ErrorCode::HttpResponseBodySize)));
}

#[test]
fn a_body_that_is_shorter_than_its_head_said_is_broken_off() {
    let Given { mut guest, exchange, response, .. } = given();
    let head = ResponseHead { status: 200, headers: vec![(b"content-length", b"5")] };
    assert_eq!(guest.respond(exchange, &head, b"abc", false), Ok(0));
    assert_eq!(guest.write(exchange, 0, b"d"), Ok(1));
    assert_eq!(guest.finish(exchange), Err(Errno::Invalid));
    let (_, body) = block_on(response.response()).expect("a response");
    assert_eq!(whole(body), Err(failure(ErrorCode::HttpResponseBodySize)));
}

#[test]
fn a_body_as_long_as_its_head_said_is_whole() {
    let Given { mut guest, exchange, response, .. } = given();
    let head = ResponseHead { status: 200, headers: vec![(b"content-length", b"5")] };
    assert_eq!(guest.respond(exchange, &head, b"abc", false), Ok(0));
    assert_eq!(guest.write(exchange, 0, b"de"), Ok(2));
    assert_eq!(guest.finish(exchange), Ok(0));
    let (_, body) = block_on(response.response()).expect("a response");
    assert_eq!(whole(body), Ok((b"abcde".to_vec(), HeaderMap::new())));
}

#[test]
fn a_whole_response_of_another_length_than_it_says_is_refused() {
    for (length, body) in [(&b"3"[..], &b"ab"[..]), (b"1", b"ab"), (b"0", b"ab")] {
        let request = http::Request::get("http://a/").body(()).expect("a request");
        let Given { mut guest, exchange, .. } = given_request(request);
        let head = ResponseHead { status: 200, headers: vec![(b"content-length", length)] };
        assert_eq!(guest.respond(exchange, &head, body, true), Err(Errno::Invalid));
        assert_eq!(guest.respond(exchange, &super::ok(), body, true), Ok(0));
    }
}
