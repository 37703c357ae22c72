//! The bundle of a pod's pause container: what its namespaces are to be.
//!
//! Of its program, user, root file system and mounts nothing is used: a holder stands for it, which needs none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};

use super::confinement::namespaces;
use super::{BundleError, Namespaces, cgroup_path, read_config};
use crate::hooks::Hooks;
use crate::pod_files::PodFiles;

/// What a pod needs to know of its bundle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Namespaces that its containers share.
    pub namespaces: Namespaces,
    /// Host name, for a UTS namespace of its own.
    pub host_name: Option<String>,
    /// Kernel parameters of its namespaces, by name as sysctl(8) takes it.
    pub parameters: BTreeMap<String, String>,
    /// The control group of the holder, below the root of each hierarchy.
    pub cgroup_path: PathBuf,
    /// Its limits.
    pub resources: Option<LinuxResources>,
    /// Adjustment of the kernel's choice when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// Programs of the node that are told of its life.
    pub hooks: Option<Hooks>,
    /// Its files, where containerd does not make them.
    pub files: Option<PodFiles>,
}

impl Pod {
    /// Reads the bundle in `dir` of the holder `id` in containerd's `namespace`.
    ///
    /// # Errors
    ///
    /// See [`BundleError`].
    pub fn read(dir: &Path, namespace: &str, id: &str) -> Result<Self, BundleError> {
        Self::of(&read_config(&dir.join("config.json"))?, dir, namespace, id)
    }

    /// What `spec` says.
    pub(super) fn of(
        spec: &Spec,
        dir: &Path,
        namespace: &str,
        id: &str,
    ) -> Result<Self, BundleError> {
        let linux = spec.linux().as_ref();
        let listed = linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten();
        if listed.into_iter().any(|it| it.typ() == LinuxNamespaceType::User) {
            return Err(BundleError::UserNamespace);
        }
        let namespaces = namespaces(spec);
        // Without a namespace of its own the name would be the node's.
        let host_name = spec.hostname().clone().filter(|name| !name.is_empty());
        let host_name = host_name.filter(|_| namespaces.uts.is_some());
        let parameters = linux.and_then(|linux| linux.sysctl().clone()).unwrap_or_default();
        Ok(Self {
            namespaces,
            host_name,
            parameters: parameters.into_iter().collect(),
            cgroup_path: cgroup_path(spec, namespace, id)?,
            resources: linux.and_then(|linux| linux.resources().clone()),
            oom_score_adj: spec.process().as_ref().and_then(|process| process.oom_score_adj()),
            hooks: Hooks::of(spec, dir, id),
            files: None,
        })
    }
}
