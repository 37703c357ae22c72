//! Addresses: those of the contract, and those of the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use abi::{Errno, Family, SocketAddress};

/// The address, which must be of `family`.
///
/// # Errors
///
/// [`Errno::AddressFamily`] for another family, [`Errno::Invalid`] for IPv4 in IPv6.
pub(super) fn of(family: Family, address: &SocketAddress) -> Result<SocketAddr, Errno> {
    if address.family() != Some(family) {
        return Err(Errno::AddressFamily);
    }
    Ok(match family {
        Family::V4 => {
            let [a, b, c, d, ..] = address.ip;
            SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), address.port()).into()
        }
        Family::V6 => {
            let ip = Ipv6Addr::from(address.ip);
            if ip.to_ipv4_mapped().is_some() {
                return Err(Errno::Invalid);
            }
            let flow_info = u32::from_le_bytes(address.flow_info);
            let scope_id = u32::from_le_bytes(address.scope_id);
            SocketAddrV6::new(ip, address.port(), flow_info, scope_id).into()
        }
    })
}

/// The address in the contract's form.
pub(super) fn wire(address: SocketAddr) -> SocketAddress {
    let mut wire = of_ip(address.ip());
    wire.port = address.port().to_le_bytes();
    if let SocketAddr::V6(address) = address {
        wire.flow_info = address.flowinfo().to_le_bytes();
        wire.scope_id = address.scope_id().to_le_bytes();
    }
    wire
}

/// The address of a host in the contract's form, with port 0.
pub(super) fn of_ip(ip: IpAddr) -> SocketAddress {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            SocketAddress::new(Family::V4, bytes, 0)
        }
        IpAddr::V6(ip) => SocketAddress::new(Family::V6, ip.octets(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_all_their_parts() {
        let addresses = [
            (Family::V4, "192.0.2.1:80".parse().expect("IPv4")),
            (Family::V6, "[2001:db8::1]:65535".parse().expect("IPv6")),
            (Family::V6, SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 2, 3).into()),
        ];
        for (family, address) in addresses {
            assert_eq!(of(family, &wire(address)), Ok(address));
        }
    }

    #[test]
    fn an_address_of_another_family_is_refused() {
        let v4 = wire("192.0.2.1:80".parse().expect("IPv4"));
        assert_eq!(of(Family::V6, &v4), Err(Errno::AddressFamily));
        assert_eq!(of(Family::V4, &SocketAddress::default()), Err(Errno::AddressFamily));
    }

    #[test]
    fn ipv4_in_ipv6_is_refused() {
        let mapped = wire("[::ffff:192.0.2.1]:80".parse().expect("IPv6"));
        assert_eq!(of(Family::V6, &mapped), Err(Errno::Invalid));
    }
}
