//! The OCI bundle (`config.json`) as what a task needs, parsed once.
//!
//! Rule: parse here, check nowhere else. What a micro-VM has no use for is left out on purpose:
//! mounts of kernel file systems (proc, sysfs, devpts, cgroup, mqueue), capabilities, devices. What would change
//! what the container means and cannot be done is refused.
//!
//! Source: OCI runtime specification 1.2, config.md and config-linux.md; the annotations are those
//! of containerd's CRI plugin.

mod confinement;
mod cri;
mod exec;
mod memory;
mod network;
mod pod;
mod serving;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::hooks::Hooks;
use crate::jail::{Mount, MountKind};
use crate::launch::{Confinement, View};
use crate::net::NetworkGrant;
use crate::stdio::WindowSize;
use crate::workload::{EnvEntry, Preopen, Text, Workload, WorkloadError};

pub(crate) use cri::POD_SANDBOX_CONFIG;
pub use memory::VMM_BYTES;
pub use pod::Pod;

/// The annotation that names the pod a container belongs to.
pub const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
/// The annotation that tells a pod's pause container (`sandbox`) from the others (`container`).
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
/// The annotation that names a container's image.
const IMAGE_NAME: &str = "io.kubernetes.cri.image-name";

/// Largest `config.json` that is read: containerd writes a few KiB; the process's environment, of
/// which Linux takes 2 MiB, is the biggest part that grows.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// A bundle that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// `config.json` could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `config.json` is larger than anything containerd writes.
    #[error("{} has {bytes} bytes, more than the {CONFIG_BYTES_MAX} that are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// `config.json` is no OCI runtime configuration.
    #[error("parse {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// What the CRI says of a pod cannot be read.
    #[error("decode the pod's configuration (PodSandboxConfig)")]
    Cri(#[source] prost::DecodeError),
    /// A part is missing.
    #[error("{} has no {part}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The part.
        part: &'static str,
    },
    /// An exec has no arguments.
    #[error("the process to be run has no arguments: the first one names its program")]
    NoArguments,
    /// A string cannot be handed to a program.
    #[error("{part}")]
    Text {
        /// Where.
        part: &'static str,
        /// What is wrong with it.
        source: WorkloadError,
    },
    /// The destination of a mount is not an absolute path.
    #[error("mount destination {0:?} is not an absolute path without \"..\"")]
    Destination(PathBuf),
    /// The control group's path is malformed.
    #[error(transparent)]
    Cgroup(#[from] cgroup::PathError),
    /// The memory limit leaves nothing for the micro-VM.
    #[error(
        "memory limit of {limit} bytes is too small: the VMM with the compiled program takes \
         {beside}; raise it to {needed} or above"
    )]
    Memory {
        /// The limit.
        limit: i64,
        /// What is needed beside the micro-VM's memory.
        beside: u64,
        /// The smallest limit.
        needed: u64,
    },
    /// The pod wants a user namespace.
    #[error(
        "a user namespace is not supported: run the pod without `hostUsers: false`; its containers run in \
         micro-VMs, whose processes have no rights of root"
    )]
    UserNamespace,
    /// An annotation of this runtime has a value that cannot be read.
    #[error("annotation {name}: {value:?} is not {expected}")]
    Annotation {
        /// The annotation.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it has.
        value: String,
    },
    /// A destination that an annotation allows is none.
    #[error("annotation {name}: {value:?}")]
    AllowedDestination {
        /// The annotation.
        name: &'static str,
        /// The destination.
        value: String,
        /// What is wrong with it.
        source: vmm::host::DestinationError,
    },
    /// The port that the environment names is none.
    #[error("environment variable PORT={0} names no port, which are 1 to 65535")]
    Port(String),
    /// The container wants a terminal that it does not get.
    #[error("process.terminal is set, but the task was not created with a terminal")]
    Terminal,
}

/// A namespace that the VMM process lives in.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// An existing one, by its file.
    Join(PathBuf),
    /// A fresh one.
    New,
}

/// The namespaces a specification can ask for; `None` is the shim's own.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Namespaces {
    /// Network.
    pub network: Option<Namespace>,
    /// System V IPC and POSIX message queues.
    pub ipc: Option<Namespace>,
    /// Host name.
    pub uts: Option<Namespace>,
    /// Process ids; a VMM process never has the shim's own.
    pub pid: Option<Namespace>,
}

/// What containerd wants a task to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// The holder of a pod's namespaces.
    Pod(Box<Pod>),
    /// A container.
    Container(Box<Bundle>),
}

