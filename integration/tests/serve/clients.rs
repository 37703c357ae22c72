//! Clients that do what they must not, beside one that wants its answer.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use integration::{programs, require_kvm};

use crate::server::{LIMIT, Server, curl};

fn connect(server: &Server, said: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(&server.addr).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(said).unwrap();
    client
}

/// All that the server says until it closes.
fn rest(mut client: TcpStream) -> String {
    let mut said = Vec::new();
    // Where it has not read everything, its end is a reset.
    drop(client.read_to_end(&mut said));
    String::from_utf8(said).unwrap()
}

/// The handler in C, in one micro-VM that handles all requests.
fn bare() -> Server {
    Server::start(&programs::handler("bare").unwrap(), &["--max-concurrency", "1"])
}

#[test]
fn what_is_no_request_is_refused() {
    require_kvm!();
    let server = bare();
    let large = "x".repeat(64 << 10);
    let large_field = format!("GET / HTTP/1.1\r\nhost: here\r\nx-large: {large}\r\n\r\n");
    let long_target = format!("GET /{large} HTTP/1.1\r\nhost: here\r\n\r\n");
    for (said, status) in [
        ("\u{16}\u{3}\u{1}\0no request at all\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nno field\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nhost: here\r\ncontent-length: ten\r\n\r\n", "400"),
        ("GET here:80 HTTP/1.1\r\nhost: here\r\n\r\n", "400"),
        (&large_field, "431"),
        (&long_target, "414"),
    ] {
        let mut client = connect(&server, said.as_bytes());
        let mut line = [0; 12];
        client.read_exact(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line);
        assert_eq!(line.split(' ').next_back(), Some(status), "{said:.40?}: {line}");
        assert_eq!(curl(&[&server.url("/")]), "bare");
    }
}

#[test]
fn clients_that_say_nothing_more_keep_nobody_from_the_one_micro_vm() {
    require_kvm!();
    let server = bare();
    let unfinished: [&[u8]; 4] = [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nhost: here\r\nx-slow: lo",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let slow = unfinished.into_iter().cycle().take(400);
    let slow: Vec<_> = slow.map(|said| connect(&server, said)).collect();
    for _ in 0..10 {
        assert_eq!(curl(&[&server.url("/")]), "bare");
    }
    drop(slow);
    assert_eq!(curl(&[&server.url("/")]), "bare");
}

#[test]
fn a_client_that_has_said_all_is_answered() {
    require_kvm!();
    let server = bare();
    let client = connect(&server, b"GET / HTTP/1.1\r\nhost: here\r\n\r\n");
    client.shutdown(Shutdown::Write).unwrap();
    let said = rest(client);
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nbare"), "{said}");
}

#[test]
fn a_client_that_goes_midway_frees_the_micro_vm() {
    require_kvm!();
    let server = bare();
    let upload = "POST /upper HTTP/1.1\r\nhost: here\r\ncontent-length: 1000000\r\n\r\nbegun";
    for _ in 0..10 {
        drop(connect(&server, upload.as_bytes()));
        let mut reading = connect(&server, upload.as_bytes());
        // With the micro-VM at work.
        reading.read_exact(&mut [0; 12]).unwrap();
        drop(reading);
        assert_eq!(curl(&[&server.url("/")]), "bare");
    }
}

#[test]
fn a_body_that_breaks_off_harms_nobody() {
    require_kvm!();
    let server = bare();
    for body in ["5\r\nbeg", "five\r\nbegun\r\n0\r\n\r\n", "5\r\nbegun"] {
        let head = "POST /upper HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n";
        let client = connect(&server, format!("{head}{body}").as_bytes());
        client.shutdown(Shutdown::Write).unwrap();
        let said = rest(client);
        assert!(!said.ends_with("0\r\n\r\n"), "{body:?}: {said}");
        assert_eq!(curl(&[&server.url("/")]), "bare");
    }
}
