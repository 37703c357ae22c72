//! Output that a stream has taken and the host has not: the part of a non-blocking write for which a
//! pipe or connection had no room.
//!
//! Invariant: pending bytes of a handle go out before anything else that is written to it by way of a
//! stream, before what it sends is ended, and the handle stays open until they are gone or its reader is.
//! They go out whenever the program waits for anything, whether their stream is still there or not.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Direction, Errno, Handle, Request};

use crate::handle::OwnedHandle;

/// Pending output by handle.
#[derive(Debug, Default)]
pub(crate) struct Outputs(BTreeMap<Handle, Pending>);

#[derive(Debug)]
struct Pending {
    handle: Arc<OwnedHandle>,
    bytes: Vec<u8>,
    /// Nothing more is sent after the bytes.
    ends: bool,
    /// Why the bytes have nowhere to go, which the next call of their stream is to be told.
    failed: Option<Errno>,
    /// Who reads is the peer of a connection.
    to_peer: bool,
}

impl Pending {
    fn of(handle: &Arc<OwnedHandle>, to_peer: bool) -> Self {
        let handle = Arc::clone(handle);
        Self { handle, bytes: Vec::new(), ends: false, failed: None, to_peer }
    }

    /// Whether nothing is left after the host was offered it.
    fn deliver(&mut self) -> Result<bool, Errno> {
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        match self.handle.write_all(0, &self.bytes, false) {
            Ok(written) if written < self.bytes.len() => {
                drop(self.bytes.drain(..written));
                Ok(false)
            }
            Err(Errno::Again) => Ok(false),
            Err(errno) => Err(errno),
            Ok(_) => self.end().map(|()| true),
        }
    }

    /// Delivers all of it, waiting for its reader.
    fn drain(self) -> Result<(), Errno> {
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        write_whole(&self.handle, &self.bytes)?;
        self.end()
    }

    fn end(&self) -> Result<(), Errno> {
        if self.ends { end(&self.handle) } else { Ok(()) }
    }
}

impl Outputs {
    /// Whether nothing of `handle` is pending after the host was offered it.
    ///
    /// # Errors
    ///
    /// The reader is gone or the device failed: the pending bytes have nowhere to go.
    pub(crate) fn deliver(&mut self, handle: Handle) -> Result<bool, Errno> {
        let Some(pending) = self.0.get_mut(&handle) else { return Ok(true) };
        let result = pending.deliver();
        if result != Ok(false) {
            self.0.remove(&handle);
        }
        result
    }

    /// Offers the host what is pending of `handle`, on behalf of nobody: whoever still has its stream is
    /// told later what it failed with.
    pub(crate) fn push_out(&mut self, handle: Handle) {
        let Some(pending) = self.0.get_mut(&handle) else { return };
        match pending.deliver() {
            Ok(false) => {}
            Err(errno) if Arc::strong_count(&pending.handle) > 1 => {
                pending.bytes = Vec::new();
                pending.failed = Some(errno);
            }
            Ok(true) | Err(_) => drop(self.0.remove(&handle)),
        }
    }

    /// The handles whose output waits for room.
    pub(crate) fn waiting(&mut self) -> impl Iterator<Item = Handle> {
        // A failure that nobody is left to be told of.
        self.0.retain(|_, pending| {
            pending.failed.is_none() || Arc::strong_count(&pending.handle) > 1
        });
        self.0.iter().filter(|(_, pending)| pending.failed.is_none()).map(|(handle, _)| *handle)
    }

    /// Delivers what is pending of `handle`, waiting for its reader.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub(crate) fn drain(&mut self, handle: Handle) -> Result<(), Errno> {
        self.0.remove(&handle).map_or(Ok(()), Pending::drain)
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

    /// Takes all of `bytes`: to the host as far as it takes them, the rest pending. `to_peer` tells that
    /// the handle is a connection.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub(crate) fn write(
        &mut self,
        handle: &Arc<OwnedHandle>,
        bytes: &[u8],
        to_peer: bool,
    ) -> Result<(), Errno> {
        let written = match self.deliver(handle.get())? {
            true => match handle.write_all(0, bytes, false) {
                Err(Errno::Again) => 0,
                result => result?,
            },
            false => 0,
        };
        if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let pending =
                self.0.entry(handle.get()).or_insert_with(|| Pending::of(handle, to_peer));
            pending.bytes.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Ends what a connection sends, after what is pending.
    ///
    /// # Errors
    ///
    /// The host's refusal to end it.
    pub(crate) fn end(&mut self, handle: &Arc<OwnedHandle>) -> Result<(), Errno> {
        match self.0.get_mut(&handle.get()) {
            Some(pending) => {
                pending.ends = true;
                Ok(())
            }
            None => end(handle),
        }
    }

    /// Whether something of `handle` is pending that its reader may still take.
    pub(crate) fn is_pending(&self, handle: Handle) -> bool {
        self.0.get(&handle).is_some_and(|pending| pending.failed.is_none())
    }

    /// Whether nothing is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something is pending of another handle than `handle`.
    pub(crate) fn is_pending_elsewhere(&self, handle: Handle) -> bool {
        self.0.keys().any(|other| *other != handle)
    }

    /// The connections whose output waits for room.
    pub(crate) fn connections(&self) -> impl Iterator<Item = Handle> {
        let waits = |pending: &Pending| pending.to_peer && pending.failed.is_none();
        self.0.iter().filter(move |(_, pending)| waits(pending)).map(|(handle, _)| *handle)
    }

    /// Gives up what connections have not taken.
    pub(crate) fn abandon_connections(&mut self) {
        self.0.retain(|_, pending| !pending.to_peer);
    }

    /// Delivers everything, waiting for readers.
    pub(crate) fn drain_all(&mut self) {
        while let Some((_, pending)) = self.0.pop_first() {
            // A reader that is gone takes nothing more; there is nobody left to tell.
            let _ = pending.drain();
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

/// Ends what a connection sends (`SHUT_WR` of shutdown(2)).
fn end(handle: &OwnedHandle) -> Result<(), Errno> {
    let request = Request::Shutdown { handle: handle.get(), direction: Direction::Send };
    handle.calls().call(&request)?;
    Ok(())
}
