//! Requests that a guest answers.

use abi::http::{ErrorCode, HttpError, IncomingRequest, ResponseHead, encode_trailers};
use abi::{Errno, Handle, Request as Call};
use http::{HeaderMap, Request, StatusCode};

use super::super::super::Error;
use super::super::super::handles::Handles;
use super::super::super::tests::Guest;
use super::super::{Failure, Incoming, Unanswered};
use super::{Given, admit, block_on, failure, given, given_request, ok, one_field, whole};

#[test]
fn a_guest_is_told_of_a_request_with_head_and_body() {
    let head = Request::post("http://example.org:81/a?b=c")
        .header("Accept", "*/*")
        .header("x-two", "1")
        .header("x-two", "2")
        .body(())
        .expect("a request");
    let (incoming, mut body, _response) = Incoming::new(head);
    block_on(body.write(b"text")).expect("write");
    body.finish(HeaderMap::new());
    let encoded = Guest::new().host.admit(incoming).expect("admit");
    let request = IncomingRequest::decode(&encoded).expect("a request");
    assert_eq!(request.head.method, b"POST");
    assert_eq!(request.head.scheme, b"http");
    assert_eq!(request.head.authority, b"example.org:81");
    assert_eq!(request.head.path_with_query, b"/a?b=c");
    let expected: [(&[u8], &[u8]); 3] = [(b"accept", b"*/*"), (b"x-two", b"1"), (b"x-two", b"2")];
    assert_eq!(request.head.headers, expected);
    assert_eq!((request.body, request.is_complete), (&b"text"[..], true));
}

#[test]
fn what_a_request_says_of_its_connection_is_left_out() {
    let head = Request::get("http://example.org/")
        .header("host", "example.org")
        .header("connection", "keep-alive, X-Hop")
        .header("keep-alive", "timeout=5")
        .header("x-hop", "1")
        .header("te", "gzip")
        .header("transfer-encoding", "chunked")
        .header("upgrade", "h2c")
        .header("content-length", "3")
        .header("x-stays", "1")
        .body(())
        .expect("a request");
    let (incoming, _body, _response) = Incoming::new(head);
    let encoded = Guest::new().host.admit(incoming).expect("admit");
    let request = IncomingRequest::decode(&encoded).expect("a request");
    let expected: [(&[u8], &[u8]); 2] = [(b"content-length", b"3"), (b"x-stays", b"1")];
    assert_eq!(request.head.headers, expected);
}

#[test]
fn a_request_without_authority_has_none() {
    let head = Request::options("*").body(()).expect("a request");
    let (incoming, _body, _response) = Incoming::new(head);
    let encoded = Guest::new().host.admit(incoming).expect("admit");
    let request = IncomingRequest::decode(&encoded).expect("a request");
    assert_eq!((request.head.scheme, request.head.authority), (&b""[..], &b""[..]));
    assert_eq!(request.head.path_with_query, b"*");
    assert!(!request.is_complete, "its body has not ended");
}

#[test]
fn a_whole_response_is_given_at_once_with_its_length() {
    let Given { mut guest, exchange, response, .. } = given();
    let head = ResponseHead { status: 404, headers: vec![(b"X-A", b"b")] };
    assert_eq!(guest.respond(exchange, &head, b"gone", true), Ok(0));
    let (head, body) = block_on(response.response()).expect("a response");
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    assert_eq!(head.headers(), &one_field("x-a", "b"));
    assert_eq!(body.bytes_left(), Some(4));
    assert_eq!(whole(body), Ok((b"gone".to_vec(), HeaderMap::new())));
}

#[test]
fn a_response_ends_with_its_trailers() {
    let Given { mut guest, exchange, response, .. } = given();
    guest.begin_response(exchange);
    assert_eq!(guest.write(exchange, 0, b"text"), Ok(4));
    let trailers = encode_trailers(&[(b"x-sum", b"7")]);
    assert_eq!(guest.call(Call::Finish { exchange, trailers: &trailers }), Ok(0));
    let (_, body) = block_on(response.response()).expect("a response");
    assert_eq!(body.bytes_left(), None, "there are trailers");
    assert_eq!(whole(body), Ok((b"text".to_vec(), one_field("x-sum", "7"))));
}

#[test]
fn an_exchange_that_is_closed_has_no_answer() {
    let Given { mut guest, exchange, response, .. } = given();
    assert_eq!(guest.call(Call::Close { handle: exchange }), Ok(0));
    assert_eq!(block_on(response.response()).expect_err("none"), Unanswered::Closed);
}

#[test]
fn a_host_that_is_gone_has_no_answer() {
    let Given { guest, response, .. } = given();
    drop(guest);
    assert_eq!(block_on(response.response()).expect_err("none"), Unanswered::Closed);
}

#[test]
fn an_answer_can_be_an_error() {
    let Given { mut guest, exchange, response, .. } = given();
    let error = HttpError {
        code: ErrorCode::InternalError,
        text: Some("no disk".as_bytes()),
        number: None,
    };
    assert_eq!(guest.call(Call::Fail { exchange, error: &error.encode() }), Ok(0));
    let expected = Failure { text: Some("no disk".into()), ..failure(ErrorCode::InternalError) };
    assert_eq!(block_on(response.response()).expect_err("none"), Unanswered::Failed(expected));
    assert_eq!(guest.respond(exchange, &ok(), b"", true), Err(Errno::Invalid));
}

