//! Exchanges, with the guest's side by host calls and the other by futures on a thread.

mod bodies;
mod hostile;
mod incoming;
mod outgoing;
mod waiting;

use std::pin::pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use abi::http::{
    ErrorCode, HttpError, IncomingRequest, RequestHead, ResponseHead, decode_trailers,
};
use abi::{Errno, FOREVER, Handle, Request as Call};
use http::{HeaderMap, HeaderValue, Request};

use super::super::tests::Guest;
use super::{BodyReader, BodyWriter, Failure, Incoming, Outgoing, Part, ResponseReader};

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
            Poll::Pending => thread::park(),
        }
    }
}

/// What `body` has, up to its end.
fn whole(mut body: BodyReader) -> Result<(Vec<u8>, HeaderMap), Failure> {
    let mut bytes = Vec::new();
    loop {
        match block_on(body.read())? {
            Part::Data(part) => bytes.extend(part),
            Part::End(trailers) => return Ok((bytes, trailers)),
        }
    }
}

fn failure(code: ErrorCode) -> Failure {
    code.into()
}

fn one_field(name: &'static str, value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("a value");
    HeaderMap::from_iter([(http::HeaderName::from_static(name), value)])
}

/// A request that the guest has been given, and what its server has.
struct Given {
    guest: Guest,
    exchange: Handle,
    body: BodyWriter,
    response: ResponseReader,
}

fn given() -> Given {
    given_request(Request::get("http://example.org/").body(()).expect("a request"))
}

fn given_request(head: Request<()>) -> Given {
    let mut guest = Guest::new();
    let (incoming, body, response) = Incoming::new(head);
    let exchange = admit(&mut guest, incoming);
    Given { guest, exchange, body, response }
}

fn admit(guest: &mut Guest, incoming: Incoming) -> Handle {
    let encoded = guest.host.admit(incoming).expect("admit");
    IncomingRequest::decode(&encoded).expect("an incoming request").exchange
}

impl Guest {
    fn respond(
        &mut self,
        exchange: Handle,
        head: &ResponseHead<'_>,
        body: &[u8],
        finished: bool,
    ) -> Result<u64, Errno> {
        self.call(Call::Respond { exchange, finished, head: &head.encode(), body })
    }

    /// Answers with status 200 and a body to come.
    fn begin_response(&mut self, exchange: Handle) {
        assert_eq!(self.respond(exchange, &ok(), b"", false), Ok(0));
    }

    fn finish(&mut self, exchange: Handle) -> Result<u64, Errno> {
        self.call(Call::Finish { exchange, trailers: &[] })
    }

    fn fetch(&mut self, head: &RequestHead<'_>) -> Result<Handle, Errno> {
        self.fetch_with(&head.encode(), b"", true)
    }

    fn fetch_with(&mut self, head: &[u8], body: &[u8], finished: bool) -> Result<Handle, Errno> {
        let (connect_ns, first_byte_ns, between_bytes_ns) = (FOREVER, 2, 3_000_000_000);
        let call =
            Call::Fetch { finished, connect_ns, first_byte_ns, between_bytes_ns, head, body };
        self.call(call).map(|value| Handle(u32::try_from(value).expect("a handle")))
    }

    /// Status and fields of the response, or why there is none.
    fn head(&mut self, exchange: Handle) -> Result<Result<(u16, HeaderMap), Failure>, Errno> {
        let (value, data) = self.ask(Call::Head { exchange })?;
        Ok(if value == 0 {
            let head = ResponseHead::decode(&data).expect("a head");
            let field = |(name, value): (&[u8], &[u8])| {
                let name = http::HeaderName::from_bytes(name).expect("a name");
                (name, HeaderValue::from_bytes(value).expect("a value"))
            };
            Ok((head.status, head.headers.into_iter().map(field).collect()))
        } else {
            Err(HttpError::decode(&data).expect("an error").into())
        })
    }

    /// How the body ended that the guest reads: trailers, or an error.
    fn trailers(&mut self, exchange: Handle) -> Result<Result<Vec<String>, Failure>, Errno> {
        let (value, data) = self.ask(Call::Trailers { exchange })?;
        Ok(if value == 0 {
            let trailers = decode_trailers(&data).expect("trailers");
            let text = |(name, value): (&[u8], &[u8])| {
                format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
            };
            Ok(trailers.into_iter().map(text).collect())
        } else {
            Err(HttpError::decode(&data).expect("an error").into())
        })
    }
}

fn ok() -> ResponseHead<'static> {
    ResponseHead { status: 200, headers: vec![] }
}

/// The head of a GET request.
fn get() -> RequestHead<'static> {
    RequestHead {
        method: b"GET",
        scheme: b"http",
        authority: b"example.org:8080",
        path_with_query: b"/a?b",
        headers: vec![],
    }
}

/// A guest that may make requests, and where they come out.
fn guest_with_client() -> (Guest, Receiver<Outgoing>) {
    let mut guest = Guest::new();
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    guest.host.grant_http(Arc::new(move |outgoing| {
        sender.lock().expect("a lock").send(outgoing).expect("send");
    }));
    (guest, receiver)
}
