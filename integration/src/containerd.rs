//! A private containerd: its configuration and its start.
//!
//! Everything it keeps is below the run's directory. The shim is found where the build left it, like any
//! runtime, by PATH; before that a test may have put programs into `bin/` of the run's directory. With a
//! [`Network`] it has the CRI, as the kubelet of a node would use it: cgroups by cgroupfs, ports below 1024 and ICMP
//! for everybody, and two runtimes, `hyperlight` and `runc`.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::network::Network;
use crate::{RUNTIME, binaries, tools};

/// Name of its log in the run's directory.
pub(crate) const LOG: &str = "containerd.log";

/// What gives a node its pods.
#[derive(Debug)]
pub(crate) struct Pods {
    /// Where they are reached.
    pub(crate) network: Network,
    /// Reference of the image of sandboxes.
    pub(crate) sandbox_image: String,
    /// Who makes pods of this runtime.
    pub(crate) sandboxer: Sandboxer,
}

/// Who makes pods, as containerd's configuration names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandboxer {
    /// containerd itself, around a pause container.
    Podsandbox,
    /// The shim, by the Sandbox API: by a containerd of 2.3, as one before ends with a pod of the node's network.
    Shim,
}

/// Starts containerd in the run's directory; its log goes on where it was.
pub(crate) fn start(directory: &Path, pods: Option<&Pods>) -> Result<Child> {
    let file = directory.join("containerd.toml");
    let mut path = vec![directory.join("bin"), binaries()];
    let mut config = configuration(directory);
    match pods {
        // Of the plugins only those are off that a node without Kubernetes does not use.
        None => {
            config += &disabled(
                directory,
                &[
                    "io.containerd.cri.v1.images",
                    "io.containerd.cri.v1.runtime",
                    "io.containerd.grpc.v1.cri",
                ],
            )
        }
        Some(pods) => {
            let runc = tools::tree("runc")?;
            path.push(runc.root().to_owned());
            path.push(tools::tree("containerd")?.root().join("usr/bin"));
            config += &disabled(directory, &[]);
            config += &pod_configuration(directory, pods, &runc)?;
        }
    }
    fs::write(&file, config).context("write containerd's configuration")?;
    let log = OpenOptions::new().create(true).append(true).open(directory.join(LOG));
    let log = log.with_context(|| format!("open {LOG}"))?;
    path.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into));
    let program = match pods.map(|pods| pods.sandboxer) {
        Some(Sandboxer::Shim) => tools::tree("containerd-new")?.file(&["containerd"])?,
        Some(Sandboxer::Podsandbox) | None => {
            tools::tree("containerd")?.file(&["usr/bin/containerd"])?
        }
    };
    Command::new(program)
        .env_clear()
        .env("PATH", std::env::join_paths(path).context("join PATH")?)
        .env("TMPDIR", directory.join("tmp"))
        .arg("--config")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(log.try_clone().with_context(|| format!("share {LOG}"))?)
        .stderr(log)
        .spawn()
        .context("start containerd")
}

/// What every node has; it ends before the first table.
fn configuration(directory: &Path) -> String {
    let base = directory.display();
    format!(
        "version = 3\n\
         root = '{base}/root'\n\
         state = '{base}/state'\n\
         temp = '{base}/tmp'\n\
         grpc = {{ address = '{base}/containerd.sock' }}\n\
         ttrpc = {{ address = '{base}/containerd.sock.ttrpc' }}\n"
    )
}

/// The plugins that are off, and the place of the one that would write elsewhere.
fn disabled(directory: &Path, more: &[&str]) -> String {
    let always = [
        "io.containerd.nri.v1.nri",
        "io.containerd.monitor.container.v1.restart",
        "io.containerd.internal.v1.tracing",
    ];
    let plugins = [more, &always].concat();
    format!(
        "disabled_plugins = {plugins:?}\n\
         [plugins.'io.containerd.internal.v1.opt']\n\
         path = '{}/opt'\n",
        directory.display()
    )
}

/// containerd's docs/cri/config.md.
fn pod_configuration(directory: &Path, pods: &Pods, runc: &tools::Tree) -> Result<String> {
    let base = directory.display();
    let images = "plugins.'io.containerd.cri.v1.images'";
    let runtime = "plugins.'io.containerd.cri.v1.runtime'";
    let runtimes = format!("{runtime}.containerd.runtimes");
    // Without CAP_SYS_RESOURCE, which these tests do not ask for, the kernel lets a score only be raised.
    Ok(format!(
        "[{images}.pinned_images]\n\
         sandbox = '{sandbox}'\n\
         [{runtime}]\n\
         disable_apparmor = true\n\
         enable_unprivileged_icmp = true\n\
         enable_unprivileged_ports = true\n\
         netns_mounts_under_state_dir = true\n\
         restrict_oom_score_adj = true\n\
         [{runtime}.cni]\n\
         bin_dirs = ['{plugins}']\n\
         conf_dir = '{networks}'\n\
         [{runtimes}.hyperlight]\n\
         runtime_type = '{RUNTIME}'\n\
         sandboxer = '{sandboxer}'\n\
         [{runtimes}.runc]\n\
         runtime_type = 'io.containerd.runc.v2'\n\
         [{runtimes}.runc.options]\n\
         BinaryName = '{runc}'\n\
         Root = '{base}/runc'\n\
         SystemdCgroup = false\n",
        sandbox = pods.sandbox_image,
        sandboxer = match pods.sandboxer {
            Sandboxer::Podsandbox => "podsandbox",
            Sandboxer::Shim => "shim",
        },
        plugins = tools::tree("cni")?.file(&["usr/lib/cni"])?.display(),
        networks = pods.network.configuration_directory().display(),
        runc = runc.file(&["runc"])?.display(),
    ))
}
