//! The network of a program: which destinations it may reach, and how it looks names up.
//!
//! Rule: sockets live in the network namespace of the process that runs the program, names in the files of
//! the program's own root file system. Sockets and HTTP of a program share one policy and one resolver.

mod files;
mod resolver;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use abi::http::ErrorCode;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vmm::host::http::Failure;
use vmm::host::{Destination, LookupError, LookupRequest, Policy};

pub use self::resolver::Resolver;
use crate::http::client::{Addresses, Client};

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

impl From<UnreachableError> for Failure {
    fn from(error: UnreachableError) -> Self {
        let failed = |text: &str| Self {
            code: ErrorCode::DnsError,
            text: Some(text.to_owned()),
            number: None,
        };
        match error {
            UnreachableError::Denied => ErrorCode::HttpRequestDenied.into(),
            UnreachableError::Lookup(LookupError::NotFound) => failed("NXDOMAIN"),
            UnreachableError::Lookup(LookupError::TimedOut) => ErrorCode::DnsTimeout.into(),
            UnreachableError::Lookup(LookupError::ServerFailed) => failed("SERVFAIL"),
            UnreachableError::Lookup(LookupError::Failed) => failed("REFUSED"),
        }
    }
}

/// The network of the programs of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    reach: Reach,
    client: Client,
}

/// What may be reached, and under which addresses.
#[derive(Clone, Debug)]
struct Reach {
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
        let resolver = Arc::new(Resolver::new(grant.root.clone()));
        let reach = Reach { policy: Arc::new(policy), resolver };
        let of_client = reach.clone();
        let addresses: Addresses = Arc::new(move |host, port| {
            let reach = of_client.clone();
            Box::pin(async move { reach.addresses(&host, port).await.map_err(Failure::from) })
        });
        let client = Client::new(addresses, Some(grant.root.clone()));
        Self { reach, client }
    }

    /// What makes the HTTP requests of the programs.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// What a micro-VM is granted of it.
    #[must_use]
    pub fn granted(&self) -> vmm::host::Network {
        let Reach { policy, resolver } = self.reach.clone();
        let look_up = move |request: LookupRequest| resolver.answer(request);
        vmm::host::Network::new(policy, Arc::new(look_up))
    }
}

impl Reach {
    /// The addresses at which `host`, a name or an address, may be reached with `port`: one at least, the
    /// best first.
    ///
    /// For connections that are made on behalf of the program; see [`Resolver::lookup`].
    ///
    /// # Errors
    ///
    /// [`UnreachableError`]; a name is looked up only if the policy might allow what it finds.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, UnreachableError> {
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
