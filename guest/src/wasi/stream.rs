//! wasi:io/streams and wasi:io/error: byte streams over handles.
//!
//! A stream over a file keeps its position here. Standard output and error are one [`Output`] each,
//! whoever asks for them. `write` hands bytes to the host at once as far as the host takes them; what a
//! full pipe does not take stays pending, and `check-write` permits nothing more until it is gone.

use abi::layout::CALL_DATA_BYTES;
use abi::{APPEND, Errno, Handle, Request, poll_events};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wasmtime::component::Resource;
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::io::{error, streams};
use super::handle::OwnedHandle;
use super::poll::{Pollable, wait_for};
use crate::doorbell;
use crate::single::Single;

/// Most bytes that one read returns or one write takes: what a host call moves.
const CHUNK_BYTES: u64 = CALL_DATA_BYTES as u64;

/// wasi:io/error: why a stream operation failed.
#[derive(Clone, Copy, Debug)]
pub struct IoError(pub(crate) Errno);

/// How a stream operation ends without a result.
#[derive(Debug)]
pub enum StreamFailure {
    /// The end, or the other side is gone.
    Closed,
    /// The host declined it.
    Failed(Errno),
    /// The program broke a rule of the interface.
    Trap(Error),
}

impl From<Errno> for StreamFailure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::BrokenPipe | Errno::ConnectionReset => Self::Closed,
            errno => Self::Failed(errno),
        }
    }
}

