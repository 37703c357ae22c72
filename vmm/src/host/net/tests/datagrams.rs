//! Datagram sockets.

use std::net::UdpSocket;

use super::*;

/// A socket on a free port of loopback.
fn bound(guest: &mut Guest, family: Family) -> (Handle, SocketAddr) {
    let handle = guest.datagram(family);
    guest.bind(handle, loopback(family, 0)).expect("bind");
    (handle, guest.own_address(handle))
}

fn peer(family: Family) -> (UdpSocket, SocketAddr) {
    let peer = UdpSocket::bind(loopback(family, 0)).expect("bind");
    let at = peer.local_addr().expect("address");
    (peer, at)
}

#[test]
fn datagrams_arrive_whole_with_the_address_of_their_sender() {
    for family in BOTH {
        let mut guest = guest();
        let (handle, at) = bound(&mut guest, family);
        let (peer, from) = peer(family);
        peer.send_to(b"question", at).expect("send");
        assert_eq!(guest.receive_next(handle), Ok(vec![(from, b"question".to_vec())]));
        assert_eq!(guest.send(handle, Some(from), b"answer"), Ok(1));
        let mut buffer = [0; 16];
        let (len, told) = peer.recv_from(&mut buffer).expect("receive");
        assert_eq!((&buffer[..len], told), (&b"answer"[..], at));
    }
}

#[test]
fn several_datagrams_are_sent_and_received_in_one_call() {
    let mut guest = guest();
    let ((sender, from), (receiver, to)) =
        (bound(&mut guest, Family::V4), bound(&mut guest, Family::V4));
    let sent = [(Some(to), &b"one"[..]), (Some(to), b""), (Some(to), b"three")];
    assert_eq!(guest.send_all(sender, &sent), Ok(3));
    let two = vec![(from, b"one".to_vec()), (from, vec![])];
    assert_eq!(guest.receive(receiver, 2), Ok(two));
    assert_eq!(guest.receive(receiver, 2), Ok(vec![(from, b"three".to_vec())]));
    assert_eq!(guest.receive(receiver, 2), Err(Errno::Again));
}

#[test]
fn the_largest_datagram_is_neither_cut_nor_lost() {
    let mut guest = guest();
    let ((sender, from), (receiver, to)) =
        (bound(&mut guest, Family::V4), bound(&mut guest, Family::V4));
    let largest = vec![b'x'; 65507];
    assert_eq!(guest.send(sender, Some(to), &largest), Ok(1));
    assert_eq!(guest.send(sender, Some(to), b"next"), Ok(1));
    // Room for the largest alone: the next one waits for the next call.
    let mut reply = vec![0; size_of::<DatagramHeader>() + 65535];
    let request = Request::Receive { handle: receiver, count: 2 };
    let answer = guest.host.call(request, &mut reply).expect("receive");
    assert_eq!(answer.data_bytes, size_of::<DatagramHeader>() + largest.len());
    assert_eq!(guest.receive(receiver, 2), Ok(vec![(from, b"next".to_vec())]));
}

#[test]
fn a_reply_that_might_cut_a_datagram_is_refused() {
    let mut guest = guest();
    let (handle, at) = bound(&mut guest, Family::V4);
    assert_eq!(guest.send(handle, Some(at), b"x"), Ok(1));
    let request = Request::Receive { handle, count: 1 };
    let mut reply = vec![0; size_of::<DatagramHeader>() + 65534];
    assert_eq!(guest.host.call(request, &mut reply), Err(Errno::TooBig));
    assert_eq!(guest.receive(handle, 1), Ok(vec![(at, b"x".to_vec())]));
}

#[test]
fn a_datagram_that_is_too_large_is_refused_and_the_ones_before_are_sent() {
    let mut guest = guest();
    let (handle, at) = bound(&mut guest, Family::V4);
    let too_large = vec![0; 65508];
    assert_eq!(guest.send(handle, Some(at), &too_large), Err(Errno::MessageTooLarge));
    assert_eq!(guest.send_all(handle, &[(Some(at), b"x"), (Some(at), &too_large)]), Ok(1));
    assert_eq!(guest.receive(handle, 9), Ok(vec![(at, b"x".to_vec())]));
}

#[test]
fn malformed_batches_are_refused() {
    let mut guest = guest();
    let handle = guest.datagram(Family::V4);
    let broken_off = DatagramHeader { len: [9, 0, 0, 0], ..DatagramHeader::default() };
    for datagrams in [&b""[..], &[0; 31], zerocopy::IntoBytes::as_bytes(&broken_off)] {
        assert_eq!(guest.call(Request::Send { handle, datagrams }), Err(Errno::Invalid));
    }
    assert_eq!(guest.call(Request::Receive { handle, count: 0 }), Err(Errno::Invalid));
}

