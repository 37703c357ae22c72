//! The side of an exchange that a guest has, by host calls.
//!
//! Rule: no call waits unless it says so, and then for the [`Bell`]. A body that broke off refuses to be read
//! ([`Errno::ConnectionAborted`]), so that nobody takes it for whole; one that nobody reads any more
//! refuses to be written ([`Errno::ConnectionReset`]). A body is as long as its head said, or it is broken
//! off.

use std::sync::Arc;
use std::time::Duration;

use abi::http::{ErrorCode, HttpError, IncomingRequest, encode_trailers};
use abi::{Errno, FOREVER, Handle, poll_events};
use http::{HeaderMap, Method, Request, StatusCode};

use super::super::Answer as Reply;
use super::super::bell::Bell;
use super::channel::{Answer, Body, Channel, Reader, State};
use super::ends::GuestEnd;
use super::{Failure, Incoming, Outgoing, Timeouts, Unanswered, head};

/// An exchange of a guest.
#[derive(Debug)]
pub(in super::super) struct Exchange {
    kind: Kind,
    end: GuestEnd,
    bell: Arc<Bell>,
}

/// Who made the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody else, and the guest answers.
    Incoming {
        /// The method is HEAD, whose response has the length of what it does not have.
        is_head: bool,
    },
    /// The guest.
    Outgoing,
}

/// What a guest says of its request.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Fetch<'a> {
    pub(in super::super) finished: bool,
    pub(in super::super) timeouts: [u64; 3],
    pub(in super::super) head: &'a [u8],
    pub(in super::super) body: &'a [u8],
}

impl Exchange {
    /// The guest's side of `incoming`, and what the guest is told of it as soon as it has a handle.
    pub(in super::super) fn incoming(incoming: Incoming, bell: Arc<Bell>) -> (Self, Request<()>) {
        let Incoming { head: request, guest: end } = incoming;
        end.0.with(|state| state.bell = Some(bell.clone()));
        let kind = Kind::Incoming { is_head: request.method() == Method::HEAD };
        (Self { kind, end, bell }, request)
    }

    /// Tells the guest of a request that it knows as `exchange`, with what there is of its body.
    pub(in super::super) fn announce(&self, exchange: Handle, request: &Request<()>) -> Vec<u8> {
        self.with(|state| {
            let inbound = &mut state.inbound;
            let body = Vec::from(std::mem::take(&mut inbound.bytes));
            inbound.task.wake();
            let is_complete = matches!(&inbound.end, Some(Ok(trailers)) if trailers.is_empty());
            let head = head::request_head(request);
            IncomingRequest { exchange, head, body: &body, is_complete }.encode()
        })
    }

    /// The two sides of a request of the guest's; `None` in place of the client's where it has failed already.
    pub(in super::super) fn outgoing(
        fetch: Fetch<'_>,
        bell: Arc<Bell>,
    ) -> Result<(Self, Option<Outgoing>), Errno> {
        let channel = Channel::new();
        let exchange = Self { kind: Kind::Outgoing, end: GuestEnd(channel.clone()), bell };
        let (request, length) = match head::request(fetch.head) {
            Ok(request) => request,
            Err(head::Refusal::Call(errno)) => return Err(errno),
            Err(head::Refusal::Exchange(code)) => {
                let failure = Answer::None(Unanswered::Failed(code.into()));
                exchange.with(|state| {
                    state.outbound.reader = Reader::Gone;
                    state.give(failure);
                });
                return Ok((exchange, None));
            }
        };
        exchange.with(|state| {
            state.bell = Some(exchange.bell.clone());
            state.outbound.begin(length, fetch.finished, fetch.body)
        })?;
        let [connect, first_byte, between_bytes] =
            fetch.timeouts.map(|ns| (ns != FOREVER).then(|| Duration::from_nanos(ns)));
        let timeouts = Timeouts { connect, first_byte, between_bytes };
        Ok((exchange, Some(Outgoing::new(request, timeouts, &channel))))
    }

    /// Whether it is somebody else's request.
    pub(in super::super) fn is_incoming(&self) -> bool {
        self.kind != Kind::Outgoing
    }

