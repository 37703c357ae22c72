//! A node as the kubelet uses it: pods and their containers, by `crictl` through containerd's CRI socket.
//!
//! [`Cri`] only passes on: each function is one command of `crictl`, a configuration is the JSON of
//! the CRI's own messages (k8s.io/cri-api, runtime/v1/api.proto), and what `crictl` prints is returned as it
//! is. What the kubelet does itself is done here: it makes the directory of a pod's logs, gives containers the
//! pod's choice of namespaces and, once a pod is removed, removes the pod's cgroup.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::containerd::Sandboxer;
use crate::oci::{self, Image};
use crate::process::{self, HANG_LIMIT, Outcome, wait_until};
use crate::{Node, leaks, tools};

/// Name of this runtime among those of the node, as a RuntimeClass has it (`handler`).
pub const HYPERLIGHT: &str = "hyperlight";

/// `NamespaceMode` of what a container has for itself, as a pid namespace by default.
const OWN: u8 = 1;

/// `NamespaceMode` of what is the node's.
pub const NODE: u8 = 2;

/// `NamespaceMode` of what a pod's containers share.
pub const POD: u8 = 0;

/// Name of the runtime of Linux containers.
pub const RUNC: &str = "runc";

/// A node that runs pods; dropping it checks that nothing is left over.
#[derive(Debug)]
pub struct Cri {
    crictl: PathBuf,
    node: Node,
}

/// What a pod is made from: `PodSandboxConfig`.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The message, for a test to change.
    pub config: Value,
    handler: &'static str,
}

/// A pod that was made.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// The directory of its containers' logs.
    pub logs: PathBuf,
    /// Its configuration, and the file that holds it.
    config: Value,
    file: PathBuf,
}

/// A pod's port on the loopback of this machine, as long as this lives.
#[derive(Debug)]
pub struct Forward {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Cri {
    /// Starts a node; waits for the end of any other test that is watched.
    ///
    /// # Errors
    ///
    /// A program is missing or does not come up.
    pub fn start() -> Result<Self> {
        Self::start_with(Sandboxer::Podsandbox)
    }

    /// As [`Cri::start`], of a node whose pods of this runtime are made by `sandboxer`.
    ///
    /// # Errors
    ///
    /// As [`Cri::start`].
    pub fn start_with(sandboxer: Sandboxer) -> Result<Self> {
        let crictl = tools::tree("crictl")?.file(&["crictl"])?;
        let node = Node::start_for_pods(&pause()?, sandboxer)?;
        fs::write(node.directory().join("crictl.yaml"), "").context("write crictl.yaml")?;
        let cri = Self { crictl, node };
        cri.wait_until_ready()?;
        Ok(cri)
    }

    /// Waits until the runtime and its network say that they are ready.
    fn wait_until_ready(&self) -> Result<()> {
        wait_until("the CRI to be ready", Duration::from_secs(60), || {
            let Ok(info) = self.json(&["info"]) else { return false };
            // Others tell what is not necessary, such as a configuration that is of an older version.
            let is_needed =
                |it: &&Value| it["type"] == "RuntimeReady" || it["type"] == "NetworkReady";
            let conditions = info["status"]["conditions"].as_array();
            conditions
                .is_some_and(|them| them.iter().filter(is_needed).all(|it| it["status"] == true))
        })
        .with_context(|| self.node.log())
    }

    /// Ends containerd by force (`kill -9`), and starts it again on what it has left.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn restart_containerd(&mut self) -> Result<()> {
        self.node.restart_containerd()?;
        self.wait_until_ready()
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// A `crictl` command line for this node.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.crictl);
        let endpoint = format!("unix://{}", self.node.socket().display());
        command.arg("--config").arg(self.node.directory().join("crictl.yaml"));
        command.args(["--timeout", "280s", "--runtime-endpoint", &endpoint]);
        command.args(["--image-endpoint", &endpoint]).args(arguments);
        command
    }

    /// Runs `crictl` to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started, or hangs.
    pub fn crictl(&self, arguments: &[&str]) -> Result<Outcome> {
        process::run(&mut self.command(arguments))
    }

