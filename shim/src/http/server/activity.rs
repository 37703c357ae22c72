//! What a connection is doing, and how long it may.
//!
//! Rule: a connection with a request in flight is the request's; any other has a deadline. It is that of
//! the header section which has begun, or of a connection that brought none so far, or else that of an idle
//! connection. The one timer of a connection is set when it fires, not when a deadline moves.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Mutex<Phase>,
}

#[derive(Debug)]
struct Phase {
    requests: usize,
    /// There is no request since then.
    idle_since: Instant,
    /// A header section began then.
    head_since: Option<Instant>,
    has_served: bool,
    is_http2: bool,
    is_aborted: bool,
    is_to_be_reset: bool,
    has_unread_body: bool,
    /// Who is to be told of the end of the last request.
    waker: Option<Waker>,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            phase: Mutex::new(Phase {
                requests: 0,
                idle_since: Instant::now(),
                head_since: None,
                has_served: false,
                is_http2: false,
                is_aborted: false,
                is_to_be_reset: false,
                has_unread_body: false,
                waker: None,
            }),
        })
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        // Each field stands for itself, whatever a panic left undone.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was read.
    pub(super) fn note_read(&self) {
        let mut phase = self.phase();
        if phase.requests == 0 && phase.head_since.is_none() {
            phase.head_since = Some(Instant::now());
        }
    }

    /// A request has come, and is in flight for as long as what is returned is there.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> InFlight {
        let mut phase = self.phase();
        phase.requests += 1;
        phase.is_http2 = is_http2;
        InFlight(self.clone())
    }

    /// The connection is to end at once.
    pub(super) fn abort(&self) {
        let mut phase = self.phase();
        phase.is_aborted = true;
        let waker = phase.waker.take();
        drop(phase);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The end of the connection is to be a reset: an orderly one would say that the response is whole.
    pub(super) fn reset_at_end(&self) {
        self.phase().is_to_be_reset = true;
    }

    pub(super) fn is_to_be_reset(&self) -> bool {
        self.phase().is_to_be_reset
    }

    /// A request was answered before its body was read.
    pub(super) fn note_unread_body(&self) {
        self.phase().has_unread_body = true;
    }

    pub(super) fn has_unread_body(&self) -> bool {
        self.phase().has_unread_body
    }

    /// Is done when the connection has been at something for too long.
    pub(super) fn overdue(self: &Arc<Self>, limits: &Arc<Limits>) -> Overdue {
        let (activity, limits) = (self.clone(), limits.clone());
        let timer = Box::pin(sleep_until(Instant::now() + limits.header_timeout));
        Overdue { activity, limits, timer, closing_since: None }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    /// What its connection is doing.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut phase = self.0.phase();
        phase.requests -= 1;
        let mut waker = None;
        if phase.requests == 0 {
            phase.idle_since = Instant::now();
            phase.head_since = None;
            phase.has_served = true;
            waker = phase.waker.take();
        }
        drop(phase);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The deadline of a connection.
#[derive(Debug)]
pub(super) struct Overdue {
    activity: Arc<Activity>,
    limits: Arc<Limits>,
    timer: Pin<Box<Sleep>>,
    closing_since: Option<Instant>,
}

impl Overdue {
    /// The connection was asked to close. From here on it has less time to be idle.
    pub(super) fn begin_closing(&mut self) {
        self.closing_since = Some(Instant::now());
    }

    fn deadline(&self, phase: &Phase) -> Option<Instant> {
        let Limits { header_timeout, idle_timeout, .. } = *self.limits;
        if phase.is_aborted {
            return Some(Instant::now());
        }
        if phase.requests > 0 {
            return None;
        }
        let idle = match (phase.head_since, self.closing_since) {
            // What comes between the requests of HTTP/2 is not always a head.
            (Some(head), None) if !phase.is_http2 => head + header_timeout,
            (_, Some(closing)) => closing.max(phase.idle_since) + header_timeout,
            (_, None) if phase.has_served => phase.idle_since + idle_timeout,
            (_, None) => phase.idle_since + header_timeout,
        };
        Some(idle)
    }
}

impl Future for Overdue {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let activity = self.activity.clone();
            let mut phase = activity.phase();
            let Some(deadline) = self.deadline(&phase) else {
                phase.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            drop(phase);
            if self.timer.is_elapsed() || self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
