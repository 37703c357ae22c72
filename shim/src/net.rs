//! The network of a program: which destinations it may reach, and how it looks names up.
//!
//! Rule: sockets live in the network namespace of the process that runs the program, names in the files of
//! the program's own root file system. Sockets and HTTP of a program share one policy and one resolver.

mod files;
mod resolver;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vmm::host::{Destination, LookupError, LookupRequest, Policy};

pub use self::resolver::Resolver;

/// The network that a program is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkGrant {
    /// The only destinations that it may connect to and send to; `None` for everything.
    pub allow: Option<Vec<AllowedDestination>>,
    /// The directory whose `etc/resolv.conf` and `etc/hosts` say how names are looked up, as the VMM process
    /// sees it: `/`, or a container's root file system.
    pub root: PathBuf,
}

/// A [`Destination`] that is written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedDestination(pub Destination);

impl Serialize for AllowedDestination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AllowedDestination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why there is no address to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreachableError {
    /// The policy forbids it.
    #[error("the destination is not allowed")]
    Denied,
    /// The name was not found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// The network of the programs of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    policy: Arc<Policy>,
    resolver: Arc<Resolver>,
}

impl Network {
    /// The network that `grant` describes. Opens nothing and starts nothing: that is for the first lookup.
    #[must_use]
    pub fn new(grant: &NetworkGrant) -> Self {
        let policy = match &grant.allow {
            None => Policy::everything(),
            Some(allowed) => Policy::only(allowed.iter().map(|one| one.0.clone()).collect()),
        };
        Self { policy: Arc::new(policy), resolver: Arc::new(Resolver::new(grant.root.clone())) }
    }

    /// What a micro-VM is granted of it.
    #[must_use]
    pub fn granted(&self) -> vmm::host::Network {
        let resolver = Arc::clone(&self.resolver);
        let look_up = move |request: LookupRequest| resolver.answer(request);
        vmm::host::Network::new(Arc::clone(&self.policy), Arc::new(look_up))
    }

    /// The addresses at which `host`, a name or an address, may be reached with `port`: one at least, the
    /// best first.
    ///
    /// For connections that are made on behalf of the program; see [`Resolver::lookup`].
    ///
    /// # Errors
    ///
    /// [`UnreachableError`]; a name is looked up only if the policy might allow what it finds.
    pub async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, UnreachableError> {
        let by_name = self.policy.allows_name(host, port);
        if !by_name && !self.policy.allows_addresses() {
            return Err(UnreachableError::Denied);
        }
        let found = self.resolver.lookup(host).await?;
        let all = found.into_iter().map(|ip| SocketAddr::new(ip, port));
        let allowed: Vec<_> =
            all.filter(|address| by_name || self.policy.allows(*address)).collect();
        if allowed.is_empty() { Err(UnreachableError::Denied) } else { Ok(allowed) }
    }
}

#[cfg(test)]
mod tests;
