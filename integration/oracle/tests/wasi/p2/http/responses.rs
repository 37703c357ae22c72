//! Responses: how they leave, and what becomes of those that are not what they said.

use super::*;

const OK: Val = Val::Result(Ok(None));

#[test]
fn a_small_response_is_one_host_call() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let mut steps = handler.responding(&[("X-A", "1"), ("content-type", "text/plain")]);
    steps.push(("streams/output-stream.check-write", vec![step(STREAM)]));
    steps.push(("streams/output-stream.write", vec![step(STREAM), bytes(b"hello, ")]));
    steps.push(writing(STREAM, b"world"));
    steps.extend(finishing(step(BODY), STREAM));
    assert_eq!(handler.calls_in_a_row(&steps).1, OK);
    assert_eq!(handler.leave(), 0);
    assert_eq!(handler.calls(), [Nr::Respond]);
    let whole = server.whole().unwrap();
    assert_eq!((whole.head.status().as_u16(), whole.body.as_slice()), (200, &b"hello, world"[..]));
    let headers: Vec<_> = whole.head.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(headers, ["x-a", "content-type"]);
    assert!(whole.trailers.is_empty());
}

#[test]
fn a_response_without_a_body_is_one_host_call() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let fields = handler.fields(&[]);
    let response = handler.call("types/outgoing-response", &[&fields]);
    assert_eq!(handler.call("types/outgoing-response.status-code", &[&response]), Val::U16(200));
    for status in [0, 99, 1000] {
        let given = handler
            .call("types/outgoing-response.set-status-code", &[&response, &Val::U16(status)]);
        assert_eq!(given, Val::Result(Err(None)), "{status}");
    }
    handler.done("types/outgoing-response.set-status-code", &[&response, &Val::U16(404)]);
    handler.set(response);
    assert_eq!(handler.calls(), [Nr::Respond]);
    let whole = server.whole().unwrap();
    assert_eq!((whole.head.status().as_u16(), whole.body.len()), (404, 0));
}

#[test]
fn a_body_may_be_finished_before_its_response_is_sent() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (response, body) = handler.response(&[]);
    let stream = handler.done("types/outgoing-body.write", &[&body]);
    handler.write(&stream, &[7; 100_000]);
    handler.write(&stream, &[7; 100_000]);
    assert_eq!(handler.finish(body, stream, &[]), OK);
    assert_eq!(handler.calls(), []);
    handler.set(response);
    assert_eq!(handler.calls(), [Nr::Respond]);
    assert_eq!(server.whole().unwrap().body, [7; 200_000]);
}

#[test]
fn a_body_that_nothing_can_take_is_no_reason_to_wait_for_ever() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let (_, body) = handler.response(&[]);
    let stream = handler.done("types/outgoing-body.write", &[&body]);
    let given = (0..40).map(|_| handler.write_and_flush(&stream, &[0; 1 << 16]));
    let given: Vec<Val> = given.collect();
    assert_eq!(given[0], OK);
    assert!(matches!(given[39], Val::Result(Err(_))), "{:?}", given[39]);
    let pollable = handler.call("streams/output-stream.subscribe", &[&stream]);
    let ended = handler.ends("poll/pollable.block", &[pollable]);
    assert_eq!(ended.status, 134);
    assert!(ended.report.contains("nothing that is waited for can ever happen"), "{ended:?}");
}

#[test]
fn what_is_held_back_leaves_before_the_program_waits() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let mut steps = handler.responding(&[]);
    steps.push(writing(STREAM, b"first"));
    steps.push(("monotonic-clock/subscribe-duration", vec![Val::U64(1_000_000)]));
    steps.push(("poll/pollable.block", vec![step(6)]));
    steps.push(("poll/pollable.ready", vec![step(6)]));
    let (handles, _) = handler.calls_in_a_row(&steps);
    let (body, stream) = (handles[BODY as usize].clone(), handles[STREAM as usize].clone());
    let calls = handler.calls();
    let place = |nr| calls.iter().position(|call| *call == nr).unwrap();
    assert!(place(Nr::Respond) < place(Nr::Poll), "{calls:?}");
    let (head, mut reader) = block_on(server.response.response()).unwrap();
    assert_eq!(head.status().as_u16(), 200);
    assert_eq!(block_on(reader.read()), Ok(Part::Data(b"first".to_vec())));
    handler.write(&stream, b"second");
    assert_eq!(block_on(reader.read()), Ok(Part::Data(b"second".to_vec())));
    assert_eq!(handler.finish(body, stream, &[]), OK);
    assert_eq!(block_on(reader.read()), Ok(Part::End(HeaderMap::new())));
}

