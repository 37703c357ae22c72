//! Heads and trailers: what crosses, and what the process uses.
//!
//! Rule: a guest's head is an allegation. What it says of the connection, and not of the message, is
//! refused; lengths are numbers, and one. A peer's head has been parsed; what it says of its connection is
//! left out, as by any intermediary (RFC 9110, 7.6.1), and the guest learns host and port as the authority.

use abi::Errno;
use abi::http::{ErrorCode, Fields, HEAD_BYTES_MAX, RequestHead, ResponseHead, decode_trailers};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

/// What a head or its trailers say of the connection (RFC 9110, 7.6.1), or of the framing; and the host,
/// which is the authority's.
fn is_of_the_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    match name {
        &CONNECTION | &TRANSFER_ENCODING | &UPGRADE | &HOST => true,
        // The one coding that says something of the message: whether trailers are of use.
        &TE => value != "trailers",
        name => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings"),
    }
}

/// What must not be in trailers besides: the length (RFC 9110, 6.5.1).
fn is_of_the_head(name: &HeaderName) -> bool {
    matches!(name, &CONTENT_LENGTH | &TE | &PROXY_AUTHENTICATE | &PROXY_AUTHORIZATION)
}

/// Why a request of the guest's goes nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The call is refused.
    Call(Errno),
    /// The exchange fails with this.
    Exchange(ErrorCode),
}

/// A request's head, and how long it says its body is.
pub(super) fn request(bytes: &[u8]) -> Result<(Request<()>, Option<u64>), Refusal> {
    check_size(bytes).map_err(Refusal::Call)?;
    let head = RequestHead::decode(bytes).ok_or(Refusal::Call(Errno::Invalid))?;
    let headers = fields(&head.headers).map_err(Refusal::Call)?;
    let length = content_length(&headers).map_err(Refusal::Call)?;
    let method = Method::from_bytes(head.method)
        .map_err(|_| Refusal::Exchange(ErrorCode::HttpRequestMethodInvalid))?;
    let uri = uri(&head).ok_or(Refusal::Exchange(ErrorCode::HttpRequestUriInvalid))?;
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    *request.headers_mut() = headers;
    Ok((request, length))
}

/// An absolute URI; `https` and `/` where the head says nothing.
fn uri(head: &RequestHead<'_>) -> Option<Uri> {
    let scheme = if head.scheme.is_empty() { &b"https"[..] } else { head.scheme };
    let path = if head.path_with_query.is_empty() { &b"/"[..] } else { head.path_with_query };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::try_from(scheme).ok()?);
    parts.authority = Some(Authority::try_from(head.authority).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// A response's head, and how long it says its body is.
///
/// # Errors
///
/// [`Errno::Invalid`], for an interim status (1xx), too: an exchange has one response.
pub(super) fn response(bytes: &[u8]) -> Result<(Response<()>, Option<u64>), Errno> {
    check_size(bytes)?;
    let head = ResponseHead::decode(bytes).ok_or(Errno::Invalid)?;
    let status = StatusCode::from_u16(head.status).map_err(|_| Errno::Invalid)?;
    let headers = fields(&head.headers)?;
    let length = content_length(&headers)?;
    if status.is_informational() {
        return Err(Errno::Invalid);
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok((response, length))
}

/// Trailers of the guest's.
pub(super) fn trailers(bytes: &[u8]) -> Result<HeaderMap, Errno> {
    check_size(bytes)?;
    let trailers = fields(&decode_trailers(bytes).ok_or(Errno::Invalid)?)?;
    if trailers.keys().any(is_of_the_head) { Err(Errno::Invalid) } else { Ok(trailers) }
}

fn check_size(bytes: &[u8]) -> Result<(), Errno> {
    if bytes.len() > HEAD_BYTES_MAX { Err(Errno::TooBig) } else { Ok(()) }
}

fn fields(fields: &Fields<'_>) -> Result<HeaderMap, Errno> {
    let mut map = HeaderMap::try_with_capacity(fields.len()).map_err(|_| Errno::TooBig)?;
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name).map_err(|_| Errno::Invalid)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Errno::Invalid)?;
        if is_of_the_connection(&name, &value) {
            return Err(Errno::Invalid);
        }
        map.try_append(name, value).map_err(|_| Errno::TooBig)?;
    }
    Ok(map)
}

/// The length that `headers` tell: none, or one number however often it is there (RFC 9110, 8.6).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Errno> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(Errno::Invalid)?;
        if length.is_some_and(|length| length != number) {
            return Err(Errno::Invalid);
        }
        length = Some(number);
    }
    Ok(length)
}

/// What crosses of a request.
pub(super) fn request_head(request: &Request<()>) -> RequestHead<'_> {
    let uri = request.uri();
    let path = uri.path_and_query().map(PathAndQuery::as_str);
    RequestHead {
        method: request.method().as_str().as_bytes(),
        scheme: uri.scheme_str().unwrap_or_default().as_bytes(),
        authority: uri.authority().map(Authority::as_str).unwrap_or_default().as_bytes(),
        path_with_query: path.unwrap_or_default().as_bytes(),
        headers: encoded(request.headers()),
    }
}

/// What crosses of a response.
pub(super) fn response_head(response: &Response<()>) -> ResponseHead<'_> {
    ResponseHead { status: response.status().as_u16(), headers: encoded(response.headers()) }
}

/// What crosses of a peer's header or trailer fields: all but what is of the connection, by its name or
/// because `Connection` names it.
pub(super) fn encoded(fields: &HeaderMap) -> Fields<'_> {
    let options: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| name != CONTENT_LENGTH) // is no option, whoever says so
        .collect();
    fields
        .iter()
        .filter(|(name, value)| !is_of_the_connection(name, value) && !options.contains(name))
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
        .collect()
}
