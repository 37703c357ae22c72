//! What went wrong, in the words of wasi:http.
//!
//! Rule: an error is looked for from its source upwards, because the library that reports it last knows
//! least about it.

use std::error::Error;
use std::io::{self, ErrorKind};

use abi::http::ErrorCode;
use hyper_util::client::legacy;
use rustls::{AlertDescription, Error as TlsError};
use vmm::host::http::Failure;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("connect")]
pub(super) struct ConnectError(#[source] pub(super) Failure);

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<ErrorCode> for ConnectError {
    fn from(code: ErrorCode) -> Self {
        Self(code.into())
    }
}

/// Why a request has no response.
pub(super) fn of_request(error: &legacy::Error) -> Failure {
    of_chain(error).unwrap_or_else(|| ErrorCode::HttpProtocolError.into())
}

/// Why the body of a response broke off.
pub(super) fn of_body(error: &hyper::Error) -> Failure {
    of_chain(error).unwrap_or_else(|| ErrorCode::HttpResponseIncomplete.into())
}

/// Why the kernel did not connect.
pub(super) fn of_connect(error: &io::Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            ErrorCode::DestinationIpUnroutable
        }
        ErrorKind::PermissionDenied => ErrorCode::HttpRequestDenied,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            ErrorCode::ConnectionTerminated
        }
        _ => ErrorCode::DestinationUnavailable,
    };
    code.into()
}

/// Why there is no TLS.
pub(super) fn of_handshake(error: &io::Error) -> Failure {
    if error.kind() == ErrorKind::UnexpectedEof {
        // Nothing of HTTP has come yet.
        return ErrorCode::ConnectionTerminated.into();
    }
    of_chain(error).unwrap_or_else(|| ErrorCode::TlsProtocolError.into())
}

/// The first error of the chain, from its source on, that says something.
fn of_chain(error: &(dyn Error + 'static)) -> Option<Failure> {
    // What is inside an io::Error is its own source only beside its kind.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inner = inner.and_then(|inner| of_chain(inner));
    inner.or_else(|| error.source().and_then(of_chain)).or_else(|| of_one(error))
}

fn of_one(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(of_tls(error));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return of_hyper(error).map(Failure::from);
    }
    let error = error.downcast_ref::<io::Error>()?;
    let code = match error.kind() {
        ErrorKind::TimedOut => ErrorCode::ConnectionReadTimeout,
        ErrorKind::UnexpectedEof => ErrorCode::HttpResponseIncomplete,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            ErrorCode::ConnectionTerminated
        }
        _ => return None,
    };
    Some(code.into())
}

fn of_hyper(error: &hyper::Error) -> Option<ErrorCode> {
    if error.is_parse_too_large() {
        Some(ErrorCode::HttpResponseHeaderSectionSize)
    } else if error.is_parse() {
        Some(ErrorCode::HttpProtocolError)
    } else if error.is_incomplete_message() {
        Some(ErrorCode::HttpResponseIncomplete)
    } else if error.is_canceled() || error.is_closed() {
        Some(ErrorCode::ConnectionTerminated)
    } else {
        None
    }
}

fn of_tls(error: &TlsError) -> Failure {
    match error {
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => {
            ErrorCode::TlsCertificateError.into()
        }
        TlsError::AlertReceived(alert) => alert_received(*alert),
        _ => ErrorCode::TlsProtocolError.into(),
    }
}

fn alert_received(alert: AlertDescription) -> Failure {
    Failure {
        text: alert.as_str().map(str::to_owned),
        number: Some(u8::from(alert).into()),
        ..ErrorCode::TlsAlertReceived.into()
    }
}
