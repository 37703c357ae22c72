//! The root file system that a process sees: the container's, with its mounts, and nothing else.
//!
//! Rules: the mounts are made in a mount namespace of the process's own and go with it; a destination is
//! resolved by the kernel as if the root file system were `/`, so that a symbolic link of the image cannot
//! lead a mount out of it; what is missing on the way is made, as OCI runtimes do. Nothing in there can be
//! executed, is a device, or has a set-user-id bit that counts (`nosuid`, `nodev`, `noexec`), whatever the
//! specification says: a micro-VM has no use for it. File systems of a kernel that the container does not
//! have (proc, sysfs, devpts, cgroup, mqueue) are left out.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};
use serde::{Deserialize, Serialize};

/// What every mount is told.
const ALWAYS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The root file system of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Where it is mounted already, or a directory.
    pub path: PathBuf,
    /// Whether it cannot be written to; what is mounted into it can, unless that says the same.
    pub read_only: bool,
    /// What is mounted into it, in this order.
    pub mounts: Vec<Mount>,
    /// Paths in it that are shown empty.
    pub masked: Vec<PathBuf>,
    /// Paths in it that cannot be written to.
    pub read_only_paths: Vec<PathBuf>,
}

/// Something that is mounted into a root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// What is there.
    pub kind: MountKind,
    /// Whether the container may not write.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MountKind {
    /// A directory or file of the host.
    Bind {
        /// Its path there.
        source: PathBuf,
        /// With what is mounted in it.
        recursive: bool,
        /// What the host mounts in it later is seen too.
        follows_host: bool,
    },
    /// Memory.
    Tmpfs {
        /// Its options (tmpfs(5)): `size=64m,mode=1777`.
        options: String,
    },
}

