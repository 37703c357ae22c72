//! Byte streams over handles: where WASI 0.2's streams read and write.
//!
//! A stream over a file keeps its position here; a pipe, terminal or socket is read and written where it
//! stands and may have to wait. A body of HTTP is read and written as its exchange has it.
//!
//! Rule: before a stream waits, the host gets what is held back of the bodies that the program sends.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, poll_events};

use crate::ahead::ReadAhead;
use crate::handle::OwnedHandle;
use crate::http::Failure;
use crate::http::receiving::Receiving;
use crate::http::sending::BodyId;
use crate::poll::{Pollable, readiness};
use crate::process::Process;

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

/// How an operation on a stream fails.
#[derive(Clone, Debug)]
pub(crate) enum StreamError {
    /// The host declined it.
    Host(Errno),
    /// The exchange that the stream belongs to failed.
    Http(Failure),
}

impl From<Errno> for StreamError {
    fn from(errno: Errno) -> Self {
        Self::Host(errno)
    }
}

/// An input stream.
#[derive(Debug)]
pub struct InputStream {
    source: Source,
    /// Whether the program has shut the connection's direction down.
    shut: Option<Arc<AtomicBool>>,
}

/// Where an input stream reads.
#[derive(Debug)]
enum Source {
    /// In a file, from an offset on.
    File(Arc<OwnedHandle>, u64),
    /// Where a pipe, terminal or whatever standard input is stands.
    Pipe(Arc<OwnedHandle>),
    /// In the body of a message.
    Body(Arc<Receiving>),
}

impl InputStream {
    /// A file from `offset` on.
    pub(crate) fn of_file(handle: Arc<OwnedHandle>, offset: u64) -> Self {
        Self { source: Source::File(handle, offset), shut: None }
    }

    /// A pipe, terminal or whatever standard input is.
    pub(crate) fn of_pipe(handle: Arc<OwnedHandle>) -> Self {
        Self { source: Source::Pipe(handle), shut: None }
    }

    /// What a connected socket receives, up to its end or until the program has set `shut`.
    pub(crate) fn of_socket(handle: Arc<OwnedHandle>, shut: &Arc<AtomicBool>) -> Self {
        Self { source: Source::Pipe(handle), shut: Some(Arc::clone(shut)) }
    }

    /// The body of a message.
    pub(crate) fn of_body(body: Arc<Receiving>) -> Self {
        Self { source: Source::Body(body), shut: None }
    }

    /// Reads at most `len` bytes; none if there are none and not `wait`. `None` is the end.
    pub(crate) fn read(
        &mut self,
        process: &mut Process,
        len: u64,
        wait: bool,
    ) -> Result<Option<Vec<u8>>, StreamError> {
        if is_shut(self.shut.as_ref()) {
            return Ok(None);
        }
        if len == 0 {
            return Ok(Some(Vec::new()));
        }
        let len = len.min(CHUNK_BYTES as u64);
        if wait && self.may_wait() {
            process.bodies.release();
        }
        let bytes = match &mut self.source {
            Source::File(handle, offset) => {
                let bytes = loop {
                    match read_file(&mut process.ahead, handle, *offset, len) {
                        Err(Errno::Interrupted) => {}
                        result => break result?,
                    }
                };
                *offset = offset.saturating_add(bytes.len() as u64);
                return Ok((!bytes.is_empty()).then_some(bytes));
            }
            Source::Pipe(handle) => loop {
                match handle.calls().read(handle.get(), len, wait) {
                    Err(Errno::Interrupted) => {}
                    Err(Errno::Again) => break Some(Vec::new()),
                    result => break Some(result?).filter(|bytes| !bytes.is_empty()),
                }
            },
            Source::Body(body) => body.read(len, wait).map_err(StreamError::Http)?,
        };
        if bytes.as_ref().is_some_and(Vec::is_empty) {
            // Whoever asks again and again waits, too.
            process.bodies.release();
        }
        Ok(bytes)
    }

    fn may_wait(&self) -> bool {
        match &self.source {
            Source::File(..) => false,
            Source::Pipe(_) => true,
            Source::Body(body) => body.awaited().is_some(),
        }
    }

    /// Ready when a read makes progress.
    pub(crate) fn pollable(&self) -> Pollable {
        match &self.source {
            Source::File(..) => Pollable::Ready,
            Source::Pipe(handle) => Pollable::Handle(handle.get(), poll_events::READ),
            Source::Body(body) => Pollable::Received(Arc::clone(body)),
        }
    }
}

/// An output stream.
#[derive(Debug)]
pub struct OutputStream {
    place: Place,
    /// Whether the program has shut the connection's direction down.
    shut: Option<Arc<AtomicBool>>,
}

/// Where an output stream writes.
#[derive(Debug)]
enum Place {
    /// Where a pipe, terminal or whatever standard output is stands.
    Pipe(Arc<OwnedHandle>),
    /// At this offset of a file, and on from there.
    At(Arc<OwnedHandle>, u64),
    /// At the end of a file.
    End(Arc<OwnedHandle>),
    /// In the body of a message.
    Body(BodyId),
}

impl OutputStream {
    /// A file from `offset` on.
    pub(crate) fn of_file(handle: Arc<OwnedHandle>, offset: u64) -> Self {
        Self { place: Place::At(handle, offset), shut: None }
    }