#[test]
fn a_request_can_be_refused_before_any_guest_has_it() {
    let (incoming, mut body, response) =
        Incoming::new(Request::get("http://a/").body(()).expect("a request"));
    incoming.refuse();
    assert_eq!(block_on(response.response()).expect_err("none"), Unanswered::Refused);
    block_on(body.write(b"x")).expect_err("nobody reads it");
}

#[test]
fn a_request_is_abandoned_when_its_server_waits_no_more() {
    let (incoming, _body, response) =
        Incoming::new(Request::get("http://a/").body(()).expect("a request"));
    assert!(!incoming.is_abandoned());
    drop(response);
    assert!(incoming.is_abandoned());
}

#[test]
fn a_guest_writes_for_a_server_that_is_gone_without_success() {
    let Given { mut guest, exchange, response, .. } = given();
    drop(response);
    assert_eq!(guest.respond(exchange, &ok(), b"begin", false), Ok(0));
    assert_eq!(guest.write(exchange, 0, b"x"), Err(Errno::ConnectionReset));
    assert_eq!(guest.finish(exchange), Ok(0));
}

#[test]
fn an_exchange_has_one_answer() {
    let Given { mut guest, exchange, .. } = given();
    guest.begin_response(exchange);
    assert_eq!(guest.respond(exchange, &ok(), b"", true), Err(Errno::Invalid));
    let error = ErrorCode::LoopDetected.alone().encode();
    assert_eq!(guest.call(Call::Fail { exchange, error: &error }), Err(Errno::Invalid));
    assert_eq!(guest.finish(exchange), Ok(0));
    assert_eq!(guest.finish(exchange), Err(Errno::Invalid));
    assert_eq!(guest.write(exchange, 0, b"x"), Err(Errno::Invalid));
}

#[test]
fn nothing_is_written_before_the_response() {
    let Given { mut guest, exchange, .. } = given();
    assert_eq!(guest.write(exchange, 0, b"x"), Err(Errno::Invalid));
    assert_eq!(guest.finish(exchange), Err(Errno::Invalid));
}

#[test]
fn what_is_left_at_the_end_of_a_run_is_unanswered() {
    let Given { mut guest, exchange, response, .. } = given();
    let (incoming, _body, second) =
        Incoming::new(Request::get("http://a/").body(()).expect("a request"));
    let other = admit(&mut guest, incoming);
    guest.begin_response(other);
    let file = guest.create("file");
    guest.host.end_incoming();
    assert_eq!(block_on(response.response()).expect_err("none"), Unanswered::Closed);
    let (_, body) = block_on(second.response()).expect("a response");
    whole(body).expect_err("broken off");
    assert_eq!(guest.call(Call::Close { handle: exchange }), Err(Errno::BadHandle));
    assert_eq!(guest.call(Call::Close { handle: file }), Ok(0));
}

#[test]
fn requests_are_bounded_by_the_table_of_handles() {
    let mut guest = Guest::new();
    guest.host.handles = Handles::with_limit(1);
    let incoming = || Incoming::new(Request::get("http://a/").body(()).expect("a request"));
    let (first, _body, _response) = incoming();
    assert_eq!(admit(&mut guest, first), Handle(0));
    let (second, _body, response) = incoming();
    let error = guest.host.admit(second).expect_err("refused");
    assert!(matches!(error, Error::TooManyHandles { limit: 1 }), "{error:?}");
    assert_eq!(block_on(response.response()).expect_err("none"), Unanswered::Closed);
}

#[test]
fn a_head_that_is_too_large_is_not_admitted() {
    let value = "v".repeat(abi::http::HEAD_BYTES_MAX);
    let head = Request::get("http://a/").header("x-a", value).body(()).expect("a request");
    let (incoming, _body, _response) = Incoming::new(head);
    let error = Guest::new().host.admit(incoming).expect_err("refused");
    assert!(matches!(error, Error::HeadSize { .. }), "{error:?}");
}

#[test]
fn the_response_to_head_has_the_length_of_what_it_does_not_have() {
    let head = Request::head("http://a/").body(()).expect("a request");
    let Given { mut guest, exchange, response, .. } = given_request(head);
    let head = ResponseHead { status: 200, headers: vec![(b"content-length", b"100")] };
    assert_eq!(guest.respond(exchange, &head, b"", true), Ok(0));
    let (head, body) = block_on(response.response()).expect("a response");
    assert_eq!(head.headers(), &one_field("content-length", "100"));
    assert_eq!(whole(body), Ok((vec![], HeaderMap::new())));
}

#[test]
fn a_body_that_is_ignored_is_written_without_end() {
    let Given { mut guest, exchange, response, .. } = given();
    guest.begin_response(exchange);
    let (_, body) = block_on(response.response()).expect("a response");
    body.ignore();
    for _ in 0..4 {
        assert_eq!(guest.write(exchange, 0, [0; 100_000]), Ok(100_000));
    }
    assert_eq!(guest.finish(exchange), Ok(0));
}
