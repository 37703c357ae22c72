//! Sockets over handles: what TCP, UDP and look-ups share.
//!
//! Rule: the host moves bytes and the state machine of wasi:sockets is here. An operation that the state
//! forbids never reaches the host, and neither does an address that the interface forbids. No host call of
//! a socket waits.

pub(crate) mod lookup;
pub(crate) mod tcp;
pub(crate) mod udp;

use alloc::sync::Arc;
use core::net::{Ipv4Addr, Ipv6Addr};

use abi::{
    Errno, Family, Handle, PollEntry, Request, SocketAddress, SocketKind, SocketOption, poll_events,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::call::Calls;
use crate::handle::OwnedHandle;

/// Why an operation on a socket has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The host declined it, or would have.
    Declined(Errno),
    /// The state of the socket forbids it.
    InvalidState,
    /// There is nothing to finish.
    NotInProgress,
    /// Something else is to be finished first.
    ConcurrencyConflict,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Declined(errno)
    }
}

/// A socket of the host, of either kind.
#[derive(Debug)]
pub(crate) struct Socket {
    handle: Arc<OwnedHandle>,
    family: Family,
}

impl Socket {
    fn open(calls: &Calls, family: Family, kind: SocketKind) -> Result<Self, Errno> {
        let handle = calls.call(&Request::Socket { family, kind })?;
        Ok(Self { handle: own(calls, handle)?, family })
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    fn get(&self) -> Handle {
        self.handle.get()
    }

    /// Makes a call whose answer is its number.
    fn call(&self, request: &Request<'_>) -> Result<u64, Errno> {
        self.handle.calls().call(request)
    }

    fn bind(&self, address: SocketAddress) -> Result<(), Errno> {
        self.call(&Request::Bind { handle: self.get(), address })?;
        Ok(())
    }

    /// Connects. Returns whether it is done.
    fn connect(&self, address: SocketAddress) -> Result<bool, Errno> {
        Ok(self.call(&Request::Connect { handle: self.get(), address })? == 0)
    }

    fn address(&self, peer: bool) -> Result<SocketAddress, Errno> {
        let request = Request::Address { handle: self.get(), peer };
        self.handle.calls().call_with(&request, |_, data| address(data))?
    }

    /// Whether the host says now that any of the events, [`poll_events`], has happened.
    fn is_ready(&self, events: u32) -> Result<bool, Errno> {
        let entry = PollEntry { handle: self.get().0, events, ..PollEntry::default() };
        let request = Request::Poll { timeout_ns: 0, entries: entry.as_bytes() };
        match self.call(&request) {
            Err(Errno::Interrupted) => Ok(false),
            ready => Ok(ready? != 0),
        }
    }

    pub(crate) fn option(&self, option: SocketOption) -> Result<u64, Errno> {
        self.call(&Request::GetOption { handle: self.get(), option })
    }

    /// Sets an option, to the nearest value that the kernel knows; 0 is [`Errno::Invalid`] for what counts.
    pub(crate) fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Errno> {
        self.call(&Request::SetOption { handle: self.get(), option, value })?;
        Ok(())
    }
}

/// Owns a handle that the host has just given.
fn own(calls: &Calls, handle: u64) -> Result<Arc<OwnedHandle>, Errno> {
    let handle = u32::try_from(handle).map_err(|_| Errno::Io)?;
    Ok(OwnedHandle::shared(calls, Handle(handle)))
}

/// The address at the start of an answer.
fn address(data: &[u8]) -> Result<SocketAddress, Errno> {
    let (address, _) = SocketAddress::read_from_prefix(data).map_err(|_| Errno::Io)?;
    if address.family().is_none() { Err(Errno::Io) } else { Ok(address) }
}

/// An address as the standard library knows it.
enum Ip {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Ip {
    fn of(address: &SocketAddress) -> Option<Self> {
        let [a, b, c, d, ..] = address.ip;
        Some(match address.family()? {
            Family::V4 => Self::V4(Ipv4Addr::new(a, b, c, d)),
            Family::V6 => Self::V6(Ipv6Addr::from(address.ip)),
        })
    }
}

/// Refuses an address that a socket of `family` cannot have or reach: of the other family, or IPv4 in
/// the guise of IPv6, mapped or compatible (RFC 4291, section 2.5.5).
fn check_family(family: Family, address: &SocketAddress) -> Result<(), Errno> {
    let fits = match (family, Ip::of(address)) {
        (Family::V4, Some(Ip::V4(_))) => true,
        (Family::V6, Some(Ip::V6(ip))) => {
            let is_v6_only = ip.is_unspecified() || ip.is_loopback();
            is_v6_only || (ip.to_ipv4_mapped().is_none() && ip.segments()[..6] != [0; 6])
        }
        (_, _) => false,
    };
    if fits { Ok(()) } else { Err(Errno::Invalid) }
}

/// Refuses an address of more than one receiver.
fn check_unicast(address: &SocketAddress) -> Result<(), Errno> {
    match Ip::of(address) {
        Some(Ip::V4(ip)) if !ip.is_multicast() && !ip.is_broadcast() => Ok(()),
        Some(Ip::V6(ip)) if !ip.is_multicast() => Ok(()),
        _ => Err(Errno::Invalid),
    }
}

/// Refuses what is nobody's address, or no port.
fn check_remote(address: &SocketAddress) -> Result<(), Errno> {
    if address.ip == [0; 16] || address.port() == 0 { Err(Errno::Invalid) } else { Ok(()) }
}

/// An implicit bind that finds no free port is [`Errno::AddressNotAvailable`] to Linux, and
/// [`Errno::AddressInUse`] to wasi:sockets.
fn port_exhaustion(errno: Errno) -> Errno {
    match errno {
        Errno::AddressNotAvailable => Errno::AddressInUse,
        errno => errno,
    }
}

const ANY_PROGRESS: u32 = poll_events::READ | poll_events::WRITE;
