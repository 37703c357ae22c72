//! Stream sockets.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use abi::Direction;

use super::*;
use crate::Kick;

/// A connection: the guest's socket, and the test's.
fn connected(guest: &mut Guest, family: Family) -> (Handle, TcpStream) {
    let (listener, at) = guest.listener(family);
    let peer = TcpStream::connect(at).expect("connect");
    let (handle, from) = guest.accept_next(listener);
    assert_eq!(from, peer.local_addr().expect("address"));
    guest.call(Request::Close { handle: listener }).expect("close");
    (handle, peer)
}

/// Writes until the socket takes no more.
fn fill(guest: &mut Guest, handle: Handle) -> u64 {
    let mut written = 0;
    loop {
        match guest.write(handle, 0, [b'x'; 64 << 10]) {
            Ok(len) => written += len,
            Err(errno) => {
                assert_eq!(errno, Errno::Again);
                return written;
            }
        }
    }
}

#[test]
fn a_connection_is_accepted_and_carries_data_both_ways() {
    for family in BOTH {
        let mut guest = guest();
        let (handle, mut peer) = connected(&mut guest, family);
        peer.write_all(b"question").expect("write");
        assert_eq!(guest.read_next(handle), Ok(b"question".to_vec()));
        assert_eq!(guest.write(handle, 0, "answer"), Ok(6));
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).expect("read");
        assert_eq!(&answer, b"answer");
    }
}

#[test]
fn a_guest_connects_and_both_know_the_addresses() {
    for family in BOTH {
        let mut guest = guest();
        let listener = TcpListener::bind(loopback(family, 0)).expect("bind");
        let at = listener.local_addr().expect("address");
        let handle = guest.stream(family);
        assert_eq!(guest.connect_and_wait(handle, at), Ok(0));
        let (_, from) = listener.accept().expect("accept");
        assert_eq!(guest.address(handle, false), Ok(from));
        assert_eq!(guest.address(handle, true), Ok(at));
    }
}

#[test]
fn a_refused_connection_is_told_by_the_pending_error() {
    for family in BOTH {
        let mut guest = guest();
        let handle = guest.stream(family);
        let at = deserted(family);
        assert_eq!(guest.connect_and_wait(handle, at), Err(Errno::ConnectionRefused));
        assert_eq!(guest.option(handle, SocketOption::Error), Ok(0), "it is told once");
    }
}

#[test]
fn a_connection_that_nobody_answers_goes_on() {
    let mut guest = guest();
    // A listener whose backlog is full answers no more.
    let (listener, at) = guest.listener(Family::V4);
    guest.call(Request::Listen { handle: listener, backlog: 0 }).expect("listen");
    let first = guest.stream(Family::V4);
    assert_eq!(guest.connect_and_wait(first, at), Ok(0));
    let second = guest.stream(Family::V4);
    assert_eq!(guest.connect(second, at), Ok(1));
    assert_eq!(guest.poll(&[(second, READ | WRITE)], 20_000_000), Ok(vec![0]));
    assert_eq!(guest.connect(second, at), Err(Errno::InProgress));
    assert_eq!(guest.option(second, SocketOption::Error), Ok(0));
    assert_eq!(guest.address(second, true), Err(Errno::NotConnected));
    guest.accept_next(listener);
    assert_eq!(guest.poll(&[(second, WRITE)], LONG_NS), Ok(vec![WRITE]));
    assert_eq!(guest.option(second, SocketOption::Error), Ok(0));
}

#[test]
fn an_address_to_which_no_way_leads_is_unreachable() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    // No network has a way for streams to all hosts at once.
    let everybody = "255.255.255.255:9".parse().expect("address");
    assert_eq!(guest.connect(handle, everybody), Err(Errno::Unreachable));
}

#[test]
fn connecting_twice_is_refused() {
    let mut guest = guest();
    let (_listener, at) = guest.listener(Family::V4);
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.connect_and_wait(handle, at), Ok(0));
    assert_eq!(guest.connect(handle, at), Ok(0), "it tells the end of the first, once");
    assert_eq!(guest.connect(handle, at), Err(Errno::IsConnected));
}

#[test]
fn a_stream_connects_to_somebody() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    let request = Request::Connect { handle, address: SocketAddress::default() };
    assert_eq!(guest.call(request), Err(Errno::Invalid));
}

#[test]
fn what_is_not_connected_moves_no_data() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.read(handle, 0), Err(Errno::NotConnected));
    assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::BrokenPipe));
    assert_eq!(guest.address(handle, true), Err(Errno::NotConnected));
    let shutdown = Request::Shutdown { handle, direction: Direction::Both };
    assert_eq!(guest.call(shutdown), Err(Errno::NotConnected));
}