#[test]
fn a_connected_socket_sends_to_its_peer_and_hears_nobody_else() {
    let mut guest = guest();
    let (handle, at) = bound(&mut guest, Family::V4);
    let ((friend, friend_at), (stranger, _)) = (peer(Family::V4), peer(Family::V4));
    assert_eq!(guest.connect(handle, friend_at), Ok(0));
    assert_eq!(guest.address(handle, true), Ok(friend_at));
    assert_eq!(guest.send(handle, None, b"hello"), Ok(1));
    assert_eq!(friend.recv(&mut [0; 5]).expect("receive"), 5);
    stranger.send_to(b"strange", at).expect("send");
    friend.send_to(b"friendly", at).expect("send");
    assert_eq!(guest.receive_next(handle), Ok(vec![(friend_at, b"friendly".to_vec())]));
}

#[test]
fn a_socket_keeps_its_port_when_its_connection_ends() {
    for family in BOTH {
        let mut guest = guest();
        let (_friend, to) = peer(family);
        let anywhere = SocketAddr::new(
            match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            },
            0,
        );
        for own in [loopback(family, 0), anywhere] {
            let handle = guest.datagram(family);
            guest.bind(handle, own).expect("bind");
            let at = guest.own_address(handle);
            assert_eq!(guest.connect(handle, to), Ok(0));
            let request = Request::Connect { handle, address: SocketAddress::default() };
            assert_eq!(guest.call(request), Ok(0));
            assert_eq!(guest.address(handle, true), Err(Errno::NotConnected));
            assert_eq!(guest.address(handle, false), Ok(at));
            assert_eq!(guest.call(request), Ok(0), "again");
            let (stranger, from) = peer(family);
            stranger.send_to(b"x", SocketAddr::new(to.ip(), at.port())).expect("send");
            assert_eq!(guest.receive_next(handle), Ok(vec![(from, b"x".to_vec())]));
        }
    }
}

#[test]
fn a_socket_connects_to_one_peer_after_the_other() {
    let mut guest = guest();
    let (handle, at) = bound(&mut guest, Family::V6);
    for _ in 0..3 {
        let (friend, friend_at) = peer(Family::V6);
        assert_eq!(guest.connect(handle, friend_at), Ok(0));
        assert_eq!(guest.send(handle, None, b"x"), Ok(1));
        assert_eq!(friend.recv_from(&mut [0]).expect("receive"), (1, at));
    }
}

#[test]
fn a_datagram_for_nobody_is_refused() {
    let mut guest = guest();
    let handle = guest.datagram(Family::V4);
    assert_eq!(guest.send(handle, None, b"x"), Err(Errno::NotConnected));
}

#[test]
fn a_peer_that_is_not_there_is_told_to_a_connected_socket() {
    let mut guest = guest();
    let (handle, _) = bound(&mut guest, Family::V4);
    let (gone, gone_at) = peer(Family::V4);
    drop(gone);
    assert_eq!(guest.connect(handle, gone_at), Ok(0));
    assert_eq!(guest.send(handle, None, b"x"), Ok(1));
    assert_eq!(guest.receive_next(handle), Err(Errno::ConnectionRefused));
}

#[test]
fn a_port_in_use_is_refused() {
    let mut guest = guest();
    let (_, at) = bound(&mut guest, Family::V4);
    let other = guest.datagram(Family::V4);
    assert_eq!(guest.bind(other, at), Err(Errno::AddressInUse));
}

#[test]
fn an_unbound_socket_has_an_address_once_it_has_sent() {
    let mut guest = guest();
    let (_peer, to) = peer(Family::V4);
    let handle = guest.datagram(Family::V4);
    assert_eq!(guest.own_address(handle), "0.0.0.0:0".parse().expect("address"));
    assert_eq!(guest.send(handle, Some(to), b"x"), Ok(1));
    assert_ne!(guest.own_address(handle).port(), 0);
}

#[test]
fn a_socket_polls_as_readable_when_a_datagram_is_there() {
    let mut guest = guest();
    let (handle, at) = bound(&mut guest, Family::V4);
    assert_eq!(guest.poll(&[(handle, READ | WRITE)], 0), Ok(vec![WRITE]));
    let (peer, _) = peer(Family::V4);
    peer.send_to(b"", at).expect("send");
    assert_eq!(guest.poll(&[(handle, READ)], LONG_NS), Ok(vec![READ]));
}
