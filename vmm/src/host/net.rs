//! Sockets and names.
//!
//! Rule: a socket never blocks; what would have to wait is [`Errno::Again`], or goes on after the call
//! ([`Request::Connect`]). Nothing is sent to a destination before the [`Policy`] was asked: at a
//! connect, and at each datagram that names its destination. Who has reached us may be answered: an accepted
//! connection, and the sender of a datagram.
//!
//! A socket is of one family: there is no IPv4 in an IPv6 socket, as such addresses (`::ffff:0:0/96`) would
//! have two spellings for the policy. Names are looked up by whoever grants the network ([`LookUp`]).

mod address;
mod datagram;
mod lookup;
mod options;
mod policy;
mod recent;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

#[expect(unused_imports, reason = "for the documentation")]
use abi::Request;
use abi::{Direction, Errno, Family, Handle, SocketAddress, SocketKind};
use rustix::io::Errno as Os;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind as os_bind, connect, connect_unspec,
    getpeername, getsockname, listen as os_listen, shutdown as os_shutdown, socket_with, sockopt,
};

pub(super) use self::lookup::Lookup;
pub use self::lookup::{LookUp, LookupError, LookupRequest};
pub(super) use self::options::{option, set_option};
pub use self::policy::{Destination, DestinationError, Policy};
use self::recent::Recent;
pub(super) use self::stream::{accept, read, write};
use super::errno::refusal;
use super::handles::{Object, Role};
use super::{Answer, Host};

/// Most addresses that are remembered because the lookup of an allowed name gave them, or because they
/// sent us a datagram: more than a program talks to at a time, and less than 1 MiB.
const REMEMBERED: usize = 4096;

/// A network that guests may be granted: what they reach in it, and who looks names up.
///
/// Cheap to clone, for one micro-VM after the other.
#[derive(Clone)]
pub struct Network {
    policy: Arc<Policy>,
    look_up: LookUp,
}

impl Network {
    /// The network of the thread that makes the calls, as far as `policy` allows.
    ///
    /// `look_up` is called on that thread, for each name that is no address: it hands the request to
    /// somebody else and returns.
    #[must_use]
    pub fn new(policy: Arc<Policy>, look_up: LookUp) -> Self {
        Self { policy, look_up }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The network that one guest was granted, and what it has learned there.
#[derive(Debug)]
pub(super) struct Granted {
    network: Network,
    /// Clones of it are held by the lookups that are not answered.
    pending: Arc<()>,
    /// Addresses of allowed names, and the port that is allowed there; `None` for all.
    named: Recent<(IpAddr, Option<u16>)>,
    /// Who sent a datagram to which socket.
    senders: Recent<(Handle, IpAddr, u16)>,
}

impl Host {
    /// [`Request::Socket`].
    pub(super) fn socket(&mut self, family: Family, kind: SocketKind) -> Result<Answer, Errno> {
        self.network.as_ref().ok_or(Errno::Access)?;
        self.handles.check_room()?;
        let handle = self.handles.insert(socket(family, kind)?)?;
        Ok(Answer { value: handle.0.into(), data_bytes: 0 })
    }

    /// [`Request::Accept`].
    pub(super) fn accept(&mut self, handle: Handle, reply: &mut [u8]) -> Result<Answer, Errno> {
        let listener = self.handles.socket_of(SocketKind::Stream, handle)?;
        self.handles.check_room()?;
        let (object, described) = accept(&listener, reply)?;
        let handle = self.handles.insert(object)?;
        Ok(Answer { value: handle.0.into(), ..described })
    }

    /// [`Request::Resolve`].
    pub(super) fn resolve(&mut self, name: &[u8]) -> Result<Answer, Errno> {
        let network = self.network.as_ref().ok_or(Errno::Access)?;
        self.handles.check_room()?;
        let handle = self.handles.insert(network.resolve(name)?)?;
        Ok(Answer { value: handle.0.into(), data_bytes: 0 })
    }
}

/// A socket in the table.
pub(super) struct Socket<'a> {
    pub(super) handle: Handle,
    pub(super) fd: BorrowedFd<'a>,
    pub(super) family: Family,
    pub(super) kind: SocketKind,
}

impl Granted {
    pub(super) fn new(network: Network) -> Self {
        Self {
            network,
            pending: Arc::default(),
            named: Recent::new(REMEMBERED),
            senders: Recent::new(REMEMBERED),
        }
    }

