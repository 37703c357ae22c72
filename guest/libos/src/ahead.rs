//! Reading ahead: a program that reads a file from front to back in small pieces gets several from one
//! host call.
//!
//! Rule: what was read ahead is given to the program only if no other host call was made since, and each
//! byte once. So the program has seen nothing of the world between the reads that it made and the one
//! that was made for it, and what it gets is what its own read would have got at that moment.
//!
//! What was read ahead stays in the data area of the host call that read it, so it is not copied before
//! it is wanted, and any other call with data overwrites it.

use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, Handle, Request};

use crate::handle::OwnedHandle;

/// Bytes of the first host call that reads ahead. The next one reads twice as many, and so on, up to
/// what a call moves.
const FIRST_BYTES: usize = 64 << 10;

/// What was read last, and what was read ahead of it.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    handle: Option<Handle>,
    /// Where the next read goes on if it does.
    offset: u64,
    /// Host calls that had been made after the last one of this.
    calls_made: u64,
    /// Bytes that the last host call of this asked for.
    wanted: usize,
    /// Bytes in the data area.
    fetched: usize,
    /// Those of them that the program has.
    given: usize,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes that `take` was given.
    pub(crate) count: usize,
    /// The file ended there.
    pub(crate) at_end: bool,
}

impl ReadAhead {
    /// Reads at most `len` bytes of a file at `offset` and gives them to `take`; none at its end.
    ///
    /// # Errors
    ///
    /// The host's refusal.
    pub(crate) fn read(
        &mut self,
        owner: &OwnedHandle,
        offset: u64,
        len: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Piece, Errno> {
        let (calls, handle) = (owner.calls(), owner.get());
        let goes_on =
            self.handle == Some(handle) && self.offset == offset && self.calls_made == calls.made();
        if goes_on && self.given < self.fetched {
            let count = len.min(self.fetched - self.given);
            calls.data(|data| {
                take(data.get(self.given..self.given + count).unwrap_or_default());
            });
            self.given += count;
            self.offset += count as u64;
            return Ok(Piece { count, at_end: false });
        }
        let len = len.min(CALL_DATA_BYTES);
        let wanted = match goes_on {
            true => len.max((2 * self.wanted).clamp(FIRST_BYTES, CALL_DATA_BYTES)),
            false => len,
        };
        self.handle = None;
        let wire_len = u32::try_from(wanted).map_err(|_| Errno::TooBig)?;
        let request = Request::Read { handle, offset, len: wire_len, wait: true };
        let fetched = calls.call_for_bytes(&request, |data| {
            take(data.get(..len.min(data.len())).unwrap_or_default());
            data.len()
        })?;
        let given = fetched.min(len);
        *self = Self {
            handle: Some(handle),
            offset: offset.saturating_add(given as u64),
            calls_made: calls.made(),
            wanted,
            fetched,
            given,
        };
        Ok(Piece { count: given, at_end: fetched < wanted && fetched <= len })
    }
}