#[test]
fn accepting_needs_a_listener_and_a_connection() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.accept(handle), Err(Errno::Invalid));
    let (listener, _) = guest.listener(Family::V4);
    assert_eq!(guest.accept(listener), Err(Errno::Again));
    assert_eq!(guest.poll(&[(listener, READ)], 0), Ok(vec![0]));
}

#[test]
fn a_connection_is_not_taken_without_room_for_its_address() {
    let mut guest = guest();
    let (listener, at) = guest.listener(Family::V4);
    let _client = TcpStream::connect(at).expect("connect");
    assert_eq!(guest.poll(&[(listener, READ)], LONG_NS), Ok(vec![READ]));
    let accepted = guest.host.call(Request::Accept { handle: listener }, &mut [0; 27]);
    assert_eq!(accepted, Err(Errno::TooBig));
    guest.accept(listener).expect("the connection is still there");
}

#[test]
fn an_address_in_use_is_refused_until_it_is_free() {
    let mut guest = guest();
    let (listener, at) = guest.listener(Family::V4);
    let other = guest.stream(Family::V4);
    let bound = guest
        .bind(other, at)
        .and_then(|_| guest.call(Request::Listen { handle: other, backlog: 1 }));
    assert_eq!(bound, Err(Errno::AddressInUse));
    guest.call(Request::Close { handle: listener }).expect("close");
    let third = guest.stream(Family::V4);
    assert_eq!(guest.bind(third, at), Ok(0));
    assert_eq!(guest.call(Request::Listen { handle: third, backlog: 1 }), Ok(0));
}

#[test]
fn the_address_of_a_server_that_restarts_can_be_bound() {
    let mut guest = guest();
    let (listener, at) = guest.listener(Family::V4);
    let mut peer = TcpStream::connect(at).expect("connect");
    let (handle, _) = guest.accept_next(listener);
    // Who closes first keeps the connection's end in mind (TIME_WAIT).
    for handle in [handle, listener] {
        guest.call(Request::Close { handle }).expect("close");
    }
    assert_eq!(peer.read(&mut [0]).expect("read"), 0);
    drop(peer);
    let again = guest.stream(Family::V4);
    assert_eq!(guest.bind(again, at), Ok(0));
    assert_eq!(guest.call(Request::Listen { handle: again, backlog: 1 }), Ok(0));
}

#[test]
fn an_address_of_nobody_here_cannot_be_bound() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    let elsewhere = "192.0.2.1:0".parse().expect("address");
    assert_eq!(guest.bind(handle, elsewhere), Err(Errno::AddressNotAvailable));
}

#[test]
fn binding_twice_is_refused() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.bind(handle, loopback(Family::V4, 0)), Ok(0));
    assert_eq!(guest.bind(handle, loopback(Family::V4, 0)), Err(Errno::Invalid));
}

#[test]
fn an_ipv6_listener_leaves_ipv4_alone() {
    let mut guest = guest();
    let v4 = guest.stream(Family::V4);
    guest.bind(v4, "0.0.0.0:0".parse().expect("address")).expect("bind");
    guest.call(Request::Listen { handle: v4, backlog: 1 }).expect("listen");
    let port = guest.own_address(v4).port();
    let v6 = guest.stream(Family::V6);
    assert_eq!(guest.bind(v6, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)), Ok(0));
    assert_eq!(guest.call(Request::Listen { handle: v6, backlog: 1 }), Ok(0));
}

#[test]
fn a_peer_that_sends_no_more_ends_the_data_and_still_reads() {
    let mut guest = guest();
    let (handle, mut peer) = connected(&mut guest, Family::V4);
    peer.write_all(b"last").expect("write");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(guest.read_next(handle), Ok(b"last".to_vec()));
    assert_eq!(guest.read_next(handle), Ok(vec![]));
    assert_eq!(guest.poll(&[(handle, READ)], LONG_NS), Ok(vec![READ]));
    assert_eq!(guest.write(handle, 0, "answer"), Ok(6));
    guest.call(Request::Close { handle }).expect("close");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("read");
    assert_eq!(answer, "answer");
}

