//! HTTP: heads, trailers and errors as they cross.
//!
//! An *exchange* is a request and its response, and a handle stands for one: an incoming exchange, whose
//! request the guest reads and whose response it writes ([`BootInfo::request`](crate::boot::BootInfo::request)),
//! or an outgoing one, the other way round ([`Request::Fetch`](crate::Request::Fetch)). Its bodies are read
//! and written as streams are, and polled as they are; a body ends by trailers, or by an error.
//!
//! Records are a `u32` length and bytes, numbers are little-endian. The host has parsed what it gives: names
//! and values are what RFC 9110 allows, names are in lower case. It allows no other from the guest.

use alloc::vec::Vec;

use crate::Handle;
use crate::call::wire_enum;

/// Most bytes of a head or of trailers as they are encoded here.
pub const HEAD_BYTES_MAX: usize = 128 << 10;

/// Header or trailer fields, in their order: name and value.
pub type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, in its case.
    pub method: &'a [u8],
    /// `http`, `https`, or another scheme; empty if there is none.
    pub scheme: &'a [u8],
    /// Host and port; empty if there is none.
    pub authority: &'a [u8],
    /// Path and query; empty if there is none.
    pub path_with_query: &'a [u8],
    /// Header fields.
    pub headers: Fields<'a>,
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// Header fields.
    pub headers: Fields<'a>,
}

/// A request that the guest is to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingRequest<'a> {
    /// The exchange.
    pub exchange: Handle,
    /// Its head.
    pub head: RequestHead<'a>,
    /// The beginning of its body, which is not read again.
    pub body: &'a [u8],
    /// The body is no longer than that, and has no trailers.
    pub is_complete: bool,
}

/// Why an exchange failed: one of wasi:http's error codes, with what the interface says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpError<'a> {
    /// Which.
    pub code: ErrorCode,
    /// A name of a field, a response code of the DNS, a coding, or a message.
    pub text: Option<&'a [u8]>,
    /// A size, or an identifier.
    pub number: Option<u64>,
}

wire_enum! {
    /// The cases of wasi:http/types `error-code`, in its order.
    ErrorCode {
        /// `DNS-timeout`
        DnsTimeout = 0,
        /// `DNS-error`: the response code is the text, the info code the number.
        DnsError = 1,
        /// `destination-not-found`
        DestinationNotFound = 2,
        /// `destination-unavailable`
        DestinationUnavailable = 3,
        /// `destination-IP-prohibited`
        DestinationIpProhibited = 4,
        /// `destination-IP-unroutable`
        DestinationIpUnroutable = 5,
        /// `connection-refused`
        ConnectionRefused = 6,
        /// `connection-terminated`
        ConnectionTerminated = 7,
        /// `connection-timeout`
        ConnectionTimeout = 8,
        /// `connection-read-timeout`
        ConnectionReadTimeout = 9,
        /// `connection-write-timeout`
        ConnectionWriteTimeout = 10,
        /// `connection-limit-reached`
        ConnectionLimitReached = 11,
        /// `TLS-protocol-error`
        TlsProtocolError = 12,
        /// `TLS-certificate-error`
        TlsCertificateError = 13,
        /// `TLS-alert-received`: the message is the text, the alert the number.
        TlsAlertReceived = 14,
        /// `HTTP-request-denied`
        HttpRequestDenied = 15,
        /// `HTTP-request-length-required`
        HttpRequestLengthRequired = 16,
        /// `HTTP-request-body-size`: the number.
        HttpRequestBodySize = 17,
        /// `HTTP-request-method-invalid`
        HttpRequestMethodInvalid = 18,
        /// `HTTP-request-URI-invalid`
        HttpRequestUriInvalid = 19,
        /// `HTTP-request-URI-too-long`
        HttpRequestUriTooLong = 20,
        /// `HTTP-request-header-section-size`: the number.
        HttpRequestHeaderSectionSize = 21,
        /// `HTTP-request-header-size`: the field is the text, its size the number.
        HttpRequestHeaderSize = 22,
        /// `HTTP-request-trailer-section-size`: the number.
        HttpRequestTrailerSectionSize = 23,
        /// `HTTP-request-trailer-size`: the field is the text, its size the number.
        HttpRequestTrailerSize = 24,
        /// `HTTP-response-incomplete`
        HttpResponseIncomplete = 25,
        /// `HTTP-response-header-section-size`: the number.
        HttpResponseHeaderSectionSize = 26,
        /// `HTTP-response-header-size`: the field is the text, its size the number.
        HttpResponseHeaderSize = 27,
        /// `HTTP-response-body-size`: the number.
        HttpResponseBodySize = 28,
        /// `HTTP-response-trailer-section-size`: the number.
        HttpResponseTrailerSectionSize = 29,
        /// `HTTP-response-trailer-size`: the field is the text, its size the number.
        HttpResponseTrailerSize = 30,
        /// `HTTP-response-transfer-coding`: the coding is the text.
        HttpResponseTransferCoding = 31,
        /// `HTTP-response-content-coding`: the coding is the text.
        HttpResponseContentCoding = 32,
        /// `HTTP-response-timeout`
        HttpResponseTimeout = 33,
        /// `HTTP-upgrade-failed`
        HttpUpgradeFailed = 34,
        /// `HTTP-protocol-error`
        HttpProtocolError = 35,
        /// `loop-detected`
        LoopDetected = 36,
        /// `configuration-error`
        ConfigurationError = 37,
        /// `internal-error`: a message is the text.
        InternalError = 38,
    }
}

