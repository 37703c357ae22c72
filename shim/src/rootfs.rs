//! The root file system of a container: mounted from the snapshotter's mounts, unmounted at the
//! end.
//!
//! Rule: whoever holds a [`Rootfs`] that it mounted unmounts it, also when what follows fails.
//! Unmounting is lazy and by path, never through a symbolic link, and succeeds when nothing is
//! mounted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// One mount as containerd describes it (`containerd.types.Mount`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountSource {
    /// File system type, or `bind`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Options, of mount(8) and of the file system.
    pub options: Vec<String>,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The mount point could not be made.
    #[error("create {}", path.display())]
    MountPoint {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A mount was refused.
    #[error("mount {kind} {from:?} on {}: {reason}", path.display())]
    Mount {
        /// File system type.
        kind: String,
        /// What was to be mounted.
        from: String,
        /// Where.
        path: PathBuf,
        /// Why, as the mount code of containerd's crate says it.
        reason: Box<containerd_shim::Error>,
    },
    /// An unmount was refused.
    #[error("unmount {}", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A root file system in place.
#[derive(Debug)]
pub struct Rootfs {
    path: PathBuf,
    mounted: bool,
    /// Whether the directory that it is mounted on goes with it.
    has_directory: bool,
}

impl Rootfs {
    /// Mounts `mounts` on `path`, one over the other. With none, `path` is used as it is.
    ///
    /// Blocks; the calling thread may change its working directory (long overlay options), so it
    /// must be one that is not used for anything else.
    ///
    /// # Errors
    ///
    /// The mount point cannot be made or a mount is refused; then nothing stays mounted.
    pub fn mount(path: PathBuf, mounts: &[MountSource]) -> Result<Self, RootfsError> {
        let mut rootfs = Self { path, mounted: false, has_directory: false };
        if mounts.is_empty() {
            return Ok(rootfs);
        }
        fs::create_dir_all(&rootfs.path)
            .map_err(|source| RootfsError::MountPoint { path: rootfs.path.clone(), source })?;
        for mount in mounts {
            containerd_shim::mount::mount_rootfs(
                Some(mount.kind.as_str()).filter(|kind| !kind.is_empty()),
                Some(mount.source.as_str()).filter(|source| !source.is_empty()),
                &mount.options,
                &rootfs.path,
            )
            .map_err(|reason| RootfsError::Mount {
                kind: mount.kind.clone(),
                from: mount.source.clone(),
                path: rootfs.path.clone(),
                reason: Box::new(reason),
            })?;
            rootfs.mounted = true;
        }
        Ok(rootfs)
    }

    /// The same, of which the directory goes with the mount.
    #[must_use]
    pub fn with_directory(mut self) -> Self {
        self.has_directory = true;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts what [`mount`](Self::mount) mounted.
    ///
    /// # Errors
    ///
    /// The kernel refuses; calling again is allowed.
    pub fn unmount(&mut self) -> Result<(), RootfsError> {
        if self.mounted {
            unmount_all(&self.path)?;
            self.mounted = false;
            if self.has_directory {
                remove_directory(&self.path);
            }
        }
        Ok(())
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            log::error!("{}", crate::error::line(&error));
        }
    }
}

/// Removes a directory that something was mounted on, if it is there and empty.
pub fn remove_directory(path: &Path) {
    // What is in it is another's.
    let _ = fs::remove_dir(path);
}

/// Unmounts everything that is mounted on `path`.
///
/// # Errors
///
/// The kernel refuses for another reason than that nothing is mounted there.
pub fn unmount_all(path: &Path) -> Result<(), RootfsError> {
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => {
                return Err(RootfsError::Unmount { path: path.to_owned(), source: errno.into() });
            }
        }
    }
}
