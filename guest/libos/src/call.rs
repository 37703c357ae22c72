//! The one way to the host.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::layout::CALL_DATA_BYTES;
use abi::{APPEND, Errno, Handle, Request, Stat};
use zerocopy::FromBytes;

/// Makes host calls.
pub trait HostCall: Send + Sync {
    /// Makes one call. `read` is given the number of the answer and its data area, once, if the host
    /// did not decline; no other call may be made from within.
    ///
    /// # Errors
    ///
    /// What the host declined the call with, or [`Errno::TooBig`] if the payload does not fit.
    fn call(&self, request: &Request<'_>, read: &mut dyn FnMut(u64, &[u8])) -> Result<(), Errno>;

    /// Gives the data area, as the last call left it, to `read`; no call may be made from within.
    fn data(&self, read: &mut dyn FnMut(&[u8]));
}

/// Host calls, shared by everything that a program holds.
#[derive(Clone)]
pub struct Calls(Arc<Shared>);

struct Shared {
    host: Box<dyn HostCall>,
    made: AtomicU64,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

impl Calls {
    /// Calls by way of `host`.
    pub fn new(host: impl HostCall + 'static) -> Self {
        Self(Arc::new(Shared { host: Box::new(host), made: AtomicU64::new(0) }))
    }

    /// How many calls were made so far.
    pub(crate) fn made(&self) -> u64 {
        self.0.made.load(Ordering::Relaxed)
    }

    /// Makes a call whose answer is its number.
    pub(crate) fn call(&self, request: &Request<'_>) -> Result<u64, Errno> {
        self.call_with(request, |value, _| value)
    }

    /// Makes a call and gives its number and data to `read`.
    pub(crate) fn call_with<R>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(u64, &[u8]) -> R,
    ) -> Result<R, Errno> {
        let (mut read, mut result) = (Some(read), None);
        self.0.made.fetch_add(1, Ordering::Relaxed);
        self.0.host.call(request, &mut |value, data| {
            result = read.take().map(|read| read(value, data));
        })?;
        result.ok_or(Errno::Io)
    }

    /// Gives the data area of the last call to `read`.
    pub(crate) fn data(&self, read: impl FnOnce(&[u8])) {
        let mut read = Some(read);
        self.0.host.data(&mut |data| {
            if let Some(read) = read.take() {
                read(data);
            }
        });
    }

    /// Makes a call whose answer is as many bytes as its number says.
    pub(crate) fn call_for_bytes<R>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Errno> {
        self.call_with(request, |count, data| {
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(data.len());
            read(data.get(..count).unwrap_or_default())
        })
    }

    /// Makes a call that describes an object.
    pub(crate) fn call_for_stat(&self, request: &Request<'_>) -> Result<(u64, Stat), Errno> {
        self.call_with(request, |value, data| match Stat::read_from_prefix(data) {
            Ok((stat, _)) => Ok((value, stat)),
            Err(_) => Err(Errno::Io),
        })?
    }

    /// Reads at most `len` bytes of a stream, which waits for some if `wait`.
    pub(crate) fn read(&self, handle: Handle, len: u64, wait: bool) -> Result<Vec<u8>, Errno> {
        let len = u32::try_from(len.min(CALL_DATA_BYTES as u64)).map_err(|_| Errno::TooBig)?;
        self.call_for_bytes(&Request::Read { handle, offset: 0, len, wait }, <[u8]>::to_vec)
    }

    /// Writes as much of `data` as one call takes; a stream that has no room waits if `wait`. Returns the
    /// bytes written. No file has a byte at the offset that means [`APPEND`] on the wire.
    pub(crate) fn write(
        &self,
        handle: Handle,
        offset: u64,
        data: &[u8],
        wait: bool,
    ) -> Result<usize, Errno> {
        if offset == APPEND {
            return Err(Errno::Invalid);
        }
        let data = data.get(..CALL_DATA_BYTES.min(data.len())).unwrap_or_default();
        let written = self.call(&Request::Write { handle, offset, wait, data })?;
        Ok(usize::try_from(written).unwrap_or(usize::MAX).min(data.len()))
    }

    /// Writes as much of `data` as one call takes at the end of a file. Returns the bytes written and
    /// where they end.
    pub(crate) fn append(&self, handle: Handle, data: &[u8]) -> Result<(usize, u64), Errno> {
        let data = data.get(..CALL_DATA_BYTES.min(data.len())).unwrap_or_default();
        let request = Request::Write { handle, offset: APPEND, wait: false, data };
        self.call_with(&request, |written, reply| {
            let (end, _) = u64::read_from_prefix(reply).map_err(|_| Errno::Io)?;
            Ok((usize::try_from(written).unwrap_or(usize::MAX).min(data.len()), end))
        })?
    }
}