/// The root file system could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// A bind mount failed.
    #[error("bind {} to {} in the root file system", from.display(), to.display())]
    Bind {
        /// The file of the host.
        from: PathBuf,
        /// Where the container sees it.
        to: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file system in memory could not be mounted.
    #[error("mount a tmpfs ({options}) on {} in the root file system", path.display())]
    Tmpfs {
        /// Where.
        path: PathBuf,
        /// Its options.
        options: String,
        /// Why not.
        source: io::Error,
    },
    /// A path could not be masked or made read-only.
    #[error("protect {} in the root file system", path.display())]
    Protect {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The root file system itself could not be entered.
    #[error("make {} the root of the VMM process", path.display())]
    Enter {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A root file system with its mounts, not entered yet.
#[derive(Debug)]
pub(crate) struct Made {
    path: PathBuf,
    root: OwnedFd,
}

impl Root {
    /// Makes the mounts. To be called in a mount namespace that is not the host's and passes nothing on to
    /// it.
    ///
    /// # Errors
    ///
    /// See [`RootError`]; some mounts may have been made.
    pub(crate) fn make(&self) -> Result<Made, RootError> {
        let enter =
            |errno: Errno| RootError::Enter { path: self.path.clone(), source: errno.into() };
        // A mount of its own: only such can become the root, and be told that it is read-only.
        mount_bind_recursive(&self.path, &self.path).map_err(enter)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            openat2(CWD, &self.path, flags, Mode::empty(), ResolveFlags::empty()).map_err(enter)?;
        for mount in &self.mounts {
            mount.make(&root)?;
        }
        for path in &self.masked {
            mask(&root, path)
                .map_err(|source| RootError::Protect { path: path.clone(), source })?;
        }
        for path in &self.read_only_paths {
            write_protect(&root, path)
                .map_err(|source| RootError::Protect { path: path.clone(), source })?;
        }
        let read_only = if self.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        mount_remount(by_descriptor(&root), MountFlags::BIND | ALWAYS | read_only, "")
            .map_err(enter)?;
        Ok(Made { path: self.path.clone(), root })
    }
}

impl Made {
    /// Makes it the root of the process, and forgets everything else that is mounted.
    ///
    /// # Errors
    ///
    /// [`RootError::Enter`].
    pub(crate) fn enter(self) -> Result<(), RootError> {
        let Self { path, root } = self;
        let entered = (|| {
            rustix::process::fchdir(&root)?;
            // The old root comes to lie over the new one, and is taken off it (pivot_root(2)).
            pivot_root(".", ".")?;
            unmount(".", UnmountFlags::DETACH)?;
            chdir("/")
        })();
        entered.map_err(|errno| RootError::Enter { path, source: errno.into() })
    }
}

impl Mount {
    fn make(&self, root: &OwnedFd) -> Result<(), RootError> {
        let to = &self.destination;
        let read_only = if self.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        match &self.kind {
            MountKind::Bind { source: from, recursive, follows_host } => {
                let flags = MountFlags::BIND | ALWAYS | read_only;
                bind(root, from, to, *recursive, *follows_host, flags).map_err(|source| {
                    RootError::Bind { from: from.clone(), to: to.clone(), source }
                })
            }
            MountKind::Tmpfs { options } => {
                tmpfs(root, to, ALWAYS | read_only, options).map_err(|source| RootError::Tmpfs {
                    path: to.clone(),
                    options: options.clone(),
                    source,
                })
            }
        }
    }
}

fn bind(
    root: &OwnedFd,
    from: &Path,
    to: &Path,
    recursive: bool,
    follows_host: bool,
    flags: MountFlags,
) -> io::Result<()> {
    let target = mount_point(root, to, std::fs::metadata(from)?.is_dir())?;
    match recursive {
        true => mount_bind_recursive(from, by_descriptor(&target))?,
        false => mount_bind(from, by_descriptor(&target))?,
    }
    // The mount lies over what was opened before: look again.
    let mounted = open(root, to, OFlags::PATH)?;
    if !follows_host {
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(by_descriptor(&mounted), flags)?;
    }
    Ok(mount_remount(by_descriptor(&mounted), flags, "")?)
}

fn tmpfs(root: &OwnedFd, to: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let target = mount_point(root, to, true)?;
    let options = std::ffi::CString::new(options)?;
    Ok(mount("tmpfs", by_descriptor(&target), "tmpfs", flags, options.as_c_str())?)
}

/// Shows `path` empty, if it is there.
fn mask(root: &OwnedFd, path: &Path) -> io::Result<()> {
    let target = match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        found => found?,
    };
    if FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory {
        let flags = ALWAYS | MountFlags::RDONLY;
        return Ok(mount("tmpfs", by_descriptor(&target), "tmpfs", flags, c"size=0,nr_inodes=1")?);
    }
    mount_bind("/dev/null", by_descriptor(&target))?;
    let mounted = open(root, path, OFlags::PATH)?;
    let flags = MountFlags::BIND | ALWAYS | MountFlags::RDONLY;
    Ok(mount_remount(by_descriptor(&mounted), flags, "")?)
}

/// Has `path` be read only, if it is there.
fn write_protect(root: &OwnedFd, path: &Path) -> io::Result<()> {
    let target = match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        found => found?,
    };
    mount_bind_recursive(by_descriptor(&target), by_descriptor(&target))?;
    let mounted = open(root, path, OFlags::PATH)?;
    let flags = MountFlags::BIND | ALWAYS | MountFlags::RDONLY;
    Ok(mount_remount(by_descriptor(&mounted), flags, "")?)
}

/// What is at `path` below `root`, made if there is nothing: a directory, or an empty file.
fn mount_point(root: &OwnedFd, path: &Path, is_dir: bool) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        found => return Ok(found?),
    }
    let missing = if is_dir { Some(path) } else { path.parent() };
    let mut parent = PathBuf::from("/");
    for name in missing.into_iter().flatten().filter(|name| *name != "/") {
        let dir = open(root, &parent, OFlags::PATH | OFlags::DIRECTORY)?;
        match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => parent.push(name),
            Err(errno) => return Err(errno.into()),
        }
    }
    if is_dir {
        return Ok(open(root, path, OFlags::PATH | OFlags::DIRECTORY)?);
    }
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NONBLOCK;
    Ok(open(root, path, flags)?)
}

fn open(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mode = match flags.contains(OFlags::CREATE) {
        true => Mode::from_raw_mode(0o644),
        false => Mode::empty(),
    };
    openat2(root, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT)
}

fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests;
