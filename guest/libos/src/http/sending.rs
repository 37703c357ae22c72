//! The messages that a program sends, from the moment on at which it asks for the body.
//!
//! A body is in one of four stages: its message is with the program yet, is held back here, is with the host,
//! or is lost. Bytes that the host has no room for stay here, after the end of the body too, until a
//! wait finds that there is room, or the call ends.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::http::{ErrorCode, HEAD_BYTES_MAX};
use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, Handle, Request};

use super::{Failure, Fields};
use crate::call::Calls;
use crate::handle::OwnedHandle;
use crate::stream::{CHUNK_BYTES, StreamError};

/// Most bytes of a body that are taken before its message is sent. A program that fills a body first and
/// sends its message then would wait for ever at the end of them.
const UNSENT_BYTES_MAX: usize = 2 << 20;

/// Most bytes of a body that go with its head.
const FIRST_BYTES_MAX: usize = CALL_DATA_BYTES - HEAD_BYTES_MAX;

/// Which body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BodyId(u64);

/// The bodies that a program sends.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    bodies: BTreeMap<BodyId, Body>,
    last: u64,
}

/// A message without its body.
#[derive(Debug)]
pub(crate) enum Head {
    /// The answer to an incoming exchange, with the head as it crosses.
    Response(Arc<OwnedHandle>, Vec<u8>),
    /// A request, with the head as it crosses.
    Request(Calls, Timeouts, Vec<u8>),
}

/// How long to wait for the parts of a response, in nanoseconds; [`abi::FOREVER`] for the host's own limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) connect_ns: u64,
    pub(crate) first_byte_ns: u64,
    pub(crate) between_bytes_ns: u64,
}

/// A body that is sent.
#[derive(Debug)]
struct Body {
    stage: Stage,
    /// What the program has written and the host has not.
    bytes: Vec<u8>,
    /// Trailers as they cross, once the body is finished and they are still to be sent.
    end: Option<Vec<u8>>,
    is_finished: bool,
    /// A flush was asked for, and is not done.
    is_flushing: bool,
    written: u64,
    /// What `content-length` says.
    expected: Option<u64>,
    size_error: ErrorCode,
    /// Resources that refer to it.
    owners: u8,
}

#[derive(Debug)]
enum Stage {
    Unsent,
    Held(Head),
    Sent(Arc<OwnedHandle>),
    /// Nobody takes it any more: the other side is gone, or the failure is why.
    Lost(Option<Failure>),
}

impl Bodies {
    /// The body of a message of which the program has two parts then: the body and the rest.
    pub(crate) fn open(&mut self, headers: &Fields, size_error: ErrorCode) -> BodyId {
        self.last += 1;
        let body = Body {
            stage: Stage::Unsent,
            bytes: Vec::new(),
            end: None,
            is_finished: false,
            is_flushing: false,
            written: 0,
            expected: headers.content_length(),
            size_error,
            owners: 2,
        };
        self.bodies.insert(BodyId(self.last), body);
        BodyId(self.last)
    }

    fn get(&mut self, id: BodyId) -> Result<&mut Body, StreamError> {
        // A call that ended has ended its bodies, whatever of them an instance keeps.
        self.bodies.get_mut(&id).ok_or(StreamError::Host(Errno::BrokenPipe))
    }

    /// The message of a body is sent.
    pub(crate) fn send(&mut self, id: BodyId, head: Head) {
        let Ok(body) = self.get(id) else { return };
        match &body.stage {
            Stage::Lost(failure) => head.refuse(failure.as_ref()),
            Stage::Unsent | Stage::Held(_) | Stage::Sent(_) => {
                body.stage = Stage::Held(head);
                if body.is_finished || body.bytes.len() >= CHUNK_BYTES {
                    body.transmit();
                }
            }
        }
    }