    /// Connects a socket; the answer is 1 if that goes on.
    ///
    /// # Errors
    ///
    /// [`Errno::Access`] where the policy forbids it.
    pub(super) fn connect(
        &self,
        socket: &Socket<'_>,
        address: &SocketAddress,
    ) -> Result<Answer, Errno> {
        if socket.kind == SocketKind::Datagram {
            disconnect(socket)?;
        }
        if address.family == [0; 2] {
            return match socket.kind {
                SocketKind::Datagram => Ok(Answer::DONE),
                SocketKind::Stream => Err(Errno::Invalid),
            };
        }
        let peer = address::of(socket.family, address)?;
        self.check(socket, peer)?;
        match connect(socket.fd, &peer) {
            Ok(()) => Ok(Answer::DONE),
            Err(Os::INPROGRESS) => Ok(Answer { value: 1, data_bytes: 0 }),
            Err(os) => Err(refusal(os)),
        }
    }

    /// A socket was closed; its number may stand for another one.
    pub(super) fn forget(&mut self, handle: Handle) {
        self.senders.retain(|(socket, ..)| *socket != handle);
    }

    /// # Errors
    ///
    /// [`Errno::Access`] if `socket` must not reach `peer`.
    fn check(&self, socket: &Socket<'_>, peer: SocketAddr) -> Result<(), Errno> {
        let (ip, port) = (peer.ip(), peer.port());
        let allowed = self.network.policy.allows(peer)
            || self.named.contains(&(ip, None))
            || self.named.contains(&(ip, Some(port)))
            || self.senders.contains(&(socket.handle, ip, port));
        if allowed { Ok(()) } else { Err(Errno::Access) }
    }
}

/// Makes a socket.
///
/// A stream socket takes an address whose former connections have not timed out (`SO_REUSEADDR`), and sends
/// what is written at once (`TCP_NODELAY`): a guest gathers what it writes itself, and WASI has no word for
/// asking.
pub(super) fn socket(family: Family, kind: SocketKind) -> Result<Object, Errno> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let of_type = match kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Datagram => SocketType::DGRAM,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(domain, of_type, flags, None).map_err(refusal)?;
    if family == Family::V6 {
        sockopt::set_ipv6_v6only(&fd, true).map_err(refusal)?;
    }
    if kind == SocketKind::Stream {
        sockopt::set_socket_reuseaddr(&fd, true).map_err(refusal)?;
        sockopt::set_tcp_nodelay(&fd, true).map_err(refusal)?;
    }
    let role = Role::Socket { family, kind };
    Ok(Object { fd: fd.into(), role, read: true, write: true, volume: None })
}

/// Gives a socket its own address.
pub(super) fn bind(socket: &Socket<'_>, address: &SocketAddress) -> Result<Answer, Errno> {
    os_bind(socket.fd, &address::of(socket.family, address)?).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Has a stream socket take connections. The kernel bounds the backlog (`net.core.somaxconn`).
pub(super) fn listen(socket: &Socket<'_>, backlog: u32) -> Result<Answer, Errno> {
    os_listen(socket.fd, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Ends a connection, or one direction of it.
pub(super) fn shutdown(socket: &Socket<'_>, direction: Direction) -> Result<Answer, Errno> {
    let how = match direction {
        Direction::Receive => Shutdown::Read,
        Direction::Send => Shutdown::Write,
        Direction::Both => Shutdown::Both,
    };
    os_shutdown(socket.fd, how).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Tells a socket's own address or that of its peer.
pub(super) fn address(socket: &Socket<'_>, peer: bool, reply: &mut [u8]) -> Result<Answer, Errno> {
    let told = if peer {
        getpeername(socket.fd).map_err(refusal)?.ok_or(Errno::NotConnected)?
    } else {
        getsockname(socket.fd).map_err(refusal)?
    };
    let told = SocketAddr::try_from(told).map_err(refusal)?;
    Answer::of(&address::wire(told), reply)
}

/// Ends what connect(2) made of a datagram socket, whose port stays: the kernel gives up one that it chose
/// itself.
fn disconnect(socket: &Socket<'_>) -> Result<(), Errno> {
    match getpeername(socket.fd) {
        Ok(Some(_)) => {}
        Ok(None) | Err(Os::NOTCONN) => return Ok(()),
        Err(os) => return Err(refusal(os)),
    }
    let own = || SocketAddr::try_from(getsockname(socket.fd)?);
    let port = own().map_err(refusal)?.port();
    connect_unspec(socket.fd).map_err(refusal)?;
    let mut left = own().map_err(refusal)?;
    if left.port() != port {
        left.set_port(port);
        os_bind(socket.fd, &left).map_err(refusal)?;
    }
    Ok(())
}
