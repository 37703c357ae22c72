//! Requests that reach no guest.

use shim::http::server::{Limits, Refused};

use super::Server;

fn nobody() -> Server {
    Server::submitting(Limits::default(), |_| panic!("a guest was asked"))
}

#[test]
fn a_request_for_which_there_is_no_micro_vm_is_to_come_again() {
    let server = Server::submitting(Limits::default(), |incoming| Err(Refused(incoming)));
    let mut client = server.connect();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    }
}

#[test]
fn a_request_that_waits_can_still_be_refused() {
    let server = Server::submitting(Limits::default(), |incoming| {
        std::thread::spawn(move || incoming.refuse());
        Ok(())
    });
    assert_eq!(server.connect().get("/").status, 503);
}

#[test]
fn a_request_that_is_none_is_refused() {
    let server = nobody();
    for text in [
        "hello\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let response = server.connect().send(text).response();
        assert_eq!(response.status, 400, "{text:?}");
    }
}

#[test]
fn a_request_for_no_host_is_refused() {
    let server = nobody();
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
        "GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let response = server.connect().send(text).response();
        assert_eq!(response.status, 400, "{text:?}");
    }
}

#[test]
fn a_proxy_is_not_to_be_had() {
    let server = nobody();
    let mut client = server.connect();
    client.send("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n");
    assert_eq!(client.response().status, 501);
}

#[test]
fn other_expectations_are_not_met() {
    let server = nobody();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nexpect: tea\r\n\r\n");
    assert_eq!(client.response().status, 417);
}
