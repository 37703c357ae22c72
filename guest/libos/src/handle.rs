//! A capability handle that is given back when nobody uses it any more.

use alloc::sync::Arc;

use abi::{Errno, Handle, Request, poll_events};

use crate::call::Calls;
use crate::poll::wait_for;

/// Owns a handle: closes it on the host when the last owner is gone.
#[derive(Debug)]
pub(crate) struct OwnedHandle {
    handle: Handle,
    calls: Calls,
}

impl OwnedHandle {
    /// Takes a handle that nothing else closes.
    pub(crate) fn shared(calls: &Calls, handle: Handle) -> Arc<Self> {
        Arc::new(Self { handle, calls: calls.clone() })
    }

    /// The handle, for requests.
    pub(crate) fn get(&self) -> Handle {
        self.handle
    }

    /// The way to the host that knows it.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Writes all of `data` from `offset` on, or at the end for [`abi::APPEND`], or to a stream, waiting
    /// for its reader. Returns the bytes written: all, or those before an error.
    ///
    /// # Errors
    ///
    /// The host's refusal, if nothing was written.
    pub(crate) fn write_all(&self, offset: u64, data: &[u8], wait: bool) -> Result<usize, Errno> {
        let mut written = 0;
        while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
            let offset = match offset {
                abi::APPEND => abi::APPEND,
                offset => offset.checked_add(written as u64).ok_or(Errno::FileTooLarge)?,
            };
            let result = match self.calls.write(self.handle, offset, rest) {
                // What takes nothing and says nothing would keep us here for ever.
                Ok(0) => Err(Errno::Io),
                Err(Errno::Interrupted) => continue,
                Err(Errno::Again) if wait => {
                    wait_for(self, poll_events::WRITE)?;
                    continue;
                }
                result => result,
            };
            match result {
                Ok(count) => written += count,
                Err(errno) if written == 0 => return Err(errno),
                Err(_) => break, // the next call meets it again
            }
        }
        Ok(written)
    }
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        // The host declines only what is not open, and then there is nothing to give back.
        let _ = self.calls.call(&Request::Close { handle: self.handle });
    }
}
