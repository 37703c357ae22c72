//! What the tests of sockets and names share: a guest in the network of the test, on loopback.

mod datagrams;
mod hostile;
mod names;
mod options;
mod policies;
mod streams;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use abi::layout::CALL_DATA_BYTES;
use abi::{
    DatagramHeader, Errno, FOREVER, Family, Handle, Request, SocketAddress, SocketKind,
    SocketOption, poll_events,
};
use zerocopy::FromBytes as _;

use super::super::tests::Guest;
use super::{LookupRequest, Network, Policy, address};

const READ: u32 = poll_events::READ;
const WRITE: u32 = poll_events::WRITE;

/// Longest that a test waits for what must come.
const LONG_NS: u64 = 30_000_000_000;

const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// A guest that may do everything, and knows no names.
fn guest() -> Guest {
    guest_with(Policy::everything(), drop)
}

fn guest_with(policy: Policy, look_up: impl Fn(LookupRequest) + Send + Sync + 'static) -> Guest {
    let mut guest = Guest::new();
    guest.host.grant_network(Network::new(Arc::new(policy), Arc::new(look_up)));
    guest
}

/// The loopback address of a family, with a port.
fn loopback(family: Family, port: u16) -> SocketAddr {
    let ip = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, port)
}

/// A port of loopback at which nobody is.
fn deserted(family: Family) -> SocketAddr {
    let listener = std::net::TcpListener::bind(loopback(family, 0)).expect("bind");
    listener.local_addr().expect("address")
}

impl Guest {
    fn socket(&mut self, family: Family, kind: SocketKind) -> Handle {
        let value = self.call(Request::Socket { family, kind }).expect("socket");
        Handle(u32::try_from(value).expect("a handle"))
    }

    fn stream(&mut self, family: Family) -> Handle {
        self.socket(family, SocketKind::Stream)
    }

    fn datagram(&mut self, family: Family) -> Handle {
        self.socket(family, SocketKind::Datagram)
    }

    fn bind(&mut self, handle: Handle, to: SocketAddr) -> Result<u64, Errno> {
        self.call(Request::Bind { handle, address: address::wire(to) })
    }

    fn connect(&mut self, handle: Handle, to: SocketAddr) -> Result<u64, Errno> {
        self.call(Request::Connect { handle, address: address::wire(to) })
    }

    /// Connects and waits for the end of it.
    fn connect_and_wait(&mut self, handle: Handle, to: SocketAddr) -> Result<u64, Errno> {
        if self.connect(handle, to)? == 1 {
            assert_eq!(self.poll(&[(handle, WRITE)], LONG_NS), Ok(vec![WRITE]));
        }
        self.option(handle, SocketOption::Error)
    }

    fn option(&mut self, handle: Handle, option: SocketOption) -> Result<u64, Errno> {
        self.call(Request::GetOption { handle, option })
    }

    fn set_option(
        &mut self,
        handle: Handle,
        option: SocketOption,
        value: u64,
    ) -> Result<u64, Errno> {
        self.call(Request::SetOption { handle, option, value })
    }

    fn address(&mut self, handle: Handle, peer: bool) -> Result<SocketAddr, Errno> {
        let (_, data) = self.ask(Request::Address { handle, peer })?;
        Ok(std_address(SocketAddress::read_from_bytes(&data).expect("a whole address")))
    }

    fn own_address(&mut self, handle: Handle) -> SocketAddr {
        self.address(handle, false).expect("address")
    }

    /// A socket that listens on a free port of loopback.
    fn listener(&mut self, family: Family) -> (Handle, SocketAddr) {
        let handle = self.stream(family);
        self.bind(handle, loopback(family, 0)).expect("bind");
        self.call(Request::Listen { handle, backlog: 16 }).expect("listen");
        (handle, self.own_address(handle))
    }

    fn accept(&mut self, handle: Handle) -> Result<(Handle, SocketAddr), Errno> {
        let (value, data) = self.ask(Request::Accept { handle })?;
        let peer = SocketAddress::read_from_bytes(&data).expect("a whole address");
        Ok((Handle(u32::try_from(value).expect("a handle")), std_address(peer)))
    }

    /// Accepts once there is a connection.
    fn accept_next(&mut self, handle: Handle) -> (Handle, SocketAddr) {
        assert_eq!(self.poll(&[(handle, READ)], LONG_NS), Ok(vec![READ]));
        self.accept(handle).expect("accept")
    }

    /// Reads when there is something to read.
    fn read_next(&mut self, handle: Handle) -> Result<Vec<u8>, Errno> {
        let len = u32::try_from(CALL_DATA_BYTES).expect("small");
        self.ask(Request::Read { handle, offset: 0, len, wait: true }).map(|(_, data)| data)
    }

    fn send(&mut self, handle: Handle, to: Option<SocketAddr>, data: &[u8]) -> Result<u64, Errno> {
        self.send_all(handle, &[(to, data)])
    }

    fn send_all(
        &mut self,
        handle: Handle,
        datagrams: &[(Option<SocketAddr>, &[u8])],
    ) -> Result<u64, Errno> {
        let mut area = vec![0; CALL_DATA_BYTES];
        let mut filled = 0;
        for (to, data) in datagrams {
            let to = to.map_or_else(SocketAddress::default, address::wire);
            filled = DatagramHeader::write(to, data, &mut area, filled).expect("room");
        }
        self.call(Request::Send { handle, datagrams: &area[..filled] })
    }

    fn receive(&mut self, handle: Handle, count: u32) -> Result<Vec<(SocketAddr, Vec<u8>)>, Errno> {
        let (_, data) = self.ask(Request::Receive { handle, count })?;
        let (mut rest, mut datagrams) = (&data[..], Vec::new());
        while let Some((header, datagram, others)) = DatagramHeader::split_first(rest) {
            datagrams.push((std_address(header.address), datagram.to_vec()));
            rest = others;
        }
        assert_eq!(rest, []);
        Ok(datagrams)
    }