#[test]
fn the_second_flush_of_a_body_reaches_its_client() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let mut steps = handler.responding(&[]);
    steps.push(writing(STREAM, b"a"));
    steps.push(writing(STREAM, b"b"));
    steps.extend(finishing(step(BODY), STREAM));
    assert_eq!(handler.calls_in_a_row(&steps).1, OK);
    assert_eq!(handler.calls(), [Nr::Respond, Nr::Finish]);
    assert_eq!(server.whole().unwrap().body, b"ab");
}

#[test]
fn a_client_that_reads_slowly_is_waited_for() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (body, stream) = handler.respond(&[]);
    let mut written = 0;
    loop {
        let permit = handler.done("streams/output-stream.check-write", &[&stream]);
        let Val::U64(permit) = permit else { panic!("{permit:?}") };
        if permit == 0 {
            break;
        }
        let piece = vec![3; usize::try_from(permit).unwrap()];
        handler.done("streams/output-stream.write", &[&stream, &bytes(&piece)]);
        written += piece.len();
    }
    let pollable = handler.call("streams/output-stream.subscribe", &[&stream]);
    assert!(!handler.is_ready(&pollable));
    let (_, mut reader) = block_on(server.response.response()).unwrap();
    let mut read = 0;
    let reading = thread::spawn(move || {
        while read < written + 300_000 {
            match block_on(reader.read()).unwrap() {
                Part::Data(part) => read += part.len(),
                Part::End(_) => panic!("it has not ended"),
            }
        }
        reader
    });
    handler.block(pollable);
    handler.write(&stream, &[3; 300_000]);
    let mut reader = reading.join().unwrap();
    assert_eq!(handler.finish(body, stream, &[]), OK);
    assert_eq!(block_on(reader.read()), Ok(Part::End(HeaderMap::new())));
}

#[test]
fn a_finished_body_goes_out_while_the_program_waits_for_something_else() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (body, stream) = handler.respond(&[]);
    for _ in 0..2 {
        handler.done("streams/output-stream.write", &[&stream, &bytes(&[1; 1 << 16])]);
    }
    assert_eq!(handler.finish(body, stream, &[("x-end", "yes")]), OK);
    assert!(!handler.calls().contains(&Nr::Finish));
    let consumed = handler.request.clone();
    let consumed = handler.done("types/incoming-request.consume", &[&consumed]);
    let input = handler.done("types/incoming-body.stream", &[&consumed]);
    let (_, reader) = block_on(server.response.response()).unwrap();
    let reading = thread::spawn(move || {
        let read = whole(reader).unwrap();
        // Only then the program has what it waits for.
        server.body.finish(HeaderMap::new());
        read
    });
    assert_eq!(handler.read_all(&input), Ok(Vec::new()));
    let (read, trailers) = reading.join().unwrap();
    assert_eq!((read.len(), trailers), (2 << 16, one_field("x-end", "yes")));
}

#[test]
fn trailers_follow_a_body() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (body, stream) = handler.respond(&[]);
    handler.write(&stream, b"body");
    assert_eq!(handler.finish(body, stream, &[("X-Sum", "1")]), OK);
    assert_eq!(handler.calls().last(), Some(&Nr::Finish));
    let whole = server.whole().unwrap();
    assert_eq!((whole.body, whole.trailers), (b"body".to_vec(), one_field("x-sum", "1")));
}

#[test]
fn a_body_that_is_shorter_than_it_said_fails() {
    let size = Some(some(Val::U64(2)));
    let short = err(code("HTTP-response-body-size", size));
    // While the response is held back, its client is told of the failure in place of a response.
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let mut steps = handler.responding(&[("content-length", "3")]);
    steps.push(writing(STREAM, b"ab"));
    steps.extend(finishing(step(BODY), STREAM));
    assert_eq!(handler.calls_in_a_row(&steps).1, short);
    assert_eq!(handler.calls(), [Nr::Fail]);
    let answer = block_on(server.response.response()).unwrap_err();
    let told = Failure { number: Some(2), ..failure(ErrorCode::HttpResponseBodySize) };
    assert_eq!(answer, Unanswered::Failed(told));
    // Once it is not, the body breaks off.
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (body, stream) = handler.respond(&[("content-length", "3")]);
    handler.write(&stream, b"a");
    handler.write(&stream, b"b");
    assert_eq!(handler.finish(body, stream, &[]), short);
    server.whole().unwrap_err();
}

#[test]
fn more_than_a_body_said_is_refused() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (body, stream) = handler.respond(&[("Content-Length", "3")]);
    handler.write(&stream, b"abc");
    let given = handler.write_and_flush(&stream, b"d");
    let long = code("HTTP-response-body-size", Some(some(Val::U64(4))));
    assert_eq!(handler.http_error(given), long);
    assert_eq!(handler.finish(body, stream, &[]), err(long));
    server.whole().unwrap_err();
}

