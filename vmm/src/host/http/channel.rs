//! What an exchange is made of: two bodies and a response head, between the thread of the guest and a task
//! of this process.
//!
//! Rule: all of it lies under one lock, which nobody holds while it waits, wakes or copies to anybody else.
//! Either side can go at any moment. What it had not finished then ends by an error, never as if it were
//! whole, and whoever waits for it is woken.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use abi::http::ErrorCode;
use http::{HeaderMap, Response};

use super::super::bell::Bell;
use super::{Failure, Unanswered};

/// Most bytes of a body that wait in one direction: as many as a socket has room for, so that neither
/// side waits for the other at each step.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// An exchange.
pub(super) struct Channel(Mutex<State>);

/// What is under the lock.
pub(super) struct State {
    /// The body that the guest reads.
    pub(super) inbound: Body,
    /// The body that the guest writes.
    pub(super) outbound: Body,
    pub(super) answer: Answer,
    /// The guest was told of it ([`Answer::Given`] or why there is none).
    pub(super) is_head_told: bool,
    /// The task that waits for the answer, or for the guest to be gone.
    pub(super) watcher: Parked,
    /// The bell of the guest, once there is a guest.
    pub(super) bell: Option<Arc<Bell>>,
    ring: bool,
    guest_is_gone: bool,
}

/// The response of an exchange.
pub(super) enum Answer {
    Awaited,
    Given(Response<()>),
    None(Unanswered),
    /// The task has it.
    Taken,
}

/// A body on its way.
pub(super) struct Body {
    /// What was written and not yet read.
    pub(super) bytes: VecDeque<u8>,
    /// How it ended, after those.
    pub(super) end: Option<Result<HeaderMap, Failure>>,
    /// What the head said is still to come (`Content-Length`).
    pub(super) owed: Option<u64>,
    pub(super) reader: Reader,
    /// The reader has looked for more than there was.
    pub(super) is_wanted: bool,
    /// The task that writes or reads it.
    pub(super) task: Parked,
}

/// Who reads a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    /// There is nobody to read it, and nobody misses it.
    Indifferent,
    Gone,
}

/// A task that may be waiting.
#[derive(Default)]
pub(super) struct Parked {
    waker: Option<Waker>,
    wake: bool,
}

impl Channel {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            inbound: Body::new(),
            outbound: Body::new(),
            answer: Answer::Awaited,
            is_head_told: false,
            watcher: Parked::default(),
            bell: None,
            ring: false,
            guest_is_gone: false,
        })))
    }

    /// Does something to the exchange, and then wakes whom that concerns.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // What a panic left is as whole as what anything else left: each field stands for itself.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        let State { inbound, outbound, watcher, .. } = &mut *state;
        let wakers = [inbound.task.take(), outbound.task.take(), watcher.take()];
        let ring = std::mem::take(&mut state.ring);
        let bell = state.bell.clone().filter(|_| ring);
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        if let Some(bell) = bell {
            bell.ring();
        }
        result
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in it is between guest and client.
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl State {
    /// The guest is to look again.
    pub(super) fn ring(&mut self) {
        self.ring = true;
    }

    pub(super) fn guest_is_gone(&self) -> bool {
        self.guest_is_gone
    }

    /// The guest is gone, or has given the exchange up.
    pub(super) fn leave_as_guest(&mut self) {
        self.guest_is_gone = true;
        self.bell = None;
        if matches!(self.answer, Answer::Awaited) {
            self.answer = Answer::None(Unanswered::Closed);
        }
        self.outbound.break_off(ErrorCode::ConnectionTerminated.into());
        self.inbound.abandon();
        self.watcher.wake();
    }
}

impl Body {
    fn new() -> Self {
        Self {
            bytes: VecDeque::new(),
            end: None,
            owed: None,
            reader: Reader::There,
            is_wanted: false,
            task: Parked::default(),
        }
    }

    /// How many bytes can be written.
    pub(super) fn room(&self) -> usize {
        BODY_BYTES_MAX.saturating_sub(self.bytes.len())
    }

    /// Takes all of `bytes`, whether or not there is room.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.reader == Reader::There {
            self.bytes.extend(bytes);
            self.task.wake();
        }
        self.owed = self.owed.map(|owed| owed.saturating_sub(bytes.len() as u64));
    }

    /// Takes as many bytes as there are into `buffer`.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let len = buffer.len().min(self.bytes.len());
        let (first, second) = self.bytes.as_slices();
        let split = first.len().min(len);
        buffer[..split].copy_from_slice(&first[..split]);
        buffer[split..len].copy_from_slice(&second[..len - split]);
        self.bytes.drain(..len);
        len
    }

    /// Ends it by an error, unless it has ended.
    pub(super) fn break_off(&mut self, failure: Failure) {
        if self.end.is_none() {
            self.end = Some(Err(failure));
        }
        self.task.wake();
    }

    /// Nobody reads it.
    pub(super) fn abandon(&mut self) {
        if self.reader == Reader::There {
            self.reader = Reader::Gone;
        }
        self.bytes = VecDeque::new();
        self.task.wake();
    }
}

impl Parked {
    /// The task of `cx` waits.
    pub(super) fn park(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    /// Has it woken once the lock is released.
    pub(super) fn wake(&mut self) {
        self.wake = true;
    }

    fn take(&mut self) -> Option<Waker> {
        if std::mem::take(&mut self.wake) { self.waker.take() } else { None }
    }
}
