//! What no guest of ours says.

use abi::http::{ErrorCode, HEAD_BYTES_MAX, RequestHead, ResponseHead, encode_trailers};
use abi::{Errno, Handle, OpenFlags, Request as Call};
use http::HeaderMap;

use super::super::super::tests::Random;
use super::{Given, block_on, get, given, guest_with_client, ok, whole};

/// Fields that are none, or not the guest's to set.
const BAD_FIELDS: &[(&[u8], &[u8])] = &[
    (b"", b"x"),
    (b"a b", b"x"),
    (b"a:", b"x"),
    (b"x-a", b"a\r\nb: c"),
    (b"x-a", b"a\0"),
    (b"connection", b"close"),
    (b"Transfer-Encoding", b"chunked"),
    (b"upgrade", b"h2c"),
    (b"host", b"elsewhere"),
    (b"keep-alive", b"1"),
    (b"proxy-connection", b"close"),
    (b"http2-settings", b"AA"),
    (b"te", b"gzip"),
    (b"content-length", b"-1"),
    (b"content-length", b"+1"),
    (b"content-length", b"1, 1"),
    (b"content-length", b"18446744073709551616"),
    (b"content-length", b""),
];

#[test]
fn fields_that_are_none_are_refused_in_heads() {
    let (mut guest, requests) = guest_with_client();
    let Given { guest: mut other, exchange, .. } = given();
    for field in BAD_FIELDS {
        let head = RequestHead { headers: vec![*field], ..get() };
        assert_eq!(guest.fetch(&head), Err(Errno::Invalid), "{field:?}");
        let head = ResponseHead { headers: vec![*field], ..ok() };
        assert_eq!(other.respond(exchange, &head, b"", false), Err(Errno::Invalid), "{field:?}");
    }
    assert!(requests.try_recv().is_err(), "none was made");
    assert_eq!(other.respond(exchange, &ok(), b"", false), Ok(0), "it is still unanswered");
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let Given { mut guest, exchange, .. } = given();
    let headers: Vec<(&[u8], &[u8])> = vec![(b"content-length", b"1"), (b"content-length", b"2")];
    let head = ResponseHead { headers, ..ok() };
    assert_eq!(guest.respond(exchange, &head, b"", false), Err(Errno::Invalid));
}

#[test]
fn fields_that_are_none_are_refused_in_trailers() {
    let Given { mut guest, exchange, response, .. } = given();
    guest.begin_response(exchange);
    let length: (&[u8], &[u8]) = (b"content-length", b"1");
    for field in BAD_FIELDS.iter().chain([&length]) {
        let trailers = encode_trailers(&[*field]);
        let call = Call::Finish { exchange, trailers: &trailers };
        assert_eq!(guest.call(call), Err(Errno::Invalid), "{field:?}");
    }
    assert_eq!(guest.finish(exchange), Ok(0), "it is not finished");
    let (_, body) = block_on(response.response()).expect("a response");
    assert_eq!(whole(body), Ok((vec![], HeaderMap::new())));
}

#[test]
fn statuses_that_are_none_or_no_end_are_refused() {
    let Given { mut guest, exchange, .. } = given();
    for status in [0, 1, 99, 100, 101, 103, 199, 1000, u16::MAX] {
        let head = ResponseHead { status, headers: vec![] };
        assert_eq!(guest.respond(exchange, &head, b"", true), Err(Errno::Invalid), "{status}");
    }
    let head = ResponseHead { status: 999, headers: vec![] };
    assert_eq!(guest.respond(exchange, &head, b"", true), Ok(0));
}

#[test]
fn what_is_no_head_is_refused() {
    let (mut guest, _requests) = guest_with_client();
    let Given { guest: mut other, exchange, .. } = given();
    for bytes in [&b""[..], b"\0", &[0xff; 64]] {
        assert_eq!(guest.fetch_with(bytes, b"", true), Err(Errno::Invalid));
        let call = Call::Respond { exchange, finished: true, head: bytes, body: b"" };
        assert_eq!(other.call(call), Err(Errno::Invalid));
    }
    assert_eq!(other.call(Call::Fail { exchange, error: b"x" }), Err(Errno::Invalid));
    other.begin_response(exchange);
    let call = Call::Finish { exchange, trailers: b"x" };
    assert_eq!(other.call(call), Err(Errno::Invalid));
}

