//! What runs: a program without a handler, and one that is called again.

use oracle::{CallLog, Program, Streams};

use super::*;

/// A world of files that nobody reads.
fn world() -> World {
    let [stdin, stdout, stderr] = [(); 3].map(|()| tempfile::tempfile().unwrap().into());
    World::new(&Grants::default(), Streams { stdin, stdout, stderr }, &CallLog::default()).unwrap()
}

fn wat(text: &str) -> Prepared {
    let program = Program::compile("program", &wat::parse_str(text).unwrap()).unwrap();
    Prepared::link(&program).unwrap()
}

#[test]
fn a_program_that_answers_no_requests_says_so() {
    let command = r#"(component
        (core module $main (func (export "run") (result i32) (i32.const 0)))
        (core instance $main (instantiate $main))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (instance $exports (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
    let module = r#"(module (func (export "_start")))"#;
    for (text, message) in [
        (command, "answers no requests: it is a command"),
        ("(component)", "exports no wasi:http/incoming-handler"),
        (module, "a core module answers no requests"),
    ] {
        let world = world();
        let (incoming, server) = get();
        let request = world.admit(incoming).unwrap();
        let error = wat(text).serve(&world, &Grants::default(), &request, false).unwrap_err();
        assert!(format!("{error:#}").contains(message), "{error:#}");
        assert_eq!(block_on(server.response.response()).unwrap_err(), Unanswered::Closed);
    }
}

#[test]
fn a_handler_is_no_command_and_says_so() {
    let (_, interpreter) = &*HANDLER;
    let mut prepared = Prepared::link(&interpreter.program).unwrap();
    let error = prepared.call(&world(), &Grants::default(), "").unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("exports wasi:http/incoming-handler, which answers requests"),
        "{error}"
    );
}

#[test]
fn the_same_instance_answers_again() {
    let (incoming, server) = whole_get();
    let mut handler = Handler::given(incoming);
    let (_, stream) = handler.respond(&[]);
    handler.write(&stream, b"one");
    let kept = handler.request.clone();
    assert_eq!(handler.leave(), 0);
    assert_eq!(whole(block_on(server.response()).unwrap().1).unwrap().0, b"one");

    let (incoming, server) = get();
    handler.give(incoming, false);
    // What is left of the first request is over, and no part of the second.
    assert_eq!(handler.write_and_flush(&stream, b"late"), err(closed()));
    let body = handler.done("types/incoming-request.consume", &[&kept]);
    let input = handler.done("types/incoming-body.stream", &[&body]);
    assert_eq!(handler.read_all(&input), Ok(Vec::new()));
    let (body, stream) = handler.respond(&[]);
    handler.write(&stream, b"two");
    assert_eq!(handler.finish(body, stream, &[]), Val::Result(Ok(None)));
    assert_eq!(handler.leave(), 0);
    assert_eq!(server.whole().unwrap().body, b"two");
}

#[test]
fn a_new_instance_has_nothing_of_the_last_and_gives_back_what_that_had() {
    let (incoming, _server) = whole_get();
    let mut handler = Handler::given(incoming);
    let future = outgoing::ask(&mut handler);
    let mut outgoing = handler.outgoing.recv_timeout(HANG).unwrap();
    let first = (handler.request.clone(), handler.outparam.clone());
    assert_eq!(handler.leave(), 0);
    let (incoming, server) = get();
    handler.give(incoming, true);
    block_on(outgoing.response.gone());
    assert_eq!((handler.request.clone(), handler.outparam.clone()), first);
    let (body, stream) = handler.respond(&[]);
    assert_eq!(handler.finish(body, stream, &[]), Val::Result(Ok(None)));
    assert_eq!(handler.leave(), 0);
    server.whole().unwrap();
    let (incoming, _server) = get();
    handler.give(incoming, true);
    let ended = handler.ends("types/drop-future-incoming-response", &[future]);
    assert_eq!(ended.status, 134, "it has no such handle");
}
