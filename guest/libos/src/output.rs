//! Output that a stream has taken and the host has not: the part of a non-blocking write for which a
//! pipe had no room.
//!
//! Invariant: pending bytes of a handle go out before anything else that is written to it by way of a
//! stream, and the handle stays open until they are gone or its reader is.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Handle};

use crate::handle::OwnedHandle;

/// Pending output by handle.
#[derive(Debug, Default)]
pub(crate) struct Outputs(BTreeMap<Handle, Pending>);

#[derive(Debug)]
struct Pending {
    handle: Arc<OwnedHandle>,
    bytes: Vec<u8>,
}

impl Outputs {
    /// Whether nothing of `handle` is pending after the host was offered it.
    ///
    /// # Errors
    ///
    /// The reader is gone or the device failed: the pending bytes have nowhere to go.
    pub(crate) fn deliver(&mut self, handle: Handle) -> Result<bool, Errno> {
        let Some(pending) = self.0.get_mut(&handle) else { return Ok(true) };
        let (owner, bytes) = (&pending.handle, &mut pending.bytes);
        let result = owner.write_all(0, bytes, false);
        match result {
            Ok(written) if written < bytes.len() => {
                drop(bytes.drain(..written));
                Ok(false)
            }
            Err(Errno::Again) => Ok(false),
            result => {
                self.0.remove(&handle);
                result.map(|_| true)
            }
        }
    }

    /// Delivers what is pending of `handle`, waiting for its reader.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub(crate) fn drain(&mut self, handle: Handle) -> Result<(), Errno> {
        let Some(Pending { handle, bytes }) = self.0.remove(&handle) else { return Ok(()) };
        write_whole(&handle, &bytes)
    }

    /// Writes all of `bytes` after what is pending, waiting for the reader.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub(crate) fn write_through(
        &mut self,
        handle: &OwnedHandle,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        self.drain(handle.get())?;
        write_whole(handle, bytes)
    }

    /// Takes all of `bytes`: to the host as far as it takes them, the rest pending.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub(crate) fn write(&mut self, handle: &Arc<OwnedHandle>, bytes: &[u8]) -> Result<(), Errno> {
        let written = match self.deliver(handle.get())? {
            true => match handle.write_all(0, bytes, false) {
                Err(Errno::Again) => 0,
                result => result?,
            },
            false => 0,
        };
        if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let pending = self
                .0
                .entry(handle.get())
                .or_insert_with(|| Pending { handle: Arc::clone(handle), bytes: Vec::new() });
            pending.bytes.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Whether something of `handle` is pending.
    pub(crate) fn is_pending(&self, handle: Handle) -> bool {
        self.0.contains_key(&handle)
    }

    /// Delivers everything, waiting for readers.
    pub(crate) fn drain_all(&mut self) {
        while let Some((_, Pending { handle, bytes })) = self.0.pop_first() {
            // A reader that is gone takes nothing more; there is nobody left to tell.
            let _ = write_whole(&handle, &bytes);
        }
    }
}

/// Writes all bytes to a stream. What an error cuts short meets it again with the rest.
fn write_whole(handle: &OwnedHandle, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = handle.write_all(0, bytes, true)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