    /// What `crictl` prints, which succeeds.
    ///
    /// # Errors
    ///
    /// It does not succeed; the error has what it said.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        self.crictl(arguments)?.success().with_context(|| format!("crictl {}", arguments.join(" ")))
    }

    /// As [`Cri::text`], of a command that prints JSON if it is told to.
    ///
    /// # Errors
    ///
    /// As [`Cri::text`].
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let (command, rest) = arguments.split_first().context("no command")?;
        let text = self.text(&[&[*command, "--output", "json"], rest].concat())?;
        serde_json::from_str(&text).with_context(|| format!("read {text:?}"))
    }

    /// Pushes `image` to the registry as `name:latest` and has the CRI pull it. Returns the reference.
    ///
    /// # Errors
    ///
    /// The push or the pull fails.
    pub fn pull(&self, name: &str, image: &Image) -> Result<String> {
        let reference = self.node.registry().push(name, image)?;
        self.text(&["pull", &reference])?;
        Ok(reference)
    }

    /// As [`Cri::pull`], of the component or module `wasm` in runwasi's layout, which needs no command.
    ///
    /// # Errors
    ///
    /// As [`Cri::pull`], or the file cannot be read.
    pub fn pull_wasm(&self, name: &str, wasm: &Path) -> Result<String> {
        let bytes = fs::read(wasm).with_context(|| format!("read {}", wasm.display()))?;
        self.pull(name, &oci::runwasi(&format!("{name}.wasm"), &bytes)?)
    }

    /// As [`Cri::pull`], of a static busybox as the whole file system, at /bin/busybox.
    ///
    /// # Errors
    ///
    /// As [`Cri::pull`].
    pub fn pull_busybox(&self) -> Result<String> {
        let busybox = static_busybox()?;
        self.pull("busybox", &oci::rootfs(&[("bin/busybox", &busybox)], "/bin/busybox")?)
    }

    /// The configuration of a pod `name` with a hostname, a cgroup and a directory for logs of its own.
    #[must_use]
    pub fn pod(&self, name: &str) -> Pod {
        let config = json!({
            "metadata": { "name": name, "namespace": "test", "uid": format!("uid-of-{name}"), "attempt": 0 },
            "hostname": name,
            "log_directory": self.node.directory().join("logs").join(name),
            "dns_config": { "servers": ["198.18.0.53"], "searches": ["test.internal"] },
            "linux": {
                "cgroup_parent": format!("/{}/pod-{name}", self.node.name()),
                "security_context": { "namespace_options": { "pid": OWN } },
            },
        });
        Pod { config, handler: HYPERLIGHT }
    }

    /// `crictl runp`: makes a pod with its network and namespaces.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn run_pod(&self, pod: &Pod) -> Result<Sandbox> {
        let logs = PathBuf::from(text(&pod.config["log_directory"]));
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        let file = self.write(&pod.config)?;
        let id = self.text(&["runp", "--runtime", pod.handler, &path(&file)])?;
        Ok(Sandbox { id: id.trim().to_owned(), logs, config: pod.config.clone(), file })
    }

    /// `crictl create`: makes a container of a pod; returns its id. `config` is a `ContainerConfig`.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn create(&self, sandbox: &Sandbox, config: &Value) -> Result<String> {
        let mut config = config.clone();
        let options = "namespace_options";
        config["linux"]["security_context"][options] =
            sandbox.config["linux"]["security_context"][options].clone();
        let config = self.write(&config)?;
        let id = self.text(&["create", &sandbox.id, &path(&config), &path(&sandbox.file)])?;
        Ok(id.trim().to_owned())
    }

    /// Creates a container and starts it; returns its id.
    ///
    /// # Errors
    ///
    /// One of the commands fails.
    pub fn run(&self, sandbox: &Sandbox, config: &Value) -> Result<String> {
        let id = self.create(sandbox, config)?;
        self.text(&["start", &id])?;
        Ok(id)
    }

    /// The status of a container, `ContainerStatus`.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn status(&self, container: &str) -> Result<Value> {
        Ok(self.json(&["inspect", container])?["status"].take())
    }

    /// The status of a pod, `PodSandboxStatus`.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn pod_status(&self, sandbox: &Sandbox) -> Result<Value> {
        Ok(self.json(&["inspectp", &sandbox.id])?["status"].take())
    }

    /// Waits until a container has ended, and gives its status.
    ///
    /// # Errors
    ///
    /// It goes on, or has gone.
    pub fn wait(&self, container: &str) -> Result<Value> {
        let mut status = self.status(container)?;
        wait_until("the container to end", HANG_LIMIT, || {
            if let Ok(it) = self.status(container) {
                status = it;
            }
            status["state"] == "CONTAINER_EXITED"
        })
        .with_context(|| format!("{status:#}\n{}", self.node.log()))?;
        Ok(status)
    }

    /// `crictl stopp`: ends what runs in a pod, and takes it from the network.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn stop_pod(&self, sandbox: &Sandbox) -> Result<()> {
        self.stop(&["stopp", &sandbox.id])
    }

    /// `crictl stop [OPTIONS] CONTAINER`.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn stop_container(&self, id: &str, options: &[&str]) -> Result<()> {
        self.stop(&[&["stop"], options, &[id]].concat())
    }

    /// Asks once more, as the kubelet does, if containerd forgot a task while it passed a signal on: of one that has
    /// just ended by itself it closes the connection (`shimTask.delete` of core/runtime/v2/shim.go). Its shim must
    /// be there then.
    fn stop(&self, arguments: &[&str]) -> Result<()> {
        let shims = self.node.shims();
        let asked = self.text(arguments).or_else(|error| {
            let closed = format!("{error:#}").contains("ttrpc: closed");
            let now = self.node.shims();
            let again = closed && shims.iter().all(|shim| now.contains(shim));
            if again { self.text(arguments) } else { Err(error) }
        });
        asked.map(drop)
    }

    /// `crictl rmp`: removes a pod and its containers. Removes its cgroup, which must be empty.
    ///
    /// # Errors
    ///
    /// The command fails, or something is left in the cgroup.
    pub fn remove_pod(&self, sandbox: &Sandbox) -> Result<()> {
        self.text(&["rmp", &sandbox.id])?;
        self.remove_cgroup(sandbox)
    }

    /// Limits the memory of a pod, as the kubelet does on the pod's cgroup.
    ///
    /// # Errors
    ///
    /// The kernel does not take it.
    pub fn limit_memory(&self, sandbox: &Sandbox, bytes: u64) -> Result<()> {
        let below = cgroup(&sandbox.config);
        let (v1, v2) = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup");
        let v1 = Path::new(v1).join(below).join("memory.limit_in_bytes");
        let v2 = Path::new(v2).join(below).join("memory.max");
        let file = if v1.exists() { v1 } else { v2 };
        fs::write(&file, bytes.to_string()).with_context(|| format!("write {}", file.display()))
    }

    /// Removes a pod's cgroup, as the kubelet does when the pod has gone.
    ///
    /// # Errors
    ///
    /// Something is left in it.
    pub fn remove_cgroup(&self, sandbox: &Sandbox) -> Result<()> {
        remove_cgroup(&sandbox.config)
    }

    /// `crictl port-forward`: a pod's port on a free port of this machine's loopback.
    ///
    /// # Errors
    ///
    /// The command fails or says nothing.
    pub fn forward(&self, sandbox: &Sandbox, port: u16) -> Result<Forward> {
        let mut command = self.command(&["port-forward", &sandbox.id, &format!(":{port}")]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start crictl port-forward")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut forward = Forward { address: SocketAddr::from(([0; 4], 0)), child };
        let (said, hear) = channel();
        // It also tells each connection, and must find somebody who reads.
        std::thread::spawn(move || {
            // "Forwarding from 127.0.0.1:40000 -> 80"
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let address = line.strip_prefix("Forwarding from ");
                let address = address.and_then(|it| it.split(' ').next()?.parse().ok());
                if let Some(address) = address {
                    // Nobody hears it where it came too late.
                    let _ = said.send(address);
                }
            }
        });
        forward.address =
            hear.recv_timeout(HANG_LIMIT).context("crictl port-forward tells no address")?;
        Ok(forward)
    }

    /// A file of its own with a message.
    fn write(&self, message: &Value) -> Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = self.node.directory().join(format!("config-{count}.json"));
        fs::write(&file, message.to_string())
            .with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }
}

