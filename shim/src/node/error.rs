//! Why a node is not ready, and the word for it in the node's condition.

use std::io;
use std::path::PathBuf;

use super::{CONDITION, ClusterError, ConfigError, CriError, FileError, RestartError, TrialError};

/// Why a node is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node's root could not be entered.
    #[error("make {} the root directory: run this as root, with CAP_SYS_CHROOT", path.display())]
    Enter {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no KVM.
    #[error(
        "the node has no /dev/kvm: switch virtualization on in its firmware or, if it is a virtual machine, nested \
         virtualization in its host, and load kvm_intel or kvm_amd"
    )]
    NoKvm,
    /// containerd could not be run.
    #[error("run {}: name containerd's program with --containerd", program.display())]
    NoContainerd {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// containerd is older than the shim's protocol.
    #[error("containerd {version} is too old: this runtime needs 2.0 or newer")]
    TooOld {
        /// Its version.
        version: String,
    },
    /// containerd is older than what leaves pods to the shim.
    #[error(
        "containerd {version} is too old to leave pods to the shim, which needs 2.3 or newer: upgrade it, or \
         let it make them itself, by `--sandboxer podsandbox`"
    )]
    TooOldForPods {
        /// Its version.
        version: String,
    },
    /// containerd does not say what it is.
    #[error("`containerd --version` says {0:?}, in which there is no version")]
    NoVersion(String),
    /// containerd rejects its configuration as it was found.
    #[error("containerd rejects its configuration as it is, nothing was changed: {said}")]
    Broken {
        /// What it says.
        said: String,
    },
    /// containerd rejects what was added.
    #[error(
        "containerd rejects its configuration with this runtime added, it was put back: {said}"
    )]
    Rejected {
        /// What it says.
        said: String,
    },
    /// containerd does not come up with what was added.
    #[error(
        "containerd does not serve with this runtime added, its configuration was put back: {said}"
    )]
    DoesNotServe {
        /// What it says.
        said: String,
    },
    /// The distribution does not read drop-ins.
    #[error(
        "{} imports no file from {}: this {distribution} is too old for drop-ins; upgrade it",
        config.display(), drop_in.display()
    )]
    NotImported {
        /// The distribution.
        distribution: &'static str,
        /// Its configuration.
        config: PathBuf,
        /// The drop-in.
        drop_in: PathBuf,
    },
    /// The configuration cannot be edited.
    #[error("{}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// A path cannot be written into the configuration.
    #[error(
        "{0:?} cannot be written into containerd's configuration: take a path of plain letters"
    )]
    Prefix(PathBuf),
    /// Others restart containerd, and have not yet.
    #[error("containerd's configuration has this runtime: restart containerd")]
    AwaitsRestart,
    /// containerd could not be restarted.
    #[error(transparent)]
    Restart(#[from] RestartError),
    /// No micro-VM ran.
    #[error("run a micro-VM on trial")]
    Trial(#[from] TrialError),
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] FileError),
    /// containerd could not be asked.
    #[error(transparent)]
    Containerd(#[from] crate::containerd::ContainerdError),
    /// The CRI could not be asked.
    #[error(transparent)]
    Cri(#[from] CriError),
    /// The runtime is in use.
    #[error("these still run with this runtime, delete them first: {}", .0.join(", "))]
    InUse(Vec<String>),
    /// Nothing is installed.
    #[error("it is not installed: run `hyperlight node install`")]
    NotInstalled,
    /// What is installed was changed.
    #[error("{what} is not as it was installed: run `hyperlight node install` again")]
    Changed {
        /// What.
        what: &'static str,
    },
    /// No runtime for the calls.
    #[error("start the tokio runtime")]
    Runtime(#[source] io::Error),
    /// What a pod on duty needs from the system.
    #[error("{action}")]
    Duty {
        /// What.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The cluster's API could not be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Other nodes have not come to an end.
    #[error("{done} of {nodes} nodes are uninstalled: see the condition {CONDITION} of the others")]
    Others {
        /// How many have.
        done: u64,
        /// Of how many.
        nodes: u64,
    },
}

impl NodeError {
    /// The reason of the node's condition: one word of the API (CamelCase).
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoKvm => "NoKvm",
            Self::NoContainerd { .. } | Self::NoVersion(_) => "NoContainerd",
            Self::TooOld { .. } | Self::TooOldForPods { .. } => "ContainerdTooOld",
            Self::Broken { .. } | Self::Config { .. } => "ContainerdConfigBroken",
            Self::Rejected { .. } | Self::DoesNotServe { .. } => "ContainerdConfigRejected",
            Self::NotImported { .. } => "DistributionTooOld",
            Self::AwaitsRestart => "AwaitsRestart",
            Self::Restart(_) => "RestartFailed",
            Self::Trial(_) => "TrialFailed",
            Self::InUse(_) => "InUse",
            Self::NotInstalled | Self::Changed { .. } => "NotInstalled",
            Self::Enter { .. }
            | Self::Prefix(_)
            | Self::File(_)
            | Self::Containerd(_)
            | Self::Cri(_)
            | Self::Runtime(_)
            | Self::Duty { .. }
            | Self::Cluster(_)
            | Self::Others { .. } => "InstallFailed",
        }
    }

    /// Whether another attempt would restart containerd in vain.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::DoesNotServe { .. })
    }
}
