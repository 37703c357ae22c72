//! What goes back to a guest: a number, and how much of the reply belongs to it.

use abi::Errno;
use zerocopy::{Immutable, IntoBytes};

/// What a call gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The result, as documented on each [`Request`](abi::Request).
    pub value: u64,
    /// Bytes at the start of the reply that belong to the answer.
    pub data_bytes: usize,
}

impl Answer {
    /// It is done, and there is nothing to say.
    pub(super) const DONE: Self = Self { value: 0, data_bytes: 0 };

    /// `len` bytes were moved to the start of the reply.
    pub(super) fn data(len: usize) -> Self {
        Self { value: len as u64, data_bytes: len }
    }

    /// Writes `object` to the start of `reply`.
    ///
    /// # Errors
    ///
    /// [`Errno::TooBig`] if it does not fit.
    pub(super) fn of(
        object: &(impl IntoBytes + Immutable),
        reply: &mut [u8],
    ) -> Result<Self, Errno> {
        object.write_to_prefix(reply).map_err(|_| Errno::TooBig)?;
        Ok(Self { value: 0, data_bytes: size_of_val(object) })
    }
}
