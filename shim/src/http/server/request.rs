//! One request: from its head to the head of its response, and its body meanwhile.
//!
//! Rule: a request that is malformed or too large reaches no program. A program is given a request's body
//! as it comes, and no faster than it reads; what is wrong with the body breaks it off, and is the client's
//! answer if the program has given none.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use abi::http::ErrorCode;
use hyper::body::{Body as _, Frame, Incoming as RequestBody};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue, RETRY_AFTER,
};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep_until, timeout};
use vmm::host::http::{BodyReader, BodyWriter, Failure, Incoming, Unanswered};

use super::activity::Activity;
use super::body::{GuestBody, ResponseBody};
use super::{Limits, Refused};

/// How often a body is looked for before its request is handed over: twice, so that the connection reads
/// in between what came together with the head.
const LOOKS: usize = 2;

/// When to come again, in seconds: soon, because what is missing is a micro-VM that others are done with
/// at any moment.
const RETRY_SECONDS: u16 = 1;

/// Why a request has an answer that is none of a program's.
#[derive(Clone, Copy, Debug)]
struct Rejection {
    status: StatusCode,
    reason: &'static str,
}

impl Rejection {
    const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

/// The response to `request`, whatever that is.
pub(super) async fn answer<S>(
    request: Request<RequestBody>,
    activity: &Arc<Activity>,
    limits: &Arc<Limits>,
    submit: &S,
) -> Response<ResponseBody>
where
    S: Fn(Incoming) -> Result<(), Refused>,
{
    let version = request.version();
    let in_flight = activity.begin(version == Version::HTTP_2);
    let is_head = request.method() == Method::HEAD;
    let deadline = limits.request_timeout.and_then(|limit| Instant::now().checked_add(limit));
    match exchange(request, activity, limits, submit, deadline).await {
        Ok((head, body)) => {
            let (mut parts, ()) = head.into_parts();
            let has_no_body = is_head
                || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            if !has_no_body {
                let body = GuestBody::new(body, in_flight, version, limits, deadline);
                return Response::from_parts(parts, ResponseBody::Guest(body));
            }
            if let Some(length) = body.bytes_left().filter(|_| is_head && body.has_ended()) {
                // What the response to GET would say (RFC 9110, 9.3.2).
                parts.headers.entry(CONTENT_LENGTH).or_insert(length.into());
            }
            body.ignore();
            Response::from_parts(parts, ResponseBody::Text(""))
        }
        Err(rejection) => rejected(&rejection, version),
    }
}

fn rejected(rejection: &Rejection, version: Version) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Text(rejection.reason));
    *response.status_mut() = rejection.status;
    let headers = response.headers_mut();
    if !rejection.reason.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if rejection.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_SECONDS.into());
    }
    let is_about_the_body =
        matches!(rejection.status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE);
    if is_about_the_body && version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Gives the request to a program, and waits for its response.
async fn exchange<S>(
    request: Request<RequestBody>,
    activity: &Arc<Activity>,
    limits: &Arc<Limits>,
    submit: &S,
    deadline: Option<Instant>,
) -> Result<(Response<()>, BodyReader), Rejection>
where
    S: Fn(Incoming) -> Result<(), Refused>,
{
    let (parts, body) = request.into_parts();
    let waits_for_guest = check(&parts, limits)?;
    let announced = body.size_hint().lower();
    if limits.body_bytes.is_some_and(|most| announced > most) {
        activity.note_unread_body();
        return Err(TOO_LARGE);
    }
    let mut head = Request::new(());
    *head.uri_mut() = target(&parts)?;
    *head.method_mut() = parts.method;
    *head.version_mut() = parts.version;
    *head.headers_mut() = parts.headers;

    let (incoming, writer, reader) = Incoming::new(head);
    let mut pump = if body.is_end_stream() {
        writer.finish(HeaderMap::new());
        None
    } else {
        let pumped = pump(body, writer, limits.clone(), waits_for_guest).await;
        pumped.inspect_err(|_| activity.note_unread_body())?
    };
    if let Err(Refused(incoming)) = submit(incoming) {
        incoming.refuse();
    }

    let mut response = std::pin::pin!(reader.response());
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut response => break answer,
            outcome = ended(&mut pump) => match outcome {
                Ok(()) => pump = None,
                Err(rejection) => {
                    activity.note_unread_body();
                    return Err(rejection);
                }
            },
            () = at(deadline) => {
                if pump.is_some() {
                    activity.note_unread_body();
                }
                return Err(Rejection::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "the program took too long\n",
                ));
            }
        }
    };
    if pump.is_some() {
        activity.note_unread_body();
    }
    // A program may have ended because its request was broken off: then that is what there is to say.
    let broken = || pump.and_then(|pump| pump.broken.get().copied());
    answer.map_err(|why| broken().unwrap_or_else(|| unanswered(&why)))
}

