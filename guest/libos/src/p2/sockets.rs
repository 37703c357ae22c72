//! wasi:sockets/network, instance-network, tcp-create-socket and udp-create-socket; and the errors and
//! addresses of all of wasi:sockets.

mod lookup;
mod tcp;
mod udp;

use abi::{Errno, Family, SocketAddress};
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use super::bindings::wasi::sockets::{
    instance_network, network, tcp_create_socket, udp_create_socket,
};
use super::streams::IoError;
use crate::process::NotGranted;
use crate::socket::Refusal;
use crate::socket::tcp::TcpSocket;
use crate::socket::udp::{RuleBroken, UdpSocket};

/// The network, of which there is one. What of it is granted the host knows.
#[derive(Debug)]
pub struct Network;

/// How an operation of wasi:sockets ends without a result.
#[derive(Debug)]
pub enum SocketFailure {
    /// An error of the interface.
    Refused(ErrorCode),
    /// The program broke a rule of the interface, or called too early.
    Trap(Error),
}

impl From<Errno> for SocketFailure {
    fn from(errno: Errno) -> Self {
        Self::Refused(error_code(errno).unwrap_or(ErrorCode::Unknown))
    }
}

impl From<Refusal> for SocketFailure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Declined(errno) => errno.into(),
            Refusal::InvalidState => Self::Refused(ErrorCode::InvalidState),
            Refusal::NotInProgress => Self::Refused(ErrorCode::NotInProgress),
            Refusal::ConcurrencyConflict => Self::Refused(ErrorCode::ConcurrencyConflict),
        }
    }
}

impl From<RuleBroken> for SocketFailure {
    fn from(RuleBroken(rule): RuleBroken) -> Self {
        Self::Trap(Error::msg(alloc::format!("wasi:sockets: {rule}")))
    }
}

impl From<NotGranted> for SocketFailure {
    fn from(error: NotGranted) -> Self {
        Self::Trap(error.into())
    }
}

impl From<ResourceTableError> for SocketFailure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type SocketResult<T> = Result<T, SocketFailure>;

/// The error of the interface for a refusal of the host; `None` for one that is no network's.
fn error_code(errno: Errno) -> Option<ErrorCode> {
    Some(match errno {
        Errno::Access | Errno::NotPermitted => ErrorCode::AccessDenied,
        Errno::NotSupported | Errno::AddressFamily => ErrorCode::NotSupported,
        Errno::Invalid => ErrorCode::InvalidArgument,
        Errno::NoMemory => ErrorCode::OutOfMemory,
        Errno::TimedOut => ErrorCode::Timeout,
        Errno::InProgress => ErrorCode::ConcurrencyConflict,
        Errno::Again | Errno::Interrupted => ErrorCode::WouldBlock,
        Errno::NotConnected | Errno::IsConnected => ErrorCode::InvalidState,
        Errno::TooManyHandles => ErrorCode::NewSocketLimit,
        Errno::AddressNotAvailable => ErrorCode::AddressNotBindable,
        Errno::AddressInUse => ErrorCode::AddressInUse,
        Errno::Unreachable => ErrorCode::RemoteUnreachable,
        Errno::ConnectionRefused => ErrorCode::ConnectionRefused,
        Errno::ConnectionReset => ErrorCode::ConnectionReset,
        Errno::ConnectionAborted => ErrorCode::ConnectionAborted,
        Errno::MessageTooLarge | Errno::TooBig => ErrorCode::DatagramTooLarge,
        Errno::NameNotFound => ErrorCode::NameUnresolvable,
        Errno::NameTryAgain => ErrorCode::TemporaryResolverFailure,
        Errno::NameFailure => ErrorCode::PermanentResolverFailure,
        Errno::BadHandle
        | Errno::NotFound
        | Errno::Exists
        | Errno::NotEmpty
        | Errno::NotDirectory
        | Errno::IsDirectory
        | Errno::Io
        | Errno::Loop
        | Errno::NameTooLong
        | Errno::NoSpace
        | Errno::Quota
        | Errno::ReadOnly
        | Errno::TooManyLinks
        | Errno::FileTooLarge
        | Errno::Busy
        | Errno::TextBusy
        | Errno::CrossDevice
        | Errno::BrokenPipe
        | Errno::NotSeekable
        | Errno::Overflow
        | Errno::Deadlock
        | Errno::NoDevice
        | Errno::IllegalBytes => return None,
    })
}

