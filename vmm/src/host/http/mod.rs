//! HTTP exchanges: between a guest, and a server or client in this process.
//!
//! Rule: here is no HTTP on the wire. A server hands an [`Incoming`] to a guest
//! ([`Host::admit`](super::Host::admit)), a guest's request comes out as an [`Outgoing`]
//! ([`Host::grant_http`](super::Host::grant_http)). Each is two bodies and a response, and has two sides:
//!
//! ```text
//! the guest, by host calls              a task of this process
//!   Read, Trailers           <--------  BodyWriter
//!   Write, Finish            -------->  BodyReader
//!   Respond, Fail (incoming) -------->  ResponseReader
//!   Head (outgoing)          <--------  ResponseWriter
//! ```
//!
//! The guest's thread waits in ppoll(2) and no other way; the task waits as any future does, by a
//! [`Waker`](std::task::Waker), in whatever runtime it likes. At most [`BODY_BYTES_MAX`] of a body wait in
//! each direction, besides what a guest sends together with a head.
//!
//! Whatever side goes, the other learns of it. A body is complete only if it was finished.

mod channel;
mod ends;
mod guest;
mod head;
#[cfg(test)]
mod tests;

use abi::http::{ErrorCode, HttpError};

pub use self::channel::BODY_BYTES_MAX;
pub use self::ends::{
    BodyReader, BodyWriter, Gone, Incoming, Outgoing, Part, ResponseReader, ResponseWriter,
    Timeouts,
};
pub(super) use self::guest::{Exchange, Fetch};

/// Why an exchange, or a body, failed: an [`HttpError`] of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of wasi:http's error codes.
    pub code: ErrorCode,
    /// What the code says in text, see [`ErrorCode`].
    pub text: Option<String>,
    /// What the code says in numbers, see [`ErrorCode`].
    pub number: Option<u64>,
}

/// How long the head of `request` is, as it crosses.
pub(super) fn head_bytes(request: &::http::Request<()>) -> usize {
    head::request_head(request).encode().len()
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self { code, text: None, number: None }
    }
}

impl From<HttpError<'_>> for Failure {
    fn from(error: HttpError<'_>) -> Self {
        let text = error.text.map(|text| String::from_utf8_lossy(text).into_owned());
        Self { code: error.code, text, number: error.number }
    }
}

impl Failure {
    /// The error as it crosses.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = self.text.as_deref().map(str::as_bytes);
        HttpError { code: self.code, text, number: self.number }.encode()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.code)?;
        if let Some(text) = &self.text {
            write!(f, " {text:?}")?;
        }
        self.number.map_or(Ok(()), |number| write!(f, " {number}"))
    }
}

impl std::error::Error for Failure {}

/// Why an incoming exchange has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The guest has ended, or given the exchange up.
    #[error("the program has ended, or given the request up, without a response")]
    Closed,
    /// The guest answered with an error.
    #[error("the program answered with an error")]
    Failed(#[source] Failure),
    /// No guest was to be had for it ([`Incoming::refuse`]).
    #[error("the request was refused: there is no micro-VM for it")]
    Refused,
}
