//! Requests that a program makes.

use super::requests::{entries, trailers};
use super::*;

const URI: &str = "http://example.org:81/a?b";

/// A request with these fields, to `http://example.org:81/a?b`.
fn made(handler: &mut Handler, fields: &[(&str, &str)]) -> Val {
    let fields = handler.fields(fields);
    let request = handler.call("types/outgoing-request", &[&fields]);
    for (what, value) in [
        ("scheme", some(code("HTTP", None))),
        ("authority", some(text("example.org:81"))),
        ("path-with-query", some(text("/a?b"))),
    ] {
        handler.done(&format!("types/outgoing-request.set-{what}"), &[&request, &value]);
    }
    request
}

/// Sends a request.
fn handle(handler: &mut Handler, request: Val, options: Val) -> Val {
    handler.call("outgoing-handler/handle", &[&request, &options])
}

/// Sends a request without a body.
pub(super) fn ask(handler: &mut Handler) -> Val {
    let request = made(handler, &[]);
    match handle(handler, request, NONE) {
        Val::Result(Ok(Some(future))) => *future,
        other => panic!("{other:?}"),
    }
}

/// The response of a future, which waits for it.
fn response(handler: &mut Handler, future: &Val) -> Result<Val, Val> {
    let pollable = handler.call("types/future-incoming-response.subscribe", &[future]);
    handler.block(pollable);
    match handler.call("types/future-incoming-response.get", &[future]) {
        Val::Option(Some(given)) => match *given {
            Val::Result(Ok(Some(given))) => match *given {
                Val::Result(Ok(Some(response))) => Ok(*response),
                Val::Result(Err(Some(error))) => Err(*error),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_and_its_response_cross_whole() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let request = made(&mut handler, &[("X-A", "1"), ("content-length", "4")]);
    handler.done("types/outgoing-request.set-method", &[&request, &code("post", None)]);
    let body = handler.done("types/outgoing-request.body", &[&request]);
    let again = handler.call("types/outgoing-request.body", &[&request]);
    assert_eq!(again, Val::Result(Err(None)));
    let options = handler.call("types/request-options", &[]);
    for (what, ns) in [("connect", 1), ("first-byte", 2), ("between-bytes", 3)] {
        let set = format!("types/request-options.set-{what}-timeout");
        handler.done(&set, &[&options, &some(Val::U64(ns))]);
        let get = format!("types/request-options.{what}-timeout");
        assert_eq!(handler.call(&get, &[&options]), some(Val::U64(ns)));
    }
    let mut steps = vec![
        ("outgoing-handler/handle", vec![request, some(options)]),
        ("types/outgoing-body.write", vec![body.clone()]),
        writing(1, b"body"),
    ];
    steps.extend(finishing(body, 1));
    let (handles, finished) = handler.calls_in_a_row(&steps);
    assert_eq!(finished, Val::Result(Ok(None)));
    assert_eq!(handler.calls(), [Nr::Fetch], "a small request is one host call");
    let future = handles[0].clone();

    let Outgoing { head, timeouts, body, response: writer } =
        handler.outgoing.recv_timeout(HANG).unwrap();
    assert_eq!((head.method().as_str(), head.uri().to_string()), ("POST", URI.to_owned()));
    assert_eq!(head.headers()["x-a"], "1");
    let ns = [timeouts.connect, timeouts.first_byte, timeouts.between_bytes];
    assert_eq!(ns, [1, 2, 3].map(|ns| Some(Duration::from_nanos(ns))));
    assert_eq!(whole(body), Ok((b"body".to_vec(), HeaderMap::new())));
    let pollable = handler.call("types/future-incoming-response.subscribe", &[&future]);
    assert!(!handler.is_ready(&pollable));
    assert_eq!(handler.call("types/future-incoming-response.get", &[&future]), NONE);
    handler.program.gives_nothing("poll/drop-pollable", &[pollable]);
    let head = Response::builder().status(201).header("x-b", "2").header("upgrade", "h2c");
    let mut writer = writer.respond(head.body(()).unwrap());
    let writing = thread::spawn(move || {
        block_on(writer.write(&[5; 200_000])).unwrap();
        writer.finish(one_field("x-end", "yes"));
    });

    let response = response(&mut handler, &future).unwrap();
    let again = handler.call("types/future-incoming-response.get", &[&future]);
    assert_eq!(again, some(Val::Result(Err(None))));
    handler.drop("future-incoming-response", future);
    assert_eq!(handler.call("types/incoming-response.status", &[&response]), Val::U16(201));
    let fields = handler.call("types/incoming-response.headers", &[&response]);
    assert_eq!(entries(&mut handler, &fields), [("x-b".to_owned(), b"2".to_vec())]);
    let body = handler.done("types/incoming-response.consume", &[&response]);
    let again = handler.call("types/incoming-response.consume", &[&response]);
    assert_eq!(again, Val::Result(Err(None)));
    let stream = handler.done("types/incoming-body.stream", &[&body]);
    assert_eq!(handler.read_all(&stream), Ok(vec![5; 200_000]));
    handler.program.gives_nothing("streams/drop-input-stream", &[stream]);
    let future = handler.call("types/incoming-body.finish", &[&body]);
    let end = vec![("x-end".to_owned(), b"yes".to_vec())];
    assert_eq!(trailers(&mut handler, &future), Some(Ok(end)));
    writing.join().unwrap();
}

#[test]
fn a_request_may_be_answered_before_its_body_is_whole() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let request = made(&mut handler, &[]);
    let body = handler.done("types/outgoing-request.body", &[&request]);
    let Val::Result(Ok(Some(future))) = handle(&mut handler, request, NONE) else {
        panic!("no future")
    };
    let stream = handler.done("types/outgoing-body.write", &[&body]);
    handler.write(&stream, b"a");
    let pollable = handler.call("types/future-incoming-response.subscribe", &[&future]);
    handler.program.gives_nothing("poll/drop-pollable", &[pollable]);
    let Outgoing { mut body, response: writer, .. } = handler.outgoing.recv_timeout(HANG).unwrap();
    assert_eq!(block_on(body.read()), Ok(Part::Data(b"a".to_vec())));
    let mut writer = writer.respond(Response::new(()));
    let response = response(&mut handler, &future).unwrap();
    handler.drop("future-incoming-response", *future);
    let consumed = handler.done("types/incoming-response.consume", &[&response]);
    let input = handler.done("types/incoming-body.stream", &[&consumed]);
    for part in [&b"b"[..], b"c"] {
        handler.write(&stream, part);
        assert_eq!(block_on(body.read()), Ok(Part::Data(part.to_vec())));
        block_on(writer.write(part)).unwrap();
        let read = handler.done("streams/input-stream.blocking-read", &[&input, &Val::U64(9)]);
        assert_eq!(bytes_of(&read), part);
    }
}

#[test]
fn what_is_no_request_is_refused_where_it_is_made() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let fields = handler.call("types/fields", &[]);
    let request = handler.call("types/outgoing-request", &[&fields]);
    let refused = Val::Result(Err(None));
    for (what, bad) in [
        ("method", code("other", Some(text("a b")))),
        ("method", code("other", Some(text("")))),
        ("scheme", some(code("other", Some(text("1a"))))),
        ("authority", some(text("a b"))),
        ("authority", some(text(""))),
        ("path-with-query", some(text("a"))),
        ("path-with-query", some(text("/a b"))),
        ("path-with-query", some(text("/\r\nx: y"))),
    ] {
        let name = format!("types/outgoing-request.set-{what}");
        assert_eq!(handler.call(&name, &[&request, &bad]), refused, "{what}: {bad:?}");
    }
    let unchanged = [
        ("method", code("get", None)),
        ("scheme", NONE),
        ("authority", NONE),
        ("path-with-query", NONE),
    ];
    for (what, value) in unchanged {
        let name = format!("types/outgoing-request.{what}");
        assert_eq!(handler.call(&name, &[&request]), value);
    }
    let given = handle(&mut handler, request, NONE);
    assert_eq!(given, err(code("HTTP-request-URI-invalid", None)), "there is no authority");
    let request = made(&mut handler, &[]);
    let other = some(code("other", Some(text("ftp"))));
    handler.done("types/outgoing-request.set-scheme", &[&request, &other]);
    let given = handle(&mut handler, request, NONE);
    assert_eq!(given, err(code("HTTP-protocol-error", None)));
    let request = made(&mut handler, &[("content-length", "3")]);
    let given = handle(&mut handler, request, NONE);
    assert_eq!(given, err(code("HTTP-request-body-size", Some(some(Val::U64(0))))));
    assert_eq!(handler.calls(), []);
}

#[test]
fn who_may_make_no_requests_is_told() {
    let (incoming, _server) = get();
    let mut handler = Handler::start(incoming, false);
    let denied = code("HTTP-request-denied", None);
    let request = made(&mut handler, &[]);
    assert_eq!(handle(&mut handler, request, NONE), err(denied.clone()));
    // One with a body is held back at first.
    let request = made(&mut handler, &[]);
    let body = handler.done("types/outgoing-request.body", &[&request]);
    let Val::Result(Ok(Some(future))) = handle(&mut handler, request, NONE) else {
        panic!("no future")
    };
    assert_eq!(handler.call("types/outgoing-body.finish", &[&body, &NONE]), err(denied.clone()));
    assert_eq!(response(&mut handler, &future), Err(denied));
}

#[test]
fn a_request_that_is_shorter_than_it_said_is_never_made() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let request = made(&mut handler, &[("content-length", "3")]);
    let body = handler.done("types/outgoing-request.body", &[&request]);
    let short = code("HTTP-request-body-size", Some(some(Val::U64(0))));
    let (handles, finished) = handler.calls_in_a_row(&[
        ("outgoing-handler/handle", vec![request, NONE]),
        ("types/outgoing-body.finish", vec![body, NONE]),
    ]);
    assert_eq!(finished, err(short.clone()));
    assert_eq!(response(&mut handler, &handles[0]), Err(short));
    assert!(!handler.calls().contains(&Nr::Fetch));
}