#[test]
fn a_body_as_long_as_it_said_is_whole() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let mut steps = handler.responding(&[("content-length", "3")]);
    steps.push(writing(STREAM, b"abc"));
    steps.extend(finishing(step(BODY), STREAM));
    assert_eq!(handler.calls_in_a_row(&steps).1, OK);
    assert_eq!(handler.calls(), [Nr::Respond]);
    assert_eq!(server.whole().unwrap().body, b"abc");
}

#[test]
fn a_body_that_is_dropped_is_not_whole() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let mut steps = handler.responding(&[]);
    steps.push(writing(STREAM, b"ab"));
    steps.push(("streams/drop-output-stream", vec![step(STREAM)]));
    steps.push(("types/drop-outgoing-body", vec![step(BODY)]));
    handler.program.calls(&steps).unwrap();
    let answer = block_on(server.response.response()).unwrap_err();
    assert!(matches!(answer, Unanswered::Failed(_)), "{answer:?}");

    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (body, stream) = handler.respond(&[]);
    handler.write(&stream, b"a");
    handler.write(&stream, b"b");
    handler.program.gives_nothing("streams/drop-output-stream", &[stream]);
    handler.drop("outgoing-body", body);
    let (_, reader) = block_on(server.response.response()).unwrap();
    whole(reader).unwrap_err();
}

#[test]
fn a_body_that_is_open_when_the_handler_returns_is_finished_then() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (_, stream) = handler.respond(&[]);
    handler.write(&stream, b"all of it");
    assert_eq!(handler.leave(), 0);
    assert_eq!(server.whole().unwrap().body, b"all of it");
    // Unless that is not what it said.
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (_, stream) = handler.respond(&[("content-length", "99")]);
    handler.write(&stream, b"some of it");
    assert_eq!(handler.leave(), 0);
    server.whole().unwrap_err();
}

#[test]
fn a_body_and_its_stream_are_had_once_and_in_order() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let (response, body) = handler.response(&[]);
    let again = handler.call("types/outgoing-response.body", &[&response]);
    assert_eq!(again, Val::Result(Err(None)));
    handler.done("types/outgoing-body.write", &[&body]);
    assert_eq!(handler.call("types/outgoing-body.write", &[&body]), Val::Result(Err(None)));
    let ended = handler.ends("types/outgoing-body.finish", &[body, NONE]);
    assert_eq!(ended.status, 134, "its stream is alive");
}

#[test]
fn a_client_that_is_gone_is_no_fault_of_the_program() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (body, stream) = handler.respond(&[]);
    handler.write(&stream, b"a");
    handler.write(&stream, b"b");
    drop(server);
    let given = handler.write_and_flush(&stream, b"c");
    assert_eq!(given, err(closed()));
    assert_eq!(handler.finish(body, stream, &[]), OK);
    assert_eq!(handler.leave(), 0);
}

#[test]
fn a_handler_that_answers_nothing_leaves_its_request_unanswered() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    assert_eq!(handler.leave(), 0);
    assert_eq!(block_on(server.response.response()).unwrap_err(), Unanswered::Closed);
    assert_eq!(handler.calls(), []);
}

#[test]
fn a_trap_leaves_what_was_held_back_unanswered() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let mut steps = handler.responding(&[]);
    steps.push(writing(STREAM, b"not all of it"));
    steps.push(("types/drop-fields", vec![Val::U32(999)]));
    handler.requests = None;
    let ended = handler.program.calls(&steps).unwrap_err();
    assert_eq!(ended.status, 134);
    assert!(ended.report.starts_with("hyperlight: interpreter: "), "{}", ended.report);
    assert_eq!(block_on(server.response.response()).unwrap_err(), Unanswered::Closed);
}

#[test]
fn a_trap_breaks_off_what_was_sent() {
    let (incoming, server) = get();
    let mut handler = Handler::given(incoming);
    let (_, stream) = handler.respond(&[]);
    handler.write(&stream, b"a");
    handler.write(&stream, b"b");
    assert_eq!(handler.ends("types/drop-fields", &[Val::U32(999)]).status, 134);
    server.whole().unwrap_err();
}

#[test]
fn informational_responses_are_refused_by_name() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let outparam = handler.outparam.clone();
    let mut send = |status| {
        let fields = handler.fields(&[]);
        let name = "types/response-outparam.send-informational";
        handler.call(name, &[&outparam, &Val::U16(status), &fields])
    };
    assert_eq!(send(200), err(code("HTTP-protocol-error", None)));
    let message = text("informational responses are not supported");
    assert_eq!(send(103), err(code("internal-error", Some(some(message)))));
}
