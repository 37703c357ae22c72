//! How a component that handles HTTP requests is served.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The port that is served unless another is named.
pub const PORT_DEFAULT: u16 = 8080;

/// Requests that are handled at a time unless told otherwise: as many micro-VMs are there at most.
pub const MAX_CONCURRENCY_DEFAULT: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// How long requests in flight have once the task is asked to end. Kubernetes kills after 30 s unless told
/// otherwise, and what has been killed has no status of its own.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(25);

/// What one request leaves to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Nothing: the micro-VM is reset to its snapshot, all of its memory
    #[default]
    Request,
    /// Nothing of the component: each request has a new instance, in a micro-VM that may be kept
    Instance,
    /// Whatever the component keeps: the instance stays
    None,
}

/// How a component is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Where connections are taken.
    pub addr: SocketAddr,
    /// What one request leaves to the next.
    pub isolation: Isolation,
    /// Most requests that are handled at a time.
    pub max_concurrency: NonZeroU32,
    /// How long a request may take; any time if `None`.
    pub request_timeout: Option<Duration>,
    /// How long requests in flight have once the task is asked to end.
    pub drain: Duration,
}

impl Default for Serving {
    /// On [`PORT_DEFAULT`] of every address of the network namespace.
    fn default() -> Self {
        Self {
            addr: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT_DEFAULT),
            isolation: Isolation::default(),
            max_concurrency: MAX_CONCURRENCY_DEFAULT,
            request_timeout: None,
            drain: DRAIN_DEFAULT,
        }
    }
}
