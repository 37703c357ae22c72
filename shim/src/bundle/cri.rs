//! A pod as the CRI describes it, where containerd leaves its making to the shim (`sandboxer = "shim"`): what
//! [`Pod`] is then read from, as there is no `config.json`.
//!
//! Rule: the pod is what it would be if containerd itself had made it from the same message. Named here are the
//! fields that say something of namespaces, names, kernel parameters and control groups; the rest is about a pause
//! container's program, of which nothing is used.
//!
//! Source: k8s.io/cri-api, runtime/v1/api.proto (`PodSandboxConfig`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxCpu, LinuxResources};
use prost::Message;

use super::{BundleError, Namespace, Namespaces, Pod};
use crate::cgroup;
use crate::pod_files::PodFiles;

/// The type of the message, as containerd's typeurl writes it.
pub(crate) const POD_SANDBOX_CONFIG: &str = "runtime.v1.PodSandboxConfig";

/// `NamespaceMode`: the pod has the namespace, and the node has it.
const POD: i32 = 0;
const NODE: i32 = 2;

/// What containerd has a holder weigh: its end is the pod's, and it takes next to nothing.
const CPU_SHARES: u64 = 2;
const OOM_SCORE_ADJ: i32 = -998;

/// Kernel parameters of a pod's own network, unless it says otherwise: every program may use ports below 1024 and ICMP,
/// as containerd has it by default.
const OF_NETWORK: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

