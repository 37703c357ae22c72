//! Requests that a program is given.

use super::*;

/// Names and values.
type Fields = Vec<(String, Vec<u8>)>;

fn headers(handler: &mut Handler) -> Vec<(String, Vec<u8>)> {
    let request = handler.request.clone();
    let fields = handler.call("types/incoming-request.headers", &[&request]);
    entries(handler, &fields)
}

/// All of some fields.
pub(super) fn entries(handler: &mut Handler, fields: &Val) -> Vec<(String, Vec<u8>)> {
    let Val::List(entries) = handler.call("types/fields.entries", &[fields]) else { panic!() };
    let entry = |entry: Val| match entry {
        Val::Tuple(pair) => match pair.as_slice() {
            [Val::String(name), value] => (name.clone(), bytes_of(value)),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    entries.into_iter().map(entry).collect()
}

#[test]
fn a_request_is_what_its_client_sent() {
    let head = Request::builder()
        .method("PURGE")
        .uri("https://example.org:8080/a/b?c=d")
        .header("x-b", "1")
        .header("connection", "x-hop")
        .header("host", "example.org:8080")
        .header("x-a", "2")
        .header("x-b", "3")
        .body(())
        .unwrap();
    let (incoming, _server) = request(head);
    let mut handler = Handler::given(incoming);
    let request = handler.request.clone();
    let mut tell =
        |what: &str| handler.call(&format!("types/incoming-request.{what}"), &[&request]);
    assert_eq!(tell("method"), code("other", Some(text("PURGE"))));
    assert_eq!(tell("path-with-query"), some(text("/a/b?c=d")));
    assert_eq!(tell("scheme"), some(code("HTTPS", None)));
    assert_eq!(tell("authority"), some(text("example.org:8080")));
    let headers = headers(&mut handler);
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["x-a", "x-b", "x-b"], "what belongs to the connection is left out");
    assert_eq!(handler.calls(), []);
}

#[test]
fn the_headers_of_a_request_are_not_changed() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let request = handler.request.clone();
    let fields = handler.call("types/incoming-request.headers", &[&request]);
    let given = handler.call("types/fields.append", &[&fields, &text("a"), &bytes(b"b")]);
    assert_eq!(given, err(code("immutable", None)));
}

#[test]
fn a_small_request_is_read_without_a_host_call() {
    let (incoming, Server { mut body, response }) = get();
    block_on(body.write(b"all of it")).unwrap();
    body.finish(HeaderMap::new());
    let mut handler = Handler::given(incoming);
    let request = handler.request.clone();
    let body = handler.done("types/incoming-request.consume", &[&request]);
    let again = handler.call("types/incoming-request.consume", &[&request]);
    assert_eq!(again, Val::Result(Err(None)));
    let stream = handler.done("types/incoming-body.stream", &[&body]);
    let again = handler.call("types/incoming-body.stream", &[&body]);
    assert_eq!(again, Val::Result(Err(None)));
    let pollable = handler.call("streams/input-stream.subscribe", &[&stream]);
    handler.block(pollable);
    assert_eq!(handler.read_all(&stream), Ok(b"all of it".to_vec()));
    handler.program.gives_nothing("streams/drop-input-stream", &[stream]);
    let future = handler.call("types/incoming-body.finish", &[&body]);
    let pollable = handler.call("types/future-trailers.subscribe", &[&future]);
    handler.block(pollable);
    let given = handler.call("types/future-trailers.get", &[&future]);
    assert_eq!(given, some(Val::Result(Ok(Some(Box::new(Val::Result(Ok(Some(Box::new(NONE))))))))));
    let given = handler.call("types/future-trailers.get", &[&future]);
    assert_eq!(given, some(Val::Result(Err(None))));
    assert_eq!(handler.calls(), []);
    drop(response);
}

