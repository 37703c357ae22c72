//! HTTP: a program that is given requests and makes some, with the other side of each exchange in the
//! hands of the test.

use std::fs::File;
use std::pin::pin;
use std::slice::from_ref;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use abi::Nr;
use abi::http::ErrorCode;
use oracle::{Grants, Prepared, World};
use vmm::host::http::{
    BodyReader, BodyWriter, Failure, Incoming, Outgoing, Part, ResponseReader, Unanswered,
};
use wasmtime::component::Val;

use super::{HANDLER, P2, Step, bytes, bytes_of, step, text};
use crate::interpreter::GIVEN;
use crate::session::{Command, Ended, Session};

mod codes;
mod fields;
mod outgoing;
mod requests;
mod responses;
mod runs;

/// Longest wait for a program that hangs.
const HANG: Duration = Duration::from_secs(60);

/// A program that answers requests.
struct Handler {
    /// Requests for it, and whether each wants a new instance. Dropped before the program, which waits for them.
    requests: Option<Sender<(Incoming, bool)>>,
    statuses: Receiver<i32>,
    outgoing: Receiver<Outgoing>,
    program: P2,
    request: Val,
    outparam: Val,
}

/// What the server of a request has.
struct Server {
    body: BodyWriter,
    response: ResponseReader,
}

/// A response that came whole.
#[derive(Debug)]
struct Whole {
    head: Response<()>,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Handler {
    /// Starts one that is given `incoming`.
    fn given(incoming: Incoming) -> Self {
        Self::start(incoming, true)
    }

    /// Starts one that may make requests if `client`.
    fn start(incoming: Incoming, client: bool) -> Self {
        let (world, interpreter) = &*HANDLER;
        let null = File::options().write(true).open("/dev/null").expect("open /dev/null");
        let (requests, to_answer) = channel::<(Incoming, bool)>();
        let (ended, statuses) = channel();
        let (ask, outgoing) = channel();
        let session = Session::spawn(interpreter, null, move |streams, log| {
            let grants = Grants::default();
            let mut prepared = Prepared::link(&interpreter.program)?;
            prepared.instantiate();
            let world = World::new(&grants, streams, log)?;
            if client {
                let ask = Mutex::new(ask);
                world.grant_http(Arc::new(move |outgoing| {
                    // A test that asks for nothing has no use for it.
                    let _ = ask.lock().expect("a lock").send(outgoing);
                }));
            }
            let mut status = 0;
            for (incoming, new_instance) in to_answer {
                let request = world.admit(incoming).expect("admit");
                status = prepared.serve(&world, &grants, &request, new_instance)?;
                // As above.
                let _ = ended.send(status);
            }
            Ok(status)
        });
        let program = P2 { session, world, called: std::collections::BTreeSet::new() };
        let (request, outparam) = (Val::U32(0), Val::U32(0));
        let requests = Some(requests);
        let mut handler = Self { requests, statuses, outgoing, program, request, outparam };
        handler.give(incoming, false);
        handler
    }

    /// Gives it a request, while it has none.
    fn give(&mut self, incoming: Incoming, new_instance: bool) {
        let requests = self.requests.as_ref().expect("more requests");
        requests.send((incoming, new_instance)).expect("a program that runs");
        let given = self.program.session.exchange(&[Command::Peek(GIVEN, 8)], &[]);
        let given = given.expect("two handles");
        let handle = |at: usize| Val::U32(u32::from_le_bytes(given[at..][..4].try_into().unwrap()));
        (self.request, self.outparam) = (handle(0), handle(4));
        self.program.session.calls();
    }

    /// Has it return from its handler, and returns its status.
    fn leave(&mut self) -> i32 {
        self.program.session.leave();
        self.statuses.recv_timeout(HANG).expect("the end of the handler")
    }

    /// Makes a call that ends the program.
    fn ends(&mut self, name: &str, arguments: &[Val]) -> Ended {
        self.requests = None;
        match self.program.call(name, arguments) {
            Err(ended) => ended,
            Ok(given) => panic!("{name}: {given:?}"),
        }
    }

    fn call(&mut self, name: &str, arguments: &[&Val]) -> Val {
        let arguments: Vec<Val> = arguments.iter().map(|argument| (*argument).clone()).collect();
        self.program.gives(name, &arguments)
    }

    fn done(&mut self, name: &str, arguments: &[&Val]) -> Val {
        let arguments: Vec<Val> = arguments.iter().map(|argument| (*argument).clone()).collect();
        self.program.done(name, &arguments)
    }

    fn drop(&mut self, resource: &str, handle: Val) {
        self.program.gives_nothing(&format!("types/drop-{resource}"), &[handle]);
    }

    /// The host calls since the last time, but for those of the conversation.
    fn calls(&self) -> Vec<Nr> {
        self.program.session.calls()
    }

    /// Fields with these names and values.
    fn fields(&mut self, fields: &[(&str, &str)]) -> Val {
        self.done("types/fields.from-list", &[&entry_list(fields)])
    }

    /// Steps that answer with a response that has these fields. The body is that of [`BODY`], its stream
    /// that of [`STREAM`].
    fn responding(&self, fields: &[(&str, &str)]) -> Vec<Step<'static>> {
        let response = Val::Result(Ok(Some(Box::new(step(1)))));
        vec![
            ("types/fields.from-list", vec![entry_list(fields)]),
            ("types/outgoing-response", vec![step(0)]),
            ("types/outgoing-response.body", vec![step(1)]),
            ("types/response-outparam.set", vec![self.outparam.clone(), response]),
            ("types/outgoing-body.write", vec![step(BODY)]),
        ]
    }

