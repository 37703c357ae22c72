//! The worker of a cluster: containerd with the CRI at its ordinary places, kubelet and kube-proxy.
//!
//! The kubelet's cgroups are below the run's, by cgroupfs of either version. Pods are linked point to point
//! (CNI's `ptp`), so that what goes from one to another passes the node, where kube-proxy translates addresses.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::certificates::Certificates;
use super::namespaces::{ADDRESS, Namespaces};
use super::programs::Service;
use super::{NODE, PODS, program};
use crate::process::{self, wait_until};
use crate::{RUNTIME, binaries, leaks, tools};

/// Where containerd listens, inside.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where the runtime is made known to containerd.
const DROP_IN: &str = "/etc/containerd/conf.d/hyperlight.toml";

/// A node that takes pods.
#[derive(Debug)]
pub(super) struct Worker {
    // In the order in which they end.
    kubelet: Service,
    proxy: Service,
    containerd: Service,
}

impl Worker {
    /// Writes the node's files, in the layers that are mounted, and starts what runs on it.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or containerd does not answer.
    pub(super) fn start(
        run: &str,
        directory: &Path,
        namespaces: &Namespaces,
        certificates: &Certificates,
        sandbox_image: &str,
    ) -> Result<Self> {
        write(namespaces, "/etc/cni/net.d/10-pods.conflist", &network().to_string())?;
        write(namespaces, "/etc/containerd/config.toml", &containerd_config(sandbox_image)?)?;
        write(namespaces, DROP_IN, &runtime_config())?;
        // No name of this machine's network is one of the cluster's.
        write(namespaces, "/etc/kubernetes/resolv.conf", "nameserver 198.18.0.53\n")?;
        let config = kubelet_config(run, certificates);
        write(namespaces, "/etc/kubernetes/kubelet.json", &config.to_string())?;
        let config = proxy_config(certificates);
        write(namespaces, "/etc/kubernetes/kube-proxy.json", &config.to_string())?;

        let containerd = tools::tree("containerd")?;
        // Its process id is in a file, by which an installer without systemd ends it.
        let mut command = namespaces.command("sh");
        command.args(["-c", "echo $$ >/run/containerd.pid; exec \"$0\" \"$@\""]);
        command.arg(containerd.file(&["usr/bin/containerd"])?);
        let mut path = vec!["/usr/local/bin".into(), binaries()];
        path.push(tools::tree("runc")?.root().to_owned());
        path.push(containerd.root().join("usr/bin"));
        path.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into));
        let path = std::env::join_paths(path).context("join PATH")?;
        command.env("PATH", path).args(["--config", "/etc/containerd/config.toml"]);
        let containerd = Service::start(command, directory, "containerd")?;
        wait_for_containerd(namespaces).with_context(|| containerd.log())?;

        make_cgroups(run)?;
        let mut command = program(namespaces, "kubelet")?;
        command.args(["--config", "/etc/kubernetes/kubelet.json", "--hostname-override", NODE]);
        command.args(["--kubeconfig", &certificates.kubeconfig("kubelet"), "--node-ip", ADDRESS]);
        let kubelet = Service::start(command, directory, "kubelet")?;

        let mut command = program(namespaces, "kube-proxy")?;
        let mut path = std::ffi::OsString::from(tools::tree("nftables")?.root());
        path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("PATH", path);
        command.args(["--config", "/etc/kubernetes/kube-proxy.json", "--hostname-override", NODE]);
        let proxy = Service::start(command, directory, "kube-proxy")?;
        Ok(Self { kubelet, proxy, containerd })
    }

    /// Ends containerd by force, and waits for the next to answer.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub(super) fn restart_containerd(&self, namespaces: &Namespaces) -> Result<()> {
        restart(&self.containerd)?;
        wait_for_containerd(namespaces).with_context(|| self.containerd.log())
    }

    /// Makes the runtime known to containerd, which is restarted.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or containerd does not come up.
    pub(super) fn add_runtime(&self, namespaces: &Namespaces) -> Result<()> {
        write(namespaces, DROP_IN, &runtime_config())?;
        self.restart_containerd(namespaces)
    }

    /// Makes the runtime unknown to containerd, which is restarted.
    ///
    /// # Errors
    ///
    /// The file cannot be removed, or containerd does not come up.
    pub(super) fn remove_runtime(&self, namespaces: &Namespaces) -> Result<()> {
        namespaces.run("rm", &[DROP_IN])?;
        self.restart_containerd(namespaces)
    }

    /// Ends the kubelet by force, and waits for the next.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub(super) fn restart_kubelet(&self) -> Result<()> {
        restart(&self.kubelet)
    }

    /// The ends of the logs.
    pub(super) fn log(&self) -> String {
        let logs = [&self.containerd, &self.kubelet, &self.proxy].map(Service::log);
        logs.join("\n---\n")
    }
}

