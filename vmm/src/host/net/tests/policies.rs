//! What a policy denies to a guest. Which destinations it means is tested with it.

use std::net::{TcpListener, UdpSocket};

use super::*;

pub(super) fn only(destinations: &[&str]) -> Policy {
    Policy::only(destinations.iter().map(|text| text.parse().expect("destination")).collect())
}

#[test]
fn a_denied_destination_is_no_access_and_gets_nothing() {
    let mut guest = guest_with(only(&[]), drop);
    let listener = TcpListener::bind(loopback(Family::V4, 0)).expect("bind");
    let peer = UdpSocket::bind(loopback(Family::V4, 0)).expect("bind");
    let (stream, datagram) = (guest.stream(Family::V4), guest.datagram(Family::V4));
    let at = listener.local_addr().expect("address");
    assert_eq!(guest.connect(stream, at), Err(Errno::Access));
    let to = peer.local_addr().expect("address");
    assert_eq!(guest.connect(datagram, to), Err(Errno::Access));
    assert_eq!(guest.send(datagram, Some(to), b"x"), Err(Errno::Access));
    listener.set_nonblocking(true).expect("non-blocking");
    peer.set_nonblocking(true).expect("non-blocking");
    assert!(listener.accept().is_err(), "nobody has come");
    assert!(peer.recv(&mut [0]).is_err(), "nothing has come");
}

#[test]
fn an_allowed_destination_is_reached_with_its_port_alone() {
    let peer = UdpSocket::bind(loopback(Family::V4, 0)).expect("bind");
    let to = peer.local_addr().expect("address");
    let mut guest = guest_with(only(&[&to.to_string()]), drop);
    let handle = guest.datagram(Family::V4);
    assert_eq!(guest.send(handle, Some(to), b"x"), Ok(1));
    let other_port = SocketAddr::new(to.ip(), to.port() ^ 1);
    assert_eq!(guest.send(handle, Some(other_port), b"x"), Err(Errno::Access));
    let batch = [(Some(to), &b"x"[..]), (Some(other_port), b"y"), (Some(to), b"z")];
    assert_eq!(guest.send_all(handle, &batch), Ok(1), "up to the first that is denied");
}

#[test]
fn an_unspecified_destination_is_loopback() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let to = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let mut guest = guest_with(only(&["10.0.0.0/8"]), drop);
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.connect(handle, to), Err(Errno::Access));
    let mut guest = guest_with(only(&["127.0.0.1"]), drop);
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.connect_and_wait(handle, to), Ok(0));
}

#[test]
fn listening_and_accepted_connections_are_not_restricted() {
    let mut guest = guest_with(only(&[]), drop);
    let (listener, at) = guest.listener(Family::V4);
    let _client = std::net::TcpStream::connect(at).expect("connect");
    let (handle, _) = guest.accept_next(listener);
    assert_eq!(guest.write(handle, 0, "answer"), Ok(6));
}

#[test]
fn who_sent_a_datagram_may_be_answered_through_the_same_socket() {
    let mut guest = guest_with(only(&[]), drop);
    let handle = guest.datagram(Family::V4);
    guest.bind(handle, loopback(Family::V4, 0)).expect("bind");
    let peer = UdpSocket::bind(loopback(Family::V4, 0)).expect("bind");
    let from = peer.local_addr().expect("address");
    assert_eq!(guest.send(handle, Some(from), b"x"), Err(Errno::Access));
    peer.send_to(b"question", guest.own_address(handle)).expect("send");
    guest.receive_next(handle).expect("receive");
    assert_eq!(guest.send(handle, Some(from), b"answer"), Ok(1));
    let other = guest.datagram(Family::V4);
    assert_eq!(guest.send(other, Some(from), b"x"), Err(Errno::Access));
}

#[test]
fn a_socket_that_takes_the_number_of_another_inherits_no_correspondents() {
    let mut guest = guest_with(only(&[]), drop);
    let handle = guest.datagram(Family::V4);
    guest.bind(handle, loopback(Family::V4, 0)).expect("bind");
    let peer = UdpSocket::bind(loopback(Family::V4, 0)).expect("bind");
    peer.send_to(b"question", guest.own_address(handle)).expect("send");
    guest.receive_next(handle).expect("receive");
    guest.call(Request::Close { handle }).expect("close");
    assert_eq!(guest.datagram(Family::V4), handle);
    let from = peer.local_addr().expect("address");
    assert_eq!(guest.send(handle, Some(from), b"x"), Err(Errno::Access));
}

#[test]
fn the_addresses_of_an_allowed_name_are_allowed_once_it_was_looked_up() {
    let listener = TcpListener::bind(loopback(Family::V4, 0)).expect("bind");
    let at = listener.local_addr().expect("address");
    let look_up = move |request: LookupRequest| request.answer(Ok(vec![at.ip()]));
    let mut guest = guest_with(only(&[&format!("allowed.test:{}", at.port())]), look_up);
    let look_up = |guest: &mut Guest, name: &str| {
        let handle = guest.call(Request::Resolve { name: name.as_bytes() }).expect("resolve");
        let handle = Handle(u32::try_from(handle).expect("a handle"));
        assert_eq!(guest.read_next(handle).expect("read").len(), 28);
    };
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.connect(handle, at), Err(Errno::Access));
    look_up(&mut guest, "other.test");
    assert_eq!(guest.connect(handle, at), Err(Errno::Access));
    look_up(&mut guest, "Allowed.test.");
    let other_port = SocketAddr::new(at.ip(), at.port() ^ 1);
    assert_eq!(guest.connect(handle, other_port), Err(Errno::Access));
    assert_eq!(guest.connect_and_wait(handle, at), Ok(0));
}
