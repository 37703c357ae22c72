//! Looking names up: in `etc/hosts` first, then in the DNS.
//!
//! Rule: nothing is read and no thread is started before the first lookup. From then on one thread looks up
//! for all micro-VMs of the process, some names at a time. The files are read for each lookup, so that what
//! is changed in them counts. An address is an address of itself, and `localhost` is this machine
//! (RFC 6761, section 6.3): nobody is asked for these.
//!
//! Of the addresses that are found, those come first to which a way leads (RFC 6724, rule 1), IPv4 before
//! IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{TokioResolver, lookup_ip::LookupIp};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use vmm::host::{LookupError, LookupRequest};

use super::files::{self, Configuration};
use crate::error::line;

/// Most names that are looked up at a time. Each may have two questions to three servers under way, with a
/// descriptor each.
const CONCURRENT_MAX: usize = 8;

/// The port of name servers (RFC 1035, section 4.2).
const DNS_PORT: u16 = 53;

/// Answers of name servers that are kept, for as long as they allow.
const CACHE_ENTRIES: u64 = 256;

/// The resolver of a process.
#[derive(Debug)]
pub struct Resolver {
    root: PathBuf,
    port: u16,
    running: OnceLock<Option<Running>>,
    turns: Semaphore,
    client: Mutex<Option<Client>>,
}

/// The thread that looks up.
#[derive(Debug)]
struct Running {
    handle: Handle,
    /// Dropped with the resolver, to end the thread.
    _until: oneshot::Sender<()>,
}

/// Who asks the name servers that `resolv_conf` names.
#[derive(Clone, Debug)]
struct Client {
    resolv_conf: Vec<u8>,
    configuration: Arc<Configuration>,
    dns: TokioResolver,
}