#[test]
fn a_request_of_which_nobody_awaits_the_response_is_given_up() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let future = ask(&mut handler);
    let mut outgoing = handler.outgoing.recv_timeout(HANG).unwrap();
    handler.drop("future-incoming-response", future);
    assert_eq!(handler.calls(), [Nr::Fetch, Nr::Close]);
    block_on(outgoing.response.gone());
    // With a body it was held back, and is never made.
    let request = made(&mut handler, &[]);
    let body = handler.done("types/outgoing-request.body", &[&request]);
    let (_, written) = handler.calls_in_a_row(&[
        ("outgoing-handler/handle", vec![request, NONE]),
        ("types/drop-future-incoming-response", vec![step(0)]),
        ("types/outgoing-body.write", vec![body]),
        writing(2, b"x"),
    ]);
    assert_eq!(written, err(closed()));
    assert_eq!(handler.calls(), []);
}

#[test]
fn a_response_that_breaks_off_says_why() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let future = ask(&mut handler);
    let outgoing = handler.outgoing.recv_timeout(HANG).unwrap();
    let mut writer = outgoing.response.respond(Response::new(()));
    block_on(writer.write(b"some")).unwrap();
    let told = Failure { number: Some(9), ..failure(ErrorCode::HttpResponseBodySize) };
    writer.fail(told);
    let response = response(&mut handler, &future).unwrap();
    let consumed = handler.done("types/incoming-response.consume", &[&response]);
    let stream = handler.done("types/incoming-body.stream", &[&consumed]);
    let read = handler.done("streams/input-stream.blocking-read", &[&stream, &Val::U64(9)]);
    assert_eq!(bytes_of(&read), b"some");
    let error = handler.read_all(&stream).unwrap_err();
    let why = code("HTTP-response-body-size", Some(some(Val::U64(9))));
    assert_eq!(handler.http_error_of(error), why);
}