/// An address as it crosses.
fn to_host(address: IpSocketAddress) -> SocketAddress {
    match address {
        IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) }) => {
            let ip = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            SocketAddress::new(Family::V4, ip, port)
        }
        IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info, address, scope_id }) => {
            let (a, b, c, d, e, f, g, h) = address;
            let ip = core::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).octets();
            SocketAddress {
                flow_info: flow_info.to_le_bytes(),
                scope_id: scope_id.to_le_bytes(),
                ..SocketAddress::new(Family::V6, ip, port)
            }
        }
    }
}

/// An address as the interface has it. What has no family was checked before.
fn ip_address(address: &SocketAddress) -> IpAddress {
    match address.family() {
        Some(Family::V6) => {
            let [a, b, c, d, e, f, g, h] = core::net::Ipv6Addr::from(address.ip).segments();
            IpAddress::Ipv6((a, b, c, d, e, f, g, h))
        }
        Some(Family::V4) | None => {
            let [a, b, c, d, ..] = address.ip;
            IpAddress::Ipv4((a, b, c, d))
        }
    }
}

fn from_host(address: &SocketAddress) -> IpSocketAddress {
    let port = address.port();
    match ip_address(address) {
        IpAddress::Ipv4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }),
        IpAddress::Ipv6(ip) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port,
            flow_info: u32::from_le_bytes(address.flow_info),
            address: ip,
            scope_id: u32::from_le_bytes(address.scope_id),
        }),
    }
}

fn family(family: IpAddressFamily) -> Family {
    match family {
        IpAddressFamily::Ipv4 => Family::V4,
        IpAddressFamily::Ipv6 => Family::V6,
    }
}

fn address_family(family: Family) -> IpAddressFamily {
    match family {
        Family::V4 => IpAddressFamily::Ipv4,
        Family::V6 => IpAddressFamily::Ipv6,
    }
}

impl Wasi {
    /// Refuses, with `code`, to go on where the component could not hold `more` resources.
    fn refuse_full(&self, more: usize, code: ErrorCode) -> SocketResult<()> {
        if self.has_room_for(more) { Ok(()) } else { Err(SocketFailure::Refused(code)) }
    }

    /// Gives the component a resource for which there is room.
    fn give<T: Send + 'static>(&mut self, object: T) -> SocketResult<Resource<T>> {
        self.hand_out(object).map_err(SocketFailure::Trap)
    }
}

impl network::Host for Wasi {
    fn convert_error_code(&mut self, failure: SocketFailure) -> Result<ErrorCode> {
        match failure {
            SocketFailure::Refused(code) => Ok(code),
            SocketFailure::Trap(error) => Err(error),
        }
    }

    fn network_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        Ok(match self.table.get(&error)? {
            IoError::Host(errno) => error_code(*errno),
            IoError::Http(_) => None,
        })
    }
}

impl network::HostNetwork for Wasi {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for Wasi {
    fn instance_network(&mut self) -> Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}

impl tcp_create_socket::Host for Wasi {
    fn create_tcp_socket(&mut self, of: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.refuse_full(1, ErrorCode::NewSocketLimit)?;
        let socket = TcpSocket::open(self.process.get()?.calls(), family(of))?;
        self.give(socket)
    }
}

impl udp_create_socket::Host for Wasi {
    fn create_udp_socket(&mut self, of: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.refuse_full(1, ErrorCode::NewSocketLimit)?;
        let socket = UdpSocket::open(self.process.get()?.calls(), family(of))?;
        self.give(socket)
    }
}
