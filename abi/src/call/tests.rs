extern crate std;

use std::vec;

use super::*;
use crate::{Errno, layout};

const PATH: &[u8] = b"a/b";

/// One request of every kind, with distinct values in every field.
fn samples() -> vec::Vec<Request<'static>> {
    let (dir, other) = (Handle(3), Handle(4));
    let address = SocketAddress::new(Family::V4, [5; 16], 80);
    let mask = TimesMask::ATIME.with(TimesMask::MTIME_NOW);
    vec![
        Request::Exit { status: -7 },
        Request::Abort { kind: AbortKind::BadProgram, message: b"m" },
        Request::Log { level: LogLevel::Warn, message: b"l" },
        Request::Map { gva: layout::MAP_AREA.start, len: 0x3000, access: Access::ReadWrite },
        Request::Program,
        Request::Ready { readiness: Readiness::Instantiated },
        Request::BootInfo { offset: 9 },
        Request::Clock,
        Request::Poll { timeout_ns: 5, entries: &[0; size_of::<crate::PollEntry>() * 2] },
        Request::Read { handle: dir, offset: 6, len: 7, wait: true },
        Request::Write { handle: dir, offset: 8, wait: true, data: b"xyz" },
        Request::Close { handle: dir },
        Request::Sync { handle: dir, data_only: true },
        Request::Stat { handle: dir },
        Request::SetSize { handle: dir, size: 9 },
        Request::SetTimes { handle: dir, mask, atime_ns: 10, mtime_ns: 11 },
        Request::ReadDir { handle: dir, cookie: 12 },
        Request::Allocate { handle: dir, offset: 15, len: 16 },
        Request::Advise { handle: dir, offset: 17, len: 18, advice: Advice::WillNeed },
        Request::OpenAt { dir, flags: OpenFlags::READ.with(OpenFlags::CREATE), path: PATH },
        Request::StatAt { dir, follow: true, path: PATH },
        Request::SetTimesAt { dir, follow: true, mask, atime_ns: 13, mtime_ns: 14, path: PATH },
        Request::MkdirAt { dir, path: PATH },
        Request::UnlinkAt { dir, directory: true, path: PATH },
        Request::RenameAt { from_dir: dir, to_dir: other, from: PATH, to: b"c" },
        Request::LinkAt { from_dir: dir, to_dir: other, follow: true, from: PATH, to: b"c" },
        Request::SymlinkAt { dir, target: b"../t", path: PATH },
        Request::ReadLinkAt { dir, path: PATH },
        Request::Socket { family: Family::V6, kind: SocketKind::Datagram },
        Request::Bind { handle: dir, address },
        Request::Listen { handle: dir, backlog: 19 },
        Request::Accept { handle: dir },
        Request::Connect { handle: dir, address },
        Request::Send { handle: dir, datagrams: b"dg" },
        Request::Receive { handle: dir, count: 20 },
        Request::Shutdown { handle: dir, direction: Direction::Both },
        Request::Address { handle: dir, peer: true },
        Request::GetOption { handle: dir, option: SocketOption::HopLimit },
        Request::SetOption { handle: dir, option: SocketOption::SendBuffer, value: 21 },
        Request::Resolve { name: b"localhost" },
        Request::Respond { exchange: dir, finished: true, head: b"he", body: b"body" },
        Request::Fetch {
            finished: true,
            connect_ns: 22,
            first_byte_ns: 23,
            between_bytes_ns: 24,
            head: b"he",
            body: b"body",
        },
        Request::Finish { exchange: dir, trailers: b"t" },
        Request::Head { exchange: dir },
        Request::Trailers { exchange: dir },
        Request::Fail { exchange: dir, error: b"e" },
    ]
}

fn frame_of(request: &Request<'_>, area: &mut [u8]) -> Frame {
    request.encode(area).expect("the sample fits")
}

#[test]
fn decode_gives_back_what_was_encoded() {
    for request in samples() {
        let mut area = [0; 256];
        let frame = frame_of(&request, &mut area);
        assert_eq!(Request::decode(&frame, &area), Ok(request));
    }
}

#[test]
fn samples_cover_every_call() {
    let mut area = [0; 256];
    let numbers: vec::Vec<u32> =
        samples().iter().map(|request| frame_of(request, &mut area).nr).collect();
    let all: vec::Vec<u32> = Nr::ALL.iter().map(|nr| *nr as u32).collect();
    assert_eq!(numbers, all);
}

#[test]
fn decode_refuses_a_number_that_is_no_call() {
    for nr in (0..0x200).filter(|nr| Nr::ALL.iter().all(|known| *known as u32 != *nr)) {
        let frame = Frame { nr, ..Frame::default() };
        assert_eq!(Request::decode(&frame, &[]), Err(Violation::UnknownCall(nr)));
    }
}

