//! Requests that a guest makes.

use std::time::Duration;

use abi::http::{ErrorCode, RequestHead};
use abi::{Errno, Request as Call};
use http::{HeaderMap, Response};

use super::super::super::tests::Guest;
use super::super::{Outgoing, Timeouts};
use super::{block_on, failure, get, guest_with_client, one_field, whole};

#[test]
fn requests_are_refused_unless_granted() {
    assert_eq!(Guest::new().fetch(&get()), Err(Errno::Access));
}

#[test]
fn a_request_comes_out_as_it_was_made() {
    let (mut guest, requests) = guest_with_client();
    let head = RequestHead { method: b"PUT", headers: vec![(b"x-a", b"b")], ..get() };
    guest.fetch_with(&head.encode(), b"text", true).expect("fetch");
    let Outgoing { head, timeouts, body, .. } = requests.recv().expect("a request");
    assert_eq!(
        (head.method().as_str(), head.uri()),
        ("PUT", &"http://example.org:8080/a?b".parse().expect("a URI"))
    );
    assert_eq!(head.headers(), &one_field("x-a", "b"));
    let expected = Timeouts {
        connect: None,
        first_byte: Some(Duration::from_nanos(2)),
        between_bytes: Some(Duration::from_secs(3)),
    };
    assert_eq!(timeouts, expected);
    assert_eq!(body.bytes_left(), Some(4));
    assert_eq!(whole(body), Ok((b"text".to_vec(), HeaderMap::new())));
}

#[test]
fn a_request_without_scheme_and_path_is_for_the_root_by_https() {
    let (mut guest, requests) = guest_with_client();
    guest.fetch(&RequestHead { scheme: b"", path_with_query: b"", ..get() }).expect("fetch");
    let outgoing = requests.recv().expect("a request");
    assert_eq!(outgoing.head.uri(), "https://example.org:8080/");
}

#[test]
fn a_response_is_told_with_its_body_and_trailers() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch(&get()).expect("fetch");
    assert_eq!(guest.head(exchange), Err(Errno::Again));
    assert_eq!(guest.read(exchange, 0), Err(Errno::Again));
    let outgoing = requests.recv().expect("a request");
    let head = Response::builder().status(201).header("x-a", "b").body(()).expect("a response");
    let mut body = outgoing.response.respond(head);
    for _ in 0..2 {
        assert_eq!(guest.head(exchange), Ok(Ok((201, one_field("x-a", "b")))));
    }
    assert_eq!(guest.read(exchange, 0), Err(Errno::Again));
    block_on(body.write(b"text")).expect("write");
    body.finish(one_field("x-sum", "7"));
    assert_eq!(guest.trailers(exchange), Err(Errno::Again), "the text was not read");
    assert_eq!(guest.read(exchange, 0), Ok(b"text".to_vec()));
    assert_eq!(guest.read(exchange, 0), Ok(vec![]));
    assert_eq!(guest.trailers(exchange), Ok(Ok(vec!["x-sum: 7".to_owned()])));
}

#[test]
fn what_a_response_says_of_its_connection_is_left_out() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch(&get()).expect("fetch");
    let outgoing = requests.recv().expect("a request");
    let head = Response::builder()
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("transfer-encoding", "chunked")
        .header("x-a", "b")
        .body(())
        .expect("a response");
    let trailers = one_field("transfer-encoding", "gzip");
    outgoing.response.respond(head).finish(trailers);
    assert_eq!(guest.head(exchange), Ok(Ok((200, one_field("x-a", "b")))));
    assert_eq!(guest.trailers(exchange), Ok(Ok(vec![])));
}

#[test]
fn a_failure_is_told_in_place_of_a_response() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch(&get()).expect("fetch");
    let outgoing = requests.recv().expect("a request");
    outgoing.response.fail(ErrorCode::ConnectionRefused.into());
    assert_eq!(guest.head(exchange), Ok(Err(failure(ErrorCode::ConnectionRefused))));
    assert_eq!(guest.read(exchange, 0), Err(Errno::ConnectionAborted));
    assert_eq!(guest.trailers(exchange), Ok(Err(failure(ErrorCode::ConnectionRefused))));
}

#[test]
fn a_request_that_the_client_drops_fails() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch_with(&get().encode(), b"", false).expect("fetch");
    drop(requests.recv().expect("a request"));
    assert_eq!(guest.head(exchange), Ok(Err(failure(ErrorCode::ConnectionTerminated))));
    assert_eq!(guest.write(exchange, 0, b"x"), Err(Errno::ConnectionReset));
}

#[test]
fn what_is_wrong_with_a_request_is_told_as_its_head() {
    let (mut guest, requests) = guest_with_client();
    let method = RequestHead { method: b"GE T", ..get() };
    let authority = RequestHead { authority: b"a b", ..get() };
    let nowhere = RequestHead { authority: b"", ..get() };
    let path = RequestHead { path_with_query: b"/a b", ..get() };
    for (head, code) in [
        (method, ErrorCode::HttpRequestMethodInvalid),
        (authority, ErrorCode::HttpRequestUriInvalid),
        (nowhere, ErrorCode::HttpRequestUriInvalid),
        (path, ErrorCode::HttpRequestUriInvalid),
    ] {
        let exchange = guest.fetch_with(&head.encode(), b"", false).expect("fetch");
        assert_eq!(guest.head(exchange), Ok(Err(failure(code))), "{head:?}");
        assert_eq!(guest.write(exchange, 0, b"x"), Err(Errno::ConnectionReset));
    }
    assert!(requests.try_recv().is_err(), "none was made");
}

#[test]
fn a_client_learns_that_the_guest_has_given_up() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch_with(&get().encode(), b"begin", false).expect("fetch");
    let Outgoing { mut response, body, .. } = requests.recv().expect("a request");
    assert_eq!(guest.call(Call::Close { handle: exchange }), Ok(0));
    block_on(response.gone());
    assert_eq!(whole(body), Err(failure(ErrorCode::ConnectionTerminated)));
    let mut body = response.respond(Response::new(()));
    block_on(body.write(b"x")).expect_err("nobody reads it");
}

#[test]
fn a_response_is_told_though_its_server_read_no_more_of_the_request() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch_with(&get().encode(), b"begin", false).expect("fetch");
    let Outgoing { response, body, .. } = requests.recv().expect("a request");
    drop(body);
    response.respond(Response::new(())).finish(HeaderMap::new());
    assert_eq!(guest.write(exchange, 0, b"x"), Err(Errno::ConnectionReset));
    assert_eq!(guest.finish(exchange), Ok(0));
    guest.head(exchange).expect("a head").expect("no error");
    assert_eq!(guest.read(exchange, 0), Ok(vec![]));
}

#[test]
fn a_head_that_the_reply_does_not_hold_is_told_again() {
    let (mut guest, requests) = guest_with_client();
    let exchange = guest.fetch(&get()).expect("fetch");
    let outgoing = requests.recv().expect("a request");
    outgoing.response.respond(Response::new(())).finish(HeaderMap::new());
    assert_eq!(guest.host.call(Call::Head { exchange }, &mut [0; 1]), Err(Errno::TooBig));
    guest.head(exchange).expect("a head").expect("no error");
}
