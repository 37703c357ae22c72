//! A cluster: a real Kubernetes of one node, private to the run, or one that the environment names.
//!
//! [`Cluster::start`] brings up etcd, the control plane, containerd, kubelet and kube-proxy in namespaces of
//! their own, with a registry beside them, and moves the calling thread into the cluster's network: it and the
//! threads that it starts reach pods and services by their addresses. [`Cluster::stop`] takes all of it down and
//! tells what is left, on the node before and on the machine after.
//!
//! With `HYPERLIGHT_KUBECONFIG` the cluster is the one of that file, whose nodes have the runtime and pull from the
//! registry that `HYPERLIGHT_REGISTRY` (host:port, plain HTTP) names. What needs the node itself is skipped there.

mod api;
mod certificates;
mod control_plane;
mod namespaces;
mod node;
mod own;
mod programs;
mod space;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::json;

use self::namespaces::Namespaces;
use self::own::Own;
use crate::oci::{self, Image};
use crate::process::{HANG_LIMIT, wait_until};
use crate::{Registry, cri, tools};

pub use api::Api;
pub(crate) use namespaces::RUN;
pub use space::{Space, linux, pod, wasm};

/// Name of the one node of a cluster of our own.
pub const NODE: &str = "node";

/// Where the API server of a cluster of our own is, from inside.
const SERVER: &str = "https://198.18.0.1:6443";

/// Where the API has RuntimeClasses.
const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

/// The networks of pods and of services.
const PODS: &str = "10.244.0.0/24";
const SERVICES: &str = "10.96.0.0/16";

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    api: Api,
    registry: Registry,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    images: Mutex<HashMap<String, String>>,
    // Last: it takes down what the others use.
    own: Option<Own>,
}

impl Cluster {
    /// Starts a cluster with a RuntimeClass `hyperlight`, or takes the one that the environment names.
    ///
    /// # Errors
    ///
    /// A program is missing or does not come up.
    pub fn start() -> Result<Self> {
        let kubectl = tools::tree("kubernetes")?.file(&["kubernetes"])?;
        let (own, kubeconfig, registry) = match std::env::var_os("HYPERLIGHT_KUBECONFIG") {
            Some(file) => {
                let registry = std::env::var("HYPERLIGHT_REGISTRY");
                let registry = registry.context("HYPERLIGHT_REGISTRY names no registry")?;
                (None, file.into(), Registry::at(registry))
            }
            None => {
                let (own, registry) = Own::start()?;
                let kubeconfig = own.kubeconfig();
                (Some(own), kubeconfig, registry)
            }
        };
        let api = Api::start(kubectl_command(&kubectl, &kubeconfig, own.is_some()))?;
        let images = Mutex::default();
        let cluster = Self { api, registry, kubectl, kubeconfig, images, own };
        cluster.wait_until_ready()?;
        if cluster.own.is_some() {
            cluster.add_class()?;
        }
        Ok(cluster)
    }

