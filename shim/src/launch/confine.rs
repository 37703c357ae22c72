//! Where a VMM process lives: its namespaces, and the files of the host that it sees.
//!
//! Rule: the process goes there by itself, while it has one thread and has read nothing of its work. It
//! comes from the shim's binary and the shim's namespaces, so it may do what the shim may do.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use serde::{Deserialize, Serialize};

use crate::binds::{BindError, bind_files};
use crate::bundle::{Bind, Namespace, Namespaces};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// A namespace could not be entered.
    #[error("enter {kind} namespace {}", path.display())]
    Enter {
        /// Which kind.
        kind: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// New namespaces could not be made.
    #[error("make the VMM's namespaces")]
    Unshare(#[source] io::Error),
    /// A file could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Where a VMM process is to live.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Confinement {
    /// Its namespaces, beside a mount namespace of its own.
    pub namespaces: Namespaces,
    /// Its root file system, mounted already.
    pub rootfs: PathBuf,
    /// The files of the host that are bound into it; directories among them are left out.
    pub binds: Vec<Bind>,
}

impl Confinement {
    /// Moves this process, which has one thread, into the namespaces, and binds the files there.
    ///
    /// # Errors
    ///
    /// See [`ConfineError`]; the process may then be anywhere, and should end.
    pub(crate) fn enter(&self) -> Result<(), ConfineError> {
        enter(&self.namespaces)?;
        Ok(bind_files(&self.rootfs, &self.binds)?)
    }
}

/// Moves the calling thread into a mount namespace of its own and into the namespaces asked for.
fn enter(namespaces: &Namespaces) -> Result<(), ConfineError> {
    let wanted = [
        ("network", CloneFlags::CLONE_NEWNET, &namespaces.network),
        ("ipc", CloneFlags::CLONE_NEWIPC, &namespaces.ipc),
        ("uts", CloneFlags::CLONE_NEWUTS, &namespaces.uts),
    ];
    let mut fresh = CloneFlags::CLONE_NEWNS;
    let mut joined = Vec::new();
    for (kind, flag, namespace) in wanted {
        match namespace {
            Some(Namespace::New) => fresh |= flag,
            Some(Namespace::Join(path)) => {
                let enter = |source| ConfineError::Enter { kind, path: path.clone(), source };
                joined.push((File::open(path).map_err(enter)?, flag, kind, path));
            }
            None => {}
        }
    }
    for (file, flag, kind, path) in joined {
        setns(file.as_fd(), flag).map_err(|errno| ConfineError::Enter {
            kind,
            path: path.clone(),
            source: errno.into(),
        })?;
    }
    unshare(fresh).map_err(|errno| ConfineError::Unshare(errno.into()))?;
    // Mounts made in here stay in here; unmounts of the host come through, so that a long-lived
    // task does not keep the file systems of others busy.
    mount_change(Path::new("/"), MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| ConfineError::Unshare(errno.into()))
}
