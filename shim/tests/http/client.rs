//! The client.

use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use abi::Errno;
use abi::http::ErrorCode;
use shim::http::client::Client;
use vmm::host::http::Failure;

use crate::guest::{Fetched, Target};
use crate::raw::{HANG, Raw};

mod tls;

/// A client that finds every name at `127.0.0.1`, but `denied.test` and `unknown.test` nowhere, and
/// `two.test` at `127.0.0.2` first.
fn client_in(root: Option<std::path::PathBuf>) -> Client {
    let addresses =
        |host: String, port: u16| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move {
                let local: SocketAddr = ([127, 0, 0, 1], port).into();
                match host.as_str() {
                    "denied.test" => Err(Failure::from(ErrorCode::HttpRequestDenied)),
                    "unknown.test" => Err(Failure::from(ErrorCode::DnsError)),
                    "two.test" => Ok(vec![([127, 0, 0, 2], port).into(), local]),
                    host => match host.parse::<IpAddr>() {
                        Ok(ip) => Ok(vec![(ip, port).into()]),
                        Err(_) => Ok(vec![local]),
                    },
                }
            })
        };
    Client::new(Arc::new(addresses), root)
}

fn client() -> Client {
    client_in(None)
}

/// A server that does `serve` with each connection, one after the other, and where it is.
fn server(serve: impl Fn(Raw) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(raw(stream.expect("a connection")));
        }
    });
    port
}

fn raw(stream: TcpStream) -> Raw {
    stream.set_read_timeout(Some(HANG)).expect("set timeout");
    Raw { stream: std::io::BufReader::new(stream) }
}

/// A server that says the same to each request, and then ends the connection.
fn saying(text: &'static str) -> u16 {
    server(move |mut raw| {
        raw.line();
        raw.fields();
        // A client may have heard enough.
        let _ = raw.stream.get_mut().write_all(text.as_bytes());
    })
}

fn get(port: u16) -> Fetched {
    Fetched::get(&client(), "http", &format!("a.test:{port}"), [None; 3])
}

