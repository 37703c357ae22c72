//! Error codes: the interface's, and those of the contract with the host.

use abi::http::ErrorCode as Code;

use crate::http::Failure;
use crate::p2::bindings::wasi::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload,
};

/// The interface's word for a failure. A number that is none of the interface's is left out.
pub(super) fn error_code(failure: Failure) -> ErrorCode {
    let Failure { code, text, number } = failure;
    let number_32 = number.and_then(|number| u32::try_from(number).ok());
    match code {
        Code::DnsTimeout => ErrorCode::DnsTimeout,
        Code::DnsError => ErrorCode::DnsError(DnsErrorPayload {
            rcode: text,
            info_code: number.and_then(|number| u16::try_from(number).ok()),
        }),
        Code::DestinationNotFound => ErrorCode::DestinationNotFound,
        Code::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        Code::DestinationIpProhibited => ErrorCode::DestinationIpProhibited,
        Code::DestinationIpUnroutable => ErrorCode::DestinationIpUnroutable,
        Code::ConnectionRefused => ErrorCode::ConnectionRefused,
        Code::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Code::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        Code::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Code::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        Code::ConnectionLimitReached => ErrorCode::ConnectionLimitReached,
        Code::TlsProtocolError => ErrorCode::TlsProtocolError,
        Code::TlsCertificateError => ErrorCode::TlsCertificateError,
        Code::TlsAlertReceived => ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
            alert_id: number.and_then(|number| u8::try_from(number).ok()),
            alert_message: text,
        }),
        Code::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        Code::HttpRequestLengthRequired => ErrorCode::HttpRequestLengthRequired,
        Code::HttpRequestBodySize => ErrorCode::HttpRequestBodySize(number),
        Code::HttpRequestMethodInvalid => ErrorCode::HttpRequestMethodInvalid,
        Code::HttpRequestUriInvalid => ErrorCode::HttpRequestUriInvalid,
        Code::HttpRequestUriTooLong => ErrorCode::HttpRequestUriTooLong,
        Code::HttpRequestHeaderSectionSize => ErrorCode::HttpRequestHeaderSectionSize(number_32),
        Code::HttpRequestHeaderSize => ErrorCode::HttpRequestHeaderSize(
            (text.is_some() || number.is_some())
                .then_some(FieldSizePayload { field_name: text, field_size: number_32 }),
        ),
        Code::HttpRequestTrailerSectionSize => ErrorCode::HttpRequestTrailerSectionSize(number_32),
        Code::HttpRequestTrailerSize => ErrorCode::HttpRequestTrailerSize(FieldSizePayload {
            field_name: text,
            field_size: number_32,
        }),
        Code::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Code::HttpResponseHeaderSectionSize => ErrorCode::HttpResponseHeaderSectionSize(number_32),
        Code::HttpResponseHeaderSize => ErrorCode::HttpResponseHeaderSize(FieldSizePayload {
            field_name: text,
            field_size: number_32,
        }),
        Code::HttpResponseBodySize => ErrorCode::HttpResponseBodySize(number),
        Code::HttpResponseTrailerSectionSize => {
            ErrorCode::HttpResponseTrailerSectionSize(number_32)
        }
        Code::HttpResponseTrailerSize => ErrorCode::HttpResponseTrailerSize(FieldSizePayload {
            field_name: text,
            field_size: number_32,
        }),
        Code::HttpResponseTransferCoding => ErrorCode::HttpResponseTransferCoding(text),
        Code::HttpResponseContentCoding => ErrorCode::HttpResponseContentCoding(text),
        Code::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Code::HttpUpgradeFailed => ErrorCode::HttpUpgradeFailed,
        Code::HttpProtocolError => ErrorCode::HttpProtocolError,
        Code::LoopDetected => ErrorCode::LoopDetected,
        Code::ConfigurationError => ErrorCode::ConfigurationError,
        Code::InternalError => ErrorCode::InternalError(text),
    }
}