    /// The [`poll_events`] for which a call would not be [`Errno::Again`].
    pub(in super::super) fn ready(&self) -> u32 {
        self.with(|state| {
            let mut ready = 0;
            let outbound = &state.outbound;
            let is_full = outbound.reader == Reader::There && outbound.room() == 0;
            if !is_full || outbound.end.is_some() || !self.has_begun(&state.answer) {
                ready |= poll_events::WRITE;
            }
            let awaits_head = self.kind == Kind::Outgoing && !state.is_head_told;
            let is_readable = match &state.answer {
                Answer::Awaited if awaits_head => false,
                _ => awaits_head || !state.inbound.is_empty_so_far(),
            };
            if is_readable {
                ready |= poll_events::READ;
            } else {
                state.inbound.want();
            }
            ready
        })
    }

    /// Reads up to `len` bytes into `reply`.
    pub(in super::super) fn read(
        &self,
        len: u32,
        wait: bool,
        reply: &mut [u8],
    ) -> Result<Reply, Errno> {
        let len = usize::try_from(len).map_or(reply.len(), |len| len.min(reply.len()));
        let read = self.attempt(wait, || self.read_now(&mut reply[..len]))?;
        Ok(Reply::data(read))
    }

    fn read_now(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.with(|state| {
            if self.kind == Kind::Outgoing && matches!(state.answer, Answer::Awaited) {
                return Err(Errno::Again);
            }
            let inbound = &mut state.inbound;
            if buffer.is_empty() || !inbound.bytes.is_empty() {
                inbound.task.wake();
                return Ok(inbound.take(buffer));
            }
            match &inbound.end {
                Some(Ok(_)) => Ok(0),
                Some(Err(_)) => Err(Errno::ConnectionAborted),
                None => {
                    inbound.want();
                    Err(Errno::Again)
                }
            }
        })
    }

    /// Writes as much of `data` as there is room for.
    pub(in super::super) fn write(&self, wait: bool, data: &[u8]) -> Result<Reply, Errno> {
        let written = self.attempt(wait, || self.write_now(data))?;
        Ok(Reply { value: written as u64, data_bytes: 0 })
    }

    fn write_now(&self, data: &[u8]) -> Result<usize, Errno> {
        self.with(|state| {
            let has_begun = self.has_begun(&state.answer);
            let outbound = &mut state.outbound;
            outbound.check_writable(has_begun)?;
            if outbound.owed.is_some_and(|owed| data.len() as u64 > owed) {
                outbound.break_off(self.wrong_length());
                return Err(Errno::Invalid);
            }
            let len = match outbound.reader {
                Reader::There => data.len().min(outbound.room()),
                Reader::Indifferent => data.len(),
                Reader::Gone => return Err(Errno::ConnectionReset),
            };
            if len == 0 && !data.is_empty() {
                return Err(Errno::Again);
            }
            outbound.append(&data[..len]);
            Ok(len)
        })
    }

    /// Answers with a response.
    pub(in super::super) fn respond(
        &self,
        finished: bool,
        head: &[u8],
        body: &[u8],
    ) -> Result<Reply, Errno> {
        let Kind::Incoming { is_head } = self.kind else { return Err(Errno::BadHandle) };
        let (response, length) = head::response(head)?;
        let has_no_body = is_head
            || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.with(|state| {
            if self.has_begun(&state.answer) {
                return Err(Errno::Invalid);
            }
            state.outbound.begin(length.filter(|_| !has_no_body), finished, body)?;
            state.answer = Answer::Given(response);
            state.watcher.wake();
            Ok(Reply::DONE)
        })
    }

    /// Answers with an error.
    pub(in super::super) fn fail(&self, error: &[u8]) -> Result<Reply, Errno> {
        let Kind::Incoming { .. } = self.kind else { return Err(Errno::BadHandle) };
        let failure = Failure::from(HttpError::decode(error).ok_or(Errno::Invalid)?);
        self.with(|state| {
            if !matches!(state.answer, Answer::Awaited) {
                return Err(Errno::Invalid);
            }
            state.answer = Answer::None(Unanswered::Failed(failure));
            state.outbound.break_off(ErrorCode::InternalError.into());
            state.watcher.wake();
            Ok(Reply::DONE)
        })
    }