#[test]
fn a_request_is_made_and_its_response_told() {
    let (sender, seen) = channel();
    let port = server(move |mut raw| {
        let line = raw.line();
        sender.send((line, raw.fields())).expect("send");
        raw.send("HTTP/1.1 201 Created\r\nX-A: b\r\ncontent-length: 4\r\n\r\ntext");
    });
    let mut fetched = get(port);
    let (status, headers) = fetched.head().expect("a response");
    assert_eq!(status, 201);
    assert!(headers.contains(&("x-a".into(), "b".into())), "{headers:?}");
    assert_eq!(fetched.body(), Ok(b"text".to_vec()));
    assert_eq!(fetched.trailers(), []);
    let (line, headers) = seen.recv_timeout(HANG).expect("a request");
    assert_eq!(line, "GET /p?q HTTP/1.1");
    assert!(headers.contains(&("host".into(), format!("a.test:{port}"))), "{headers:?}");
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let port = server(|mut raw| {
        raw.line();
        raw.fields();
        let mut body = Vec::new();
        while let Some(chunk) = raw.chunk() {
            body.extend(chunk);
        }
        let trailers = format!("{:?}", raw.fields());
        raw.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-out\r\n\r\n");
        for part in body.chunks(50_000) {
            raw.send(format!("{:x}\r\n", part.len())).send(part).send("\r\n");
        }
        raw.send(format!("0\r\nx-out: {trailers}\r\n\r\n"));
    });
    let target = Target { method: "POST", scheme: "http", authority: &format!("a.test:{port}") };
    let mut fetched = Fetched::begin(&client(), target, &[("trailer", "x-in")], [None; 3]);
    let sent = vec![b'x'; 1_000_000];
    fetched.write(&sent).expect("write");
    fetched.finish(&[("x-in", "7")]);
    assert_eq!(fetched.head().expect("a response").0, 200);
    assert!(fetched.body() == Ok(sent));
    assert_eq!(fetched.trailers(), [("x-out".into(), r#"[("x-in", "7")]"#.into())]);
}

#[test]
fn a_connection_is_used_for_the_next_request() {
    let port = server(|mut raw| {
        for number in 0..3 {
            raw.line();
            raw.fields();
            raw.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}"));
        }
    });
    let client = client();
    for number in 0..3 {
        let mut fetched = Fetched::get(&client, "http", &format!("a.test:{port}"), [None; 3]);
        fetched.head().expect("a response");
        assert_eq!(fetched.body(), Ok(format!("{number}").into_bytes()));
    }
}

#[test]
fn the_next_address_is_tried_where_nobody_listens_at_the_first() {
    let port = saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let mut fetched = Fetched::get(&client(), "http", &format!("two.test:{port}"), [None; 3]);
    assert_eq!(fetched.head().expect("a response").0, 200);
}

/// A port of 127.0.0.1 at which connections are refused, for as long as this is kept: nobody else gets it.
fn refusing() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("bind");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}

/// Somebody at `addr` who takes no connection and refuses none, for as long as this is kept.
fn hesitating(addr: SocketAddr) -> (tokio::net::TcpListener, Vec<TcpStream>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(addr).expect("bind");
    let listener = socket.listen(1).expect("listen");
    let connect = || TcpStream::connect_timeout(&addr, Duration::from_secs(1));
    (listener, std::iter::from_fn(|| connect().ok()).collect())
}

#[test]
fn the_next_address_is_tried_while_nobody_takes_a_connection_at_the_first() {
    let port = saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let _hesitating = hesitating(([127, 0, 0, 2], port).into());
    let mut fetched = Fetched::get(&client(), "http", &format!("two.test:{port}"), [None; 3]);
    assert_eq!(fetched.head().expect("a response").0, 200);
}

#[test]
fn an_address_that_was_tried_first_may_be_taken_last() {
    let (_refusing, port) = refusing();
    let (hesitating, waiting) = hesitating(([127, 0, 0, 2], port).into());
    // The second address refuses; the first is answered by then, or will be.
    let mut fetched = Fetched::get(&client(), "http", &format!("two.test:{port}"), [None; 3]);
    let hesitating = hesitating.into_std().expect("a listener");
    hesitating.set_nonblocking(false).expect("set blocking");
    drop(waiting);
    thread::spawn(move || {
        for stream in hesitating.incoming() {
            let mut raw = raw(stream.expect("a connection"));
            thread::spawn(move || {
                // Those that only waited are gone.
                if raw.stream.fill_buf().is_ok_and(|said| !said.is_empty()) {
                    raw.line();
                    raw.fields();
                    raw.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    assert_eq!(fetched.head().expect("a response").0, 200);
}

#[test]
fn what_keeps_a_request_from_being_made_is_told() {
    let (_refusing, nobody) = refusing();
    for (scheme, authority, code) in [
        ("http", format!("127.0.0.1:{nobody}"), ErrorCode::ConnectionRefused),
        ("http", "denied.test".to_owned(), ErrorCode::HttpRequestDenied),
        ("http", "unknown.test".to_owned(), ErrorCode::DnsError),
        ("ftp", "a.test".to_owned(), ErrorCode::HttpProtocolError),
        ("http", "me@a.test".to_owned(), ErrorCode::HttpRequestUriInvalid),
    ] {
        let mut fetched = Fetched::get(&client(), scheme, &authority, [None; 3]);
        assert_eq!(fetched.error(), code, "{scheme}://{authority}");
    }
}

#[test]
fn a_tunnel_is_not_to_be_had() {
    let target = Target { method: "CONNECT", scheme: "http", authority: "a.test" };
    let mut fetched = Fetched::begin(&client(), target, &[], [None; 3]);
    assert_eq!(fetched.error(), ErrorCode::HttpRequestMethodInvalid);
}

#[test]
fn a_response_that_is_none_is_told() {
    let huge = Box::leak(
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "v".repeat(1 << 20)).into_boxed_str(),
    );
    for (text, code) in [
        ("", ErrorCode::HttpResponseIncomplete),
        ("HTTP/1.1 200 OK\r\nx-a:", ErrorCode::HttpResponseIncomplete),
        ("hello\r\n\r\n", ErrorCode::HttpProtocolError),
        (huge, ErrorCode::HttpResponseHeaderSectionSize),
    ] {
        assert_eq!(get(saying(text)).error(), code, "{:?}", &text[..text.len().min(40)]);
    }
}

#[test]
fn a_response_that_breaks_off_is_read_up_to_there() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ntext",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ntext\r\n",
    ] {
        let mut fetched = get(saying(text));
        assert_eq!(fetched.head().expect("a response").0, 200);
        let failure = fetched.body().expect_err("it is not whole");
        assert_eq!(failure.code, ErrorCode::HttpResponseIncomplete, "{text:?}");
    }
}

#[test]
fn the_response_to_head_has_a_length_and_no_body() {
    let port = saying("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n");
    let target = Target { method: "HEAD", scheme: "http", authority: &format!("a.test:{port}") };
    let mut fetched = Fetched::begin(&client(), target, &[], [None; 3]);
    fetched.finish(&[]);
    let (_, headers) = fetched.head().expect("a response");
    assert!(headers.contains(&("content-length".into(), "100".into())));
    assert_eq!(fetched.body(), Ok(vec![]));
}

/// A server that answers a request with a part of a response, and says no more until the test is over.
fn stalling(text: &'static str) -> u16 {
    server(move |mut raw| {
        // What comes before the request is no answer to it.
        if !text.is_empty() {
            raw.line();
            raw.fields();
        }
        raw.send(text);
        thread::park();
    })
}

#[test]
fn a_program_waits_no_longer_for_a_connection_than_it_said() {
    let port = stalling("");
    let waits = [Some(50), None, None];
    let mut fetched = Fetched::get(&client(), "https", &format!("a.test:{port}"), waits);
    assert_eq!(fetched.error(), ErrorCode::ConnectionTimeout, "there is no handshake");
}

#[test]
fn a_program_waits_no_longer_for_a_response_than_it_said() {
    let port = stalling("");
    let waits = [None, Some(50), None];
    let mut fetched = Fetched::get(&client(), "http", &format!("a.test:{port}"), waits);
    assert_eq!(fetched.error(), ErrorCode::HttpResponseTimeout);
}

#[test]
fn a_program_waits_no_longer_for_the_next_bytes_than_it_said() {
    let port = stalling("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ntext");
    let waits = [None, None, Some(50)];
    let mut fetched = Fetched::get(&client(), "http", &format!("a.test:{port}"), waits);
    assert_eq!(fetched.head().expect("a response").0, 200);
    let failure = fetched.body().expect_err("it is not whole");
    assert_eq!(failure.code, ErrorCode::ConnectionReadTimeout);
}

#[test]
fn a_request_that_its_program_gives_up_ends_its_connection() {
    let (sender, ended): (_, Receiver<_>) = channel();
    let port = server(move |mut raw| {
        raw.line();
        raw.fields();
        sender.send(None).expect("send");
        sender.send(Some(raw.rest())).expect("send");
    });
    let fetched = get(port);
    assert_eq!(ended.recv_timeout(HANG).expect("a request"), None);
    drop(fetched);
    let (rest, _) = ended.recv_timeout(HANG).expect("an end").expect("an end");
    assert_eq!(rest, b"");
}

#[test]
fn a_response_may_come_before_the_request_is_whole() {
    let port = saying("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno");
    let target = Target { method: "POST", scheme: "http", authority: &format!("a.test:{port}") };
    let mut fetched = Fetched::begin(&client(), target, &[], [None; 3]);
    assert_eq!(fetched.head().expect("a response").0, 413);
    assert_eq!(fetched.body(), Ok(b"no".to_vec()));
    let end = (0..1000).find_map(|_| fetched.write([0; 10_000]).err());
    assert_eq!(end, Some(Errno::ConnectionReset));
}

#[test]
fn many_requests_at_a_time_get_their_own_responses() {
    let server =
        crate::server::Server::of(|mut given| given.respond(200, &[], given.authority.clone()));
    let client = client();
    let fetched: Vec<_> = (0..100)
        .map(|number| {
            let authority = format!("n{number}.test:{}", server.addr.port());
            (Fetched::get(&client, "http", &authority, [None; 3]), authority)
        })
        .collect();
    for (mut fetched, authority) in fetched {
        assert_eq!(fetched.head().expect("a response").0, 200);
        assert_eq!(fetched.body(), Ok(authority.into_bytes()));
    }
}