    /// The end of a file.
    pub(crate) fn at_end(handle: Arc<OwnedHandle>) -> Self {
        Self { place: Place::End(handle), shut: None }
    }

    /// A pipe, terminal or whatever standard output is.
    pub(crate) fn of_pipe(handle: Arc<OwnedHandle>) -> Self {
        Self { place: Place::Pipe(handle), shut: None }
    }

    /// What a connected socket sends, until the program has set `shut`.
    pub(crate) fn of_socket(handle: Arc<OwnedHandle>, shut: &Arc<AtomicBool>) -> Self {
        Self { place: Place::Pipe(handle), shut: Some(Arc::clone(shut)) }
    }

    /// The body of a message.
    pub(crate) fn of_body(body: BodyId) -> Self {
        Self { place: Place::Body(body), shut: None }
    }

    /// Bytes that `write` takes; 0 while output is pending.
    ///
    /// # Errors
    ///
    /// [`Errno::BrokenPipe`] after the end, when nothing is pending any more.
    pub(crate) fn permit(&self, process: &mut Process) -> Result<u64, StreamError> {
        let permit = match &self.place {
            Place::Pipe(handle) if !process.outputs.deliver(handle.get())? => 0,
            Place::Pipe(_) if is_shut(self.shut.as_ref()) => return Err(Errno::BrokenPipe.into()),
            Place::Body(body) => process.bodies.permit(*body)?,
            Place::Pipe(_) | Place::At(..) | Place::End(_) => CHUNK_BYTES as u64,
        };
        if permit == 0 {
            // Whoever asks again and again waits, too.
            process.bodies.release();
        }
        Ok(permit)
    }

    /// Writes all bytes; of a pipe's, what it has no room for is pending.
    pub(crate) fn write(
        &mut self,
        process: &mut Process,
        mut bytes: &[u8],
    ) -> Result<(), StreamError> {
        if is_shut(self.shut.as_ref()) {
            return Err(Errno::BrokenPipe.into());
        }
        while !bytes.is_empty() {
            let written = match &mut self.place {
                Place::Pipe(handle) => {
                    return Ok(process.outputs.write(handle, bytes, self.shut.is_some())?);
                }
                Place::Body(body) => return process.bodies.write(*body, bytes),
                Place::End(handle) => handle.append_all(bytes)?.0,
                Place::At(handle, offset) => {
                    let written = handle.write_all(*offset, bytes, true)?;
                    *offset = offset.saturating_add(written as u64);
                    written
                }
            };
            // What an error cut short meets it again, as the first byte of the next round.
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes all bytes after what is pending; they are with the host when it returns, or held back with
    /// their message.
    pub(crate) fn write_through(
        &mut self,
        process: &mut Process,
        bytes: &[u8],
    ) -> Result<(), StreamError> {
        match &self.place {
            Place::Pipe(_) if is_shut(self.shut.as_ref()) => self.drain(process),
            Place::Pipe(handle) => {
                process.outputs.write(handle, bytes, self.shut.is_some())?;
                self.drain(process)
            }
            Place::Body(body) => write_body(process, *body, bytes),
            Place::At(..) | Place::End(_) => self.write(process, bytes),
        }
    }

    /// Waits until nothing is pending.
    ///
    /// # Errors
    ///
    /// As [`permit`](Self::permit).
    pub(crate) fn drain(&self, process: &mut Process) -> Result<(), StreamError> {
        match &self.place {
            Place::Pipe(handle) => {
                if process.outputs.is_pending(handle.get()) {
                    process.bodies.release();
                }
                process.outputs.drain(handle.get())?;
            }
            Place::Body(body) => write_body(process, *body, &[])?,
            Place::At(..) | Place::End(_) => {}
        }
        if is_shut(self.shut.as_ref()) { Err(Errno::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Begins to give the host what is pending.
    pub(crate) fn flush(&self, process: &mut Process) -> Result<(), StreamError> {
        match &self.place {
            Place::Body(body) => process.bodies.flush(*body),
            Place::Pipe(_) | Place::At(..) | Place::End(_) => self.permit(process).map(drop),
        }
    }

    /// Ready when the stream takes bytes.
    pub(crate) fn pollable(&self) -> Pollable {
        match &self.place {
            Place::Pipe(handle) => Pollable::Output(handle.get()),
            Place::Body(body) => Pollable::Body(*body),
            Place::At(..) | Place::End(_) => Pollable::Ready,
        }
    }
}

/// Writes all bytes to a body, and waits until the host has them or they are held back.
fn write_body(process: &mut Process, body: BodyId, mut bytes: &[u8]) -> Result<(), StreamError> {
    let awaited = [Pollable::Body(body)];
    while !bytes.is_empty() {
        let permit = process.bodies.permit(body)?;
        if permit == 0 {
            readiness(process, &awaited, true)?;
        }
        let count = usize::try_from(permit).unwrap_or(usize::MAX).min(bytes.len());
        let (first, rest) = bytes.split_at(count);
        process.bodies.write(body, first)?;
        bytes = rest;
    }
    process.bodies.flush(body)?;
    while process.bodies.permit(body)? == 0 {
        readiness(process, &awaited, true)?;
    }
    Ok(())
}

fn is_shut(shut: Option<&Arc<AtomicBool>>) -> bool {
    shut.is_some_and(|shut| shut.load(Ordering::Relaxed))
}