impl ErrorCode {
    /// The error with nothing said of it.
    #[must_use]
    pub const fn alone(self) -> HttpError<'static> {
        HttpError { code: self, text: None, number: None }
    }
}

impl<'a> RequestHead<'a> {
    /// Writes the head out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for record in [self.method, self.scheme, self.authority, self.path_with_query] {
            put(&mut out, record);
        }
        put_fields(&mut out, &self.headers);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if `bytes` is nothing of the kind.
    #[must_use]
    pub fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let rest = &mut bytes;
        let head = Self {
            method: record(rest)?,
            scheme: record(rest)?,
            authority: record(rest)?,
            path_with_query: record(rest)?,
            headers: fields(rest)?,
        };
        bytes.is_empty().then_some(head)
    }
}

impl<'a> ResponseHead<'a> {
    /// Writes the head out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from(self.status.to_le_bytes());
        put_fields(&mut out, &self.headers);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if `bytes` is nothing of the kind.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        Self::split_first(bytes).filter(|(_, rest)| rest.is_empty()).map(|(head, _)| head)
    }

    /// Splits what [`encode`](Self::encode) wrote off `bytes`; `None` if they begin with nothing of the kind.
    #[must_use]
    pub fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (status, mut rest) = bytes.split_first_chunk()?;
        let head = Self { status: u16::from_le_bytes(*status), headers: fields(&mut rest)? };
        Some((head, rest))
    }
}

impl<'a> IncomingRequest<'a> {
    /// Writes the request out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from(self.exchange.0.to_le_bytes());
        out.push(u8::from(self.is_complete));
        put(&mut out, &self.head.encode());
        out.extend_from_slice(self.body);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if `bytes` is nothing of the kind.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (exchange, rest) = bytes.split_first_chunk()?;
        let (is_complete, mut rest) = rest.split_first()?;
        let head = RequestHead::decode(record(&mut rest)?)?;
        let exchange = Handle(u32::from_le_bytes(*exchange));
        Some(Self { exchange, head, body: rest, is_complete: *is_complete != 0 })
    }
}

