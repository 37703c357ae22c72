//! Where the VMM process of a container is to live, from its specification: namespaces, what is mounted,
//! the user, the limits.
//!
//! Rule: an option of a mount that changes nothing in a micro-VM is left out, one that nobody knows is told
//! to the log by its name.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Capability, LinuxNamespaceType, Mount as Described, Process, Spec};

use super::{BundleError, Namespace, Namespaces};
use crate::jail::{Mount, MountKind, ResourceLimit, Root, User};
use crate::launch::{Confinement, View};

/// Reads it from `spec`; the root file system is or will be mounted on `rootfs`.
///
/// # Errors
///
/// [`BundleError::Destination`].
pub(super) fn confinement(
    spec: &Spec,
    process: &Process,
    rootfs: &Path,
) -> Result<Confinement, BundleError> {
    let linux = spec.linux().as_ref();
    let root = Root {
        path: rootfs.to_owned(),
        read_only: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
        mounts: mounts(spec.mounts().as_deref().unwrap_or_default())?,
        masked: paths(linux.and_then(|linux| linux.masked_paths().as_ref())),
        read_only_paths: paths(linux.and_then(|linux| linux.readonly_paths().as_ref())),
    };
    let capabilities = process.capabilities().as_ref().and_then(|all| all.effective().as_ref());
    Ok(Confinement {
        namespaces: namespaces(spec),
        hostname: spec.hostname().clone(),
        all_ports: capabilities.is_some_and(|all| all.contains(&Capability::NetBindService)),
        view: View::Root(root),
        user: user(process),
        limits: limits(process),
        waits: false,
    })
}

fn paths(paths: Option<&Vec<String>>) -> Vec<PathBuf> {
    paths.into_iter().flatten().map(PathBuf::from).collect()
}

/// Whose files `process` uses.
pub(super) fn user(process: &Process) -> User {
    let user = process.user();
    User {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
    }
}

/// The resource limits of `process`.
pub(super) fn limits(process: &Process) -> Vec<ResourceLimit> {
    let limit = |limit: &oci_spec::runtime::PosixRlimit| ResourceLimit {
        name: limit.typ().to_string(),
        soft: limit.soft(),
        hard: limit.hard(),
    };
    process.rlimits().iter().flatten().map(limit).collect()
}

/// What is mounted: the rest are file systems of a kernel that the container does not have.
fn mounts(described: &[Described]) -> Result<Vec<Mount>, BundleError> {
    let mut mounts = Vec::new();
    for mount in described {
        let options = Options::of(mount);
        let kind = match (mount.typ().as_deref(), mount.source()) {
            (_, Some(source)) if options.is_bind || mount.typ().as_deref() == Some("bind") => {
                MountKind::Bind {
                    source: source.clone(),
                    recursive: options.is_recursive,
                    follows_host: options.follows_host,
                }
            }
            (Some("tmpfs"), _) => MountKind::Tmpfs { options: options.rest.join(",") },
            _ => continue,
        };
        let destination = mount.destination().clone();
        let climbs = destination.components().any(|part| part == Component::ParentDir);
        if !destination.is_absolute() || climbs {
            return Err(BundleError::Destination(destination));
        }
        mounts.push(Mount { destination, kind, read_only: options.is_read_only });
    }
    Ok(mounts)
}

/// The options of a mount (config.md, "Linux mount options").
#[derive(Debug, Default)]
struct Options<'a> {
    is_bind: bool,
    is_recursive: bool,
    is_read_only: bool,
    follows_host: bool,
    /// What is the file system's own.
    rest: Vec<&'a str>,
}

impl<'a> Options<'a> {
    fn of(mount: &'a Described) -> Self {
        let mut read = Self::default();
        for option in mount.options().iter().flatten() {
            match option.as_str() {
                "bind" => read.is_bind = true,
                "rbind" => (read.is_bind, read.is_recursive) = (true, true),
                "ro" | "rro" => read.is_read_only = true,
                "rw" | "rrw" => read.is_read_only = false,
                "slave" | "rslave" | "shared" | "rshared" => read.follows_host = true,
                "private" | "rprivate" | "unbindable" | "runbindable" => read.follows_host = false,
                // Every mount is `nosuid`, `nodev` and `noexec`; access times are the kernel's default.
                "defaults" | "suid" | "nosuid" | "dev" | "nodev" | "exec" | "noexec" | "atime"
                | "noatime" | "diratime" | "nodiratime" | "relatime" | "norelatime"
                | "strictatime" | "nostrictatime" | "sync" | "async" | "silent" | "loud" => {}
                option if is_of_tmpfs(option) => read.rest.push(option),
                option => log::warn!(
                    "mount on {}: the option {option:?} is left out",
                    mount.destination().display()
                ),
            }
        }
        read
    }
}

/// Whether tmpfs(5) has the option.
fn is_of_tmpfs(option: &str) -> bool {
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    matches!(name, "size" | "nr_blocks" | "nr_inodes" | "mode" | "uid" | "gid" | "huge" | "mpol")
}

/// The namespaces that `spec` asks for.
pub(super) fn namespaces(spec: &Spec) -> Namespaces {
    let mut namespaces = Namespaces::default();
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    for namespace in listed.into_iter().flatten() {
        let place = match namespace.path() {
            Some(path) => Namespace::Join(path.clone()),
            None => Namespace::New,
        };
        match namespace.typ() {
            LinuxNamespaceType::Network => namespaces.network = Some(place),
            LinuxNamespaceType::Ipc => namespaces.ipc = Some(place),
            LinuxNamespaceType::Uts => namespaces.uts = Some(place),
            LinuxNamespaceType::Pid => namespaces.pid = Some(place),
            // The VMM always has a mount namespace of its own, and sees nothing that the others would
            // change.
            LinuxNamespaceType::Mount
            | LinuxNamespaceType::User
            | LinuxNamespaceType::Cgroup
            | LinuxNamespaceType::Time => {}
        }
    }
    namespaces
}
