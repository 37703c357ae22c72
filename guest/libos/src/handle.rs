//! A capability handle that is given back when nobody uses it any more.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Handle, Request};

use crate::call::Calls;

/// Owns a handle: closes it on the host when the last owner is gone.
#[derive(Debug)]
pub(crate) struct OwnedHandle {
    handle: Handle,
    calls: Calls,
    is_closed: AtomicBool,
    /// The host closes it with the call.
    is_of_call: bool,
}

/// A number that no handle has.
const NO_HANDLE: Handle = Handle(u32::MAX);

impl OwnedHandle {
    /// Takes a handle that nothing else closes.
    pub(crate) fn shared(calls: &Calls, handle: Handle) -> Arc<Self> {
        Arc::new(Self::new(calls, handle, false))
    }

    /// Takes a handle that the host closes when the call ends, if nothing else does before.
    pub(crate) fn of_call(calls: &Calls, handle: Handle) -> Arc<Self> {
        Arc::new(Self::new(calls, handle, true))
    }

    fn new(calls: &Calls, handle: Handle, is_of_call: bool) -> Self {
        Self { handle, calls: calls.clone(), is_closed: AtomicBool::new(false), is_of_call }
    }

    /// The handle, for requests; one that is not open, if it was closed.
    pub(crate) fn get(&self) -> Handle {
        if self.is_closed.load(Ordering::Relaxed) { NO_HANDLE } else { self.handle }
    }

    /// Its call is over: whoever has it has nothing any more.
    pub(crate) fn end_with_call(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Closes it, whoever else has it.
    pub(crate) fn close(&self) {
        if !self.is_closed.swap(true, Ordering::Relaxed) {
            // The host declines only what is not open, and then there is nothing to give back.
            let _ = self.calls.call(&Request::Close { handle: self.handle });
        }
    }

    /// The way to the host that knows it.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Writes all of `data` from `offset` on, or to a stream, waiting for its reader if `wait`. Returns
    /// the bytes written: all, or those before an error.
    ///
    /// # Errors
    ///
    /// The host's refusal, if nothing was written.
    pub(crate) fn write_all(&self, offset: u64, data: &[u8], wait: bool) -> Result<usize, Errno> {
        self.repeat(data, |done, rest| {
            let offset = offset.checked_add(done as u64).ok_or(Errno::FileTooLarge)?;
            self.calls.write(self.get(), offset, rest, wait)
        })
    }

    /// Writes all of `data` at the end of a file. Returns the bytes written, and where they end.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Self::write_all).
    pub(crate) fn append_all(&self, data: &[u8]) -> Result<(usize, u64), Errno> {
        let mut file_end = 0;
        let written = self.repeat(data, |_, rest| {
            let (written, end) = self.calls.append(self.get(), rest)?;
            file_end = end;
            Ok(written)
        })?;
        Ok((written, file_end))
    }

    /// Makes the calls that write `data`: `write` is given how much is done and what remains.
    fn repeat(
        &self,
        data: &[u8],
        mut write: impl FnMut(usize, &[u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let result = match write(done, rest) {
                // What takes nothing and says nothing would keep us here for ever.
                Ok(0) => Err(Errno::Io),
                Err(Errno::Interrupted) => continue,
                result => result,
            };
            match result {
                Ok(count) => done += count,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break, // the next call meets it again
            }
        }
        Ok(done)
    }
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        if !self.is_of_call {
            self.close();
        }
    }
}