    /// The exchange of a request that was sent, with which nothing is held back any more.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn exchange(&mut self, id: BodyId) -> Result<Arc<OwnedHandle>, Failure> {
        let body = self.get(id).map_err(|_| ErrorCode::ConnectionTerminated)?;
        body.transmit();
        match &body.stage {
            Stage::Sent(exchange) => Ok(Arc::clone(exchange)),
            Stage::Lost(Some(failure)) => Err(failure.clone()),
            Stage::Lost(None) | Stage::Unsent | Stage::Held(_) => {
                Err(ErrorCode::ConnectionTerminated.into())
            }
        }
    }

    /// Whether the body is still there.
    pub(crate) fn contains(&self, id: BodyId) -> bool {
        self.bodies.contains_key(&id)
    }

    /// Nobody waits for the response of a request any more.
    pub(crate) fn cancel(&mut self, id: BodyId) {
        if let Ok(body) = self.get(id) {
            body.lose(None);
        }
        self.disown(id);
    }

    /// Bytes that `write` takes; 0 while there is no room.
    pub(crate) fn permit(&mut self, id: BodyId) -> Result<u64, StreamError> {
        let body = self.get(id)?;
        body.deliver(false)?;
        Ok(body.room() as u64)
    }

    /// Whether `write` takes something, or fails; else the handle that polls as writable then, if there
    /// is one.
    pub(crate) fn awaited(&self, id: BodyId) -> Result<(), Option<Handle>> {
        match self.bodies.get(&id) {
            Some(body) if body.room() == 0 => match &body.stage {
                Stage::Sent(exchange) => Err(Some(exchange.get())),
                Stage::Lost(_) => Ok(()),
                Stage::Unsent | Stage::Held(_) => Err(None),
            },
            _ => Ok(()),
        }
    }

    /// Takes all bytes, of which there are no more than [`permit`](Self::permit) said.
    pub(crate) fn write(&mut self, id: BodyId, bytes: &[u8]) -> Result<(), StreamError> {
        let body = self.get(id)?;
        body.take(bytes)?;
        if body.bytes.len() >= CHUNK_BYTES {
            body.transmit();
            body.deliver(false)?;
        }
        Ok(())
    }

    /// Has the host take what was written, unless it can be held back. While that is not done, there is no
    /// [permission](Self::permit) to write.
    pub(crate) fn flush(&mut self, id: BodyId) -> Result<(), StreamError> {
        let body = self.get(id)?;
        match &body.stage {
            Stage::Unsent => return Ok(()),
            // What is written once and finished then is one host call. A second flush tells that it is
            // written bit by bit, for somebody who waits for each.
            Stage::Held(_) if !body.is_flushing => {
                body.is_flushing = true;
                return Ok(());
            }
            Stage::Held(_) => body.transmit(),
            Stage::Sent(_) | Stage::Lost(_) => {}
        }
        body.is_flushing = true;
        body.deliver(false)
    }

    /// Ends a body; the trailers go after it.
    ///
    /// # Errors
    ///
    /// It is not as long as its message says, or the host does not take the message or its end.
    pub(crate) fn finish(&mut self, id: BodyId, trailers: Option<&Fields>) -> Result<(), Failure> {
        let result = match self.get(id) {
            Ok(body) => body.finish(trailers),
            Err(_) => Ok(()),
        };
        self.disown(id);
        result
    }

    /// Gives a body up: it is incomplete, and the other side will see that.
    pub(crate) fn abandon(&mut self, id: BodyId) {
        if let Ok(body) = self.get(id)
            && !body.is_finished
        {
            body.lose(Some(Failure::internal("the body was dropped before it was finished")));
        }
        self.disown(id);
    }

    /// A resource does not refer to a body any more.
    pub(crate) fn disown(&mut self, id: BodyId) {
        if let Ok(body) = self.get(id) {
            body.owners = body.owners.saturating_sub(1);
            if body.owners == 0 && !body.is_pending() {
                self.bodies.remove(&id);
            }
        }
    }

    /// Gives the host everything that is held back, as far as it has room.
    pub(crate) fn release(&mut self) {
        self.bodies.retain(|_, body| {
            body.transmit();
            // Whoever writes next is told.
            let _ = body.deliver(false);
            body.owners > 0 || body.is_pending()
        });
    }

    /// The handles of the exchanges that poll as writable when more of a finished body can be sent.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Handle> {
        self.bodies.values().filter_map(|body| match &body.stage {
            Stage::Sent(exchange) if body.is_finished && body.is_pending() => Some(exchange.get()),
            _ => None,
        })
    }

    /// Ends with the call: whatever was not finished is as finished as its length says, or given up if
    /// the call failed. Waits until the host has everything.
    pub(crate) fn end(&mut self, failed: bool) {
        // Nothing is held back while the first of them waits.
        if !failed {
            self.release();
        }
        while let Some((_, mut body)) = self.bodies.pop_first() {
            if failed && !body.is_finished {
                body.lose(None);
            } else if !body.is_finished {
                // Its message says no other length, or the failure is what the other side sees.
                let _ = body.finish(None);
            }
            // If nobody takes it, there is nobody left to tell.
            let _ = body.deliver(true);
        }
    }
}

