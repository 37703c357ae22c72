//! Error numbers of preview 1 (`errno` of its witx), and how a call fails.

use wasmtime::{Error, Trap};

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Errno {
    TooBig = 1,
    Access = 2,
    AddrInUse = 3,
    AddrNotAvail = 4,
    AfNoSupport = 5,
    Again = 6,
    BadFd = 8,
    Busy = 10,
    ConnAborted = 13,
    ConnRefused = 14,
    ConnReset = 15,
    Deadlock = 16,
    Quota = 19,
    Exists = 20,
    FileTooBig = 22,
    HostUnreach = 23,
    IllegalSequence = 25,
    InProgress = 26,
    Interrupted = 27,
    Invalid = 28,
    Io = 29,
    IsConn = 30,
    IsDirectory = 31,
    Loop = 32,
    TooManyFiles = 33,
    TooManyLinks = 34,
    MsgSize = 35,
    NameTooLong = 37,
    NoDevice = 43,
    NoEntry = 44,
    NoMemory = 48,
    NoSpace = 51,
    NotConn = 53,
    NotDirectory = 54,
    NotEmpty = 55,
    NotSocket = 57,
    NotSupported = 58,
    Overflow = 61,
    NotPermitted = 63,
    Pipe = 64,
    ReadOnly = 69,
    IllegalSeek = 70,
    TimedOut = 73,
    TextBusy = 74,
    CrossDevice = 75,
}

impl From<abi::Errno> for Errno {
    fn from(errno: abi::Errno) -> Self {
        match errno {
            abi::Errno::BadHandle => Self::BadFd,
            abi::Errno::NotFound => Self::NoEntry,
            abi::Errno::Access => Self::Access,
            abi::Errno::NotPermitted => Self::NotPermitted,
            abi::Errno::Again => Self::Again,
            abi::Errno::Exists => Self::Exists,
            abi::Errno::NotEmpty => Self::NotEmpty,
            abi::Errno::NotDirectory => Self::NotDirectory,
            abi::Errno::IsDirectory => Self::IsDirectory,
            abi::Errno::Invalid => Self::Invalid,
            abi::Errno::Io => Self::Io,
            abi::Errno::Loop => Self::Loop,
            abi::Errno::NameTooLong => Self::NameTooLong,
            abi::Errno::NoSpace => Self::NoSpace,
            abi::Errno::Quota => Self::Quota,
            abi::Errno::ReadOnly => Self::ReadOnly,
            abi::Errno::NoMemory => Self::NoMemory,
            abi::Errno::TooManyHandles => Self::TooManyFiles,
            abi::Errno::TooManyLinks => Self::TooManyLinks,
            abi::Errno::FileTooLarge => Self::FileTooBig,
            abi::Errno::Busy => Self::Busy,
            abi::Errno::TextBusy => Self::TextBusy,
            abi::Errno::CrossDevice => Self::CrossDevice,
            abi::Errno::BrokenPipe => Self::Pipe,
            abi::Errno::NotSeekable => Self::IllegalSeek,
            abi::Errno::NotSupported => Self::NotSupported,
            abi::Errno::TooBig => Self::TooBig,
            abi::Errno::Overflow => Self::Overflow,
            abi::Errno::Deadlock => Self::Deadlock,
            abi::Errno::NoDevice => Self::NoDevice,
            abi::Errno::Interrupted => Self::Interrupted,
            abi::Errno::IllegalBytes => Self::IllegalSequence,
            abi::Errno::ConnectionReset => Self::ConnReset,
            abi::Errno::AddressInUse => Self::AddrInUse,
            abi::Errno::AddressNotAvailable => Self::AddrNotAvail,
            abi::Errno::ConnectionRefused => Self::ConnRefused,
            abi::Errno::ConnectionAborted => Self::ConnAborted,
            abi::Errno::NotConnected => Self::NotConn,
            abi::Errno::IsConnected => Self::IsConn,
            abi::Errno::Unreachable => Self::HostUnreach,
            abi::Errno::TimedOut => Self::TimedOut,
            abi::Errno::MessageTooLarge => Self::MsgSize,
            abi::Errno::AddressFamily => Self::AfNoSupport,
            abi::Errno::InProgress => Self::InProgress,
            abi::Errno::NameNotFound | abi::Errno::NameTryAgain | abi::Errno::NameFailure => {
                Self::Io
            }
        }
    }
}

/// How a call ends without a result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The program is told.
    Errno(Errno),
    /// The program ends: it asked to, or passed a pointer that leads out of its memory.
    Trap(Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<abi::Errno> for Failure {
    fn from(errno: abi::Errno) -> Self {
        Self::Errno(errno.into())
    }
}

impl From<Trap> for Failure {
    fn from(trap: Trap) -> Self {
        Self::Trap(trap.into())
    }
}

/// What a call gives the program.
pub(super) type Answer<T = ()> = Result<T, Failure>;
