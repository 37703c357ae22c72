//! HTTP: messages, their fields and bodies, over the exchanges of the host.
//!
//! A message that a program sends is held back until its body is finished, has become as long as a write
//! can be, or the program does something that may wait: a small response is one host call. What the program
//! receives begins in memory, where a small request is whole. Invariant: nothing is held back while the
//! guest waits or after it has ended.

pub(crate) mod fields;
pub(crate) mod message;
pub(crate) mod receiving;
pub(crate) mod sending;
pub(crate) mod syntax;

use alloc::string::String;
use alloc::vec::Vec;

use abi::Errno;
use abi::http::{ErrorCode, HttpError};

pub use self::fields::Fields;

/// Why an exchange failed, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    /// A name of a field, a response code of the DNS, a coding, or a message.
    pub(crate) text: Option<String>,
    /// A size, or an identifier.
    pub(crate) number: Option<u64>,
}

impl Failure {
    /// What went wrong, in words, where there is no code for it.
    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self { code: ErrorCode::InternalError, text: Some(text.into()), number: None }
    }

    /// A code, and a size.
    pub(crate) fn size(code: ErrorCode, number: u64) -> Self {
        Self { code, text: None, number: Some(number) }
    }

    /// What the host says. What is no text of its text is U+FFFD.
    pub(crate) fn told(error: &HttpError<'_>) -> Self {
        let text = error.text.map(|text| String::from_utf8_lossy(text).into_owned());
        Self { code: error.code, text, number: error.number }
    }

    /// As it crosses.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = self.text.as_ref().map(String::as_bytes);
        HttpError { code: self.code, text, number: self.number }.encode()
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self { code, text: None, number: None }
    }
}

impl From<Errno> for Failure {
    /// Of a refusal to begin or go on with an exchange.
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::Access | Errno::NotPermitted => ErrorCode::HttpRequestDenied.into(),
            Errno::BrokenPipe | Errno::ConnectionReset | Errno::BadHandle => {
                ErrorCode::ConnectionTerminated.into()
            }
            Errno::TooManyHandles => ErrorCode::ConnectionLimitReached.into(),
            Errno::TimedOut => ErrorCode::ConnectionTimeout.into(),
            errno => Self::internal(alloc::format!("the host answered {errno:?}")),
        }
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HTTP: {:?}", self.code)?;
        if let Some(text) = &self.text {
            write!(f, ": {text}")?;
        }
        match self.number {
            Some(number) => write!(f, " ({number})"),
            None => Ok(()),
        }
    }
}