impl<'a> HttpError<'a> {
    /// Writes the error out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from((self.code as u32).to_le_bytes());
        out.push(u8::from(self.text.is_some()));
        put(&mut out, self.text.unwrap_or_default());
        out.push(u8::from(self.number.is_some()));
        out.extend_from_slice(&self.number.unwrap_or_default().to_le_bytes());
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if `bytes` is nothing of the kind.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        Self::split_first(bytes).filter(|(_, rest)| rest.is_empty()).map(|(error, _)| error)
    }

    /// Splits what [`encode`](Self::encode) wrote off `bytes`; `None` if they begin with nothing of the kind.
    #[must_use]
    pub fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (code, rest) = bytes.split_first_chunk()?;
        let code = ErrorCode::from_wire(u32::from_le_bytes(*code).into())?;
        let (has_text, mut rest) = rest.split_first()?;
        let text = record(&mut rest)?;
        let (has_number, rest) = rest.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let number = u64::from_le_bytes(*number);
        let (text, number) =
            ((*has_text != 0).then_some(text), (*has_number != 0).then_some(number));
        Some((Self { code, text, number }, rest))
    }
}

/// Writes trailers out; an empty slice stands for none too.
#[must_use]
pub fn encode_trailers(trailers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    put_fields(&mut out, trailers);
    out
}

/// Reads what [`encode_trailers`] wrote; `None` if `bytes` is nothing of the kind.
#[must_use]
pub fn decode_trailers(bytes: &[u8]) -> Option<Fields<'_>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    split_trailers(bytes).filter(|(_, rest)| rest.is_empty()).map(|(trailers, _)| trailers)
}

/// Splits what [`encode_trailers`] wrote off `bytes`; `None` if they begin with nothing of the kind.
#[must_use]
pub fn split_trailers(mut bytes: &[u8]) -> Option<(Fields<'_>, &[u8])> {
    let trailers = fields(&mut bytes)?;
    Some((trailers, bytes))
}

fn put(out: &mut Vec<u8>, record: &[u8]) {
    let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(record);
}

fn put_fields(out: &mut Vec<u8>, fields: &[(&[u8], &[u8])]) {
    let count = u32::try_from(fields.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for (name, value) in fields {
        put(out, name);
        put(out, value);
    }
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (number, tail) = rest.split_first_chunk()?;
    *rest = tail;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number(rest)?;
    let (record, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(record)
}

fn fields<'a>(rest: &mut &'a [u8]) -> Option<Fields<'a>> {
    let count = number(rest)?;
    (0..count).map(|_| Some((record(rest)?, record(rest)?))).collect()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn head() -> RequestHead<'static> {
        RequestHead {
            method: b"GET",
            scheme: b"https",
            authority: b"example.org:8443",
            path_with_query: b"/a?b",
            headers: vec![(b"accept", b"*/*"), (b"x-empty", b"")],
        }
    }

    #[test]
    fn heads_survive() {
        assert_eq!(RequestHead::decode(&head().encode()), Some(head()));
        let response = ResponseHead { status: 204, headers: head().headers };
        assert_eq!(ResponseHead::decode(&response.encode()), Some(response));
    }

    #[test]
    fn a_request_survives() {
        let request =
            IncomingRequest { exchange: Handle(9), head: head(), body: b"body", is_complete: true };
        assert_eq!(IncomingRequest::decode(&request.encode()), Some(request));
    }

    #[test]
    fn trailers_survive() {
        for trailers in [vec![], head().headers] {
            assert_eq!(decode_trailers(&encode_trailers(&trailers)), Some(trailers));
        }
        assert_eq!(decode_trailers(&[]), Some(vec![]));
    }

    #[test]
    fn errors_survive() {
        for code in (0..39).map(|code| ErrorCode::from_wire(code).expect("39 codes")) {
            for error in [code.alone(), HttpError { code, text: Some(b"x-a"), number: Some(7) }] {
                assert_eq!(HttpError::decode(&error.encode()), Some(error));
            }
        }
        assert_eq!(ErrorCode::from_wire(39), None);
    }

    #[test]
    fn every_truncation_of_a_head_is_refused() {
        let (request, response) = (head().encode(), ResponseHead::default().encode());
        for len in 0..request.len() {
            assert_eq!(RequestHead::decode(&request[..len]), None, "first {len} bytes");
        }
        for len in 0..response.len() {
            assert_eq!(ResponseHead::decode(&response[..len]), None, "first {len} bytes");
        }
    }
}