impl Role {
    /// Reads the bundle in `dir` of container `id` in containerd's `namespace`.
    ///
    /// # Errors
    ///
    /// See [`BundleError`].
    pub fn read(dir: &Path, namespace: &str, id: &str) -> Result<Self, BundleError> {
        let spec: Spec = read_config(&dir.join("config.json"))?;
        Ok(match is_sandbox(&spec) {
            true => Self::Pod(Box::new(Pod::of(&spec, dir, namespace, id)?)),
            false => Self::Container(Box::new(Bundle::of(&spec, dir, namespace, id)?)),
        })
    }
}

/// What a task needs to know of its bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The bundle directory.
    pub dir: PathBuf,
    /// Where the root file system is or will be mounted.
    pub rootfs: PathBuf,
    /// Arguments, at least one.
    pub args: Vec<Text>,
    /// Environment.
    pub env: Vec<EnvEntry>,
    /// Working directory.
    pub cwd: PathBuf,
    /// `linux.resources.memory.limit`, which leaves room for some micro-VM.
    pub memory_limit: Option<i64>,
    /// The control group, below the root of each hierarchy.
    pub cgroup_path: PathBuf,
    /// Its limits.
    pub resources: Option<LinuxResources>,
    /// Where the VMM process is to live.
    pub confinement: Confinement,
    /// Adjustment of the kernel's choice when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// The image's name, where the specification tells it.
    pub image_name: Option<String>,
    /// Whether it is one of a pod's.
    pub in_pod: bool,
    /// Whether its process expects a terminal.
    pub terminal: bool,
    /// The size of the terminal's window, where the specification tells it.
    pub window: Option<WindowSize>,
    /// The network of the program: that of its namespace, as far as the annotations allow.
    pub network: Option<NetworkGrant>,
    /// Programs of the node that are told of its life.
    pub hooks: Option<Hooks>,
    /// All annotations.
    annotations: HashMap<String, String>,
}

/// The identifier under which containers share a shim: the pod's, or the container's own. A pod that containerd leaves
/// to the shim has no `config.json`, and is its own group.
///
/// # Errors
///
/// `config.json` cannot be read or parsed.
pub fn group(dir: &Path, id: &str) -> Result<String, BundleError> {
    let spec: Spec = match read_config(&dir.join("config.json")) {
        Err(BundleError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(id.to_owned());
        }
        read => read?,
    };
    let sandbox = spec.annotations().as_ref().and_then(|annotations| annotations.get(SANDBOX_ID));
    Ok(sandbox.cloned().unwrap_or_else(|| id.to_owned()))
}

/// What the container in `dir` is limited to.
///
/// # Errors
///
/// `config.json` cannot be read or parsed.
pub fn resources(dir: &Path) -> Result<LinuxResources, BundleError> {
    let spec: Spec = read_config(&dir.join("config.json"))?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    Ok(resources.unwrap_or_default())
}

/// The control group of the container, below the root of each hierarchy.
///
/// # Errors
///
/// `config.json` cannot be read or parsed, or its path is malformed.
fn cgroup_path(spec: &Spec, namespace: &str, id: &str) -> Result<PathBuf, BundleError> {
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    match given.and_then(|path| path.to_str()).filter(|path| !path.is_empty()) {
        Some(path) => Ok(cgroup::parse_path(path)?),
        // The specification leaves the choice to the runtime; this is where ctr puts it.
        None => Ok(cgroup::parse_path(&format!("/{namespace}/{id}"))?),
    }
}

impl Bundle {
    /// Argument 0: what the image calls its program.
    #[must_use]
    pub fn program(&self) -> &str {
        // `read` refuses an empty list.
        self.args.first().map(Text::as_str).unwrap_or_default()
    }

    /// Reads the bundle in `dir` of container `id` in containerd's `namespace`.
    ///
    /// # Errors
    ///
    /// See [`BundleError`].
    pub fn read(dir: &Path, namespace: &str, id: &str) -> Result<Self, BundleError> {
        Self::of(&read_config(&dir.join("config.json"))?, dir, namespace, id)
    }

