//! Byte streams over handles: where WASI 0.2's streams read and write.
//!
//! A stream over a file keeps its position here; a pipe, terminal or socket is read and written where it
//! stands and may have to wait.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, poll_events};

use crate::ahead::ReadAhead;
use crate::handle::OwnedHandle;
use crate::output::Outputs;
use crate::poll::Pollable;

/// Most bytes that one read returns or one write takes. They pass through the component's own memory as
/// a list, which has to be allocated there.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// Reads at most `len` bytes of a file.
pub(crate) fn read_file(
    ahead: &mut ReadAhead,
    handle: &OwnedHandle,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(CHUNK_BYTES);
    ahead.read(handle, offset, len, |piece| bytes = piece.to_vec())?;
    Ok(bytes)
}

/// An input stream.
#[derive(Debug)]
pub struct InputStream {
    handle: Arc<OwnedHandle>,
    /// The position in a file; `None` for what has none.
    offset: Option<u64>,
    /// Whether the program has shut the connection's direction down.
    shut: Option<Arc<AtomicBool>>,
}

impl InputStream {
    /// A file from `offset` on.
    pub(crate) fn of_file(handle: Arc<OwnedHandle>, offset: u64) -> Self {
        Self { handle, offset: Some(offset), shut: None }
    }

    /// A pipe, terminal or whatever standard input is.
    pub(crate) fn of_pipe(handle: Arc<OwnedHandle>) -> Self {
        Self { handle, offset: None, shut: None }
    }

    /// What a connected socket receives, up to its end or until the program has set `shut`.
    pub(crate) fn of_socket(handle: Arc<OwnedHandle>, shut: &Arc<AtomicBool>) -> Self {
        Self { handle, offset: None, shut: Some(Arc::clone(shut)) }
    }

    /// Reads at most `len` bytes; none if there are none and not `wait`. `None` is the end.
    pub(crate) fn read(
        &mut self,
        ahead: &mut ReadAhead,
        len: u64,
        wait: bool,
    ) -> Result<Option<Vec<u8>>, Errno> {
        if is_shut(self.shut.as_ref()) {
            return Ok(None);
        }
        if len == 0 {
            return Ok(Some(Vec::new()));
        }
        let len = len.min(CHUNK_BYTES as u64);
        let bytes = loop {
            let result = match self.offset {
                Some(offset) => read_file(ahead, &self.handle, offset, len),
                None => self.handle.calls().read(self.handle.get(), len, wait),
            };
            match result {
                Err(Errno::Interrupted) => {}
                Err(Errno::Again) => return Ok(Some(Vec::new())),
                result => break result?,
            }
        };
        if let Some(offset) = &mut self.offset {
            *offset = offset.saturating_add(bytes.len() as u64);
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// Ready when a read makes progress.
    pub(crate) fn pollable(&self) -> Pollable {
        match self.offset {
            None => Pollable::Handle(self.handle.get(), poll_events::READ),
            Some(_) => Pollable::Ready,
        }
    }
}

/// An output stream.
#[derive(Debug)]
pub struct OutputStream {
    handle: Arc<OwnedHandle>,
    place: Place,
    /// Whether the program has shut the connection's direction down.
    shut: Option<Arc<AtomicBool>>,
}

/// Where an output stream writes.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Where a pipe, terminal or whatever standard output is stands.
    Pipe,
    /// At this offset of a file, and on from there.
    At(u64),
    /// At the end of a file.
    End,
}

impl OutputStream {
    /// A file from `offset` on.
    pub(crate) fn of_file(handle: Arc<OwnedHandle>, offset: u64) -> Self {
        Self { handle, place: Place::At(offset), shut: None }
    }

    /// The end of a file.
    pub(crate) fn at_end(handle: Arc<OwnedHandle>) -> Self {
        Self { handle, place: Place::End, shut: None }
    }

    /// A pipe, terminal or whatever standard output is.
    pub(crate) fn of_pipe(handle: Arc<OwnedHandle>) -> Self {
        Self { handle, place: Place::Pipe, shut: None }
    }

    /// What a connected socket sends, until the program has set `shut`.
    pub(crate) fn of_socket(handle: Arc<OwnedHandle>, shut: &Arc<AtomicBool>) -> Self {
        Self { handle, place: Place::Pipe, shut: Some(Arc::clone(shut)) }
    }

    /// Bytes that `write` takes; 0 while output is pending.
    ///
    /// # Errors
    ///
    /// [`Errno::BrokenPipe`] after the end, when nothing is pending any more.
    pub(crate) fn permit(&self, outputs: &mut Outputs) -> Result<u64, Errno> {
        match self.place {
            Place::Pipe if !outputs.deliver(self.handle.get())? => Ok(0),
            Place::Pipe if is_shut(self.shut.as_ref()) => Err(Errno::BrokenPipe),
            Place::Pipe | Place::At(_) | Place::End => Ok(CHUNK_BYTES as u64),
        }
    }

    /// Writes all bytes; of a pipe's, what it has no room for is pending.
    pub(crate) fn write(&mut self, outputs: &mut Outputs, mut bytes: &[u8]) -> Result<(), Errno> {
        if is_shut(self.shut.as_ref()) {
            return Err(Errno::BrokenPipe);
        }
        while !bytes.is_empty() {
            let written = match &mut self.place {
                Place::Pipe => return outputs.write(&self.handle, bytes),
                Place::End => self.handle.append_all(bytes)?.0,
                Place::At(offset) => {
                    let written = self.handle.write_all(*offset, bytes, true)?;
                    *offset = offset.saturating_add(written as u64);
                    written
                }
            };
            // What an error cut short meets it again, as the first byte of the next round.
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes all bytes after what is pending; they are with the host when it returns.
    pub(crate) fn write_through(
        &mut self,
        outputs: &mut Outputs,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        match self.place {
            Place::Pipe if is_shut(self.shut.as_ref()) => self.drain(outputs),
            Place::Pipe => outputs.write_through(&self.handle, bytes),
            Place::At(_) | Place::End => self.write(outputs, bytes),
        }
    }

    /// Waits until nothing is pending.
    ///
    /// # Errors
    ///
    /// As [`permit`](Self::permit).
    pub(crate) fn drain(&self, outputs: &mut Outputs) -> Result<(), Errno> {
        if let Place::Pipe = self.place {
            outputs.drain(self.handle.get())?;
        }
        if is_shut(self.shut.as_ref()) { Err(Errno::BrokenPipe) } else { Ok(()) }
    }

    /// Ready when the stream takes bytes.
    pub(crate) fn pollable(&self) -> Pollable {
        match self.place {
            Place::Pipe => Pollable::Output(self.handle.get()),
            Place::At(_) | Place::End => Pollable::Ready,
        }
    }
}

fn is_shut(shut: Option<&Arc<AtomicBool>>) -> bool {
    shut.is_some_and(|shut| shut.load(Ordering::Relaxed))
}