impl From<wasmtime::component::ResourceTableError> for StreamFailure {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type StreamResult<T> = Result<T, StreamFailure>;

/// An input stream.
#[derive(Debug)]
pub enum InputStream {
    /// A pipe, terminal or whatever standard input is: no position, may have to wait.
    Pipe(Arc<OwnedHandle>),
    /// A file from an offset on.
    File(Arc<OwnedHandle>, u64),
}

impl InputStream {
    /// Reads at most `len` bytes; none if there are none and not `wait`.
    fn read(&mut self, len: u64, wait: bool) -> StreamResult<Vec<u8>> {
        let len = u32::try_from(len.min(CHUNK_BYTES)).unwrap_or(u32::MAX);
        if len == 0 {
            return Ok(Vec::new());
        }
        loop {
            let (handle, offset) = match self {
                Self::Pipe(handle) => (handle.get(), 0),
                Self::File(handle, offset) => (handle.get(), *offset),
            };
            match read_at(handle, offset, len) {
                Ok(bytes) if bytes.is_empty() => return Err(StreamFailure::Closed),
                Ok(bytes) => {
                    if let Self::File(_, offset) = self {
                        *offset = offset.saturating_add(bytes.len() as u64);
                    }
                    return Ok(bytes);
                }
                Err(Errno::Again) if wait => wait_for(handle, poll_events::READ)?,
                Err(Errno::Again) => return Ok(Vec::new()),
                Err(Errno::Interrupted) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn pollable(&self) -> Pollable {
        match self {
            Self::Pipe(handle) => Pollable::Handle(handle.get(), poll_events::READ),
            Self::File(..) => Pollable::Ready,
        }
    }
}

/// Reads at most `len` bytes at `offset`.
pub(crate) fn read_at(handle: Handle, offset: u64, len: u32) -> Result<Vec<u8>, Errno> {
    doorbell::call_with(&Request::Read { handle, offset, len }, |count, data| {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(data.len());
        data.get(..count).unwrap_or_default().to_vec()
    })
}

/// A pipe or terminal that takes output, with what it has not taken yet.
pub struct Output {
    handle: OwnedHandle,
    pending: Single<Vec<u8>>,
}

impl core::fmt::Debug for Output {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Output").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Output {
    /// Takes a handle that nothing else closes.
    pub(crate) fn new(handle: Handle) -> Arc<Self> {
        Arc::new(Self { handle: OwnedHandle::own(handle), pending: Single::new(Vec::new()) })
    }

    /// What the host has to report before this takes bytes; `None` if it takes some at once.
    pub(crate) fn waits_for(&self) -> Option<(Handle, u32)> {
        let idle = self.pending.borrow().is_none_or(|pending| pending.is_empty());
        (!idle).then_some((self.handle.get(), poll_events::WRITE))
    }

    /// Delivers what is pending, waiting for the reader if need be.
    pub(crate) fn drain(&self) -> StreamResult<()> {
        while self.send_pending()? != 0 {
            wait_for(self.handle.get(), poll_events::WRITE)?;
        }
        Ok(())
    }

    /// Delivers what is pending as far as the host takes it. Returns the bytes that remain.
    fn send_pending(&self) -> StreamResult<usize> {
        let Some(mut pending) = self.pending.borrow() else { return Ok(0) };
        while !pending.is_empty() {
            let chunk = pending.get(..CALL_DATA_BYTES.min(pending.len())).unwrap_or_default();
            match write_at(self.handle.get(), 0, chunk) {
                Ok(sent) => drop(pending.drain(..sent)),
                Err(Errno::Again) => break,
                Err(Errno::Interrupted) => {}
                Err(errno) => {
                    // The reader is gone or the device failed: the bytes have nowhere to go.
                    pending.clear();
                    return Err(errno.into());
                }
            }
        }
        Ok(pending.len())
    }

    /// Takes all bytes: to the host as far as it takes them, the rest pending.
    pub(super) fn write(&self, bytes: &[u8]) -> StreamResult<()> {
        if let Some(mut pending) = self.pending.borrow() {
            pending.extend_from_slice(bytes);
        }
        self.send_pending().map(drop)
    }
}

/// An output stream.
#[derive(Debug)]
pub enum OutputStream {
    /// A pipe, terminal or whatever standard output is.
    Pipe(Arc<Output>),
    /// A file from an offset on.
    File(Arc<OwnedHandle>, u64),
    /// The end of a file.
    Append(Arc<OwnedHandle>),
}

impl OutputStream {
    /// Bytes that `write` takes; 0 while output is pending.
    fn permit(&self) -> StreamResult<u64> {
        match self {
            Self::Pipe(output) if output.send_pending()? != 0 => Ok(0),
            Self::Pipe(_) | Self::File(..) | Self::Append(_) => Ok(CHUNK_BYTES),
        }
    }

    /// Writes all bytes.
    fn write(&mut self, mut bytes: &[u8]) -> StreamResult<()> {
        let (handle, mut offset) = match self {
            Self::Pipe(output) => return output.write(bytes),
            Self::File(handle, offset) => (handle.get(), *offset),
            Self::Append(handle) => (handle.get(), APPEND),
        };
        while !bytes.is_empty() {
            let chunk = bytes.get(..CALL_DATA_BYTES.min(bytes.len())).unwrap_or_default();
            match write_at(handle, offset, chunk) {
                // A file that takes nothing and says nothing would keep us here for ever.
                Ok(0) => return Err(Errno::Io.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    if let Self::File(_, position) = self {
                        *position = position.saturating_add(written as u64);
                        offset = *position;
                    }
                }
                Err(Errno::Interrupted) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Waits until nothing is pending.
    fn drain(&self) -> StreamResult<()> {
        match self {
            Self::Pipe(output) => output.drain(),
            Self::File(..) | Self::Append(_) => Ok(()),
        }
    }

    fn pollable(&self) -> Pollable {
        match self {
            Self::Pipe(output) => Pollable::Output(Arc::clone(output)),
            Self::File(..) | Self::Append(_) => Pollable::Ready,
        }
    }
}

/// Writes at `offset`. Returns the bytes written.
pub(crate) fn write_at(handle: Handle, offset: u64, data: &[u8]) -> Result<usize, Errno> {
    let written = doorbell::call(&Request::Write { handle, offset, data })?;
    Ok(usize::try_from(written).unwrap_or(usize::MAX).min(data.len()))
}

impl Wasi {
    fn write_checked(&mut self, stream: &Resource<OutputStream>, bytes: &[u8]) -> StreamResult<()> {
        let stream = self.table.get_mut(stream)?;
        if bytes.len() as u64 > stream.permit()? {
            return Err(StreamFailure::Trap(Error::msg(
                "wasi:io/streams: write of more bytes than check-write permitted",
            )));
        }
        stream.write(bytes)
    }

    fn write_zeroes_checked(
        &mut self,
        stream: &Resource<OutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        match ZEROES.get(..len) {
            Some(zeroes) => self.write_checked(stream, zeroes),
            None => Err(StreamFailure::Trap(Error::msg(
                "wasi:io/streams: write-zeroes of more bytes than check-write permitted",
            ))),
        }
    }

    fn splice_streams(
        &mut self,
        output: &Resource<OutputStream>,
        input: &Resource<InputStream>,
        len: u64,
        wait: bool,
    ) -> StreamResult<u64> {
        let sink = self.table.get(output)?;
        if wait {
            sink.drain()?;
        }
        let len = len.min(sink.permit()?);
        let bytes = self.table.get_mut(input)?.read(len, wait)?;
        self.table.get_mut(output)?.write(&bytes)?;
        Ok(bytes.len() as u64)
    }
}

/// What write-zeroes writes.
static ZEROES: [u8; CALL_DATA_BYTES] = [0; CALL_DATA_BYTES];

impl error::Host for Wasi {}

impl error::HostError for Wasi {
    fn to_debug_string(&mut self, error: Resource<IoError>) -> Result<String> {
        let IoError(errno) = self.table.get(&error)?;
        Ok(alloc::format!("{errno:?}"))
    }

    fn drop(&mut self, error: Resource<IoError>) -> Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl streams::Host for Wasi {
    fn convert_stream_error(&mut self, failure: StreamFailure) -> Result<streams::StreamError> {
        match failure {
            StreamFailure::Closed => Ok(streams::StreamError::Closed),
            StreamFailure::Failed(errno) => {
                Ok(streams::StreamError::LastOperationFailed(self.table.push(IoError(errno))?))
            }
            StreamFailure::Trap(error) => Err(error),
        }
    }
}

impl streams::HostInputStream for Wasi {
    fn read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.table.get_mut(&stream)?.read(len, false)
    }

    fn blocking_read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.table.get_mut(&stream)?.read(len, true)
    }

    fn skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        Ok(self.table.get_mut(&stream)?.read(len, false)?.len() as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        Ok(self.table.get_mut(&stream)?.read(len, true)?.len() as u64)
    }

    fn subscribe(&mut self, stream: Resource<InputStream>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&stream)?.pollable();
        Ok(self.table.push_child(pollable, &stream)?)
    }

    fn drop(&mut self, stream: Resource<InputStream>) -> Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl streams::HostOutputStream for Wasi {
    fn check_write(&mut self, stream: Resource<OutputStream>) -> StreamResult<u64> {
        self.table.get(&stream)?.permit()
    }

    fn write(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.write_checked(&stream, &bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let stream = self.table.get_mut(&stream)?;
        stream.drain()?;
        stream.write(&bytes)?;
        stream.drain()
    }

    fn flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        self.table.get(&stream)?.permit().map(drop)
    }

    fn blocking_flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        self.table.get(&stream)?.drain()
    }

    fn subscribe(&mut self, stream: Resource<OutputStream>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&stream)?.pollable();
        Ok(self.table.push_child(pollable, &stream)?)
    }

    fn write_zeroes(&mut self, stream: Resource<OutputStream>, len: u64) -> StreamResult<()> {
        self.write_zeroes_checked(&stream, len)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        self.table.get(&stream)?.drain()?;
        self.write_zeroes_checked(&stream, len)?;
        self.table.get(&stream)?.drain()
    }

    fn splice(
        &mut self,
        stream: Resource<OutputStream>,
        source: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.splice_streams(&stream, &source, len, false)
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<OutputStream>,
        source: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.splice_streams(&stream, &source, len, true)
    }

    fn drop(&mut self, stream: Resource<OutputStream>) -> Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