#[test]
fn decode_refuses_data_beyond_the_window() {
    let frame = Frame { nr: Nr::Write as u32, data_len: 5, ..Frame::default() };
    assert_eq!(Request::decode(&frame, b"abc"), Err(Violation::DataOverrun(5)));
}

#[test]
fn decode_refuses_a_path_with_a_nul() {
    let frame = Frame { nr: Nr::OpenAt as u32, data_len: 3, ..Frame::default() };
    assert_eq!(Request::decode(&frame, b"a\0b"), Err(Violation::BadArgument(Nr::OpenAt)));
}

#[test]
fn decode_refuses_an_empty_path() {
    let frame = Frame { nr: Nr::MkdirAt as u32, ..Frame::default() };
    assert_eq!(Request::decode(&frame, &[]), Err(Violation::BadArgument(Nr::MkdirAt)));
}

#[test]
fn decode_refuses_a_first_path_longer_than_the_data() {
    let frame = Frame { nr: Nr::RenameAt as u32, data_len: 3, args: [3, 3, 4, 0, 0, 0], ret: 0 };
    assert_eq!(Request::decode(&frame, b"abc"), Err(Violation::BadArgument(Nr::RenameAt)));
}

#[test]
fn decode_refuses_unknown_flags() {
    let frame =
        Frame { nr: Nr::OpenAt as u32, data_len: 1, args: [3, 1 << 31, 0, 0, 0, 0], ret: 0 };
    assert_eq!(Request::decode(&frame, b"a"), Err(Violation::BadArgument(Nr::OpenAt)));
}

#[test]
fn decode_refuses_to_map_outside_the_map_area() {
    for (gva, len) in [
        (layout::IMAGE_TEXT.start, 0x1000),
        (layout::MAP_AREA.start + 1, 0x1000),
        (layout::MAP_AREA.start, 0),
        (layout::MAP_AREA.end - 0x1000, 0x2000),
        (!0xfff, 0x1000),
    ] {
        let frame = Frame { nr: Nr::Map as u32, args: [gva, len, 3, 0, 0, 0], ..Frame::default() };
        assert_eq!(
            Request::decode(&frame, &[]),
            Err(Violation::BadArgument(Nr::Map)),
            "{gva:#x}+{len:#x}"
        );
    }
}

#[test]
fn decode_refuses_a_handle_of_more_than_32_bits() {
    let mut refused = 0;
    for request in samples() {
        let mut area = [0; 256];
        let mut frame = frame_of(&request, &mut area);
        let nr = Nr::try_from(frame.nr).expect("a call");
        let has_none = matches!(nr, Nr::Socket | Nr::Resolve | Nr::Fetch);
        if frame.nr < Nr::Read as u32 || has_none {
            continue;
        }
        frame.args[0] |= 1 << 32;
        assert_eq!(Request::decode(&frame, &area), Err(Violation::BadArgument(nr)));
        refused += 1;
    }
    assert_eq!(
        refused,
        Nr::ALL.len() - 12,
        "all but those of the machine, the clock, waiting and making"
    );
}

#[test]
fn decode_refuses_advice_without_a_meaning() {
    let frame = Frame { nr: Nr::Advise as u32, args: [3, 0, 0, 6, 0, 0], ..Frame::default() };
    assert_eq!(Request::decode(&frame, &[]), Err(Violation::BadArgument(Nr::Advise)));
}

#[test]
fn decode_refuses_half_a_poll_entry() {
    let frame = Frame { nr: Nr::Poll as u32, data_len: 3, ..Frame::default() };
    assert_eq!(Request::decode(&frame, b"abc"), Err(Violation::BadArgument(Nr::Poll)));
}

#[test]
fn encode_declines_a_payload_that_does_not_fit() {
    let request = Request::Write { handle: Handle::STDOUT, offset: 0, wait: false, data: b"abcd" };
    assert_eq!(request.encode(&mut [0; 3]), Err(Errno::TooBig));
}

#[test]
fn decode_refuses_an_address_of_no_family_or_size() {
    for data in [&[9; 28][..], &[0; 27], &[0; 29], b""] {
        let data_len = u32::try_from(data.len()).unwrap();
        let frame = Frame { nr: Nr::Bind as u32, data_len, ..Frame::default() };
        assert_eq!(Request::decode(&frame, data), Err(Violation::BadArgument(Nr::Bind)));
    }
}

#[test]
fn decode_refuses_a_name_that_no_host_has() {
    let frame = Frame { nr: Nr::Resolve as u32, data_len: 255, ..Frame::default() };
    assert_eq!(Request::decode(&frame, &[b'a'; 255]), Err(Violation::BadArgument(Nr::Resolve)));
}

#[test]
fn decode_refuses_a_head_longer_than_the_data() {
    let frame = Frame { nr: Nr::Respond as u32, data_len: 3, args: [3, 4, 1, 0, 0, 0], ret: 0 };
    assert_eq!(Request::decode(&frame, b"abc"), Err(Violation::BadArgument(Nr::Respond)));
}