    fn of(spec: &Spec, dir: &Path, namespace: &str, id: &str) -> Result<Self, BundleError> {
        let missing = |part| BundleError::Missing { path: dir.join("config.json"), part };
        let annotation = |name| spec.annotations().as_ref().and_then(|all| all.get(name));
        let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
        let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
        let args = args(process).ok_or_else(|| missing("process.args"))??;
        let env = env(process)?;
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
        let limit = resources.as_ref().and_then(|all| all.memory().as_ref()?.limit());
        // Before the work of compiling; the program's own size counts later.
        memory::of_limit(limit, 0)?;
        let rootfs = dir.join(root.path());
        let hooks = Hooks::of(spec, dir, id);
        let mut confinement = confinement::confinement(spec, process, &rootfs)?;
        confinement.waits = hooks.as_ref().is_some_and(Hooks::of_creation);
        Ok(Self {
            dir: dir.to_owned(),
            network: network::grant(annotation)?,
            confinement,
            rootfs,
            args,
            env,
            cwd: process.cwd().clone(),
            memory_limit: limit,
            cgroup_path: cgroup_path(spec, namespace, id)?,
            resources,
            oom_score_adj: process.oom_score_adj(),
            image_name: annotation(IMAGE_NAME).cloned(),
            in_pod: annotation(SANDBOX_ID).is_some(),
            terminal: process.terminal() == Some(true),
            window: exec::window(process),
            hooks,
            annotations: spec.annotations().clone().unwrap_or_default(),
        })
    }
}

impl Bundle {
    /// The pod it belongs to.
    #[must_use]
    pub fn pod(&self) -> Option<&str> {
        self.annotations.get(SANDBOX_ID).map(String::as_str)
    }

    /// What the micro-VM runs: the compiled program of `bytes` bytes, called `name`, which handles requests or
    /// runs to its end.
    ///
    /// The root file system, as the locked process sees it, is open as `/`, and each directory that is
    /// mounted into it is open too. The mounts decide what can be written.
    ///
    /// # Errors
    ///
    /// A path is no text, the memory limit leaves nothing beside the program, or it is not said how to
    /// serve.
    pub fn workload(
        &self,
        bytes: u64,
        name: &str,
        handles_requests: bool,
    ) -> Result<Workload, BundleError> {
        let text = |part, text: String| {
            Text::try_from(text).map_err(|source| BundleError::Text { part, source })
        };
        let mut preopens = vec![Preopen {
            host_path: PathBuf::from("/"),
            guest_path: text("root", "/".to_owned())?,
            read_only: false,
        }];
        for mount in self.mounts() {
            // A file has no other place than a path below the root.
            if matches!(&mount.kind, MountKind::Bind { source, .. } if source.is_dir()) {
                preopens.push(Preopen {
                    host_path: mount.destination.clone(),
                    guest_path: text("mounts", mount.destination.display().to_string())?,
                    read_only: mount.read_only,
                });
            }
        }
        Ok(Workload {
            program_name: text("program", name.to_owned())?,
            cwd: match self.cwd.as_os_str().is_empty() {
                true => None,
                false => Some(text("process.cwd", self.cwd.display().to_string())?),
            },
            invoke: None,
            args: self.args.clone(),
            env: self.env.clone(),
            preopens,
            memory: memory::of_limit(self.memory_limit, bytes)?,
            network: self.network.clone(),
            serving: match handles_requests {
                true => Some(serving::serving(|name| self.annotations.get(name), &self.env)?),
                false => None,
            },
        })
    }
}

/// Whether this is the pause container of a pod.
fn is_sandbox(spec: &Spec) -> bool {
    let annotations = spec.annotations().as_ref();
    annotations.and_then(|all| all.get(CONTAINER_TYPE)).is_some_and(|kind| kind == "sandbox")
}

impl Bundle {
    /// What is mounted into the root file system.
    fn mounts(&self) -> &[Mount] {
        match &self.confinement.view {
            View::Root(root) => &root.mounts,
            View::Of(_) => &[],
        }
    }
}

/// The JSON in a `config.json` of 16 MiB at most.
///
/// # Errors
///
/// It cannot be read, or is something else.
pub(crate) fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, BundleError> {
    let read = |source| BundleError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(read)?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(BundleError::TooLarge { path: path.to_owned(), bytes });
    }
    let text = fs::read(path).map_err(read)?;
    serde_json::from_slice(&text)
        .map_err(|source| BundleError::Json { path: path.to_owned(), source })
}

/// The arguments, if there are any.
fn args(process: &Process) -> Option<Result<Vec<Text>, BundleError>> {
    let args = process.args().clone().filter(|args| !args.is_empty())?;
    Some(texts("process.args", args))
}

fn env(process: &Process) -> Result<Vec<EnvEntry>, BundleError> {
    let env = process.env().clone().unwrap_or_default();
    // The specification leaves open what an entry without a value means; it means nothing here.
    let env = env.into_iter().filter(|entry| entry.find('=').is_some_and(|at| at > 0)).collect();
    texts("process.env", env)
}

fn texts<T>(part: &'static str, strings: Vec<String>) -> Result<Vec<T>, BundleError>
where
    T: TryFrom<String, Error = WorkloadError>,
{
    let parsed = strings.into_iter().map(T::try_from).collect::<Result<_, _>>();
    parsed.map_err(|source| BundleError::Text { part, source })
}
