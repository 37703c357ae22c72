//! Where each Kubernetes distribution keeps its containerd: one table.
//!
//! Rule: a distribution is known by a file that it alone makes, beside a socket that is there while it runs;
//! what none of them has made is containerd as its own packages install it (kubeadm, kind, and most clouds).

use std::path::{Path, PathBuf};

/// How a runtime is added to a containerd, and how it is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Its name.
    pub name: &'static str,
    /// containerd's configuration.
    pub config: PathBuf,
    /// The file that is ours alone.
    pub drop_in: PathBuf,
    /// How containerd comes to read it.
    pub imports: Imports,
    /// containerd's program: a path, or a name to be looked for in `PATH`.
    pub containerd: PathBuf,
    /// containerd's socket.
    pub socket: PathBuf,
    /// Its systemd units, of which a node runs one. Empty where containerd's starter looks after the
    /// drop-ins and restarts it by itself.
    pub units: &'static [&'static str],
}

/// How containerd comes to read the drop-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imports {
    /// The configuration is ours to edit: an import is added unless one is there that covers it.
    Edited,
    /// The configuration is generated at each start, with an import of the drop-ins' directory.
    Generated,
    /// The drop-ins are merged into a part of the configuration that is made while containerd runs.
    Merged,
}

/// Where programs of a node are looked for.
pub(super) const PATH: &str =
    "/opt/containerd/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct Row {
    name: &'static str,
    mark: &'static str,
    config: &'static str,
    drop_in: &'static str,
    imports: Imports,
    containerd: &'static str,
    socket: &'static str,
    units: &'static [&'static str],
}

/// Sources: the documentation of each on its containerd (RKE2 and K3s: "Advanced Options", containerd; MicroK8s:
/// "Configure a runtime"; k0s: "Runtime"), and containerd's for the last row.
const ROWS: [Row; 5] = [
    Row {
        name: "rke2",
        mark: "/var/lib/rancher/rke2/agent/etc/containerd",
        config: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        drop_in: "/var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.d/hyperlight.toml",
        imports: Imports::Generated,
        containerd: "/var/lib/rancher/rke2/bin/containerd",
        socket: "/run/k3s/containerd/containerd.sock",
        units: &["rke2-server.service", "rke2-agent.service"],
    },
    Row {
        name: "k3s",
        mark: "/var/lib/rancher/k3s/agent/etc/containerd",
        config: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        drop_in: "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/hyperlight.toml",
        imports: Imports::Generated,
        containerd: "/var/lib/rancher/k3s/data/current/bin/containerd",
        socket: "/run/k3s/containerd/containerd.sock",
        units: &["k3s.service", "k3s-agent.service"],
    },
    Row {
        name: "microk8s",
        mark: "/var/snap/microk8s/current/args/containerd-template.toml",
        config: "/var/snap/microk8s/current/args/containerd-template.toml",
        drop_in: "/var/snap/microk8s/current/args/hyperlight.toml",
        imports: Imports::Edited,
        containerd: "/snap/microk8s/current/bin/containerd",
        socket: "/var/snap/microk8s/common/run/containerd.sock",
        units: &["snap.microk8s.daemon-containerd.service"],
    },
    Row {
        name: "k0s",
        mark: "/var/lib/k0s/bin/containerd",
        config: "/etc/k0s/containerd.toml",
        drop_in: "/etc/k0s/containerd.d/hyperlight.toml",
        imports: Imports::Merged,
        containerd: "/var/lib/k0s/bin/containerd",
        socket: "/run/k0s/containerd.sock",
        units: &[],
    },
    Row {
        name: "containerd",
        mark: "/",
        config: "/etc/containerd/config.toml",
        drop_in: "/etc/containerd/conf.d/hyperlight.toml",
        imports: Imports::Edited,
        containerd: "containerd",
        socket: "/run/containerd/containerd.sock",
        units: &["containerd.service"],
    },
];

impl Row {
    fn distribution(&self) -> Distribution {
        Distribution {
            name: self.name,
            config: self.config.into(),
            drop_in: self.drop_in.into(),
            imports: self.imports,
            containerd: self.containerd.into(),
            socket: self.socket.into(),
            units: self.units,
        }
    }
}

impl Distribution {
    /// The names of all.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        ROWS.iter().map(|row| row.name).collect()
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.name == name).map(Row::distribution)
    }

    /// The one that runs here: the first whose mark and socket are there, else containerd by itself.
    #[must_use]
    pub fn of_this_node() -> Self {
        Self::found(|path| path.exists())
    }

    fn found(exists: impl Fn(&Path) -> bool) -> Self {
        let runs = |row: &&Row| exists(row.mark.as_ref()) && exists(row.socket.as_ref());
        let last = ROWS.len() - 1;
        ROWS.iter().find(runs).unwrap_or(&ROWS[last]).distribution()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distribution_is_known_by_its_mark_and_its_socket() {
        for row in &ROWS {
            let there = [Path::new(row.mark), Path::new(row.socket)];
            assert_eq!(Distribution::found(|path| there.contains(&path)).name, row.name);
        }
    }

    #[test]
    fn what_an_uninstalled_distribution_has_left_is_not_taken_for_it() {
        let left = Path::new("/var/lib/rancher/k3s/agent/etc/containerd");
        assert_eq!(Distribution::found(|path| path == left).name, "containerd");
    }

    #[test]
    fn every_name_is_found() {
        for name in Distribution::names() {
            assert_eq!(Distribution::named(name).unwrap().name, name);
        }
        assert_eq!(Distribution::named("docker"), None);
    }
}
