//! `etc/resolv.conf` and `etc/hosts` of a program's root file system.
//!
//! Rule: whoever made an image or mounted a file there may have written anything, so no symbolic link leads
//! out of the root, nothing but a regular file is read, and no more of it than a bound. What is not
//! understood is skipped, as the C library does (resolv.conf(5), hosts(5)).

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// Most bytes that are read of a file: thousands of hosts.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the C library takes at most: `MAXNS`, `RES_MAXNDOTS`, `RES_MAXRETRANS`, `RES_MAXRETRY` in
/// `resolv.h`.
const SERVERS_MAX: usize = 3;
const DOTS_MAX: u32 = 15;
const TIMEOUT_SECONDS_MAX: u32 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// Most domains to search: what Kubernetes gives a pod (`MaxDNSSearchPaths`).
const SEARCH_MAX: usize = 32;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configuration {
    /// Name servers, one at least.
    pub(super) servers: Vec<IpAddr>,
    /// Domains that are tried for a name that may be short.
    pub(super) search: Vec<String>,
    /// A name with as many dots is tried as it is first.
    pub(super) dots: usize,
    /// How long a server has for an answer.
    pub(super) timeout: Duration,
    /// How often each server is asked.
    pub(super) attempts: usize,
    /// Whether servers are asked in turn.
    pub(super) rotate: bool,
    /// Whether servers are asked with EDNS (RFC 6891).
    pub(super) edns: bool,
    /// Whether servers are asked over TCP alone.
    pub(super) tcp: bool,
    /// Whether IPv6 addresses are left out.
    pub(super) no_ipv6: bool,
}

/// The content of `path`, which is relative, in `root`; nothing where there is no such regular file.
pub(super) fn read(root: &Path, path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    if let Err(error) = try_read(root, path, &mut content)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        log::warn!("read {path} in {}: {error}", root.display());
        content.clear();
    }
    content
}

fn try_read(root: &Path, path: &str, content: &mut Vec<u8>) -> std::io::Result<()> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, dir, Mode::empty())?;
    // Not blocking, for a FIFO; and no terminal becomes ours.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(&root, path, flags, Mode::empty(), how)?);
    if file.metadata()?.is_file() {
        file.take(FILE_BYTES_MAX).read_to_end(content)?;
    }
    Ok(())
}

/// What `resolv_conf`, the content of a file, says.
pub(super) fn configuration(resolv_conf: &[u8]) -> Configuration {
    let (parsed, _) = resolv_conf::Config::parse_with_errors(resolv_conf);
    let mut servers: Vec<IpAddr> =
        parsed.get_nameservers_or_local().iter().take(SERVERS_MAX).map(IpAddr::from).collect();
    servers.dedup();
    let search = parsed.get_last_search_or_domain();
    let search = search.filter(|domain| *domain != "." && !domain.is_empty());
    Configuration {
        servers,
        search: search.take(SEARCH_MAX).cloned().collect(),
        dots: parsed.ndots.min(DOTS_MAX) as usize,
        timeout: Duration::from_secs(parsed.timeout.clamp(1, TIMEOUT_SECONDS_MAX).into()),
        attempts: parsed.attempts.clamp(1, ATTEMPTS_MAX) as usize,
        rotate: parsed.rotate,
        edns: parsed.edns0,
        tcp: parsed.use_vc,
        no_ipv6: parsed.no_aaaa,
    }
}

/// The addresses of `name` in `hosts`, the content of a file, in its order.
pub(super) fn addresses(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in String::from_utf8_lossy(hosts).lines() {
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}

#[cfg(test)]
mod tests;