impl Resolver {
    /// A resolver that goes by `etc/resolv.conf` and `etc/hosts` in `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self::with_port(root, DNS_PORT)
    }

    /// As [`new`](Self::new), with name servers that are asked at another port.
    fn with_port(root: PathBuf, port: u16) -> Self {
        Self {
            root,
            port,
            running: OnceLock::new(),
            turns: Semaphore::new(CONCURRENT_MAX),
            client: Mutex::new(None),
        }
    }

    /// Looks up for a guest, without waiting.
    pub(super) fn answer(self: &Arc<Self>, request: LookupRequest) {
        let resolver = Arc::clone(self);
        match self.handle() {
            Ok(handle) => drop(handle.spawn(async move {
                if let Ok(_turn) = resolver.turns.acquire().await
                    && request.is_wanted()
                {
                    let outcome = resolver.find(request.name()).await;
                    request.answer(outcome);
                }
            })),
            Err(error) => request.answer(Err(error)),
        }
    }

    /// The addresses of `name`, the best first. Can be awaited in any runtime.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn lookup(self: &Arc<Self>, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let resolver = Arc::clone(self);
        let name = name.to_owned();
        let found = self.handle()?.spawn(async move {
            let _turn = resolver.turns.acquire().await.map_err(|_| LookupError::Failed)?;
            resolver.find(&name).await
        });
        found.await.unwrap_or(Err(LookupError::Failed))
    }

    /// The runtime of the thread that looks up.
    fn handle(&self) -> Result<&Handle, LookupError> {
        let running = self.running.get_or_init(|| match Running::start() {
            Ok(running) => Some(running),
            Err(error) => {
                log::warn!("start the resolver: {}", line(&error));
                None
            }
        });
        running.as_ref().map(|running| &running.handle).ok_or(LookupError::Failed)
    }

    async fn find(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        let plain = name.strip_suffix('.').unwrap_or(name);
        if is_localhost(plain) {
            return Ok(best_first(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        let found = files::addresses(&files::read(&self.root, "etc/hosts"), plain);
        if !found.is_empty() {
            return Ok(best_first(found));
        }
        let Client { configuration, dns, .. } = self.client()?;
        let mut outcome = Err(LookupError::NotFound);
        for candidate in candidates(name, &configuration)? {
            match dns.lookup_ip(candidate).await.map_err(|error| told(&error)).and_then(some) {
                // Perhaps another candidate exists; if not, the server that has failed might have known.
                Err(LookupError::NotFound) => {}
                Err(error @ LookupError::ServerFailed) => outcome = Err(error),
                end => return end.map(best_first),
            }
        }
        outcome
    }

    /// Who asks the name servers of the present `etc/resolv.conf`.
    fn client(&self) -> Result<Client, LookupError> {
        let resolv_conf = files::read(&self.root, "etc/resolv.conf");
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some(client) if client.resolv_conf == resolv_conf => Ok(client.clone()),
            _ => Ok(client.insert(Client::new(resolv_conf, self.port)?).clone()),
        }
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (until, end) = oneshot::channel::<()>();
        let run = move || drop(runtime.block_on(end));
        std::thread::Builder::new().name("resolver".to_owned()).spawn(run)?;
        Ok(Self { handle, _until: until })
    }
}

impl Client {
    fn new(resolv_conf: Vec<u8>, port: u16) -> Result<Self, LookupError> {
        let configuration = files::configuration(&resolv_conf);
        let server = |ip: &IpAddr| {
            let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            if configuration.tcp {
                ways.remove(0);
            }
            for way in &mut ways {
                way.port = port;
            }
            NameServerConfig::new(*ip, true, ways)
        };
        let servers: Vec<_> = configuration.servers.iter().map(server).collect();
        let mut options = ResolverOpts::default();
        options.timeout = configuration.timeout;
        options.attempts = configuration.attempts - 1; // beside the first
        options.edns0 = configuration.edns;
        options.cache_size = CACHE_ENTRIES;
        options.use_hosts_file = ResolveHosts::Never; // that file is the host's
        options.ip_strategy = match configuration.no_ipv6 {
            true => LookupIpStrategy::Ipv4Only,
            false => LookupIpStrategy::Ipv4AndIpv6,
        };
        // All servers at once, so that one that is down costs no time; or one after the other.
        options.num_concurrent_reqs = if configuration.rotate { 1 } else { servers.len() };
        if configuration.rotate {
            options.server_ordering_strategy = ServerOrderingStrategy::RoundRobin;
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let dns = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| told(&error))?;
        Ok(Self { resolv_conf, configuration: Arc::new(configuration), dns })
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The full names that `name` may stand for, in the order in which they are tried (resolv.conf(5)).
fn candidates(name: &str, configuration: &Configuration) -> Result<Vec<Name>, LookupError> {
    let mut full = Name::from_utf8(name).map_err(|_| LookupError::NotFound)?;
    let is_full = full.is_fqdn();
    full.set_fqdn(true);
    if is_full {
        return Ok(vec![full]);
    }
    let mut relative = full.clone();
    relative.set_fqdn(false);
    let below = |domain: &String| {
        let domain = Name::from_utf8(domain).ok()?;
        relative.clone().append_domain(&domain).ok()
    };
    let mut candidates: Vec<Name> = configuration.search.iter().filter_map(below).collect();
    let dots = name.bytes().filter(|byte| *byte == b'.').count();
    let place = if dots >= configuration.dots { 0 } else { candidates.len() };
    candidates.insert(place, full);
    Ok(candidates)
}

fn told(error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => LookupError::NotFound,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => LookupError::ServerFailed,
        NetError::Timeout | NetError::NoConnections | NetError::Busy | NetError::Io(_) => {
            LookupError::TimedOut
        }
        _ => LookupError::Failed,
    }
}

fn some(found: LookupIp) -> Result<Vec<IpAddr>, LookupError> {
    let found: Vec<IpAddr> = found.iter().collect();
    if found.is_empty() { Err(LookupError::NotFound) } else { Ok(found) }
}

/// Puts those first to which a way leads; connecting a socket for datagrams asks the kernel, and sends
/// nothing.
fn best_first(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_cached_key(|ip| {
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let way = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((*ip, DNS_PORT)));
        (way.is_err(), ip.is_ipv6())
    });
    addresses
}

#[cfg(test)]
mod tests;
