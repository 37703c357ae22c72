//! HTTP/2 by prior knowledge.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shim::http::server::Limits;
use tokio::net::TcpStream;

use super::{Server, stopping, telling};

type Body = BoxBody<Bytes, Infallible>;

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(crate::raw::HANG, future).await.expect("it hangs") })
}

async fn connect(server: &Server) -> SendRequest<Body> {
    let stream = TcpStream::connect(server.addr).await.expect("connect");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://a{path}")).body(Empty::new().boxed()).expect("a request")
}

#[test]
fn a_request_has_its_authority_body_and_trailers() {
    let server = Server::of(|mut given| {
        let body = given.body().expect("a body");
        let trailers = given.trailers();
        let text = format!("{} {} {trailers:?}", given.authority, given.path);
        given.begin(&[]);
        given.write(body).expect("write");
        given.finish(&[("x-sum", &text)]);
    });
    run(async {
        let mut client = connect(&server).await;
        let trailers = HeaderMap::from_iter([(
            "x-in".parse().expect("a name"),
            "7".parse().expect("a value"),
        )]);
        let frames = [Frame::data(Bytes::from_static(b"abc")), Frame::trailers(trailers)];
        let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, Infallible>)));
        let request = Request::post("http://a:81/p").body(BoxBody::new(body));
        let response = client.send_request(request.expect("a request"));
        let body = response.await.expect("a response").into_body().collect().await.expect("a body");
        let trailers = body.trailers().expect("trailers").clone();
        assert_eq!(body.to_bytes(), "abc");
        assert_eq!(trailers["x-sum"], r#"a:81 /p [("x-in", "7")]"#);
    });
}

#[test]
fn requests_of_a_connection_are_handled_together() {
    let (go_on, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let server = Server::of(move |mut given| {
        match given.path.as_str() {
            "/waits" => receiver.lock().expect("a lock").recv().expect("go on"),
            _ => go_on.send(()).expect("it waits"),
        }
        given.respond(200, &[], given.path.clone());
    });
    run(async {
        let mut client = connect(&server).await;
        let waits = client.send_request(get("/waits"));
        let other = client.send_request(get("/other"));
        let (waits, other) = tokio::join!(waits, other);
        for (response, path) in [(waits, "/waits"), (other, "/other")] {
            let body = response.expect("a response").into_body().collect().await.expect("a body");
            assert_eq!(body.to_bytes(), path);
        }
    });
}

#[test]
fn a_long_body_is_echoed() {
    let server = Server::of(|mut given| {
        given.begin(&[]);
        loop {
            match given.read().expect("a part") {
                part if part.is_empty() => break,
                part => given.write(part).expect("write"),
            }
        }
        given.finish(&[]);
    });
    let sent = Bytes::from(vec![7; 5_000_000]);
    run(async {
        let mut client = connect(&server).await;
        let body = Full::new(sent.clone()).boxed();
        let request = Request::post("http://a/").body(body).expect("a request");
        let response = client.send_request(request).await.expect("a response");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(body == sent);
    });
}

#[test]
fn a_response_that_breaks_off_resets_its_stream_and_no_other() {
    let (guest, break_off) = stopping(|mut given, go_on| match given.path.as_str() {
        "/whole" => given.respond(200, &[], "whole"),
        _ => {
            given.begin(&[]);
            given.write("begin").expect("write");
            go_on();
        }
    });
    let server = Server::of(guest);
    run(async {
        let mut client = connect(&server).await;
        let response = client.send_request(get("/")).await.expect("a response");
        break_off.send(()).expect("it waits");
        response.into_body().collect().await.expect_err("it is not whole");
        let response = client.send_request(get("/whole")).await.expect("a response");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "whole");
    });
}

#[test]
fn a_guest_learns_that_its_stream_was_reset() {
    let (guest, outcomes) = telling(|mut given| {
        given.begin(&[]);
        loop {
            if let Err(errno) = given.write([0; 10_000]) {
                return errno;
            }
        }
    });
    let server = Server::of(guest);
    run(async {
        let mut client = connect(&server).await;
        let response = client.send_request(get("/")).await.expect("a response");
        drop(response);
        let outcome = tokio::task::spawn_blocking(move || outcomes.next());
        let errno = outcome.await.expect("no panic");
        assert_eq!(errno, abi::Errno::ConnectionReset);
    });
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
    run(async {
        let mut client = connect(&server).await;
        let response = client.send_request(get("/")).await.expect("a response");
        let outcome = tokio::task::spawn_blocking(move || outcomes.next());
        let errno = outcome.await.expect("no panic");
        assert_eq!(errno, abi::Errno::ConnectionReset);
        drop(response);
    });
}

#[test]
fn a_header_section_that_is_too_large_is_refused() {
    let limits = Limits { header_bytes: 1000, ..Limits::default() };
    let server = Server::with(limits, |mut given| given.respond(200, &[], "ok"));
    run(async {
        let mut client = connect(&server).await;
        let mut request = get("/");
        request.headers_mut().insert("x-a", "v".repeat(2000).parse().expect("a value"));
        let response = client.send_request(request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(client.send_request(get("/")).await.expect("a response").status(), 200);
    });
}

#[test]
fn a_host_that_is_not_the_authority_is_refused() {
    let server = Server::submitting(Limits::default(), |_| panic!("a guest was asked"));
    run(async {
        let mut client = connect(&server).await;
        let mut request = get("/");
        request.headers_mut().insert("host", "b".parse().expect("a value"));
        let response = client.send_request(request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    });
}

#[test]
fn a_connection_that_is_idle_is_closed() {
    let limits = Limits { idle_timeout: Duration::from_secs(1), ..Limits::default() };
    let server = Server::with(limits, |mut given| given.respond(200, &[], "ok"));
    run(async {
        let mut client = connect(&server).await;
        let response = client.send_request(get("/")).await.expect("a response");
        response.into_body().collect().await.expect("a body");
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_server_that_ends_finishes_what_is_in_flight() {
    let (begun, has_begun) = std::sync::mpsc::channel();
    let begun = std::sync::Mutex::new(begun);
    let mut server = Server::of(move |mut given| {
        begun.lock().expect("a lock").send(()).expect("send");
        std::thread::sleep(Duration::from_millis(100));
        given.respond(200, &[], "done");
    });
    run(async {
        let mut client = connect(&server).await;
        let response = client.send_request(get("/"));
        let response = tokio::spawn(response);
        while has_begun.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.shut_down();
        let response = response.await.expect("no panic").expect("a response");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "done");
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    server.join();
}
