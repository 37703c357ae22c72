//! The body of a response, on its way to a client.
//!
//! Rule: the end of a body is its end only if the program said so. A client that takes nothing of what waits
//! for it does not keep the program, nor its place.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use abi::http::ErrorCode;
use hyper::Version;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use vmm::host::http::{BodyReader, Failure, Part};

use super::Limits;
use super::activity::{Activity, InFlight};

/// A body.
#[derive(Debug)]
pub(super) enum ResponseBody {
    /// A message of ours.
    Text(&'static str),
    /// A program's.
    Guest(GuestBody),
}

/// The body that a program writes.
#[derive(Debug)]
pub(super) struct GuestBody {
    transfer: Arc<Transfer>,
    watch: Option<AbortHandle>,
    is_over: bool,
}

/// What the body and the watch over it share.
#[derive(Debug)]
struct Transfer {
    state: Mutex<State>,
    activity: Arc<Activity>,
    version: Version,
}

#[derive(Debug)]
struct State {
    /// `None` once it was given up.
    reader: Option<(BodyReader, InFlight)>,
    /// Something was taken since the watch looked.
    has_moved: bool,
    /// Something waited to be taken when the watch looked.
    has_waited: bool,
}

impl GuestBody {
    /// The body that `reader` reads, up to `deadline`.
    pub(super) fn new(
        reader: BodyReader,
        in_flight: InFlight,
        version: Version,
        limits: &Limits,
        deadline: Option<Instant>,
    ) -> Self {
        // HTTP/1 takes at once what is there.
        let is_taken = reader.has_ended() && version < Version::HTTP_2;
        let activity = in_flight.activity().clone();
        let state = Mutex::new(State {
            reader: Some((reader, in_flight)),
            has_moved: false,
            has_waited: false,
        });
        let transfer = Arc::new(Transfer { state, activity, version });
        let watch = (!is_taken).then(|| {
            let watch = watch(Arc::downgrade(&transfer), limits.write_timeout, deadline);
            tokio::spawn(watch).abort_handle()
        });
        Self { transfer, watch, is_over: false }
    }
}

impl Transfer {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each field stands for itself, whatever a panic left undone.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something waits that waited when this was asked before, and nothing was taken in between.
    fn is_stuck(&self) -> bool {
        let mut state = self.state();
        let has_moved = std::mem::take(&mut state.has_moved);
        let waits = state.reader.as_ref().is_some_and(|(reader, _)| reader.has_bytes());
        let has_waited = std::mem::replace(&mut state.has_waited, waits);
        !has_moved && waits && has_waited
    }

    /// Breaks the body off.
    fn give_up(&self) {
        let reader = self.state().reader.take();
        drop(reader);
        if self.version < Version::HTTP_2 {
            // Whoever does not read does not see a body end, either.
            self.break_connection();
        }
    }

    fn break_connection(&self) {
        if self.version < Version::HTTP_11 {
            // Nothing but the end of the connection tells the end of the body.
            self.activity.reset_at_end();
        }
        self.activity.abort();
    }
}

/// Sees to it that the body goes on.
async fn watch(transfer: Weak<Transfer>, write_timeout: Duration, deadline: Option<Instant>) {
    loop {
        let look = Instant::now() + write_timeout;
        sleep_until(deadline.map_or(look, |deadline| look.min(deadline))).await;
        let Some(transfer) = transfer.upgrade() else { return };
        let is_late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if is_late || transfer.is_stuck() {
            transfer.give_up();
            return;
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(match std::mem::take(text) {
                "" => None,
                text => Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
            }),
            Self::Guest(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Guest(body) => body.is_over || body.bytes_left() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = match self {
            Self::Text(text) => Some(text.len() as u64),
            Self::Guest(body) => body.bytes_left(),
        };
        bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl GuestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let mut state = self.transfer.state();
        let part = match &mut state.reader {
            Some((reader, _)) => ready!(reader.poll_read(cx)),
            None => Err(ErrorCode::ConnectionWriteTimeout.into()),
        };
        state.has_moved = true;
        drop(state);
        Poll::Ready(match part {
            Ok(Part::Data(bytes)) => Some(Ok(Frame::data(bytes.into()))),
            Ok(Part::End(trailers)) => {
                self.is_over = true;
                (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
            }
            Err(failure) => {
                self.is_over = true;
                if self.transfer.version < Version::HTTP_2 {
                    self.transfer.break_connection();
                }
                Some(Err(failure))
            }
        })
    }

    /// How many bytes are to come, if that is certain.
    fn bytes_left(&self) -> Option<u64> {
        self.transfer.state().reader.as_ref().and_then(|(reader, _)| reader.bytes_left())
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}
