//! wasi:io/streams and wasi:io/error.
//!
//! `write` hands bytes to the host at once as far as the host takes them; what a full pipe does not take
//! stays pending, and `check-write` permits nothing more until it is gone.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use abi::Errno;
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::io::{error, streams};
use crate::http::Failure;
use crate::poll::{Pollable, drain, readiness};
use crate::process::NotGranted;
use crate::stream::{CHUNK_BYTES, InputStream, OutputStream, StreamError};

/// wasi:io/error: why a stream operation failed.
#[derive(Clone, Debug)]
pub enum IoError {
    /// The host declined it.
    Host(Errno),
    /// The exchange of HTTP failed.
    Http(Failure),
}

/// How a stream operation ends without a result.
#[derive(Debug)]
pub enum StreamFailure {
    /// The end, or the other side is gone.
    Closed,
    /// Why it was not done.
    Failed(IoError),
    /// The program broke a rule of the interface, or called too early.
    Trap(Error),
}

impl From<Errno> for StreamFailure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::BrokenPipe => Self::Closed,
            errno => Self::Failed(IoError::Host(errno)),
        }
    }
}

impl From<StreamError> for StreamFailure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Host(errno) => errno.into(),
            StreamError::Http(failure) => Self::Failed(IoError::Http(failure)),
        }
    }
}

impl From<NotGranted> for StreamFailure {
    fn from(error: NotGranted) -> Self {
        Self::Trap(error.into())
    }
}

impl From<ResourceTableError> for StreamFailure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type StreamResult<T> = Result<T, StreamFailure>;

impl Wasi {
    fn write_checked(&mut self, stream: &Resource<OutputStream>, bytes: &[u8]) -> StreamResult<()> {
        let stream = self.table.get_mut(stream)?;
        let process = self.process.get()?;
        if bytes.len() as u64 > stream.permit(process)? {
            return Err(StreamFailure::Trap(Error::msg(
                "wasi:io/streams: write of more bytes than check-write permitted",
            )));
        }
        Ok(stream.write(process, bytes)?)
    }

    /// Reads; the end of the stream is an error of the interface.
    fn read_stream(
        &mut self,
        stream: &Resource<InputStream>,
        len: u64,
        wait: bool,
    ) -> StreamResult<Vec<u8>> {
        let stream = self.table.get_mut(stream)?;
        let process = self.process.get()?;
        if wait && process.is_sending() {
            // What is read may be the answer to what is pending.
            readiness(process, &[stream.pollable()], true)?;
        }
        stream.read(process, len, wait)?.ok_or(StreamFailure::Closed)
    }

    fn drain_stream(&mut self, stream: &Resource<OutputStream>) -> StreamResult<()> {
        let stream = self.table.get(stream)?;
        let process = self.process.get()?;
        if let Pollable::Output(handle) = stream.pollable()
            && process.is_sending_elsewhere(handle)
        {
            drain(process, handle)?;
        }
        Ok(stream.drain(process)?)
    }

    fn write_through(&mut self, stream: &Resource<OutputStream>, bytes: &[u8]) -> StreamResult<()> {
        let process = self.process.get()?;
        if process.outputs.is_empty() {
            return Ok(self.table.get_mut(stream)?.write_through(process, bytes)?);
        }
        self.drain_stream(stream)?;
        self.table.get_mut(stream)?.write(self.process.get()?, bytes)?;
        self.drain_stream(stream)
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
        if wait {
            self.drain_stream(output)?;
        }
        let len = len.min(self.table.get(output)?.permit(self.process.get()?)?);
        let bytes = self.read_stream(input, len, wait)?;
        self.table.get_mut(output)?.write(self.process.get()?, &bytes)?;
        Ok(bytes.len() as u64)
    }
}

/// What write-zeroes writes.
static ZEROES: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

impl error::Host for Wasi {}

impl error::HostError for Wasi {
    fn to_debug_string(&mut self, error: Resource<IoError>) -> Result<String> {
        Ok(match self.table.get(&error)? {
            IoError::Host(errno) => alloc::format!("{errno:?}"),
            IoError::Http(failure) => failure.to_string(),
        })
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
            StreamFailure::Failed(error) => {
                Ok(streams::StreamError::LastOperationFailed(self.table.push(error)?))
            }
            StreamFailure::Trap(error) => Err(error),
        }
    }
}

impl streams::HostInputStream for Wasi {
    fn read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.read_stream(&stream, len, false)
    }

    fn blocking_read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.read_stream(&stream, len, true)
    }

    fn skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        Ok(self.read_stream(&stream, len, false)?.len() as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        Ok(self.read_stream(&stream, len, true)?.len() as u64)
    }

    fn subscribe(&mut self, stream: Resource<InputStream>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&stream)?.pollable();
        Ok(self.table.push_child(pollable, &stream)?)
    }

    fn drop(&mut self, stream: Resource<InputStream>) -> Result<()> {
        self.take_back(stream)
    }
}

impl streams::HostOutputStream for Wasi {
    fn check_write(&mut self, stream: Resource<OutputStream>) -> StreamResult<u64> {
        Ok(self.table.get(&stream)?.permit(self.process.get()?)?)
    }

    fn write(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.write_checked(&stream, &bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.write_through(&stream, &bytes)
    }

    fn flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        Ok(self.table.get(&stream)?.flush(self.process.get()?)?)
    }

    fn blocking_flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        self.drain_stream(&stream)
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
        self.drain_stream(&stream)?;
        self.write_zeroes_checked(&stream, len)?;
        self.drain_stream(&stream)
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
        self.take_back(stream)
    }
}
