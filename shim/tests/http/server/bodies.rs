//! Bodies over HTTP/1, as they come and go.

use super::{Server, stopping, telling};

#[test]
fn a_body_reaches_the_guest_and_comes_back() {
    let server = Server::of(|mut given| {
        let body = given.body().expect("a body");
        given.respond(200, &[], body);
    });
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.response().body, b"hello");
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    client.send("2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.response().body, b"abcde");
}

#[test]
fn a_long_body_is_echoed_while_it_comes() {
    let server = Server::of(|mut given| {
        given.begin(&[]);
        loop {
            let part = given.read().expect("a part");
            if part.is_empty() {
                break;
            }
            given.write(part).expect("write");
        }
        given.finish(&[]);
    });
    let sent: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut client = server.connect();
    let mut writer = crate::raw::Raw {
        stream: std::io::BufReader::new(client.stream.get_ref().try_clone().expect("clone")),
    };
    let sender = std::thread::spawn({
        let sent = sent.clone();
        move || {
            writer.send(format!(
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
                sent.len()
            ));
            writer.send(sent);
        }
    });
    assert!(client.response().body == sent);
    sender.join().expect("sent");
}

#[test]
fn a_client_sees_a_part_of_the_response_before_there_is_the_next() {
    let (guest, go_on) = stopping(|mut given, go_on| {
        given.begin(&[]);
        given.write("one").expect("write");
        go_on();
        given.write("two").expect("write");
        given.finish(&[]);
    });
    let server = Server::of(guest);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().header("transfer-encoding"), Some("chunked"));
    assert_eq!(client.chunk().as_deref(), Some(&b"one"[..]));
    go_on.send(()).expect("it waits");
    assert_eq!(client.chunk().as_deref(), Some(&b"two"[..]));
    assert_eq!(client.chunk(), None);
}

#[test]
fn trailers_go_both_ways() {
    let server = Server::of(|mut given| {
        let body = given.body().expect("a body");
        let trailers = format!("{:?}", given.trailers());
        given.begin(&[("trailer", "x-sum")]);
        given.write(body).expect("write");
        given.finish(&[("x-sum", &trailers)]);
    });
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n0\r\nx-in: 7\r\n\r\n");
    let response = client.response();
    assert_eq!(response.body, b"abc");
    assert_eq!(response.trailers, [("x-sum".into(), r#"[("x-in", "7")]"#.into())]);
}

#[test]
fn a_client_that_expects_it_is_told_to_go_on_when_the_guest_reads() {
    let (guest, reads) = stopping(|mut given, go_on| {
        go_on();
        let body = given.body().expect("a body");
        given.respond(200, &[], body);
    });
    let server = Server::of(guest);
    let mut client = server.connect();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    client
        .stream
        .get_ref()
        .set_read_timeout(Some(std::time::Duration::from_millis(50)))
        .expect("set");
    let early = std::io::BufRead::fill_buf(&mut client.stream).expect_err("nothing was said yet");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    client.stream.get_ref().set_read_timeout(Some(crate::raw::HANG)).expect("set");
    reads.send(()).expect("it waits");
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send("abc").response().body, b"abc");
}

#[test]
fn a_client_that_expects_it_is_not_told_to_go_on_where_the_guest_does_not_read() {
    let server = Server::of(|mut given| given.respond(401, &[], "who are you?"));
    let mut client = server.connect();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(client.response().status, 401);
}

#[test]
fn a_guest_may_answer_without_reading_a_long_body() {
    let server = Server::of(|mut given| given.respond(403, &[], "no"));
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000000\r\n\r\n");
    client.send(vec![0; 4_000_000]);
    let response = client.response();
    assert_eq!((response.status, &response.body[..]), (403, &b"no"[..]));
}

#[test]
fn a_body_that_its_client_breaks_off_is_refused_to_the_guest() {
    let (guest, outcomes) = telling(|mut given| given.body());
    let server = Server::of(guest);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.head().status, 100, "the guest reads");
    client.send("ab");
    drop(client);
    assert_eq!(outcomes.next(), Err(abi::Errno::ConnectionAborted));
}

#[test]
fn a_body_that_is_malformed_is_refused_to_the_guest_and_said_to_the_client() {
    let (guest, outcomes) = telling(|mut given| given.body());
    let server = Server::of(guest);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n");
    client.send("transfer-encoding: chunked\r\n\r\n");
    assert_eq!(client.head().status, 100, "the guest reads");
    client.send("3\r\nabc\r\nxyz\r\n");
    assert_eq!(outcomes.next(), Err(abi::Errno::ConnectionAborted));
    assert_eq!(client.response().status, 400);
}
