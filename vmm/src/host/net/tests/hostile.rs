//! Random calls on sockets and names, which no guest of ours makes.

use std::collections::BTreeSet;

use abi::Direction;

use super::policies::only;
use super::*;
use crate::host::LookupError;
use crate::host::handles::Handles;
use crate::host::tests::Random;

/// Most handles of the guest, so that it uses them up.
const HANDLES: u32 = 24;

/// Somewhere to go: what is bound on loopback, or a place that the policy denies, or nowhere.
fn place(random: &mut Random, bound: &[SocketAddr]) -> SocketAddress {
    let elsewhere = ["192.0.2.1:9", "[2001:db8::1]:9", "[::ffff:192.0.2.1]:9", "255.255.255.255:9"];
    let far = random.pick(&elsewhere).parse().expect("address");
    let near = loopback(random.pick(&BOTH), 0);
    let known = random.pick(bound);
    let place = address::wire(random.pick(&[near, near, far, known, known, known, known]));
    random.pick(&[place, place, place, place, place, place, SocketAddress::default()])
}

fn request<'a>(
    random: &mut Random,
    bound: &[SocketAddr],
    data: &'a [u8],
    entries: &'a [u8],
) -> Request<'a> {
    let number = u32::try_from(random.next() % u64::from(HANDLES)).expect("small");
    let handle = Handle(number);
    let family = random.pick(&BOTH);
    let kind = random.pick(&[SocketKind::Stream, SocketKind::Datagram]);
    let address = place(random, bound);
    let direction = random.pick(&[Direction::Receive, Direction::Send, Direction::Both]);
    let option = SocketOption::from_wire(random.next() % 8).expect("there are eight");
    let any = random.next();
    let value = random.pick(&[0, 1, 200, any % (1 << 20), any, u64::MAX]);
    let len = u32::try_from(any % 4096).expect("small");
    let peer = random.flag();
    let name = random.pick(&[&b"found"[..], b"lost", b"fails", b"given up", b"::1", b"\xff"]);
    random.pick(&[
        Request::Socket { family, kind },
        Request::Socket { family, kind },
        Request::Bind { handle, address },
        Request::Listen { handle, backlog: len },
        Request::Accept { handle },
        Request::Connect { handle, address },
        Request::Connect { handle, address },
        Request::Send { handle, datagrams: data },
        Request::Send { handle, datagrams: data },
        Request::Receive { handle, count: len },
        Request::Shutdown { handle, direction },
        Request::Address { handle, peer },
        Request::GetOption { handle, option },
        Request::SetOption { handle, option, value },
        Request::Resolve { name },
        Request::Read { handle, offset: value, len, wait: false },
        Request::Write { handle, offset: value, wait: false, data },
        Request::Poll { timeout_ns: 0, entries },
        Request::Stat { handle },
        Request::Sync { handle, data_only: peer },
        Request::SetSize { handle, size: value },
        Request::Close { handle },
    ])
}

/// Datagrams for somewhere, or bytes that are none.
fn datagrams(random: &mut Random, bound: &[SocketAddr]) -> Vec<u8> {
    let mut area = vec![0; 4096];
    let mut filled = 0;
    for _ in 0..random.next() % 4 {
        let to = place(random, bound);
        filled = DatagramHeader::write(to, b"datagram", &mut area, filled).expect("room");
    }
    area.truncate(filled);
    if random.flag() {
        let cut = usize::try_from(random.next() % 41).expect("small");
        area.truncate(filled.saturating_sub(cut));
    }
    area
}

#[test]
fn random_calls_never_panic_and_never_leave_loopback() {
    let look_up = |request: LookupRequest| match request.name() {
        "found" => request.answer(Ok(vec![Ipv4Addr::LOCALHOST.into()])),
        "lost" => request.answer(Err(LookupError::NotFound)),
        "fails" => request.answer(Err(LookupError::ServerFailed)),
        _ => drop(request),
    };
    let mut guest = guest_with(only(&["127.0.0.0/8", "[::1]"]), look_up);
    guest.host.handles = Handles::with_limit(HANDLES as usize);
    let mut random = Random(5);
    let (mut granted, mut bound) = (BTreeSet::new(), vec![loopback(Family::V4, 0)]);
    let mut reply = vec![0; CALL_DATA_BYTES];
    for round in 0..50_000 {
        if round % 100 == 0 {
            // Somebody who listens, which random calls seldom come to.
            let closed = guest.call(Request::Close { handle: Handle(HANDLES - 1) });
            assert!(matches!(closed, Ok(0) | Err(Errno::BadHandle)), "{closed:?}");
            let (_, at) = guest.listener(random.pick(&BOTH));
            bound.push(at);
        }
        let data = datagrams(&mut random, &bound);
        let mut entries = [0; 64];
        for (number, entry) in (0..).zip(entries.chunks_exact_mut(16)) {
            entry[0] = u8::try_from(random.next() % 32).expect("small");
            entry[4] = number;
        }
        let request = request(&mut random, &bound, &data, &entries);
        let room = random.pick(&[0, 27, 28, 100, CALL_DATA_BYTES, CALL_DATA_BYTES]);
        let Ok(answer) = guest.host.call(request, &mut reply[..room]) else { continue };
        assert!(answer.data_bytes <= room, "{request:?}");
        granted.insert(request.encode(&mut [0; 4096]).expect("short").nr);
        match request {
            Request::Bind { handle, .. } => bound.push(guest.own_address(handle)),
            Request::Connect { handle, .. } => {
                let peer = guest.address(handle, true);
                assert!(peer.is_err() || peer.is_ok_and(|at| at.ip().is_loopback()), "{peer:?}");
            }
            _ => {}
        }
        let first = bound.len().saturating_sub(16);
        bound.drain(..first);
    }
    let asked = abi::Nr::ALL.iter().map(|nr| *nr as u32).filter(|nr| (0x40..0x50).contains(nr));
    let missing: Vec<_> = asked.filter(|nr| !granted.contains(nr)).collect();
    assert_eq!(missing, [], "calls that were never granted");
}
