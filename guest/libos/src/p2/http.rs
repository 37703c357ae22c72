//! wasi:http: what programs see of requests and responses.
//!
//! Beside the text of the interface, this follows what its other implementations let programs do: headers
//! may outlive their message, and a body that is still open when a handler returns is finished then.

mod bodies;
mod errors;
mod fields;
mod requests;
mod responses;

use abi::Errno;
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::http::types::{self, ErrorCode, HeaderError};
use super::streams::IoError;
use crate::http::Failure;
use crate::http::fields::Unchanged;
use crate::process::NotGranted;

/// How an operation of HTTP ends without a result.
#[derive(Debug)]
pub enum HttpFailure {
    /// It failed, or was declined.
    Failed(Failure),
    /// The program used a resource that does not exist, or called too early.
    Trap(Error),
}

/// Why fields were not changed.
#[derive(Debug)]
pub enum FieldsFailure {
    /// By a rule of the interface.
    Unchanged(HeaderError),
    /// The program used a resource that does not exist, or made fields larger than they can be, for which
    /// the interface has no word.
    Trap(Error),
}

type HttpResult<T> = Result<T, HttpFailure>;
type FieldsResult<T> = Result<T, FieldsFailure>;

impl From<Failure> for HttpFailure {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Errno> for HttpFailure {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.into())
    }
}

impl From<NotGranted> for HttpFailure {
    fn from(error: NotGranted) -> Self {
        Self::Trap(error.into())
    }
}

impl From<ResourceTableError> for HttpFailure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<Error> for HttpFailure {
    fn from(error: Error) -> Self {
        Self::Trap(error)
    }
}

impl From<Unchanged> for FieldsFailure {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Syntax => Self::Unchanged(HeaderError::InvalidSyntax),
            Unchanged::Forbidden => Self::Unchanged(HeaderError::Forbidden),
            Unchanged::Immutable => Self::Unchanged(HeaderError::Immutable),
            Unchanged::TooLarge => {
                Self::Trap(Error::msg("wasi:http/types: fields larger than a head can be"))
            }
        }
    }
}

impl From<ResourceTableError> for FieldsFailure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<Error> for FieldsFailure {
    fn from(error: Error) -> Self {
        Self::Trap(error)
    }
}

impl types::Host for Wasi {
    fn http_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        Ok(match self.table.get(&error)? {
            IoError::Http(failure) => Some(errors::error_code(failure.clone())),
            IoError::Host(_) => None,
        })
    }

    fn convert_error_code(&mut self, failure: HttpFailure) -> Result<ErrorCode> {
        match failure {
            HttpFailure::Failed(failure) => Ok(errors::error_code(failure)),
            HttpFailure::Trap(error) => Err(error),
        }
    }

    fn convert_header_error(&mut self, failure: FieldsFailure) -> Result<HeaderError> {
        match failure {
            FieldsFailure::Unchanged(error) => Ok(error),
            FieldsFailure::Trap(error) => Err(error),
        }
    }
}
