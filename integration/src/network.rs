//! The network of a node's pods: a bridge of this machine, and the CNI configuration that puts pods on it.
//!
//! The bridge is named after the run, so that what is on it is known to be the run's. Nothing is
//! masqueraded: pods reach each other and the node, and nothing else. The addresses are from the block for
//! tests between networks (RFC 2544, section C.2.2).

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::leaks::{BRIDGE_PREFIX, RUN_PREFIX, interfaces, names};
use crate::process;

/// 198.18.0.0/15.
const FIRST: u32 = 0xc612_0000;

/// Addresses of a run, /24, and how many such networks there are in the block.
const SIZE: u32 = 256;
const COUNT: u32 = 512;

/// Where CNI's library keeps what a plugin has answered; it has no other place.
const RESULTS: &str = "/var/lib/cni/results";

/// The network of a run; dropping it removes the bridge.
#[derive(Debug)]
pub(crate) struct Network {
    run: String,
    directory: PathBuf,
}

impl Network {
    /// Makes the bridge, and the configuration below `directory`.
    ///
    /// # Errors
    ///
    /// `ip` fails, or a file cannot be written.
    pub(crate) fn start(run: &str, directory: &Path) -> Result<Self> {
        let base = free_network()?;
        let network = Self { run: run.to_owned(), directory: directory.to_owned() };
        ip(&["link", "add", "name", &bridge(run), "type", "bridge"])?;
        let configuration = json!({
            "cniVersion": "1.0.0",
            "name": run,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": bridge(run),
                    "isGateway": true,
                    "ipMasq": false,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": network.addresses_directory(),
                        "ranges": [[{ "subnet": format!("{}/24", Ipv4Addr::from(base)) }]],
                        "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
            ],
        });
        let text = serde_json::to_vec_pretty(&configuration).context("write JSON")?;
        let file = network.configuration_directory();
        fs::create_dir_all(&file).with_context(|| format!("create {}", file.display()))?;
        let file = file.join("pods.conflist");
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        Ok(network)
    }

    /// Where containerd finds the configuration.
    pub(crate) fn configuration_directory(&self) -> PathBuf {
        self.directory.join("cni")
    }

    fn addresses_directory(&self) -> PathBuf {
        self.directory.join("addresses")
    }

    /// What is there only while pods are: addresses that are taken, and CNI's own notes about them.
    pub(crate) fn kept_for_pods(&self) -> Vec<PathBuf> {
        let taken = names(&self.addresses_directory().join(&self.run));
        let is_address = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.parse::<Ipv4Addr>().is_ok()
        };
        taken.into_iter().filter(is_address).chain(results(&self.run)).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What stays is in the comparison after the run.
        remove(&self.run);
    }
}

/// Removes the bridge of a run, and what CNI has noted about it.
pub(crate) fn remove(run: &str) {
    let bridge = bridge(run);
    let there = interfaces().iter().any(|interface| interface.name == bridge);
    if let Some(Err(failure)) = there.then(|| ip(&["link", "delete", &bridge])) {
        eprintln!("{failure:#}");
    }
    for file in results(run) {
        drop(fs::remove_file(file));
    }
    // Only if they are empty: they may be another's.
    for directory in [Path::new(RESULTS), Path::new("/var/lib/cni")] {
        drop(fs::remove_dir(directory));
    }
}

/// Name of a run's bridge: at most 15 bytes, as the kernel's IFNAMSIZ has it.
pub(crate) fn bridge(run: &str) -> String {
    format!("{BRIDGE_PREFIX}{}", run.trim_start_matches(RUN_PREFIX))
}

/// CNI's notes on a run's pods: files NETWORK-CONTAINER-INTERFACE.
fn results(run: &str) -> Vec<PathBuf> {
    let start = format!("{run}-");
    let own =
        |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().starts_with(&start);
    names(RESULTS.as_ref()).into_iter().filter(own).collect()
}

/// A network whose first address, the bridge's, is not this machine's yet: runs beside each other differ.
fn free_network() -> Result<u32> {
    let own = std::process::id();
    let mut networks = (0..COUNT).map(|number| FIRST + (own + number) % COUNT * SIZE);
    let free = |base: &u32| UdpSocket::bind((Ipv4Addr::from(base + 1), 0)).is_err();
    networks.find(free).context("every network of 198.18.0.0/15 is taken: `ip address` lists them")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let outcome = process::run(Command::new("ip").args(arguments))?;
    outcome.success().with_context(|| format!("ip {}", arguments.join(" ")))?;
    Ok(())
}