impl Pod {
    /// Has another runtime run it, by its name among those of the node.
    #[must_use]
    pub fn handler(mut self, handler: &'static str) -> Self {
        self.handler = handler;
        self
    }

    /// As [`Cri::remove_cgroup`], of a pod that may not have been made.
    ///
    /// # Errors
    ///
    /// Something is left in it.
    pub fn remove_cgroup(&self) -> Result<()> {
        remove_cgroup(&self.config)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended with its pod.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A container's configuration: `ContainerConfig`, with the log `NAME.log`. Without a command the image's is run.
#[must_use]
pub fn container(name: &str, reference: &str, command: &[&str]) -> Value {
    json!({
        "metadata": { "name": name },
        "image": { "image": reference },
        "command": command,
        "log_path": format!("{name}.log"),
        "linux": {},
    })
}

/// The cgroup of a pod, below the root of each hierarchy.
fn cgroup(config: &Value) -> &str {
    text(&config["linux"]["cgroup_parent"]).trim_start_matches('/')
}

fn remove_cgroup(config: &Value) -> Result<()> {
    // Of each hierarchy (cgroup v1), or of the only one.
    let mut roots = leaks::names("/sys/fs/cgroup".as_ref());
    roots.push("/sys/fs/cgroup".into());
    let below = cgroup(config);
    let cgroups: Vec<_> = roots.iter().map(|root| root.join(below)).collect();
    wait_until("the pod's cgroup to be empty", Duration::from_secs(20), || {
        cgroups.iter().all(|it| fs::remove_dir(it).is_ok() || !it.exists())
    })
}

/// The image of sandboxes.
pub(crate) fn pause() -> Result<Image> {
    // A script, so that there is something for runc to run: this runtime needs none.
    let pause = b"#!/bin/busybox sh\nexec /bin/busybox sleep 2147483647\n";
    let busybox = static_busybox()?;
    oci::rootfs(&[("bin/busybox", busybox.as_slice()), ("pause", pause)], "/pause")
}

/// A busybox that needs no library.
pub(crate) fn static_busybox() -> Result<Vec<u8>> {
    let busybox = tools::tree("qemu")?.file(&["usr/bin/busybox", "bin/busybox"])?;
    fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
