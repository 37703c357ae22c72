//! The side of an exchange that a task of this process has.
//!
//! Rule: dropping an end says that it is not used any more: a body that was not finished is broken off, a
//! response that was not given fails, and what nobody reads is refused to its writer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use abi::http::ErrorCode;
use http::{HeaderMap, Request, Response};

use super::channel::{Answer, Channel, Reader, State};
use super::{Failure, Unanswered};

/// A request for a guest, made by a server. Dropped, it is unanswered.
#[derive(Debug)]
pub struct Incoming {
    pub(super) head: Request<()>,
    pub(super) guest: GuestEnd,
}

/// A request by a guest, for a client to make. Dropped, it fails.
#[derive(Debug)]
pub struct Outgoing {
    /// Method, an absolute URI with scheme and authority, and header fields.
    pub head: Request<()>,
    /// How long the guest waits.
    pub timeouts: Timeouts,
    /// The body of the request.
    pub body: BodyReader,
    /// Where the response goes.
    pub response: ResponseWriter,
}

/// How long a guest waits for the parts of a response; `None` for as long as the host lets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Option<Duration>,
    /// For the first byte of the response, from the connection on.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the response's body.
    pub between_bytes: Option<Duration>,
}

/// The guest reads no more of a body, or has given the exchange up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program reads no more of the body")]
pub struct Gone;

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Some bytes, at least one.
    Data(Vec<u8>),
    /// The end, with trailers.
    End(HeaderMap),
}

/// Writes the body that a guest reads.
#[derive(Debug)]
pub struct BodyWriter {
    channel: Arc<Channel>,
}

/// Reads the body that a guest writes.
#[derive(Debug)]
pub struct BodyReader {
    channel: Arc<Channel>,
}

/// Waits for the response of a guest.
#[derive(Debug)]
pub struct ResponseReader {
    channel: Arc<Channel>,
}

/// Gives a guest the response to its request.
#[derive(Debug)]
pub struct ResponseWriter {
    channel: Arc<Channel>,
}

/// The guest's side. Dropped, the guest is gone.
#[derive(Debug)]
pub(super) struct GuestEnd(pub(super) Arc<Channel>);

impl Incoming {
    /// A request with this head, and the ends that its server keeps. The URI has the scheme and the
    /// authority, where there is one.
    #[must_use]
    pub fn new(head: Request<()>) -> (Self, BodyWriter, ResponseReader) {
        let channel = Channel::new();
        let body = BodyWriter { channel: channel.clone() };
        let response = ResponseReader { channel: channel.clone() };
        (Self { head, guest: GuestEnd(channel) }, body, response)
    }

    /// The head of the request.
    #[must_use]
    pub fn head(&self) -> &Request<()> {
        &self.head
    }

    /// Whether the server waits no more for an answer: its client is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.guest.0.with(|state| state.outbound.reader == Reader::Gone)
    }

    /// Says that there is no guest for it: [`Unanswered::Refused`].
    pub fn refuse(self) {
        self.guest.0.with(|state| {
            state.answer = Answer::None(Unanswered::Refused);
            state.watcher.wake();
        });
    }
}

impl Outgoing {
    pub(super) fn new(head: Request<()>, timeouts: Timeouts, channel: &Arc<Channel>) -> Self {
        let body = BodyReader { channel: channel.clone() };
        let response = ResponseWriter { channel: channel.clone() };
        Self { head, timeouts, body, response }
    }
}

impl BodyWriter {
    /// Writes all of `bytes`, as the guest makes room.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the guest reads no more.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes what there is room for, at least one byte of those in `bytes`.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the guest reads no more.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Gone>> {
        self.channel.with(|state| {
            let body = &mut state.inbound;
            if body.reader != Reader::There {
                return Poll::Ready(Err(Gone));
            }
            let written = body.room().min(bytes.len());
            if written == 0 && !bytes.is_empty() {
                body.task.park(cx);
                return Poll::Pending;
            }
            body.append(&bytes[..written]);
            state.ring();
            Poll::Ready(Ok(written))
        })
    }

    /// Waits until the guest has looked for more than there is.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the guest reads no more.
    pub async fn wanted(&mut self) -> Result<(), Gone> {
        poll_fn(|cx| {
            self.channel.with(|state| match &mut state.inbound {
                body if body.reader != Reader::There => Poll::Ready(Err(Gone)),
                body if body.is_wanted => Poll::Ready(Ok(())),
                body => {
                    body.task.park(cx);
                    Poll::Pending
                }
            })
        })
        .await
    }

    /// Waits until the guest reads no more.
    pub async fn gone(&mut self) {
        poll_fn(|cx| {
            self.channel.with(|state| {
                if state.inbound.reader != Reader::There {
                    return Poll::Ready(());
                }
                state.inbound.task.park(cx);
                Poll::Pending
            })
        })
        .await;
    }

    /// Ends the body.
    pub fn finish(self, trailers: HeaderMap) {
        self.end(Ok(trailers));
    }

    /// Breaks the body off.
    pub fn fail(self, failure: Failure) {
        self.end(Err(failure));
    }

    fn end(&self, end: Result<HeaderMap, Failure>) {
        self.channel.with(|state| {
            if state.inbound.end.is_none() {
                state.inbound.end = Some(end);
                state.ring();
            }
        });
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.end(Err(ErrorCode::ConnectionTerminated.into()));
    }
}

