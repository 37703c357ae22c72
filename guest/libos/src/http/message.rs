//! Requests and responses, as resources of a program.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::http::{ErrorCode, HEAD_BYTES_MAX, HttpError, RequestHead, ResponseHead};
use abi::{Errno, FOREVER, Handle, Request};

use super::receiving::Receiving;
use super::sending::{Bodies, BodyId, Head, Timeouts, answer_by};
use super::{Failure, Fields};
use crate::call::Calls;
use crate::handle::OwnedHandle;

/// A request that the program is to answer.
#[derive(Debug)]
pub struct IncomingRequest {
    pub(crate) method: String,
    pub(crate) scheme: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) path_with_query: Option<String>,
    pub(crate) headers: Fields,
    /// Until the program has it.
    pub(crate) body: Option<Arc<Receiving>>,
}

/// Where the answer goes.
#[derive(Debug)]
pub struct ResponseOutparam(Arc<OwnedHandle>);

/// A response that the program makes.
#[derive(Debug)]
pub struct OutgoingResponse {
    pub(crate) status: u16,
    pub(crate) headers: Fields,
    /// Once the program has it.
    pub(crate) body: Option<BodyId>,
}

/// A request that the program makes.
#[derive(Debug)]
pub struct OutgoingRequest {
    pub(crate) method: String,
    pub(crate) scheme: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) path_with_query: Option<String>,
    pub(crate) headers: Fields,
    /// Once the program has it.
    pub(crate) body: Option<BodyId>,
}

/// How long to wait for a response, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOptions {
    pub(crate) connect: Option<u64>,
    pub(crate) first_byte: Option<u64>,
    pub(crate) between_bytes: Option<u64>,
}

/// A response that may come.
#[derive(Debug)]
pub enum FutureResponse {
    /// Its request has a body, and is held back, or is with the host as this exchange.
    Asked(BodyId, Option<Arc<OwnedHandle>>),
    /// Its request is with the host.
    Awaited(Arc<OwnedHandle>),
    /// The program has it.
    Taken,
}

/// A response that came.
#[derive(Debug)]
pub struct IncomingResponse {
    pub(crate) status: u16,
    pub(crate) headers: Fields,
    /// Until the program has it.
    pub(crate) body: Option<Arc<Receiving>>,
}

/// A body that is received.
#[derive(Debug)]
pub struct IncomingBody {
    pub(crate) body: Arc<Receiving>,
    pub(crate) stream_is_taken: bool,
}

/// A body that is sent.
#[derive(Debug)]
pub struct OutgoingBody {
    pub(crate) body: BodyId,
    pub(crate) stream_is_taken: bool,
}

/// How a body ends that is received.
#[derive(Debug)]
pub struct FutureTrailers {
    pub(crate) body: Arc<Receiving>,
    pub(crate) is_taken: bool,
}

impl IncomingRequest {
    /// What the boot information says, and where the answer goes.
    pub(crate) fn new(
        request: &abi::http::IncomingRequest<'_>,
        exchange: &Arc<OwnedHandle>,
    ) -> (Self, ResponseOutparam) {
        let RequestHead { method, scheme, authority, path_with_query, headers } = &request.head;
        let exchange = Arc::clone(exchange);
        let outparam = ResponseOutparam(Arc::clone(&exchange));
        let incoming = Self {
            method: text(method),
            scheme: given(scheme),
            authority: given(authority),
            path_with_query: given(path_with_query),
            headers: Fields::received(headers),
            body: Some(Receiving::new(exchange, request.body.to_vec(), request.is_complete)),
        };
        (incoming, outparam)
    }
}

impl ResponseOutparam {
    /// Answers with a response.
    pub(crate) fn respond(self, bodies: &mut Bodies, response: OutgoingResponse) {
        let OutgoingResponse { status, headers, body } = response;
        let head = headers.encoded(|headers| ResponseHead { status, headers }.encode());
        let head = Head::Response(self.0, head);
        match body {
            Some(body) => {
                bodies.send(body, head);
                bodies.disown(body);
            }
            None => {
                // The interface has no word for it here; unanswered, the exchange has another error.
                let _ = head.transmit(&[], true);
            }
        }
    }

    /// Answers with an error.
    pub(crate) fn fail(self, failure: &Failure) {
        answer_by(&self.0, failure);
    }
}

impl OutgoingRequest {
    /// Sends the request.
    ///
    /// # Errors
    ///
    /// It cannot be sent, or the host does not take it.
    pub(crate) fn send(
        self,
        calls: &Calls,
        bodies: &mut Bodies,
        options: RequestOptions,
    ) -> Result<FutureResponse, Failure> {
        let body = self.body;
        let head = match self.head(calls, options) {
            Ok(head) => head,
            Err(failure) => {
                if let Some(body) = body {
                    bodies.cancel(body);
                }
                return Err(failure);
            }
        };
        match body {
            Some(body) => {
                bodies.send(body, head);
                Ok(FutureResponse::Asked(body, None))
            }
            None => Ok(FutureResponse::Awaited(head.transmit(&[], true)?)),
        }
    }