#[test]
fn heads_and_trailers_that_are_too_large_are_refused() {
    let (mut guest, _requests) = guest_with_client();
    let Given { guest: mut other, exchange, .. } = given();
    let value = vec![b'v'; HEAD_BYTES_MAX];
    let field: (&[u8], &[u8]) = (b"x-a", &value);
    let head = RequestHead { headers: vec![field], ..get() };
    assert_eq!(guest.fetch(&head), Err(Errno::TooBig));
    let head = ResponseHead { headers: vec![field], ..ok() };
    assert_eq!(other.respond(exchange, &head, b"", true), Err(Errno::TooBig));
    other.begin_response(exchange);
    let call = Call::Finish { exchange, trailers: &encode_trailers(&[field]) };
    assert_eq!(other.call(call), Err(Errno::TooBig));
}

#[test]
fn as_many_fields_as_fit_into_a_head_are_no_matter() {
    let (mut guest, _requests) = guest_with_client();
    let names: Vec<_> = (0..9000).map(|number| format!("x{number}")).collect();
    let headers = names.iter().map(|name| (name.as_bytes(), &b""[..])).collect();
    guest.fetch(&RequestHead { headers, ..get() }).expect("fetch");
}

#[test]
fn an_exchange_is_no_file_and_a_file_no_exchange() {
    let Given { mut guest, exchange, .. } = given();
    let file = guest.create("file");
    let error = ErrorCode::LoopDetected.alone().encode();
    for handle in [file, Handle(4711)] {
        for call in [
            Call::Respond { exchange: handle, finished: true, head: &ok().encode(), body: b"" },
            Call::Finish { exchange: handle, trailers: b"" },
            Call::Head { exchange: handle },
            Call::Trailers { exchange: handle },
            Call::Fail { exchange: handle, error: &error },
        ] {
            assert_eq!(guest.call(call), Err(Errno::BadHandle), "{call:?}");
        }
    }
    for call in [
        Call::Sync { handle: exchange, data_only: true },
        Call::Stat { handle: exchange },
        Call::SetSize { handle: exchange, size: 0 },
        Call::ReadDir { handle: exchange, cookie: 0 },
        Call::OpenAt { dir: exchange, flags: OpenFlags::READ, path: b"file" },
    ] {
        assert_eq!(guest.call(call), Err(Errno::BadHandle), "{call:?}");
    }
}

#[test]
fn the_calls_of_one_kind_of_exchange_are_not_the_others() {
    let Given { mut guest, exchange, .. } = given();
    assert_eq!(guest.call(Call::Head { exchange }), Err(Errno::BadHandle));
    let (mut guest, _requests) = guest_with_client();
    let exchange = guest.fetch(&get()).expect("fetch");
    assert_eq!(guest.respond(exchange, &ok(), b"", true), Err(Errno::BadHandle));
    let error = ErrorCode::LoopDetected.alone().encode();
    assert_eq!(guest.call(Call::Fail { exchange, error: &error }), Err(Errno::BadHandle));
}

#[test]
fn random_calls_never_panic() {
    let (mut guest, requests) = guest_with_client();
    let mut random = Random(3);
    let mut incoming = Vec::new();
    for _ in 0..50_000 {
        let exchange = Handle(u32::try_from(random.next() % 16).expect("small"));
        let noise = random.next().to_le_bytes();
        let data = &noise[..usize::try_from(random.next() % 9).expect("small")];
        let finished = random.next() & 1 == 0;
        let response = ok().encode();
        let response = if random.next() & 7 == 0 { data } else { &response };
        let request = get().encode();
        let request = if random.next() & 7 == 0 { data } else { &request };
        let error = ErrorCode::LoopDetected.alone().encode();
        let call = match random.next() % 10 {
            0 => Call::Respond { exchange, finished, head: response, body: data },
            1 => Call::Fetch {
                finished,
                connect_ns: random.next(),
                first_byte_ns: random.next(),
                between_bytes_ns: random.next(),
                head: request,
                body: data,
            },
            2 => Call::Finish { exchange, trailers: if finished { b"" } else { data } },
            3 => Call::Head { exchange },
            4 => Call::Trailers { exchange },
            5 => Call::Fail { exchange, error: if finished { &error } else { data } },
            6 => Call::Read { handle: exchange, offset: 0, len: 8, wait: false },
            7 => Call::Write { handle: exchange, offset: 0, wait: false, data },
            8 => {
                let request = http::Request::get("http://a/").body(()).expect("a request");
                let (request, body, response) = super::Incoming::new(request);
                incoming.push((body, response));
                let _ = guest.host.admit(request);
                continue;
            }
            // The directories and streams stay.
            _ => Call::Close { handle: Handle(5 + exchange.0) },
        };
        let mut reply = vec![0; usize::try_from(random.next() % 64).expect("small")];
        if let Ok(answer) = guest.host.call(call, &mut reply) {
            assert!(answer.data_bytes <= reply.len());
        }
        if random.next() & 31 == 0 {
            incoming.clear();
            requests.try_iter().for_each(drop);
        }
    }
}