    /// Ends the body that the guest writes.
    pub(in super::super) fn finish(&self, trailers: &[u8]) -> Result<Reply, Errno> {
        let trailers = head::trailers(trailers)?;
        self.with(|state| {
            let has_begun = self.has_begun(&state.answer);
            let outbound = &mut state.outbound;
            outbound.check_writable(has_begun)?;
            if outbound.owed.is_some_and(|owed| owed > 0) {
                outbound.break_off(self.wrong_length());
                return Err(Errno::Invalid);
            }
            outbound.end = Some(Ok(trailers));
            outbound.task.wake();
            Ok(Reply::DONE)
        })
    }

    /// Tells the response.
    pub(in super::super) fn head(&self, reply: &mut [u8]) -> Result<Reply, Errno> {
        if self.kind != Kind::Outgoing {
            return Err(Errno::BadHandle);
        }
        let answer = self.with(|state| match &state.answer {
            Answer::Awaited => Err(Errno::Again),
            Answer::Given(response) => Ok((0, head::response_head(response).encode())),
            Answer::None(Unanswered::Failed(failure)) => Ok((1, failure.encode())),
            Answer::None(_) | Answer::Taken => Err(Errno::Invalid),
        });
        let (value, bytes) = answer?;
        let reply = told(reply, value, &bytes)?;
        self.with(|state| state.is_head_told = true);
        Ok(reply)
    }

    /// Tells how the body ended that the guest reads.
    pub(in super::super) fn trailers(&self, reply: &mut [u8]) -> Result<Reply, Errno> {
        let (value, bytes) = self.with(|state| {
            if !state.inbound.bytes.is_empty() {
                return Err(Errno::Again);
            }
            match &state.inbound.end {
                Some(Ok(trailers)) => Ok((0, encode_trailers(&head::encoded(trailers)))),
                Some(Err(failure)) => Ok((1, failure.encode())),
                None => {
                    state.inbound.want();
                    Err(Errno::Again)
                }
            }
        })?;
        told(reply, value, &bytes)
    }

    /// Whether the guest may write: it has answered, or asks.
    fn has_begun(&self, answer: &Answer) -> bool {
        self.kind == Kind::Outgoing || !matches!(answer, Answer::Awaited)
    }

    /// The failure of a body that is not as long as its head said.
    fn wrong_length(&self) -> Failure {
        match self.kind {
            Kind::Incoming { .. } => ErrorCode::HttpResponseBodySize.into(),
            Kind::Outgoing => ErrorCode::HttpRequestBodySize.into(),
        }
    }

    fn attempt<T>(
        &self,
        wait: bool,
        mut attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if wait { self.bell.wait_for(attempt) } else { attempt() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.end.0.with(change)
    }
}

impl Body {
    /// Begins with `bytes`, of a body that is `length` bytes long if that is known.
    fn begin(&mut self, length: Option<u64>, finished: bool, bytes: &[u8]) -> Result<(), Errno> {
        let owed = match length.map(|length| length.checked_sub(bytes.len() as u64)) {
            Some(None) => return Err(Errno::Invalid),
            Some(Some(owed)) if finished && owed > 0 => return Err(Errno::Invalid),
            owed => owed.flatten(),
        };
        self.append(bytes);
        self.owed = owed;
        if finished {
            self.end = Some(Ok(HeaderMap::new()));
        }
        Ok(())
    }

    fn check_writable(&self, has_begun: bool) -> Result<(), Errno> {
        match &self.end {
            None if has_begun => Ok(()),
            Some(Err(_)) if has_begun => Err(Errno::ConnectionReset),
            Some(_) | None => Err(Errno::Invalid),
        }
    }

    /// There is nothing to read, and there may be.
    fn is_empty_so_far(&self) -> bool {
        self.bytes.is_empty() && self.end.is_none()
    }

    /// The guest has looked for more.
    fn want(&mut self) {
        if self.is_empty_so_far() && !self.is_wanted {
            self.is_wanted = true;
            self.task.wake();
        }
    }
}

/// The answer of `value` and `bytes`.
fn told(reply: &mut [u8], value: u64, bytes: &[u8]) -> Result<Reply, Errno> {
    reply.get_mut(..bytes.len()).ok_or(Errno::TooBig)?.copy_from_slice(bytes);
    Ok(Reply { value, data_bytes: bytes.len() })
}