#[derive(Clone, PartialEq, Eq, Message)]
struct PodSandboxConfig {
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(message, optional, tag = "4")]
    dns_config: Option<DnsConfig>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct DnsConfig {
    #[prost(string, repeated, tag = "1")]
    servers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    searches: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    options: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<LinuxSandboxSecurityContext>,
    #[prost(btree_map = "string, string", tag = "3")]
    sysctls: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
    #[prost(message, optional, tag = "5")]
    userns_options: Option<UserNamespace>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct UserNamespace {
    #[prost(int32, tag = "1")]
    mode: i32,
}

impl Pod {
    /// What `message`, a `PodSandboxConfig`, says of pod `id` in containerd's `namespace`. `network` is the file of its
    /// network namespace, which containerd has made unless the pod has the node's.
    ///
    /// # Errors
    ///
    /// It is no such message, or a part of it is malformed or asks for what cannot be done.
    pub fn of_cri(
        message: &[u8],
        network: &str,
        namespace: &str,
        id: &str,
    ) -> Result<Self, BundleError> {
        let config = PodSandboxConfig::decode(message).map_err(BundleError::Cri)?;
        let linux = config.linux.unwrap_or_default();
        let options = linux.security_context.and_then(|context| context.namespace_options);
        let options = options.unwrap_or_default();
        if options.userns_options.is_some_and(|user| user.mode == POD) {
            return Err(BundleError::UserNamespace);
        }
        let new = |mode| (mode != NODE).then_some(Namespace::New);
        let namespaces = Namespaces {
            network: match network {
                "" => new(options.network),
                file => Some(Namespace::Join(PathBuf::from(file))),
            },
            ipc: new(options.ipc),
            // Who has the node's network has its name.
            uts: new(options.network),
            pid: new(options.pid),
        };
        let mut parameters = linux.sysctls;
        if namespaces.network.is_some() {
            for (name, value) in OF_NETWORK {
                parameters.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        let host_name = Some(config.hostname).filter(|name| !name.is_empty());
        let files = PodFiles {
            host_name: host_name.clone(),
            resolver: config.dns_config.map(|dns| dns.text()),
            has_memory: namespaces.ipc.is_some(),
        };
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(Some(CPU_SHARES));
        let mut resources = LinuxResources::default();
        resources.set_cpu(Some(cpu));
        Ok(Self {
            host_name: host_name.filter(|_| namespaces.uts.is_some()),
            namespaces,
            parameters,
            cgroup_path: cgroup_path(&linux.cgroup_parent, namespace, id)?,
            resources: Some(resources),
            oom_score_adj: Some(OOM_SCORE_ADJ),
            hooks: None,
            files: Some(files),
        })
    }
}

impl DnsConfig {
    /// As resolv.conf(5) has it.
    fn text(&self) -> String {
        let line = |keyword: &str, values: &[String]| match values {
            [] => String::new(),
            values => format!("{keyword} {}\n", values.join(" ")),
        };
        let servers = self.servers.iter().map(|server| format!("nameserver {server}\n"));
        let servers: String = servers.collect();
        line("search", &self.searches) + &servers + &line("options", &self.options)
    }
}

/// The control group of a holder below that of its pod, as containerd names those of containers for each of the kubelet's
/// drivers: systemd's slices have names of their own.
fn cgroup_path(parent: &str, namespace: &str, id: &str) -> Result<PathBuf, cgroup::PathError> {
    let name = parent.rsplit('/').next().unwrap_or_default();
    cgroup::parse_path(&match parent {
        "" => format!("/{namespace}/{id}"),
        _slice if name.ends_with(".slice") => format!("{name}:cri-containerd:{id}"),
        _directory => format!("{parent}/{id}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(config: &PodSandboxConfig, network: &str) -> Result<Pod, BundleError> {
        Pod::of_cri(&config.encode_to_vec(), network, "k8s.io", "id")
    }

    fn with_options(options: NamespaceOption) -> PodSandboxConfig {
        let context = LinuxSandboxSecurityContext { namespace_options: Some(options) };
        let linux = LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/pod1".to_owned(),
            security_context: Some(context),
            sysctls: BTreeMap::new(),
        };
        PodSandboxConfig { hostname: "web".to_owned(), dns_config: None, linux: Some(linux) }
    }

    fn options() -> NamespaceOption {
        NamespaceOption { network: POD, pid: 1, ipc: POD, userns_options: None }
    }

    #[test]
    fn a_pod_has_the_network_that_containerd_has_made_and_the_rest_for_itself() {
        let made = pod(&with_options(options()), "/run/netns/a").unwrap();

        let new = || Some(Namespace::New);
        let network = Some(Namespace::Join("/run/netns/a".into()));
        assert_eq!(made.namespaces, Namespaces { network, ipc: new(), uts: new(), pid: new() });
        assert_eq!(made.host_name.as_deref(), Some("web"));
        assert_eq!(made.cgroup_path, PathBuf::from("kubepods/pod1/id"));
        assert_eq!(made.parameters["net.ipv4.ip_unprivileged_port_start"], "0");
    }

    #[test]
    fn a_pod_of_the_nodes_network_has_the_nodes_name_and_sets_nothing_of_it() {
        let made =
            pod(&with_options(NamespaceOption { network: NODE, ipc: NODE, ..options() }), "");

        let made = made.unwrap();
        let of_node = Namespaces { network: None, ipc: None, uts: None, ..made.namespaces.clone() };
        assert_eq!(made.namespaces, of_node);
        assert_eq!((made.host_name, made.parameters), (None, BTreeMap::new()));
        assert!(!made.files.unwrap().has_memory);
    }

    #[test]
    fn what_a_pod_says_of_its_kernel_parameters_holds() {
        let mut config = with_options(options());
        let sysctls = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "1000".to_owned())];
        config.linux.as_mut().unwrap().sysctls = sysctls.into();

        let made = pod(&config, "/n").unwrap();

        assert_eq!(made.parameters["net.ipv4.ip_unprivileged_port_start"], "1000");
        assert_eq!(made.parameters.len(), 2);
    }

    #[test]
    fn a_slice_is_named_as_systemd_has_it() {
        let mut config = with_options(options());
        config.linux.as_mut().unwrap().cgroup_parent = "/kubepods.slice/kubepods-pod1.slice".into();

        let made = pod(&config, "/n").unwrap();

        let expected = "kubepods.slice/kubepods-pod1.slice/cri-containerd-id.scope";
        assert_eq!(made.cgroup_path, PathBuf::from(expected));
    }

    #[test]
    fn a_resolver_is_written_as_resolv_conf_has_it() {
        let words = |all: &[&str]| all.iter().map(|&word| word.to_owned()).collect();
        let dns = DnsConfig {
            servers: words(&["10.0.0.10", "10.0.0.11"]),
            searches: words(&["a.test", "test"]),
            options: words(&["ndots:5"]),
        };

        let expected =
            "search a.test test\nnameserver 10.0.0.10\nnameserver 10.0.0.11\noptions ndots:5\n";
        assert_eq!(dns.text(), expected);
    }

    #[test]
    fn a_user_namespace_and_what_is_no_such_message_are_refused() {
        let user = Some(UserNamespace { mode: POD });
        let refused = pod(&with_options(NamespaceOption { userns_options: user, ..options() }), "");
        assert!(matches!(refused, Err(BundleError::UserNamespace)));

        let refused = Pod::of_cri(b"\xff\xff\xff", "", "k8s.io", "id");
        assert!(matches!(refused, Err(BundleError::Cri(_))));

        let mut config = with_options(options());
        config.linux.as_mut().unwrap().cgroup_parent = "/../..".to_owned();
        assert!(matches!(pod(&config, ""), Err(BundleError::Cgroup(_))));
    }
}
