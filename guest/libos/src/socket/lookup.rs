//! Names that are looked up.
//!
//! The host looks up; what comes back is read like a stream, one address with each call, so that its
//! handle polls as what the next call will do. What cannot be a name is refused here.

use alloc::sync::Arc;
use core::net::Ipv6Addr;

use abi::{Errno, Family, NAME_BYTES_MAX, Request, SocketAddress, poll_events};

use super::{Ip, address, own};
use crate::call::Calls;
use crate::handle::OwnedHandle;
use crate::poll::Pollable;

/// The addresses of a name, as they become known.
#[derive(Debug)]
pub struct Lookup(Arc<OwnedHandle>);

impl Lookup {
    /// Begins to look `name` up.
    ///
    /// # Errors
    ///
    /// [`Errno::Invalid`] for what cannot be a name, [`Errno::Access`] without a network.
    pub(crate) fn begin(calls: &Calls, name: &str) -> Result<Self, Errno> {
        let name = host_name(name).ok_or(Errno::Invalid)?.as_bytes();
        Ok(Self(own(calls, calls.call(&Request::Resolve { name })?)?))
    }

    /// The next address; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`Errno::Again`] while it is not known, and why the name could not be looked up.
    pub(crate) fn next(&self) -> Result<Option<SocketAddress>, Errno> {
        let len = size_of::<SocketAddress>() as u64;
        match self.0.calls().read(self.0.get(), len, false)? {
            bytes if bytes.is_empty() => Ok(None),
            bytes => Ok(Some(without_mapping(address(&bytes)?))),
        }
    }

    /// Ready when the next address, the end or the failure is known.
    pub(crate) fn pollable(&self) -> Pollable {
        Pollable::Handle(self.0.get(), poll_events::READ)
    }
}

/// What the host is asked for `name`: a name or an address, without the brackets that an IPv6 address
/// may have. `None` if it is neither: empty, too long, or with what no name has in it
/// (the forbidden domain code points of the URL Standard).
fn host_name(name: &str) -> Option<&str> {
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if let Some(inner) = bracketed {
        return inner.parse::<Ipv6Addr>().is_ok().then_some(inner);
    }
    let forbidden = |c: char| {
        c.is_ascii_control()
            || matches!(
                c,
                ' ' | '#' | '%' | '/' | ':' | '<' | '>' | '?' | '@' | '[' | '\\' | ']' | '^' | '|'
            )
    };
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(forbidden);
    (is_name || name.parse::<Ipv6Addr>().is_ok()).then_some(name)
}

/// An IPv4 address that is mapped into IPv6, as what it is.
fn without_mapping(address: SocketAddress) -> SocketAddress {
    let Some(Ip::V6(ip)) = Ip::of(&address) else { return address };
    let Some(mapped) = ip.to_ipv4_mapped() else { return address };
    let mut bytes = [0; 16];
    if let Some(first) = bytes.first_chunk_mut() {
        *first = mapped.octets();
    }
    SocketAddress::new(Family::V4, bytes, address.port())
}