#[test]
fn a_guest_that_sends_no_more_ends_the_data_of_its_peer() {
    let mut guest = guest();
    let (handle, mut peer) = connected(&mut guest, Family::V6);
    assert_eq!(guest.call(Request::Shutdown { handle, direction: Direction::Send }), Ok(0));
    assert_eq!(guest.write(handle, 0, "x"), Err(Errno::BrokenPipe));
    assert_eq!(peer.read(&mut [0]).expect("read"), 0);
    peer.write_all(b"still").expect("write");
    assert_eq!(guest.read_next(handle), Ok(b"still".to_vec()));
}

#[test]
fn a_guest_that_receives_no_more_reads_the_end() {
    let mut guest = guest();
    let (handle, _peer) = connected(&mut guest, Family::V4);
    assert_eq!(guest.call(Request::Shutdown { handle, direction: Direction::Receive }), Ok(0));
    assert_eq!(guest.read(handle, 0), Ok(vec![]));
}

#[test]
fn a_peer_that_resets_the_connection_is_told() {
    let mut guest = guest();
    let (handle, peer) = connected(&mut guest, Family::V4);
    assert_eq!(guest.write(handle, 0, "never read"), Ok(10));
    peer.peek(&mut [0]).expect("it has come");
    drop(peer); // with data that it has not read: a reset
    assert_eq!(guest.read_next(handle), Err(Errno::ConnectionReset));
    assert_eq!(guest.write(handle, 0, "x"), Err(Errno::BrokenPipe));
}

#[test]
fn a_socket_without_data_or_room_answers_again_and_polls() {
    let mut guest = guest();
    let (handle, mut peer) = connected(&mut guest, Family::V4);
    assert_eq!(guest.read(handle, 0), Err(Errno::Again));
    assert_eq!(guest.poll(&[(handle, READ | WRITE)], 0), Ok(vec![WRITE]));
    let written = fill(&mut guest, handle);
    assert_eq!(guest.poll(&[(handle, READ | WRITE)], 0), Ok(vec![0]));
    let reader = thread::spawn(move || {
        let mut all = vec![0; usize::try_from(written).expect("fits")];
        peer.read_exact(&mut all).expect("read");
        peer
    });
    assert_eq!(guest.poll(&[(handle, WRITE)], LONG_NS), Ok(vec![WRITE]));
    reader.join().expect("reader");
}

#[test]
fn a_read_and_a_write_that_wait_do_so() {
    let mut guest = guest();
    let (handle, mut peer) = connected(&mut guest, Family::V4);
    let written = fill(&mut guest, handle);
    let other = thread::spawn(move || {
        let mut all = vec![0; usize::try_from(written).expect("fits") + 1];
        peer.read_exact(&mut all).expect("read");
        peer.write_all(b"x").expect("write");
        peer
    });
    let request = Request::Write { handle, offset: 0, wait: true, data: b"x" };
    assert_eq!(guest.call(request), Ok(1));
    assert_eq!(guest.read_next(handle), Ok(b"x".to_vec()));
    other.join().expect("peer");
}

#[test]
fn a_read_that_waits_is_interrupted_by_a_kick() {
    let mut guest = guest();
    let (handle, _peer) = connected(&mut guest, Family::V4);
    let kick = Kick::default();
    let entered = kick.enter().expect("signal handler");
    let stop = thread::spawn({
        let kick = kick.clone();
        move || kick.stop()
    });
    assert_eq!(guest.read_next(handle), Err(Errno::Interrupted));
    drop(entered);
    stop.join().expect("kick");
}

#[test]
fn a_poll_waits_for_sockets_and_streams_together() {
    let mut guest = guest();
    let (listener, at) = guest.listener(Family::V4);
    let (datagram, file) = (guest.datagram(Family::V4), guest.create("file"));
    let client = thread::spawn(move || TcpStream::connect(at).expect("connect"));
    let entries = [(listener, READ), (datagram, READ)];
    assert_eq!(guest.poll(&entries, FOREVER), Ok(vec![READ, 0]));
    let entries = [(listener, READ), (file, READ), (datagram, READ | WRITE)];
    assert_eq!(guest.poll(&entries, FOREVER), Ok(vec![READ, READ, WRITE]));
    client.join().expect("client");
}

#[test]
fn sockets_never_block_and_are_not_inherited() {
    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::io::{FdFlags, fcntl_getfd};
    let mut guest = guest();
    let (accepted, _peer) = connected(&mut guest, Family::V4);
    for handle in [accepted, guest.stream(Family::V6), guest.datagram(Family::V4)] {
        let socket = guest.host.handles.socket(handle).expect("socket");
        assert!(fcntl_getfl(socket.fd).expect("flags").contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(socket.fd).expect("flags").contains(FdFlags::CLOEXEC));
    }
}