    fn head(self, calls: &Calls, options: RequestOptions) -> Result<Head, Failure> {
        let scheme = self.scheme.as_deref().unwrap_or("https");
        if !["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return Err(ErrorCode::HttpProtocolError.into());
        }
        let Some(authority) = &self.authority else {
            return Err(ErrorCode::HttpRequestUriInvalid.into());
        };
        let has_length = self.headers.content_length().is_some_and(|length| length != 0);
        if self.body.is_none() && has_length {
            return Err(Failure::size(ErrorCode::HttpRequestBodySize, 0));
        }
        let path_with_query = self.path_with_query.as_deref().unwrap_or_default();
        let head = self.headers.encoded(|headers| {
            let head = RequestHead {
                method: self.method.as_bytes(),
                scheme: scheme.as_bytes(),
                authority: authority.as_bytes(),
                path_with_query: path_with_query.as_bytes(),
                headers,
            };
            head.encode()
        });
        if head.len() > HEAD_BYTES_MAX {
            return Err(match path_with_query.len() > HEAD_BYTES_MAX / 2 {
                true => ErrorCode::HttpRequestUriTooLong.into(),
                false => Failure::size(ErrorCode::HttpRequestHeaderSectionSize, head.len() as u64),
            });
        }
        Ok(Head::Request(calls.clone(), options.timeouts(), head))
    }
}

impl RequestOptions {
    fn timeouts(self) -> Timeouts {
        let Self { connect, first_byte, between_bytes } = self;
        Timeouts {
            connect_ns: connect.unwrap_or(FOREVER),
            first_byte_ns: first_byte.unwrap_or(FOREVER),
            between_bytes_ns: between_bytes.unwrap_or(FOREVER),
        }
    }
}

impl FutureResponse {
    /// The handle that polls as readable when there is a response; `None` if there is, or never will be.
    pub(crate) fn awaited(&mut self, bodies: &mut Bodies) -> Option<Handle> {
        self.exchange(bodies)?.ok().map(|exchange| exchange.get())
    }

    /// The response, or why there is none; nothing while it may come. `Some(Err(()))` if the program has
    /// been given it.
    pub(crate) fn get(
        &mut self,
        bodies: &mut Bodies,
    ) -> Option<Result<Result<IncomingResponse, Failure>, ()>> {
        let response = match self.exchange(bodies) {
            None => return Some(Err(())),
            Some(Err(failure)) => Err(failure),
            Some(Ok(exchange)) => ask(&exchange)?,
        };
        self.leave(bodies, false);
        Some(Ok(response))
    }

    /// Nobody waits for it any more.
    pub(crate) fn cancel(mut self, bodies: &mut Bodies) {
        self.leave(bodies, true);
    }

    fn leave(&mut self, bodies: &mut Bodies, cancel: bool) {
        match core::mem::replace(self, Self::Taken) {
            Self::Asked(body, _) if cancel => bodies.cancel(body),
            Self::Asked(body, _) => bodies.disown(body),
            Self::Awaited(_) | Self::Taken => {}
        }
    }

    fn exchange(&mut self, bodies: &mut Bodies) -> Option<Result<Arc<OwnedHandle>, Failure>> {
        match self {
            // The body may be over with the call that sent it.
            Self::Asked(body, Some(exchange)) if !bodies.contains(*body) => {
                Some(Ok(Arc::clone(exchange)))
            }
            Self::Asked(body, exchange) => {
                Some(bodies.exchange(*body).inspect(|it| *exchange = Some(Arc::clone(it))))
            }
            Self::Awaited(exchange) => Some(Ok(Arc::clone(exchange))),
            Self::Taken => None,
        }
    }
}

/// Asks for the response of an exchange.
fn ask(exchange: &Arc<OwnedHandle>) -> Option<Result<IncomingResponse, Failure>> {
    let request = Request::Head { exchange: exchange.get() };
    let answer = exchange.calls().call_with(&request, |value, data| match value {
        0 => ResponseHead::split_first(data)
            .map(|(head, _)| Ok((head.status, Fields::received(&head.headers)))),
        _ => HttpError::split_first(data).map(|(error, _)| Err(Failure::told(&error))),
    });
    match answer {
        Ok(Some(Ok((status, headers)))) => {
            let body = Receiving::new(Arc::clone(exchange), Vec::new(), false);
            Some(Ok(IncomingResponse { status, headers, body: Some(body) }))
        }
        Ok(Some(Err(failure))) => Some(Err(failure)),
        Ok(None) => Some(Err(Errno::Io.into())),
        Err(Errno::Again | Errno::Interrupted) => None,
        Err(errno) => Some(Err(errno.into())),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn given(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| text(bytes))
}
