//! How exchanges, connections and the server end.

use std::io::ErrorKind;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use abi::Errno;
use shim::http::server::Limits;

use super::{Server, stopping, telling};
use crate::raw::{HANG, Raw};

#[test]
fn a_guest_that_does_not_answer_is_an_error_of_the_server() {
    let server = Server::of(drop);
    let mut client = server.connect();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, response.header("content-length")), (500, Some("0")));
    }
}

/// A guest whose response breaks off, once that is said.
fn breaking_off(fields: &'static [(&str, &str)]) -> (Server, Sender<()>) {
    let (guest, go_on) = stopping(|mut given, go_on| {
        given.begin(fields);
        given.write("begin").expect("write");
        go_on();
    });
    (Server::of(guest), go_on)
}

#[test]
fn a_response_that_breaks_off_is_never_whole() {
    let (server, break_off) = breaking_off(&[]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"begin"[..]));
    break_off.send(()).expect("it waits");
    client.assert_closed();
}

#[test]
fn a_response_with_a_length_that_breaks_off_is_shorter() {
    let (server, break_off) = breaking_off(&[("content-length", "10")]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().header("content-length"), Some("10"));
    break_off.send(()).expect("it waits");
    let (rest, _) = client.rest();
    assert!(rest.len() < 10);
}

#[test]
fn a_response_that_only_the_connection_ends_is_reset_when_it_breaks_off() {
    let (server, break_off) = breaking_off(&[]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.head().status, 200);
    break_off.send(()).expect("it waits");
    let (_, end) = client.rest();
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_guest_learns_that_its_client_is_gone() {
    let (guest, outcomes) = telling(|mut given| {
        given.begin(&[]);
        loop {
            if let Err(errno) = given.write([0; 10_000]) {
                return errno;
            }
        }
    });
    let server = Server::of(guest);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    drop(client);
    assert_eq!(outcomes.next(), Errno::ConnectionReset);
}

#[test]
fn a_guest_learns_that_its_client_is_gone_before_it_answered() {
    let (guest, outcomes) = telling(|mut given| {
        given.begin(&[]);
        loop {
            if let Err(errno) = given.write("x") {
                return errno;
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let server = Server::of(guest);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    drop(client);
    assert_eq!(outcomes.next(), Errno::ConnectionReset);
}

#[test]
fn a_client_that_takes_nothing_does_not_keep_the_guest() {
    let limits = Limits { write_timeout: Duration::from_millis(100), ..Limits::default() };
    let (guest, outcomes) = telling(|mut given| {
        given.begin(&[]);
        loop {
            if let Err(errno) = given.write([0; 100_000]) {
                return errno;
            }
        }
    });
    let server = Server::with(limits, guest);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(outcomes.next(), Errno::ConnectionReset);
    drop(client);
}

#[test]
fn a_client_that_takes_little_at_a_time_gets_all() {
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::with(limits, |mut given| {
        given.begin(&[]);
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(50));
            given.write("x").expect("write");
        }
        given.finish(&[]);
    });
    assert_eq!(server.connect().get("/").body, [b'x'; 20]);
}

#[test]
fn a_server_that_ends_finishes_what_is_in_flight_and_takes_no_more() {
    let (begun, has_begun) = channel();
    let begun = std::sync::Mutex::new(begun);
    let (guest, go_on) = stopping(move |mut given, go_on| {
        begun.lock().expect("a lock").send(()).expect("send");
        go_on();
        given.respond(200, &[], "done");
    });
    let mut server = Server::of(guest);
    let mut idle = server.connect();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    has_begun.recv_timeout(HANG).expect("a request");
    server.shut_down();
    idle.assert_closed();
    assert!(std::net::TcpStream::connect(server.addr).is_err(), "nobody listens");
    go_on.send(()).expect("it waits");
    let response = client.response();
    assert_eq!((response.status, &response.body[..]), (200, &b"done"[..]));
    client.assert_closed();
    server.join();
}

#[test]
fn a_server_that_ends_waits_no_longer_than_it_may() {
    let (begun, has_begun) = channel();
    let begun = std::sync::Mutex::new(begun);
    let limits = Limits { drain: Duration::from_millis(50), ..Limits::default() };
    let mut server = Server::with(limits, move |mut given| {
        begun.lock().expect("a lock").send(()).expect("send");
        given.begin(&[]);
        while given.write("x").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    has_begun.recv_timeout(HANG).expect("a request");
    server.shut_down();
    server.join();
    let (rest, _) = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[test]
fn many_clients_at_once_get_their_own_responses() {
    let server = Server::of(|mut given| {
        let body = given.body().expect("a body");
        given.respond(200, &[], body);
    });
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let addr = server.addr;
            thread::spawn(move || {
                let mut client = Raw::connect(addr);
                for round in 0..50 {
                    let text = format!("{number}-{round}");
                    let length = text.len();
                    client.send(format!(
                        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{text}"
                    ));
                    assert_eq!(client.response().body, text.into_bytes());
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("answered"));
}