const TOO_LARGE: Rejection =
    Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "the body of the request is too large\n");

/// Checks what does not depend on the target. Returns whether the client waits to be told that its body is
/// wanted.
fn check(parts: &Parts, limits: &Limits) -> Result<bool, Rejection> {
    let target_bytes = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if target_bytes > limits.target_bytes {
        return Err(Rejection::new(StatusCode::URI_TOO_LONG, "the target is too long\n"));
    }
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if fields.sum::<usize>() as u64 > limits.header_bytes.into() {
        return Err(Rejection::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the header section is too large\n",
        ));
    }
    if parts.method == Method::CONNECT {
        return Err(Rejection::new(StatusCode::NOT_IMPLEMENTED, "this is no proxy\n"));
    }
    let mut expected = parts.headers.get_all(EXPECT).iter();
    let waits = parts.headers.contains_key(EXPECT);
    if expected.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Rejection::new(StatusCode::EXPECTATION_FAILED, "only 100-continue is met\n"));
    }
    Ok(waits && parts.version > Version::HTTP_10)
}

/// The target as an absolute URI (RFC 9110, 7.1). The scheme is `http`, whatever the client says: that is
/// how it has come.
fn target(parts: &Parts) -> Result<Uri, Rejection> {
    const MALFORMED: Rejection =
        Rejection::new(StatusCode::BAD_REQUEST, "the host or target is malformed\n");
    if parts.uri.scheme().is_none() && parts.uri.authority().is_some() {
        return Err(MALFORMED); // A proxy is asked so (RFC 9112, 3.2.3).
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.is_empty() => None,
        (Some(host), None) => {
            let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            Some(host.ok_or(MALFORMED)?)
        }
        (Some(_), Some(_)) => return Err(MALFORMED),
        // RFC 9112, 3.2.
        (None, _) if parts.version == Version::HTTP_11 => return Err(MALFORMED),
        (None, _) => None,
    };
    let authority = match (parts.uri.authority().cloned(), host) {
        // RFC 9113, 8.3.1. In HTTP/1 an absolute target goes before (RFC 9112, 3.2.2).
        (Some(named), Some(host)) if parts.version == Version::HTTP_2 && named != host => {
            return Err(MALFORMED);
        }
        (named, host) => named.or(host),
    };
    if authority.as_ref().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(MALFORMED); // RFC 9110, 4.2.4
    }
    let root = || PathAndQuery::from_static("/");
    let mut target = hyper::http::uri::Parts::default();
    target.path_and_query = Some(parts.uri.path_and_query().cloned().unwrap_or_else(root));
    if authority.is_some() {
        target.scheme = Some(Scheme::HTTP);
        target.authority = authority;
    }
    Uri::from_parts(target).map_err(|_| MALFORMED)
}

fn unanswered(why: &Unanswered) -> Rejection {
    log::debug!("request: {why}");
    let Unanswered::Failed(failure) = why else {
        return match why {
            Unanswered::Refused => Rejection::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "there is no micro-VM for the request, try again\n",
            ),
            // Whoever runs the program is told why.
            Unanswered::Closed | Unanswered::Failed(_) => {
                Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        };
    };
    match failure.code {
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Rejection::new(
            StatusCode::GATEWAY_TIMEOUT,
            "who is behind the program did not answer in time\n",
        ),
        ErrorCode::DnsError
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpProhibited
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTerminated
        | ErrorCode::ConnectionLimitReached
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived
        | ErrorCode::HttpResponseIncomplete
        | ErrorCode::HttpProtocolError => {
            Rejection::new(StatusCode::BAD_GATEWAY, "who is behind the program failed\n")
        }
        ErrorCode::HttpRequestDenied
        | ErrorCode::HttpRequestLengthRequired
        | ErrorCode::HttpRequestBodySize
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestHeaderSectionSize
        | ErrorCode::HttpRequestHeaderSize
        | ErrorCode::HttpRequestTrailerSectionSize
        | ErrorCode::HttpRequestTrailerSize
        | ErrorCode::HttpResponseHeaderSectionSize
        | ErrorCode::HttpResponseHeaderSize
        | ErrorCode::HttpResponseBodySize
        | ErrorCode::HttpResponseTrailerSectionSize
        | ErrorCode::HttpResponseTrailerSize
        | ErrorCode::HttpResponseTransferCoding
        | ErrorCode::HttpResponseContentCoding
        | ErrorCode::HttpUpgradeFailed
        | ErrorCode::LoopDetected
        | ErrorCode::ConfigurationError
        | ErrorCode::InternalError => {
            Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "the program failed\n")
        }
    }
}

