//! Policy: which destinations a guest may reach.
//!
//! Rule: what is not allowed is denied, before a packet is sent. A name allows the addresses that its
//! lookup gave; an unspecified address (`0.0.0.0`, `::`) is the loopback address to which the kernel
//! connects in its place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::{fmt, num};

/// What a guest may connect to and send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `None`: everything.
    allowed: Option<Vec<Destination>>,
}

/// Somewhere a guest may connect to: `ADDRESS[/BITS][:PORT]` or `[*.]NAME[:PORT]`, an IPv6 address in
/// brackets where a port follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    host: Host,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// The addresses whose first `bits` are those of `ip`.
    Range { ip: IpAddr, bits: u8 },
    /// A name in lower case, without the dot at its end.
    Name(String),
    /// The names that end in a dot and this one.
    Subdomains(String),
}

/// Why a text is no [`Destination`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The number after the colon.
    #[error("port {port:?} is no number from 1 to 65535")]
    Port {
        /// What is there.
        port: String,
        /// What is wrong with it.
        source: num::ParseIntError,
    },
    /// The number after the slash.
    #[error("/{bits} is no length of a prefix of {ip}, which has {} bits", width(*ip))]
    Bits {
        /// What is there.
        bits: String,
        /// The address before it.
        ip: IpAddr,
    },
    /// An address range with bits beyond its length.
    #[error("{ip}/{bits} is no range of addresses: bits beyond the first {bits} are set")]
    HostBits {
        /// The address.
        ip: IpAddr,
        /// The length of the prefix.
        bits: u8,
    },
    /// Neither an address nor a name.
    #[error("{host:?} is neither an address nor a host name")]
    Host {
        /// What is there.
        host: String,
    },
}

impl Policy {
    /// Everything is allowed.
    #[must_use]
    pub const fn everything() -> Self {
        Self { allowed: None }
    }

    /// Only these destinations are allowed.
    #[must_use]
    pub const fn only(allowed: Vec<Destination>) -> Self {
        Self { allowed: Some(allowed) }
    }

    /// Whether this address is allowed by itself: not because a name has it.
    #[must_use]
    pub fn allows(&self, address: SocketAddr) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let ip = match address.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        allowed
            .iter()
            .any(|destination| destination.has_port(address.port()) && destination.has_address(ip))
    }

    /// Whether whatever address this name has is allowed, with this port.
    #[must_use]
    pub fn allows_name(&self, name: &str, port: u16) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        allowed.iter().any(|destination| destination.has_port(port) && destination.has_name(name))
    }

    /// Whether there is an address that is allowed by itself.
    #[must_use]
    pub fn allows_addresses(&self) -> bool {
        let by_address = |destination: &Destination| matches!(destination.host, Host::Range { .. });
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(by_address))
    }

    /// The ports that are allowed at whatever address this name has; `None` for every port. Nothing where
    /// everything is allowed.
    pub(super) fn ports_of(&self, name: &str) -> impl Iterator<Item = Option<u16>> {
        let allowed = self.allowed.iter().flatten();
        allowed.filter(move |destination| destination.has_name(name)).map(|named| named.port)
    }

    /// Whether some destinations are denied.
    pub(super) fn is_a_list(&self) -> bool {
        self.allowed.is_some()
    }
}

impl Destination {
    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|allowed| allowed == port)
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match &self.host {
            Host::Range { ip, bits } => prefix(address, *bits) == prefix(*ip, *bits),
            Host::Name(_) | Host::Subdomains(_) => false,
        }
    }

    fn has_name(&self, asked: &str) -> bool {
        let asked = plain(asked);
        match &self.host {
            Host::Range { .. } => false,
            Host::Name(name) => asked == *name,
            Host::Subdomains(name) => asked
                .strip_suffix(name.as_str())
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let (host, port) = split_port(text);
        let port = port.map(parse_port).transpose()?;
        let (address, bits) = match host.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (host, None),
        };
        let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let ip = match inner {
            Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            None => address.parse().ok(),
        };
        let host = match (ip, bits) {
            (Some(ip), bits) => parse_range(ip, bits)?,
            (None, None) => parse_name(host)?,
            (None, Some(_)) => return Err(DestinationError::Host { host: host.to_owned() }),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Range { ip, bits } => {
                match ip {
                    IpAddr::V4(ip) => write!(f, "{ip}")?,
                    IpAddr::V6(ip) => write!(f, "[{ip}]")?,
                }
                if *bits < width(*ip) {
                    write!(f, "/{bits}")?;
                }
            }
            Host::Name(name) => write!(f, "{name}")?,
            Host::Subdomains(name) => write!(f, "*.{name}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Splits `:PORT` off: what follows the last colon, unless that is one within an IPv6 address without
/// brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.contains(']') && !port.contains(']') => {
            (host, Some(port))
        }
        _ => (text, None),
    }
}

fn parse_port(port: &str) -> Result<u16, DestinationError> {
    let number = port.parse::<num::NonZeroU16>();
    number.map(u16::from).map_err(|source| DestinationError::Port { port: port.to_owned(), source })
}

fn parse_range(ip: IpAddr, bits: Option<&str>) -> Result<Host, DestinationError> {
    let (ip, bits) = match bits {
        None => (ip, width(ip)),
        Some(text) => match text.parse() {
            Ok(bits) if bits <= width(ip) => (ip, bits),
            _ => return Err(DestinationError::Bits { bits: text.to_owned(), ip }),
        },
    };
    let beyond = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits().checked_shl(bits.into()).unwrap_or(0)),
        IpAddr::V6(ip) => ip.to_bits().checked_shl(bits.into()).unwrap_or(0),
    };
    if beyond == 0 {
        Ok(Host::Range { ip, bits })
    } else {
        Err(DestinationError::HostBits { ip, bits })
    }
}

fn parse_name(text: &str) -> Result<Host, DestinationError> {
    let refused = || DestinationError::Host { host: text.to_owned() };
    let (name, subdomains) = match text.strip_prefix("*.") {
        Some(name) => (plain(name), true),
        None => (plain(text), false),
    };
    // As broad as resolvers are: letters of any script, and the underscore of service names. What is all
    // digits and dots is a mistyped address.
    let label = |label: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(inner)
    };
    let is_name = name.len() <= abi::NAME_BYTES_MAX
        && name.split('.').all(label)
        && !name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    match (is_name, subdomains) {
        (false, _) => Err(refused()),
        (true, false) => Ok(Host::Name(name)),
        (true, true) => Ok(Host::Subdomains(name)),
    }
}

/// A name as names are compared: case does not matter, nor the dot at the end.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_lowercase()
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The family, and the first `bits` of the address.
fn prefix(ip: IpAddr, bits: u8) -> (u8, u128) {
    let shift = u32::from(width(ip).saturating_sub(bits));
    match ip {
        IpAddr::V4(ip) => (4, ip.to_bits().checked_shr(shift).unwrap_or(0).into()),
        IpAddr::V6(ip) => (6, ip.to_bits().checked_shr(shift).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests;
