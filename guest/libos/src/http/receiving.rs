//! The body of a message that a program receives.
//!
//! Rule: bytes that came with the head are read first, and where they are the whole body no host call is
//! made for it. The stream of a body and the body itself share one of these: who reads on goes on where the
//! other stopped.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::http::{HttpError, split_trailers};
use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, Handle, Request};

use super::{Failure, Fields};
use crate::handle::OwnedHandle;

/// Most host calls in one attempt to get over what nobody wants to read. The next attempt goes on, and what
/// else the program waits for is looked at in between.
const DISCARDS_MAX: usize = 16;

/// A body that is received.
#[derive(Debug)]
pub(crate) struct Receiving {
    exchange: Arc<OwnedHandle>,
    /// The beginning.
    first: Vec<u8>,
    /// Nothing comes after it, not even trailers.
    is_complete: bool,
    /// Bytes of the beginning that were read.
    given: AtomicUsize,
    /// The host has said the end, or that there will be none.
    has_ended: AtomicBool,
}

impl Receiving {
    /// A body that begins with `first`.
    pub(crate) fn new(exchange: Arc<OwnedHandle>, first: Vec<u8>, is_complete: bool) -> Arc<Self> {
        let (given, has_ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { exchange, first, is_complete, given, has_ended })
    }

    /// Reads at most `len` bytes; none if there are none and not `wait`. `None` is the end.
    ///
    /// # Errors
    ///
    /// Why there is no end. After that there is.
    pub(crate) fn read(&self, len: u64, wait: bool) -> Result<Option<Vec<u8>>, Failure> {
        let given = self.given.load(Ordering::Relaxed);
        if let Some(rest) = self.first.get(given..).filter(|rest| !rest.is_empty()) {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            self.given.store(given + len, Ordering::Relaxed);
            return Ok(Some(rest.get(..len).unwrap_or_default().to_vec()));
        }
        if self.is_complete || self.has_ended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        loop {
            match self.exchange.calls().read(self.exchange.get(), len, wait) {
                Err(Errno::Interrupted) => {}
                Err(Errno::Again) => return Ok(Some(Vec::new())),
                Ok(bytes) if bytes.is_empty() => {
                    self.has_ended.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                Ok(bytes) => return Ok(Some(bytes)),
                Err(errno) => {
                    self.has_ended.store(true, Ordering::Relaxed);
                    return Err(self.ask_for_trailers().err().unwrap_or_else(|| errno.into()));
                }
            }
        }
    }

    /// The handle that polls as readable when a read makes progress; `None` if it does already.
    pub(crate) fn awaited(&self) -> Option<Handle> {
        let is_here = self.given.load(Ordering::Relaxed) < self.first.len();
        let is_over = self.is_complete || self.has_ended.load(Ordering::Relaxed);
        (!is_here && !is_over).then(|| self.exchange.get())
    }

    /// Reads over what is there. Returns whether that was the end.
    pub(crate) fn discard(&self) -> bool {
        self.given.store(self.first.len(), Ordering::Relaxed);
        for _ in 0..DISCARDS_MAX {
            match self.read(CALL_DATA_BYTES as u64, false) {
                Ok(Some(bytes)) if bytes.is_empty() => return false,
                Ok(Some(_)) => {}
                // What failed is asked for again with the trailers.
                Ok(None) | Err(_) => return true,
            }
        }
        false
    }

    /// How the body ended: with trailers, with none, or by a failure; nothing before it has.
    pub(crate) fn trailers(&self) -> Option<Result<Option<Fields>, Failure>> {
        if !self.discard() {
            return None;
        }
        if self.is_complete {
            return Some(Ok(None));
        }
        Some(self.ask_for_trailers())
    }

    /// Asks how the body ended, which it has.
    fn ask_for_trailers(&self) -> Result<Option<Fields>, Failure> {
        let request = Request::Trailers { exchange: self.exchange.get() };
        loop {
            let answer = self.exchange.calls().call_with(&request, |value, data| match value {
                0 => split_trailers(data).map(|(trailers, _)| {
                    Ok((!trailers.is_empty()).then(|| Fields::received(&trailers)))
                }),
                _ => HttpError::split_first(data).map(|(error, _)| Err(Failure::told(&error))),
            });
            return match answer {
                Ok(Some(ended)) => ended,
                Ok(None) => Err(Errno::Io.into()),
                Err(Errno::Interrupted) => continue,
                Err(errno) => Err(errno.into()),
            };
        }
    }
}
