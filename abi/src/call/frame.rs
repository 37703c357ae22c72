//! The frame of a host call, and what a guest is ended for that fills it wrongly.
//!
//! Invariant: its layout is the contract between a host and every guest image: it changes with `ABI_VERSION` only.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Nr;
use crate::layout;

/// One host call, at the start of the call window: one cache line, fixed layout.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(64))]
pub struct Frame {
    /// IN. Call number, a [`Nr`].
    pub nr: u32,
    /// IN. Bytes of the data area that belong to this call.
    pub data_len: u32,
    /// IN. Meaning and order documented on each [`Request`](super::Request) variant.
    pub args: [u64; 6],
    /// OUT. `>= 0`: the result; `< 0`: a negated [`crate::Errno`].
    pub ret: i64,
}

const _: () = assert!(size_of::<Frame>() == 64, "guest ABI changed: bump ABI_VERSION");
const _: () =
    assert!(core::mem::offset_of!(Frame, args) == 8, "guest ABI changed: bump ABI_VERSION");
const _: () =
    assert!(core::mem::offset_of!(Frame, ret) == 56, "guest ABI changed: bump ABI_VERSION");

/// A capability that the host granted to this guest. Meaningless outside its micro-VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(pub u32);

impl Handle {
    /// Standard input, open from the start.
    pub const STDIN: Self = Self(0);
    /// Standard output, open from the start.
    pub const STDOUT: Self = Self(1);
    /// Standard error, open from the start.
    pub const STDERR: Self = Self(2);
}

/// The guest broke the contract. Never answered: the host ends the micro-VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The call number is not a [`Nr`].
    UnknownCall(u32),
    /// `data_len` exceeds the data area.
    DataOverrun(u32),
    /// An argument has no meaning for this call.
    BadArgument(Nr),
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownCall(nr) => write!(f, "unknown host call {nr:#x}"),
            Self::DataOverrun(len) => {
                write!(
                    f,
                    "host call with {len} bytes of data, window holds {}",
                    layout::CALL_DATA_BYTES
                )
            }
            Self::BadArgument(nr) => write!(f, "malformed argument of host call {nr:?}"),
        }
    }
}
