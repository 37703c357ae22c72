//! Error codes: each crosses in both directions with what the interface says of it.

use super::*;

fn number_32() -> Val {
    some(Val::U32(7))
}

fn field_size() -> Val {
    Val::Record(vec![
        ("field-name".to_owned(), some(text("x-a"))),
        ("field-size".to_owned(), number_32()),
    ])
}

/// Every code: the interface's name, what the interface says of it, and the same as it crosses.
fn codes() -> Vec<(Val, Failure)> {
    let plain = |name: &str, of: ErrorCode| (code(name, None), failure(of));
    let with =
        |name: &str, of: ErrorCode, payload: Val, text: Option<&str>, number: Option<u64>| {
            let told = Failure { code: of, text: text.map(str::to_owned), number };
            (code(name, Some(payload)), told)
        };
    let sized = |name: &str, of, payload| with(name, of, payload, None, Some(7));
    let field = |name: &str, of, payload| with(name, of, payload, Some("x-a"), Some(7));
    let worded = |name: &str, of| with(name, of, some(text("word")), Some("word"), None);
    let dns = Val::Record(vec![
        ("rcode".to_owned(), some(text("NXDOMAIN"))),
        ("info-code".to_owned(), some(Val::U16(7))),
    ]);
    let tls = Val::Record(vec![
        ("alert-id".to_owned(), some(Val::U8(42))),
        ("alert-message".to_owned(), some(text("bad"))),
    ]);
    use ErrorCode as E;
    vec![
        plain("DNS-timeout", E::DnsTimeout),
        with("DNS-error", E::DnsError, dns, Some("NXDOMAIN"), Some(7)),
        plain("destination-not-found", E::DestinationNotFound),
        plain("destination-unavailable", E::DestinationUnavailable),
        plain("destination-IP-prohibited", E::DestinationIpProhibited),
        plain("destination-IP-unroutable", E::DestinationIpUnroutable),
        plain("connection-refused", E::ConnectionRefused),
        plain("connection-terminated", E::ConnectionTerminated),
        plain("connection-timeout", E::ConnectionTimeout),
        plain("connection-read-timeout", E::ConnectionReadTimeout),
        plain("connection-write-timeout", E::ConnectionWriteTimeout),
        plain("connection-limit-reached", E::ConnectionLimitReached),
        plain("TLS-protocol-error", E::TlsProtocolError),
        plain("TLS-certificate-error", E::TlsCertificateError),
        with("TLS-alert-received", E::TlsAlertReceived, tls, Some("bad"), Some(42)),
        plain("HTTP-request-denied", E::HttpRequestDenied),
        plain("HTTP-request-length-required", E::HttpRequestLengthRequired),
        sized("HTTP-request-body-size", E::HttpRequestBodySize, some(Val::U64(7))),
        plain("HTTP-request-method-invalid", E::HttpRequestMethodInvalid),
        plain("HTTP-request-URI-invalid", E::HttpRequestUriInvalid),
        plain("HTTP-request-URI-too-long", E::HttpRequestUriTooLong),
        sized("HTTP-request-header-section-size", E::HttpRequestHeaderSectionSize, number_32()),
        field("HTTP-request-header-size", E::HttpRequestHeaderSize, some(field_size())),
        sized("HTTP-request-trailer-section-size", E::HttpRequestTrailerSectionSize, number_32()),
        field("HTTP-request-trailer-size", E::HttpRequestTrailerSize, field_size()),
        plain("HTTP-response-incomplete", E::HttpResponseIncomplete),
        sized("HTTP-response-header-section-size", E::HttpResponseHeaderSectionSize, number_32()),
        field("HTTP-response-header-size", E::HttpResponseHeaderSize, field_size()),
        sized("HTTP-response-body-size", E::HttpResponseBodySize, some(Val::U64(7))),
        sized("HTTP-response-trailer-section-size", E::HttpResponseTrailerSectionSize, number_32()),
        field("HTTP-response-trailer-size", E::HttpResponseTrailerSize, field_size()),
        worded("HTTP-response-transfer-coding", E::HttpResponseTransferCoding),
        worded("HTTP-response-content-coding", E::HttpResponseContentCoding),
        plain("HTTP-response-timeout", E::HttpResponseTimeout),
        plain("HTTP-upgrade-failed", E::HttpUpgradeFailed),
        plain("HTTP-protocol-error", E::HttpProtocolError),
        plain("loop-detected", E::LoopDetected),
        plain("configuration-error", E::ConfigurationError),
        worded("internal-error", E::InternalError),
    ]
}

#[test]
fn every_error_of_a_response_is_the_programs_to_read() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let codes = codes();
    assert_eq!(codes.len(), 39);
    for (code, told) in codes {
        let future = outgoing::ask(&mut handler);
        let outgoing = handler.outgoing.recv_timeout(HANG).unwrap();
        outgoing.response.fail(told);
        let pollable = handler.call("types/future-incoming-response.subscribe", &[&future]);
        handler.block(pollable);
        let given = handler.call("types/future-incoming-response.get", &[&future]);
        assert_eq!(given, some(Val::Result(Ok(Some(Box::new(err(code)))))));
        handler.drop("future-incoming-response", future);
    }
}

#[test]
fn every_error_by_which_a_program_answers_reaches_the_server() {
    for (code, told) in codes() {
        let (incoming, server) = get();
        let mut handler = Handler::given(incoming);
        let outparam = handler.outparam.clone();
        handler.program.gives_nothing("types/response-outparam.set", &[outparam, err(code)]);
        assert_eq!(handler.calls(), [Nr::Fail]);
        let answer = block_on(server.response.response()).unwrap_err();
        assert_eq!(answer, Unanswered::Failed(told));
    }
}