impl Body {
    fn room(&self) -> usize {
        let most = match &self.stage {
            Stage::Unsent => UNSENT_BYTES_MAX,
            Stage::Sent(_) if self.is_flushing && !self.bytes.is_empty() => 0,
            Stage::Held(_) | Stage::Sent(_) | Stage::Lost(_) => CHUNK_BYTES,
        };
        most.saturating_sub(self.bytes.len()).min(CHUNK_BYTES)
    }

    /// Whether the host has yet to be given something of it.
    fn is_pending(&self) -> bool {
        match &self.stage {
            Stage::Unsent | Stage::Lost(_) => false,
            Stage::Held(_) => true,
            Stage::Sent(_) => self.end.is_some() || !self.bytes.is_empty(),
        }
    }

    /// Takes bytes, unless they exceed what the message says.
    fn take(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        if matches!(self.stage, Stage::Lost(_)) {
            return Err(StreamError::Host(Errno::BrokenPipe));
        }
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.expected.is_some_and(|expected| self.written > expected) {
            return Err(StreamError::Http(Failure::size(self.size_error, self.written)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Gives the host the message, if it is held back, with as much of the body as goes with it.
    fn transmit(&mut self) {
        let Stage::Held(head) = &self.stage else { return };
        let count = self.bytes.len().min(FIRST_BYTES_MAX);
        let body = self.bytes.get(..count).unwrap_or_default();
        // Trailers are sent as the end, none with the body.
        let finished = count == self.bytes.len() && self.end.as_ref().is_some_and(Vec::is_empty);
        self.stage = match head.transmit(body, finished) {
            Ok(exchange) => Stage::Sent(exchange),
            Err(Errno::BrokenPipe | Errno::ConnectionReset) => Stage::Lost(None),
            Err(errno) => Stage::Lost(Some(errno.into())),
        };
        drop(self.bytes.drain(..count));
        if finished {
            self.end = None;
        }
    }

    /// Gives the host what comes after that, waiting for room if `wait`.
    fn deliver(&mut self, wait: bool) -> Result<(), StreamError> {
        let exchange = match &self.stage {
            Stage::Sent(exchange) => exchange,
            Stage::Lost(_) => return Err(StreamError::Host(Errno::BrokenPipe)),
            Stage::Unsent | Stage::Held(_) => return Ok(()),
        };
        while !self.bytes.is_empty() {
            match exchange.write_all(0, &self.bytes, wait) {
                Ok(written) => drop(self.bytes.drain(..written)),
                Err(Errno::Again) => return Ok(()),
                Err(errno) => {
                    self.lose(None);
                    return Err(StreamError::Host(match errno {
                        // Whoever was to get it is gone: to a stream that is its end.
                        Errno::ConnectionReset => Errno::BrokenPipe,
                        errno => errno,
                    }));
                }
            }
        }
        self.is_flushing = false;
        if let Some(trailers) = self.end.take() {
            let request = Request::Finish { exchange: exchange.get(), trailers: &trailers };
            let finished = repeat(|| exchange.calls().call(&request));
            if let Err(errno) = finished {
                self.stage = Stage::Lost(Some(errno.into()));
                return Err(StreamError::Host(errno));
            }
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Failure> {
        if self.expected.is_some_and(|expected| expected != self.written) {
            let failure = Failure::size(self.size_error, self.written);
            self.lose(Some(failure.clone()));
            return Err(failure);
        }
        self.is_finished = true;
        self.end = Some(trailers.map_or_else(Vec::new, |trailers| {
            trailers.encoded(|fields| match fields.is_empty() {
                true => Vec::new(),
                false => abi::http::encode_trailers(&fields),
            })
        }));
        self.transmit();
        let delivered = self.deliver(false);
        match &self.stage {
            Stage::Lost(Some(failure)) => Err(failure.clone()),
            // Whoever was to get it is gone, which is no fault of the program.
            Stage::Lost(None) => Ok(()),
            Stage::Unsent | Stage::Held(_) | Stage::Sent(_) => match delivered {
                Err(StreamError::Http(failure)) => Err(failure),
                Ok(()) | Err(StreamError::Host(_)) => Ok(()),
            },
        }
    }

    /// Gives it up, incomplete as it is.
    fn lose(&mut self, failure: Option<Failure>) {
        match &self.stage {
            Stage::Held(head) => head.refuse(failure.as_ref()),
            Stage::Sent(exchange) if self.is_pending() || !self.is_finished => exchange.close(),
            Stage::Sent(_) | Stage::Unsent | Stage::Lost(_) => {}
        }
        if !matches!(self.stage, Stage::Lost(_)) {
            self.stage = Stage::Lost(failure);
        }
        self.bytes = Vec::new();
        self.end = None;
    }
}

impl Head {
    /// Gives it to the host, with the beginning of the body. Returns the exchange.
    pub(crate) fn transmit(&self, body: &[u8], finished: bool) -> Result<Arc<OwnedHandle>, Errno> {
        match self {
            Self::Response(exchange, head) => {
                let handle = exchange.get();
                let request = Request::Respond { exchange: handle, finished, head, body };
                repeat(|| exchange.calls().call(&request))?;
                Ok(Arc::clone(exchange))
            }
            Self::Request(calls, timeouts, head) => {
                let Timeouts { connect_ns, first_byte_ns, between_bytes_ns } = *timeouts;
                let request = Request::Fetch {
                    finished,
                    connect_ns,
                    first_byte_ns,
                    between_bytes_ns,
                    head,
                    body,
                };
                let handle = repeat(|| calls.call(&request))?;
                let handle = u32::try_from(handle).map_err(|_| Errno::Io)?;
                Ok(OwnedHandle::shared(calls, Handle(handle)))
            }
        }
    }

    /// There is nothing to send: an exchange that waits for a response is told why, and one that is not
    /// begun never is. Without a reason it is left unanswered.
    pub(crate) fn refuse(&self, failure: Option<&Failure>) {
        if let Self::Response(exchange, _) = self
            && let Some(failure) = failure
        {
            answer_by(exchange, failure);
        }
    }
}

/// Answers an incoming exchange with an error.
pub(crate) fn answer_by(exchange: &OwnedHandle, failure: &Failure) {
    let error = failure.encode();
    let request = Request::Fail { exchange: exchange.get(), error: &error };
    // If the host does not take it, the exchange is unanswered, which is another error.
    let _ = repeat(|| exchange.calls().call(&request));
}

/// Makes a call until it is not interrupted.
fn repeat(call: impl Fn() -> Result<u64, Errno>) -> Result<u64, Errno> {
    loop {
        match call() {
            Err(Errno::Interrupted) => {}
            result => return result,
        }
    }
}
