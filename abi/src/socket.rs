//! Sockets: what crosses beside the requests of [`Request::Socket`](crate::Request::Socket) and those after it.
//!
//! No socket ever waits: what would have to is [`Errno::Again`](crate::Errno::Again), and the guest polls.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::call::wire_enum;

/// An address of a socket, in an order of bytes that both sides share.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct SocketAddress {
    /// A [`Family`] as `u16`, little-endian; 0 where there is no address.
    pub family: [u8; 2],
    /// Port, little-endian.
    pub port: [u8; 2],
    /// IPv6 flow information, little-endian; 0 for IPv4.
    pub flow_info: [u8; 4],
    /// IPv6 scope, little-endian; 0 for IPv4.
    pub scope_id: [u8; 4],
    /// The address in network order; of an IPv4 address the first four bytes, and zeros.
    pub ip: [u8; 16],
}

const _: () = assert!(size_of::<SocketAddress>() == 28, "guest ABI changed: bump ABI_VERSION");

wire_enum! {
    /// The version of the Internet Protocol.
    Family {
        /// IPv4.
        V4 = 4,
        /// IPv6, and nothing else: such a socket takes no IPv4 (`IPV6_V6ONLY`).
        V6 = 6,
    }
}

wire_enum! {
    /// What a socket carries.
    SocketKind {
        /// A stream (TCP).
        Stream = 1,
        /// Datagrams (UDP).
        Datagram = 2,
    }
}

wire_enum! {
    /// What of a connection ends ([`Request::Shutdown`](crate::Request::Shutdown), shutdown(2)).
    Direction {
        /// Nothing more is received.
        Receive = 0,
        /// Nothing more is sent.
        Send = 1,
        /// Neither.
        Both = 2,
    }
}

wire_enum! {
    /// An option of a socket. Durations are in nanoseconds, sizes in bytes.
    SocketOption {
        /// Reading it takes the error that is pending (`SO_ERROR`): the call is refused with that, and
        /// answered with 0 if there is none. It cannot be set.
        Error = 0,
        /// Whether an idle connection is probed, 0 or 1.
        KeepAlive = 1,
        /// How long a connection is idle before the first probe.
        KeepAliveIdle = 2,
        /// How long between probes.
        KeepAliveInterval = 3,
        /// How many probes without an answer end the connection.
        KeepAliveCount = 4,
        /// Hops that a packet may make, 1 to 255.
        HopLimit = 5,
        /// Bytes of the receive buffer, as they were set: the kernel's own doubling is taken back.
        ReceiveBuffer = 6,
        /// Bytes of the send buffer, as they were set.
        SendBuffer = 7,
    }
}

/// Head of a datagram in [`Request::Send`](crate::Request::Send) and in the answer of
/// [`Request::Receive`](crate::Request::Receive); its bytes follow, and then the next head.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct DatagramHeader {
    /// Where it goes or comes from; of family 0 for the one to which the socket is connected.
    pub address: SocketAddress,
    /// Bytes of the datagram, little-endian.
    pub len: [u8; 4],
}

const _: () = assert!(size_of::<DatagramHeader>() == 32, "guest ABI changed: bump ABI_VERSION");

/// Longest name that is looked up, in bytes (RFC 1035, section 2.3.4, and a dot at the end).
pub const NAME_BYTES_MAX: usize = 254;

impl SocketAddress {
    /// The address of `family` with the bytes of `ip` that it has.
    #[must_use]
    pub const fn new(family: Family, ip: [u8; 16], port: u16) -> Self {
        Self {
            family: (family as u16).to_le_bytes(),
            port: port.to_le_bytes(),
            flow_info: [0; 4],
            scope_id: [0; 4],
            ip,
        }
    }

    /// Its family; `None` for no address, or none of these.
    #[must_use]
    pub const fn family(&self) -> Option<Family> {
        Family::from_wire(u16::from_le_bytes(self.family) as u64)
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        u16::from_le_bytes(self.port)
    }
}

impl DatagramHeader {
    /// Splits the first datagram off `bytes`. `None` at the end, and where the bytes are no whole datagram.
    #[must_use]
    pub fn split_first(bytes: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (header, rest) = Self::read_from_prefix(bytes).ok()?;
        let len = usize::try_from(u32::from_le_bytes(header.len)).ok()?;
        let (datagram, rest) = rest.split_at_checked(len)?;
        Some((header, datagram, rest))
    }

    /// Appends a datagram at `area[at..]`. Returns where the next one goes, or `None` if it does not fit.
    #[must_use]
    pub fn write(
        address: SocketAddress,
        datagram: &[u8],
        area: &mut [u8],
        at: usize,
    ) -> Option<usize> {
        let len = u32::try_from(datagram.len()).ok()?.to_le_bytes();
        let end = at.checked_add(size_of::<Self>())?.checked_add(datagram.len())?;
        let (head, body) = area.get_mut(at..end)?.split_at_mut(size_of::<Self>());
        head.copy_from_slice(Self { address, len }.as_bytes());
        body.copy_from_slice(datagram);
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_back_in_order() {
        let mut area = [0xff; 128];
        let to = SocketAddress::new(Family::V4, [9; 16], 7);
        let mut at = 0;
        for datagram in [&b"one"[..], b"", b"three"] {
            at = DatagramHeader::write(to, datagram, &mut area, at).expect("fits");
        }
        let mut rest = &area[..at];
        for datagram in [&b"one"[..], b"", b"three"] {
            let (header, found, tail) = DatagramHeader::split_first(rest).expect("a datagram");
            assert_eq!((header.address, found), (to, datagram));
            rest = tail;
        }
        assert_eq!(DatagramHeader::split_first(rest), None);
    }

    #[test]
    fn a_datagram_that_does_not_fit_is_not_begun() {
        let mut area = [7; 36];
        assert_eq!(DatagramHeader::write(SocketAddress::default(), b"12345", &mut area, 0), None);
        assert_eq!(area, [7; 36]);
    }

    #[test]
    fn a_datagram_longer_than_the_data_is_none() {
        let header = DatagramHeader { len: [0xff; 4], ..DatagramHeader::default() };
        assert_eq!(DatagramHeader::split_first(header.as_bytes()), None);
    }

    #[test]
    fn an_address_keeps_family_and_port() {
        let address = SocketAddress::new(Family::V6, [1; 16], 8080);
        assert_eq!((address.family(), address.port()), (Some(Family::V6), 8080));
        assert_eq!(SocketAddress::default().family(), None);
    }
}