/// What a program says in the interface's words.
pub(super) fn failure(code: ErrorCode) -> Failure {
    let alone = Failure::from;
    let sized =
        |code, number: Option<u32>| Failure { number: number.map(u64::from), ..alone(code) };
    let field = |code, field: FieldSizePayload| Failure {
        code,
        text: field.field_name,
        number: field.field_size.map(u64::from),
    };
    match code {
        ErrorCode::DnsTimeout => alone(Code::DnsTimeout),
        ErrorCode::DnsError(DnsErrorPayload { rcode, info_code }) => {
            Failure { code: Code::DnsError, text: rcode, number: info_code.map(u64::from) }
        }
        ErrorCode::DestinationNotFound => alone(Code::DestinationNotFound),
        ErrorCode::DestinationUnavailable => alone(Code::DestinationUnavailable),
        ErrorCode::DestinationIpProhibited => alone(Code::DestinationIpProhibited),
        ErrorCode::DestinationIpUnroutable => alone(Code::DestinationIpUnroutable),
        ErrorCode::ConnectionRefused => alone(Code::ConnectionRefused),
        ErrorCode::ConnectionTerminated => alone(Code::ConnectionTerminated),
        ErrorCode::ConnectionTimeout => alone(Code::ConnectionTimeout),
        ErrorCode::ConnectionReadTimeout => alone(Code::ConnectionReadTimeout),
        ErrorCode::ConnectionWriteTimeout => alone(Code::ConnectionWriteTimeout),
        ErrorCode::ConnectionLimitReached => alone(Code::ConnectionLimitReached),
        ErrorCode::TlsProtocolError => alone(Code::TlsProtocolError),
        ErrorCode::TlsCertificateError => alone(Code::TlsCertificateError),
        ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id, alert_message }) => {
            Failure {
                code: Code::TlsAlertReceived,
                text: alert_message,
                number: alert_id.map(u64::from),
            }
        }
        ErrorCode::HttpRequestDenied => alone(Code::HttpRequestDenied),
        ErrorCode::HttpRequestLengthRequired => alone(Code::HttpRequestLengthRequired),
        ErrorCode::HttpRequestBodySize(number) => {
            Failure { number, ..alone(Code::HttpRequestBodySize) }
        }
        ErrorCode::HttpRequestMethodInvalid => alone(Code::HttpRequestMethodInvalid),
        ErrorCode::HttpRequestUriInvalid => alone(Code::HttpRequestUriInvalid),
        ErrorCode::HttpRequestUriTooLong => alone(Code::HttpRequestUriTooLong),
        ErrorCode::HttpRequestHeaderSectionSize(number) => {
            sized(Code::HttpRequestHeaderSectionSize, number)
        }
        ErrorCode::HttpRequestHeaderSize(None) => alone(Code::HttpRequestHeaderSize),
        ErrorCode::HttpRequestHeaderSize(Some(it)) => field(Code::HttpRequestHeaderSize, it),
        ErrorCode::HttpRequestTrailerSectionSize(number) => {
            sized(Code::HttpRequestTrailerSectionSize, number)
        }
        ErrorCode::HttpRequestTrailerSize(it) => field(Code::HttpRequestTrailerSize, it),
        ErrorCode::HttpResponseIncomplete => alone(Code::HttpResponseIncomplete),
        ErrorCode::HttpResponseHeaderSectionSize(number) => {
            sized(Code::HttpResponseHeaderSectionSize, number)
        }
        ErrorCode::HttpResponseHeaderSize(it) => field(Code::HttpResponseHeaderSize, it),
        ErrorCode::HttpResponseBodySize(number) => {
            Failure { number, ..alone(Code::HttpResponseBodySize) }
        }
        ErrorCode::HttpResponseTrailerSectionSize(number) => {
            sized(Code::HttpResponseTrailerSectionSize, number)
        }
        ErrorCode::HttpResponseTrailerSize(it) => field(Code::HttpResponseTrailerSize, it),
        ErrorCode::HttpResponseTransferCoding(text) => {
            Failure { text, ..alone(Code::HttpResponseTransferCoding) }
        }
        ErrorCode::HttpResponseContentCoding(text) => {
            Failure { text, ..alone(Code::HttpResponseContentCoding) }
        }
        ErrorCode::HttpResponseTimeout => alone(Code::HttpResponseTimeout),
        ErrorCode::HttpUpgradeFailed => alone(Code::HttpUpgradeFailed),
        ErrorCode::HttpProtocolError => alone(Code::HttpProtocolError),
        ErrorCode::LoopDetected => alone(Code::LoopDetected),
        ErrorCode::ConfigurationError => alone(Code::ConfigurationError),
        ErrorCode::InternalError(text) => Failure { text, ..alone(Code::InternalError) },
    }
}