    /// Receives what is there once there is something.
    fn receive_next(&mut self, handle: Handle) -> Result<Vec<(SocketAddr, Vec<u8>)>, Errno> {
        assert_eq!(self.poll(&[(handle, READ)], LONG_NS), Ok(vec![READ]));
        self.receive(handle, u32::MAX)
    }
}

fn std_address(wire: SocketAddress) -> SocketAddr {
    address::of(wire.family().expect("a family"), &wire).expect("an address")
}

#[test]
fn without_a_network_there_are_no_sockets_and_no_names() {
    let mut guest = Guest::new();
    let (family, kind) = (Family::V4, SocketKind::Stream);
    assert_eq!(guest.call(Request::Socket { family, kind }), Err(Errno::Access));
    assert_eq!(guest.call(Request::Resolve { name: b"localhost" }), Err(Errno::Access));
}

#[test]
fn what_is_no_socket_is_a_bad_handle() {
    let mut guest = guest();
    let address = address::wire(loopback(Family::V4, 1));
    for handle in [Handle::STDIN, guest.create("file"), super::super::tests::INSIDE, Handle(99)] {
        let requests = [
            Request::Bind { handle, address },
            Request::Listen { handle, backlog: 1 },
            Request::Accept { handle },
            Request::Connect { handle, address },
            Request::Send { handle, datagrams: &[0; 32] },
            Request::Receive { handle, count: 1 },
            Request::Shutdown { handle, direction: abi::Direction::Both },
            Request::Address { handle, peer: false },
            Request::GetOption { handle, option: SocketOption::HopLimit },
            Request::SetOption { handle, option: SocketOption::HopLimit, value: 1 },
        ];
        for request in requests {
            assert_eq!(guest.call(request), Err(Errno::BadHandle), "{request:?}");
        }
    }
}

#[test]
fn calls_of_the_other_kind_are_a_bad_handle() {
    let mut guest = guest();
    let (stream, datagram) = (guest.stream(Family::V4), guest.datagram(Family::V4));
    let requests = [
        Request::Send { handle: stream, datagrams: &[0; 32] },
        Request::Receive { handle: stream, count: 1 },
        Request::Listen { handle: datagram, backlog: 1 },
        Request::Accept { handle: datagram },
        Request::Read { handle: datagram, offset: 0, len: 1, wait: false },
        Request::Write { handle: datagram, offset: 0, wait: false, data: b"x" },
        Request::GetOption { handle: datagram, option: SocketOption::KeepAlive },
        Request::SetOption { handle: datagram, option: SocketOption::KeepAliveCount, value: 1 },
    ];
    for request in requests {
        assert_eq!(guest.call(request), Err(Errno::BadHandle), "{request:?}");
    }
}

#[test]
fn a_socket_is_no_file() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    let requests = [
        (Request::SetSize { handle, size: 1 }, Errno::Invalid),
        (Request::Sync { handle, data_only: false }, Errno::Invalid),
        (Request::Allocate { handle, offset: 0, len: 1 }, Errno::NotSeekable),
        (Request::ReadDir { handle, cookie: 0 }, Errno::BadHandle),
        (Request::StatAt { dir: handle, follow: true, path: b"." }, Errno::BadHandle),
    ];
    for (request, errno) in requests {
        assert_eq!(guest.call(request), Err(errno), "{request:?}");
    }
    assert_eq!(guest.stat(handle).expect("stat").kind, abi::FileKind::Socket as u32);
}

#[test]
fn sockets_count_as_handles() {
    use super::super::handles::Handles;
    let mut guest = guest();
    guest.host.handles = Handles::with_limit(2);
    let (listener, at) = guest.listener(Family::V4);
    let client = std::net::TcpStream::connect(at).expect("connect");
    let other = guest.datagram(Family::V4);
    let request = Request::Socket { family: Family::V4, kind: SocketKind::Stream };
    assert_eq!(guest.call(request), Err(Errno::TooManyHandles));
    assert_eq!(guest.call(Request::Resolve { name: b"::1" }), Err(Errno::TooManyHandles));
    assert_eq!(guest.accept(listener), Err(Errno::TooManyHandles));
    guest.call(Request::Close { handle: other }).expect("close");
    let (_, peer) = guest.accept(listener).expect("the connection is still there");
    assert_eq!(peer, client.local_addr().expect("address"));
}

#[test]
fn an_address_of_the_other_family_is_refused() {
    let mut guest = guest();
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let to = loopback(other, 7);
        let (stream, datagram) = (guest.stream(family), guest.datagram(family));
        assert_eq!(guest.bind(stream, to), Err(Errno::AddressFamily));
        assert_eq!(guest.connect(stream, to), Err(Errno::AddressFamily));
        assert_eq!(guest.connect(datagram, to), Err(Errno::AddressFamily));
        assert_eq!(guest.send(datagram, Some(to), b"x"), Err(Errno::AddressFamily));
    }
}

#[test]
fn ipv4_in_an_ipv6_socket_is_refused() {
    let mut guest = guest();
    let mapped = "[::ffff:127.0.0.1]:7".parse().expect("address");
    let (stream, datagram) = (guest.stream(Family::V6), guest.datagram(Family::V6));
    assert_eq!(guest.bind(stream, mapped), Err(Errno::Invalid));
    assert_eq!(guest.connect(stream, mapped), Err(Errno::Invalid));
    assert_eq!(guest.send(datagram, Some(mapped), b"x"), Err(Errno::Invalid));
}