/// Makes the run's cgroup in each hierarchy (cgroup v1), or in the only one, as a kubelet wants to find its root.
fn make_cgroups(run: &str) -> Result<()> {
    let mut roots = leaks::names("/sys/fs/cgroup".as_ref());
    roots.push("/sys/fs/cgroup".into());
    for root in roots.into_iter().filter(|it| it.join("cgroup.procs").exists()) {
        let cgroup = root.join(run);
        fs::create_dir_all(&cgroup).with_context(|| format!("create {}", cgroup.display()))?;
    }
    Ok(())
}

fn restart(service: &Service) -> Result<()> {
    let before = service.id();
    service.signal(Signal::KILL);
    wait_until("the next process of a service", Duration::from_secs(60), || service.id() != before)
}

fn wait_for_containerd(namespaces: &Namespaces) -> Result<()> {
    let ctr = tools::tree("containerd")?.file(&["usr/bin/ctr"])?;
    wait_until("containerd to answer", Duration::from_secs(60), || {
        let mut ctr = namespaces.command(&ctr);
        process::run(ctr.args(["--address", SOCKET, "version"])).is_ok_and(|it| it.code() == 0)
    })
}

/// Writes a file of the node, inside.
fn write(namespaces: &Namespaces, file: &str, text: &str) -> Result<()> {
    let directory = Path::new(file).parent().context("a file in no directory")?;
    namespaces.run("mkdir", &["-p", &directory.display().to_string()])?;
    let mut tee = namespaces.command("tee");
    process::run_with_input(tee.arg(file), text.as_bytes())?.success().map(drop)
}

fn network() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": PODS }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

/// containerd's docs/cri/config.md; what is not here is its default, as on a node that a distribution makes.
fn containerd_config(sandbox_image: &str) -> Result<String> {
    let runtime = "plugins.'io.containerd.cri.v1.runtime'";
    // Without CAP_SYS_RESOURCE, which these tests do not ask for, the kernel lets a score only be raised.
    Ok(format!(
        "version = 3\n\
         imports = ['/etc/containerd/conf.d/*.toml']\n\
         disabled_plugins = ['io.containerd.nri.v1.nri', 'io.containerd.internal.v1.tracing']\n\
         [plugins.'io.containerd.internal.v1.opt']\n\
         path = '/opt/containerd'\n\
         [plugins.'io.containerd.cri.v1.images'.pinned_images]\n\
         sandbox = '{sandbox_image}'\n\
         [{runtime}]\n\
         disable_apparmor = true\n\
         enable_unprivileged_icmp = true\n\
         enable_unprivileged_ports = true\n\
         restrict_oom_score_adj = true\n\
         [{runtime}.cni]\n\
         bin_dirs = ['{plugins}']\n\
         conf_dir = '/etc/cni/net.d'\n\
         [{runtime}.containerd.runtimes.runc]\n\
         runtime_type = 'io.containerd.runc.v2'\n\
         [{runtime}.containerd.runtimes.runc.options]\n\
         BinaryName = '{runc}'\n\
         SystemdCgroup = false\n",
        plugins = tools::tree("cni")?.file(&["usr/lib/cni"])?.display(),
        runc = tools::tree("runc")?.file(&["runc"])?.display(),
    ))
}

/// The drop-in that makes the runtime known.
fn runtime_config() -> String {
    let runtimes = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
    format!(
        "version = 3\n\
         [{runtimes}.hyperlight]\n\
         runtime_type = '{RUNTIME}'\n\
         pod_annotations = ['io.hyperlight.*']\n"
    )
}

/// `KubeletConfiguration`, with what is not its default.
fn kubelet_config(run: &str, certificates: &Certificates) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": { "x509": { "clientCAFile": certificates.file("ca.crt") } },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{run}"),
        "failCgroupV1": false,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "resolvConf": "/etc/kubernetes/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/plugins-exec",
        // An image is there for everybody who may use the node.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        // A machine for tests may have swap, and little space on its disk.
        "failSwapOn": false,
        "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        "imageGCHighThresholdPercent": 100,
        // The kernel lets a score only be raised, see containerd's.
        "oomScoreAdj": 0,
        // Volumes and statistics follow what they tell within seconds instead of a minute.
        "syncFrequency": "3s",
        "nodeStatusUpdateFrequency": "3s",
        "volumeStatsAggPeriod": "5s",
    })
}

/// `KubeProxyConfiguration`, with what is not its default.
fn proxy_config(certificates: &Certificates) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "clientConnection": { "kubeconfig": certificates.kubeconfig("kube-proxy") },
        // Services are changed one after the other here, and tests wait for each.
        "minSyncPeriod": "0s",
        "oomScoreAdj": 0,
        // The sizes of the machine's table are not a namespace's to set.
        "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        "nodePortAddresses": [format!("{ADDRESS}/32")],
    })
}
