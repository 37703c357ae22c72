//! Requests and their responses over HTTP/1.

use super::Server;
use crate::guest::Given;

/// Answers with what it was asked.
fn mirror(mut given: Given) {
    let text = format!("{} {} {}", given.method, given.authority, given.path);
    given.respond(200, &[("x-a", "b")], text);
}

#[test]
fn a_request_is_answered_by_the_guest() {
    let server = Server::of(mirror);
    let response = server.connect().get("/p?q=1");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-a"), Some("b"));
    assert_eq!(response.header("content-length"), Some("12"));
    assert_eq!(String::from_utf8_lossy(&response.body), "GET a /p?q=1");
}

#[test]
fn a_connection_is_kept_for_another_request() {
    let server = Server::of(mirror);
    let mut client = server.connect();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.get(path).body, format!("GET a {path}").into_bytes());
    }
}

#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    let server = Server::of(mirror);
    let mut client = server.connect();
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().body, b"GET a /1");
    assert_eq!(client.response().body, b"GET a /2");
}

#[test]
fn a_client_that_wants_no_other_request_has_its_connection_closed() {
    let server = Server::of(mirror);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.assert_closed();
}

#[test]
fn a_client_that_closed_its_direction_is_answered() {
    let server = Server::of(|given| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        mirror(given);
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").shutdown();
    assert_eq!(client.response().body, b"GET a /");
    client.assert_closed();
}

#[test]
fn a_client_of_http_1_0_needs_no_host() {
    let server = Server::of(mirror);
    let mut client = server.connect();
    let response = client.send("GET /x HTTP/1.0\r\n\r\n").response();
    assert_eq!((response.status, &response.body[..]), (200, &b"GET  /x"[..]));
    client.assert_closed();
}

#[test]
fn the_authority_of_an_absolute_target_goes_before_the_host() {
    let server = Server::of(mirror);
    let mut client = server.connect();
    client.send("GET http://b:81/x HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().body, b"GET b:81 /x");
}

#[test]
fn the_target_of_options_can_be_the_server() {
    let server = Server::of(mirror);
    let mut client = server.connect();
    client.send("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().body, b"OPTIONS a *");
}

#[test]
fn fields_of_the_connection_do_not_reach_the_guest() {
    let server = Server::of(|mut given| {
        let text = format!("{:?}", given.headers);
        given.respond(200, &[], text);
    });
    let mut client = server.connect();
    client.send(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nX-A: b\r\n\r\n",
    );
    let body = client.response().body;
    assert_eq!(String::from_utf8_lossy(&body), r#"[("x-a", "b")]"#);
}

#[test]
fn the_response_to_head_has_a_length_and_no_body() {
    let server = Server::of(mirror);
    let mut client = server.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status, head.header("content-length")), (200, Some("8")));
    assert_eq!(client.get("/").body, b"GET a /", "the connection goes on");
}

#[test]
fn a_body_where_none_may_be_is_left_out() {
    let server = Server::of(|mut given| match given.method.as_str() {
        "GET" => given.respond(204, &[], "text"),
        _ => {
            given.begin(&[]);
            given.write([0; 200_000]).expect("nobody minds");
            given.finish(&[]);
        }
    });
    let mut client = server.connect();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, &response.body[..]), (204, &b""[..]));
        client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.head().status, 200);
    }
}

#[test]
fn a_guest_says_what_failed_behind_it() {
    use abi::http::ErrorCode;
    let server = Server::of(|mut given| {
        given.fail(match given.path.as_str() {
            "/refused" => ErrorCode::ConnectionRefused,
            "/late" => ErrorCode::HttpResponseTimeout,
            _ => ErrorCode::InternalError,
        });
    });
    let mut client = server.connect();
    assert_eq!(client.get("/refused").status, 502);
    assert_eq!(client.get("/late").status, 504);
    assert_eq!(client.get("/").status, 500);
}