    /// Makes calls of which the last has a result, and returns the handle that each gave, and that.
    fn calls_in_a_row(&mut self, steps: &[Step<'_>]) -> (Vec<Val>, Val) {
        match self.program.calls(steps) {
            Ok((handles, Some(given))) => (handles.into_iter().map(Val::U32).collect(), given),
            other => panic!("{other:?}"),
        }
    }

    /// A response with these fields, and its body.
    fn response(&mut self, fields: &[(&str, &str)]) -> (Val, Val) {
        let fields = self.fields(fields);
        let response = self.call("types/outgoing-response", &[&fields]);
        let body = self.done("types/outgoing-response.body", &[&response]);
        (response, body)
    }

    /// Answers with a response.
    fn set(&mut self, response: Val) {
        let response = Val::Result(Ok(Some(Box::new(response))));
        let outparam = self.outparam.clone();
        self.program.gives_nothing("types/response-outparam.set", &[outparam, response]);
    }

    /// Answers with a response that has these fields. Returns its body and the stream of that.
    fn respond(&mut self, fields: &[(&str, &str)]) -> (Val, Val) {
        let (response, body) = self.response(fields);
        self.set(response);
        let stream = self.done("types/outgoing-body.write", &[&body]);
        (body, stream)
    }

    fn write_and_flush(&mut self, stream: &Val, what: &[u8]) -> Val {
        self.call("streams/output-stream.blocking-write-and-flush", &[stream, &bytes(what)])
    }

    /// Writes all of it.
    fn write(&mut self, stream: &Val, what: &[u8]) {
        assert_eq!(self.write_and_flush(stream, what), Val::Result(Ok(None)));
    }

    /// Drops the stream of a body and finishes it.
    fn finish(&mut self, body: Val, stream: Val, trailers: &[(&str, &str)]) -> Val {
        self.program.gives_nothing("streams/drop-output-stream", &[stream]);
        let trailers = match trailers {
            [] => None,
            trailers => Some(Box::new(self.fields(trailers))),
        };
        self.call("types/outgoing-body.finish", &[&body, &Val::Option(trailers)])
    }

    /// What a stream has up to its end.
    fn read_all(&mut self, stream: &Val) -> Result<Vec<u8>, Val> {
        let mut all = Vec::new();
        loop {
            let given = self.call("streams/input-stream.blocking-read", &[stream, &Val::U64(9000)]);
            match given {
                Val::Result(Ok(Some(read))) => all.extend(bytes_of(&read)),
                Val::Result(Err(Some(error))) if *error == closed() => return Ok(all),
                Val::Result(Err(Some(error))) => return Err(*error),
                other => panic!("{other:?}"),
            }
        }
    }

    fn is_ready(&mut self, pollable: &Val) -> bool {
        self.call("poll/pollable.ready", &[pollable]) == Val::Bool(true)
    }

    /// Waits for a pollable and drops it.
    fn block(&mut self, pollable: Val) {
        self.program.gives_nothing("poll/pollable.block", from_ref(&pollable));
        self.program.gives_nothing("poll/drop-pollable", &[pollable]);
    }

    /// What a failed stream operation says of HTTP.
    fn http_error(&mut self, given: Val) -> Val {
        let Val::Result(Err(Some(error))) = given else { panic!("{given:?}") };
        self.http_error_of(*error)
    }

    fn http_error_of(&mut self, error: Val) -> Val {
        let Val::Variant(case, Some(error)) = error else { panic!("{error:?}") };
        assert_eq!(case, "last-operation-failed");
        match self.call("types/http-error-code", &[&error]) {
            Val::Option(Some(code)) => *code,
            other => panic!("{other:?}"),
        }
    }
}

/// The step of [`Handler::responding`] that gives the body.
const BODY: u32 = 2;
/// The step that gives the stream of the body.
const STREAM: u32 = 4;

/// A step that writes to a stream, and flushes that.
fn writing(stream: u32, what: &[u8]) -> Step<'static> {
    ("streams/output-stream.blocking-write-and-flush", vec![step(stream), bytes(what)])
}