    /// Creates the RuntimeClass `hyperlight`, for a node with the runtime.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub fn add_class(&self) -> Result<()> {
        let class = json!({
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": { "name": cri::HYPERLIGHT },
            "handler": cri::HYPERLIGHT,
        });
        self.api.create(CLASSES, &class).map(drop)
    }

    /// Deletes the RuntimeClass `hyperlight`.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub fn remove_class(&self) -> Result<()> {
        self.api.delete(&format!("{CLASSES}/{}", cri::HYPERLIGHT))
    }

    /// Waits until the API server and a node are ready.
    fn wait_until_ready(&self) -> Result<()> {
        let mut last = None;
        wait_until("the API server to be ready", HANG_LIMIT, || {
            last = self.api.text("/readyz").err();
            last.is_none()
        })
        .with_context(|| format!("{last:?}\n{}", self.log()))?;
        wait_until("a node to be ready", HANG_LIMIT, || self.ready_nodes().is_ok_and(|it| it > 0))
            .with_context(|| self.log())
    }

    fn ready_nodes(&self) -> Result<usize> {
        let nodes = self.api.get("/api/v1/nodes")?;
        let nodes = nodes["items"].as_array().context("no list")?;
        Ok(nodes.iter().filter(|it| space::condition(it, "Ready") == Some("True")).count())
    }

    /// The API.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Whether the cluster was brought up here, so that its node can be looked at and its programs be ended.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// A `kubectl` command line.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        kubectl_command(&self.kubectl, &self.kubeconfig, self.own.is_some())
    }

    /// A `helm` command line, which keeps its own files with the run.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn helm(&self) -> Result<Command> {
        let mut command = tools::tree("kubernetes")?.script("helm")?;
        for directory in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(directory, self.kubeconfig.with_extension("helm"));
        }
        command.env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    /// A namespace of the cluster for one test, whose name begins with `name`.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub fn space(&self, name: &str) -> Result<Space<'_>> {
        Space::create(self, name)
    }

    /// Reference of the test program `name` in runwasi's layout, whose entry point is the program.
    ///
    /// # Errors
    ///
    /// It cannot be built or pushed.
    pub fn program(&self, name: &str) -> Result<String> {
        self.image(name, || {
            let wasm = crate::programs::program(name)?;
            // To the CRI an image is its configuration, so that of each program must differ.
            oci::runwasi(&format!("{name}.wasm"), &bytes(&wasm)?)
        })
    }

    /// Reference of the test program `name` as `wkg oci push` writes it: pods name its command, `/NAME.wasm`.
    ///
    /// # Errors
    ///
    /// As [`Cluster::program`].
    pub fn artifact(&self, name: &str) -> Result<String> {
        self.image(&format!("artifact-{name}"), || {
            oci::wkg(&format!("{name}.wasm"), &bytes(&crate::programs::program(name)?)?)
        })
    }

    /// Reference of a static busybox as the whole file system, at /bin/busybox.
    ///
    /// # Errors
    ///
    /// It cannot be pushed.
    pub fn busybox(&self) -> Result<String> {
        self.image("busybox", || {
            let busybox = cri::static_busybox()?;
            oci::rootfs(&[("bin/busybox", &busybox)], "/bin/busybox")
        })
    }

    /// Reference of the image `name`, which `make` makes at the first call.
    ///
    /// # Errors
    ///
    /// It cannot be made or pushed.
    pub fn image(&self, name: &str, make: impl FnOnce() -> Result<Image> + Send) -> Result<String> {
        // Held while it is made, which is for one at a time.
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reference) = images.get(name) {
            return Ok(reference.clone());
        }
        // As the grammar of references has a repository's name.
        let repository = name.replace(['.', '_'], "-").to_lowercase();
        let image = match &self.own {
            Some(own) => own.outside(make)?,
            None => make()?,
        };
        let reference = self.registry.push(&repository, &image)?;
        images.insert(name.to_owned(), reference.clone());
        Ok(reference)
    }

    /// The cluster that was brought up here.
    ///
    /// # Errors
    ///
    /// It was not.
    pub fn own(&self) -> Result<&Own> {
        self.own.as_ref().context("the cluster is none of ours")
    }

    /// Takes down what was brought up.
    ///
    /// # Errors
    ///
    /// Lists what is left of pods on the node, or of the cluster on the machine.
    pub fn stop(self) -> Result<()> {
        let Self { api, registry, own, .. } = self;
        drop((api, registry));
        own.map_or(Ok(()), Own::stop)
    }

    /// The ends of the programs' logs.
    #[must_use]
    pub fn log(&self) -> String {
        self.own.as_ref().map_or_else(String::new, Own::log)
    }
}

fn kubectl_command(kubectl: &Path, kubeconfig: &Path, is_own: bool) -> Command {
    let mut command = Command::new(kubectl);
    command.args(["kubectl", "--kubeconfig"]).arg(kubeconfig);
    if is_own {
        // What it learns about the API is kept with the run.
        command.arg("--cache-dir").arg(kubeconfig.with_extension("cache"));
    }
    command
}

/// A program of Kubernetes, to be run inside.
fn program(namespaces: &Namespaces, name: &str) -> Result<Command> {
    let mut command = namespaces.command(tools::tree("kubernetes")?.file(&["kubernetes"])?);
    command.arg(name);
    Ok(command)
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}