/// A body on its way to the program.
struct Pump {
    task: JoinHandle<Result<(), Rejection>>,
    /// Why it was broken off: known before the program can know that it was.
    broken: Arc<OnceLock<Rejection>>,
}

/// Has the body moved to the program, by a task of its own if it is not there already.
async fn pump(
    body: RequestBody,
    writer: BodyWriter,
    limits: Arc<Limits>,
    waits_for_guest: bool,
) -> Result<Option<Pump>, Rejection> {
    let broken = Arc::default();
    let mut moved = Box::pin(move_body(body, writer, limits, waits_for_guest, Arc::clone(&broken)));
    for look in 0..LOOKS {
        let now = std::future::poll_fn(|cx| Poll::Ready(moved.as_mut().poll(cx)));
        if let Poll::Ready(outcome) = now.await {
            return outcome.map(|()| None);
        }
        if look + 1 < LOOKS && !waits_for_guest {
            yield_now().await;
        }
    }
    Ok(Some(Pump { task: tokio::spawn(moved), broken }))
}

async fn move_body(
    mut body: RequestBody,
    mut writer: BodyWriter,
    limits: Arc<Limits>,
    waits_for_guest: bool,
    broken: Arc<OnceLock<Rejection>>,
) -> Result<(), Rejection> {
    let break_off = |writer: BodyWriter, failure: Failure, rejection: Rejection| {
        // Nobody else sets it.
        let rejection = *broken.get_or_init(|| rejection);
        writer.fail(failure);
        Err(rejection)
    };
    if waits_for_guest && writer.wanted().await.is_err() {
        return Ok(());
    }
    let mut left = limits.body_bytes.unwrap_or(u64::MAX);
    let mut trailers = HeaderMap::new();
    loop {
        let next = std::future::poll_fn(|cx: &mut Context<'_>| Pin::new(&mut body).poll_frame(cx));
        let frame = tokio::select! {
            biased;
            frame = timeout(limits.body_timeout, next) => frame,
            () = writer.gone() => return Ok(()),
        };
        match frame {
            Ok(Some(Ok(frame))) => match frame.into_data().map_err(Frame::into_trailers) {
                Ok(data) => {
                    let Some(rest) = left.checked_sub(data.len() as u64) else {
                        let number = limits.body_bytes;
                        let code = ErrorCode::HttpRequestBodySize;
                        return break_off(writer, Failure { number, ..code.into() }, TOO_LARGE);
                    };
                    left = rest;
                    if writer.write(&data).await.is_err() {
                        return Ok(());
                    }
                }
                Err(Ok(fields)) => trailers = fields,
                Err(Err(_)) => {}
            },
            Ok(None) => {
                writer.finish(trailers);
                return Ok(());
            }
            Ok(Some(Err(error))) => {
                log::debug!("body of a request: {error}");
                let reason = "the body of the request is malformed or incomplete\n";
                let rejection = Rejection::new(StatusCode::BAD_REQUEST, reason);
                return break_off(writer, ErrorCode::ConnectionTerminated.into(), rejection);
            }
            Err(_) => {
                let reason = "the body of the request did not come in time\n";
                let rejection = Rejection::new(StatusCode::REQUEST_TIMEOUT, reason);
                return break_off(writer, ErrorCode::ConnectionReadTimeout.into(), rejection);
            }
        }
    }
}

/// What became of a body that is being moved. Never done where there is none.
async fn ended(pump: &mut Option<Pump>) -> Result<(), Rejection> {
    match pump {
        // A task that is gone without an outcome has broken the body off.
        Some(pump) => (&mut pump.task).await.unwrap_or(Ok(())),
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