/// The trailers that a future has, or its error.
pub(super) fn trailers(handler: &mut Handler, future: &Val) -> Option<Result<Fields, Val>> {
    let given = match handler.call("types/future-trailers.get", &[future]) {
        Val::Option(given) => *given?,
        other => panic!("{other:?}"),
    };
    let Val::Result(Ok(Some(given))) = given else { panic!("{given:?}") };
    Some(match *given {
        Val::Result(Err(Some(error))) => Err(*error),
        Val::Result(Ok(Some(trailers))) => match *trailers {
            Val::Option(Some(trailers)) => Ok(entries(handler, &trailers)),
            Val::Option(None) => Ok(Vec::new()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_long_request_is_read_as_it_comes_and_its_trailers_after_it() {
    let (incoming, Server { mut body, response: _response }) = get();
    block_on(body.write(b"first")).unwrap();
    let mut handler = Handler::given(incoming);
    let request = handler.request.clone();
    let consumed = handler.done("types/incoming-request.consume", &[&request]);
    let stream = handler.done("types/incoming-body.stream", &[&consumed]);
    let read = handler.done("streams/input-stream.read", &[&stream, &Val::U64(99)]);
    assert_eq!(bytes_of(&read), b"first");
    let pollable = handler.call("streams/input-stream.subscribe", &[&stream]);
    assert!(!handler.is_ready(&pollable));
    let read = handler.done("streams/input-stream.read", &[&stream, &Val::U64(99)]);
    assert_eq!(bytes_of(&read), b"");
    let writing = thread::spawn(move || {
        block_on(body.write(&[9; 500_000])).unwrap();
        body.finish(one_field("x-sum", "1"));
    });
    handler.block(pollable);
    assert_eq!(handler.read_all(&stream), Ok(vec![9; 500_000]));
    writing.join().unwrap();
    handler.program.gives_nothing("streams/drop-input-stream", &[stream]);
    let future = handler.call("types/incoming-body.finish", &[&consumed]);
    let sum = vec![("x-sum".to_owned(), b"1".to_vec())];
    assert_eq!(trailers(&mut handler, &future), Some(Ok(sum)));
}

#[test]
fn trailers_come_to_whom_does_not_read_the_body() {
    let (incoming, Server { mut body, response: _response }) = get();
    let mut handler = Handler::given(incoming);
    let request = handler.request.clone();
    let consumed = handler.done("types/incoming-request.consume", &[&request]);
    let future = handler.call("types/incoming-body.finish", &[&consumed]);
    let pollable = handler.call("types/future-trailers.subscribe", &[&future]);
    assert!(!handler.is_ready(&pollable));
    assert_eq!(handler.call("types/future-trailers.get", &[&future]), NONE);
    block_on(body.write(b"some")).unwrap();
    assert!(!handler.is_ready(&pollable));
    let writing = thread::spawn(move || {
        block_on(body.write(&[9; 300_000])).unwrap();
        body.finish(one_field("x-sum", "1"));
    });
    handler.block(pollable);
    let sum = vec![("x-sum".to_owned(), b"1".to_vec())];
    assert_eq!(trailers(&mut handler, &future), Some(Ok(sum)));
    writing.join().unwrap();
}

#[test]
fn a_request_that_breaks_off_says_why() {
    let (incoming, Server { mut body, response: _response }) = get();
    let mut handler = Handler::given(incoming);
    let request = handler.request.clone();
    let consumed = handler.done("types/incoming-request.consume", &[&request]);
    let stream = handler.done("types/incoming-body.stream", &[&consumed]);
    block_on(body.write(b"some")).unwrap();
    body.fail(failure(ErrorCode::ConnectionReadTimeout));
    let read = handler.done("streams/input-stream.blocking-read", &[&stream, &Val::U64(99)]);
    assert_eq!(bytes_of(&read), b"some");
    let error = handler.read_all(&stream).unwrap_err();
    let why = code("connection-read-timeout", None);
    assert_eq!(handler.http_error_of(error), why);
    assert_eq!(handler.read_all(&stream), Ok(Vec::new()), "after the error it is closed");
    handler.program.gives_nothing("streams/drop-input-stream", &[stream]);
    let future = handler.call("types/incoming-body.finish", &[&consumed]);
    assert_eq!(trailers(&mut handler, &future), Some(Err(why)));
}

#[test]
fn what_is_held_back_leaves_before_the_rest_of_the_request_is_waited_for() {
    let (incoming, Server { mut body, response }) = get();
    let mut handler = Handler::given(incoming);
    let request = handler.request.clone();
    let consumed = handler.done("types/incoming-request.consume", &[&request]);
    let stream = handler.done("types/incoming-body.stream", &[&consumed]);
    let (_, output) = handler.respond(&[]);
    handler.write(&output, b"go on");
    let answering = thread::spawn(move || {
        let (_, mut reader) = block_on(response.response()).unwrap();
        assert_eq!(block_on(reader.read()), Ok(Part::Data(b"go on".to_vec())));
        block_on(body.write(b"I do")).unwrap();
        body.finish(HeaderMap::new());
        reader
    });
    assert_eq!(handler.read_all(&stream), Ok(b"I do".to_vec()));
    answering.join().unwrap();
}