impl BodyReader {
    /// Reads what the guest has written, all of it at once.
    ///
    /// # Errors
    ///
    /// The failure by which the body ends.
    pub async fn read(&mut self) -> Result<Part, Failure> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Reads what the guest has written, all of it at once. What ended stays so.
    ///
    /// # Errors
    ///
    /// The failure by which the body ends.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failure>> {
        self.channel.with(|state| {
            let body = &mut state.outbound;
            if !body.bytes.is_empty() {
                let bytes = std::mem::take(&mut body.bytes);
                state.ring();
                return Poll::Ready(Ok(Part::Data(bytes.into())));
            }
            match &body.end {
                Some(end) => Poll::Ready(end.clone().map(Part::End)),
                None => {
                    body.task.park(cx);
                    Poll::Pending
                }
            }
        })
    }

    /// Whether the guest writes no more of it: it was finished, or has broken off.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.channel.with(|state| state.outbound.end.is_some())
    }

    /// Whether there are bytes to be read.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        self.channel.with(|state| !state.outbound.bytes.is_empty())
    }

    /// How many bytes are still to come, if that is certain: the body has ended without trailers, or its
    /// length was told.
    #[must_use]
    pub fn bytes_left(&self) -> Option<u64> {
        self.channel.with(|state| {
            let body = &state.outbound;
            let waiting = body.bytes.len() as u64;
            match &body.end {
                Some(Ok(trailers)) if trailers.is_empty() => Some(waiting),
                Some(_) => None,
                None => body.owed.map(|owed| waiting.saturating_add(owed)),
            }
        })
    }

    /// Lets the guest write the rest, and takes nothing of it: for a response that has no body by its
    /// nature, which is no fault of the guest's.
    pub fn ignore(self) {
        self.channel.with(|state| {
            state.outbound.reader = Reader::Indifferent;
            state.outbound.abandon();
            state.ring();
        });
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.channel.with(|state| {
            state.outbound.abandon();
            state.ring();
        });
    }
}

impl ResponseReader {
    /// Waits for the response. Dropped before, the guest writes for nobody.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn response(self) -> Result<(Response<()>, BodyReader), Unanswered> {
        let answer = poll_fn(|cx| {
            self.channel.with(|state| match std::mem::replace(&mut state.answer, Answer::Taken) {
                Answer::Awaited => {
                    state.answer = Answer::Awaited;
                    state.watcher.park(cx);
                    Poll::Pending
                }
                Answer::Given(head) => Poll::Ready(Ok(head)),
                Answer::None(why) => Poll::Ready(Err(why)),
                Answer::Taken => Poll::Ready(Err(Unanswered::Closed)),
            })
        });
        let head = answer.await?;
        Ok((head, BodyReader { channel: self.channel.clone() }))
    }
}

impl Drop for ResponseReader {
    fn drop(&mut self) {
        self.channel.with(|state| {
            if !matches!(state.answer, Answer::Taken) {
                state.outbound.abandon();
                state.ring();
            }
        });
    }
}

impl ResponseWriter {
    /// Gives the response. Its body goes to the writer.
    #[must_use]
    pub fn respond(self, head: Response<()>) -> BodyWriter {
        self.answer(Answer::Given(head));
        BodyWriter { channel: self.channel.clone() }
    }

    /// Says why there is none.
    pub fn fail(self, failure: Failure) {
        self.answer(Answer::None(Unanswered::Failed(failure)));
    }

    /// Waits until the guest has given the exchange up.
    pub async fn gone(&mut self) {
        poll_fn(|cx| {
            self.channel.with(|state| {
                if state.guest_is_gone() {
                    return Poll::Ready(());
                }
                state.watcher.park(cx);
                Poll::Pending
            })
        })
        .await;
    }

    fn answer(&self, answer: Answer) {
        self.channel.with(|state| state.give(answer));
    }
}

impl Drop for ResponseWriter {
    fn drop(&mut self) {
        let failure = Failure::from(ErrorCode::ConnectionTerminated);
        self.answer(Answer::None(Unanswered::Failed(failure)));
    }
}

impl State {
    /// Gives the guest its answer, unless it has one.
    pub(super) fn give(&mut self, answer: Answer) {
        if !matches!(self.answer, Answer::Awaited) {
            return;
        }
        if let Answer::None(Unanswered::Failed(failure)) = &answer {
            self.inbound.break_off(failure.clone());
        }
        self.answer = answer;
        self.ring();
    }
}

impl Drop for GuestEnd {
    fn drop(&mut self) {
        self.0.with(State::leave_as_guest);
    }
}