/// Steps that finish a body, whose result is that of the last.
fn finishing(body: Val, stream: u32) -> [Step<'static>; 2] {
    [
        ("streams/drop-output-stream", vec![step(stream)]),
        ("types/outgoing-body.finish", vec![body, NONE]),
    ]
}

/// What fields are made of.
fn entry_list(fields: &[(&str, &str)]) -> Val {
    let entry =
        |(name, value): &(&str, &str)| Val::Tuple(vec![text(name), bytes(value.as_bytes())]);
    Val::List(fields.iter().map(entry).collect())
}

impl Server {
    /// The response, whole.
    fn whole(self) -> Result<Whole, String> {
        self.body.finish(HeaderMap::new());
        let (head, body) = block_on(self.response.response()).map_err(|it| format!("{it:?}"))?;
        let (body, trailers) = whole(body).map_err(|failure| failure.to_string())?;
        Ok(Whole { head, body, trailers })
    }
}

/// A GET request.
fn get() -> (Incoming, Server) {
    request(Request::get("http://example.org:8080/a/b?c=d").body(()).expect("a request"))
}

fn request(head: Request<()>) -> (Incoming, Server) {
    let (incoming, body, response) = Incoming::new(head);
    (incoming, Server { body, response })
}

/// A GET request that has come whole.
fn whole_get() -> (Incoming, ResponseReader) {
    let (incoming, Server { body, response }) = get();
    body.finish(HeaderMap::new());
    (incoming, response)
}

/// What `body` has, up to its end.
fn whole(mut body: BodyReader) -> Result<(Vec<u8>, HeaderMap), Failure> {
    let mut all = Vec::new();
    loop {
        match block_on(body.read())? {
            Part::Data(part) => all.extend(part),
            Part::End(trailers) => return Ok((all, trailers)),
        }
    }
}

fn one_field(name: &'static str, value: &'static str) -> HeaderMap {
    let field = (HeaderName::from_static(name), HeaderValue::from_static(value));
    HeaderMap::from_iter([field])
}

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park_timeout(HANG),
        }
    }
}

fn closed() -> Val {
    Val::Variant("closed".to_owned(), None)
}

/// A case of `error-code`.
fn code(case: &str, payload: Option<Val>) -> Val {
    Val::Variant(case.to_owned(), payload.map(Box::new))
}

fn some(value: Val) -> Val {
    Val::Option(Some(Box::new(value)))
}

const NONE: Val = Val::Option(None);

/// The error of a result.
fn err(value: Val) -> Val {
    Val::Result(Err(Some(Box::new(value))))
}

fn failure(code: ErrorCode) -> Failure {
    code.into()
}
