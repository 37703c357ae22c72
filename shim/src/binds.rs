//! Single files of the host that a container sees (`/etc/hosts`, a key of a ConfigMap): bound into its
//! root file system.
//!
//! WASI opens directories, so a bound directory is a preopened one; a file has no other place than a
//! path below the root. Rules: the mounts are made in the VMM's own mount namespace and go with it;
//! a destination is resolved by the kernel as if the root file system were `/`, so that a symbolic
//! link of the image cannot lead a mount out of it; what is missing on the way is made, as OCI
//! runtimes do.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::bundle::Bind;

/// A file could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("bind {} to {} in the root file system", from.display(), to.display())]
pub struct BindError {
    /// The file of the host.
    pub from: PathBuf,
    /// Where the container sees it.
    pub to: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Binds every file among `binds` into `rootfs`; directories are left out. To be called in a mount
/// namespace that is not the host's.
///
/// # Errors
///
/// A source is missing, or the kernel refuses.
pub fn bind_files(rootfs: &Path, binds: &[Bind]) -> Result<(), BindError> {
    for bind in binds {
        bind_file(rootfs, bind).map_err(|source| BindError {
            from: bind.source.clone(),
            to: bind.destination.clone(),
            source,
        })?;
    }
    Ok(())
}

fn bind_file(rootfs: &Path, bind: &Bind) -> io::Result<()> {
    if std::fs::metadata(&bind.source)?.is_dir() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, rootfs, flags, Mode::empty(), ResolveFlags::empty())?;
    let target = mount_point(&root, &bind.destination)?;
    mount_bind(&bind.source, by_descriptor(&target))?;
    if bind.read_only {
        // The mount lies over what was opened before: look again.
        let mounted = open(&root, &bind.destination, OFlags::PATH)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(by_descriptor(&mounted), flags, "")?;
    }
    Ok(())
}

/// The file at `path` below `root`, made empty if there is none.
fn mount_point(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        found => return Ok(found?),
    }
    let mut parent = PathBuf::from("/");
    for name in path.parent().into_iter().flatten().filter(|name| *name != "/") {
        let dir = open(root, &parent, OFlags::PATH | OFlags::DIRECTORY)?;
        match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => parent.push(name),
            Err(errno) => return Err(errno.into()),
        }
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
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sched::{CloneFlags, unshare};
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::process::geteuid;
    use tempfile::TempDir;

    use super::*;

    /// Runs `test` on a thread with a mount namespace of its own.
    fn apart(test: impl FnOnce() + Send + 'static) {
        if !geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", flags).unwrap();
            test();
        });
        thread.join().unwrap();
    }

    fn bind(source: &Path, destination: &str, read_only: bool) -> Bind {
        Bind { source: source.to_owned(), destination: destination.into(), read_only }
    }

    #[test]
    fn a_file_is_seen_at_a_path_that_did_not_exist() {
        apart(|| {
            let (root, host) = (TempDir::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
            fs::write(host.path(), "hosts").unwrap();

            bind_files(root.path(), &[bind(host.path(), "/etc/deep/hosts", false)]).unwrap();

            let seen = root.path().join("etc/deep/hosts");
            assert_eq!(fs::read_to_string(&seen).unwrap(), "hosts");
            fs::write(&seen, "changed").unwrap();
            assert_eq!(fs::read_to_string(host.path()).unwrap(), "changed");
        });
    }

    #[test]
    fn a_read_only_file_cannot_be_written() {
        apart(|| {
            let (root, host) = (TempDir::new().unwrap(), tempfile::NamedTempFile::new().unwrap());

            bind_files(root.path(), &[bind(host.path(), "/f", true)]).unwrap();

            let error = fs::write(root.path().join("f"), "x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        });
    }

    #[test]
    fn a_link_of_the_image_does_not_lead_out() {
        apart(|| {
            let (root, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
            let host = tempfile::NamedTempFile::new().unwrap();
            fs::write(host.path(), "mine").unwrap();
            fs::write(outside.path().join("target"), "theirs").unwrap();
            symlink(outside.path(), root.path().join("etc")).unwrap();

            let bound = bind_files(root.path(), &[bind(host.path(), "/etc/target", false)]);

            // The link names nothing inside the root.
            assert!(bound.is_err());
            assert_eq!(fs::read_to_string(outside.path().join("target")).unwrap(), "theirs");
        });
    }

    #[test]
    fn a_directory_is_left_to_the_preopens() {
        apart(|| {
            let (root, host) = (TempDir::new().unwrap(), TempDir::new().unwrap());

            bind_files(root.path(), &[bind(host.path(), "/data", false)]).unwrap();

            assert!(!root.path().join("data").exists());
        });
    }

    #[test]
    fn a_source_that_is_missing_is_named() {
        apart(|| {
            let root = TempDir::new().unwrap();

            let bound = bind_files(root.path(), &[bind(Path::new("/nonexistent"), "/f", false)]);

            let text = bound.unwrap_err().to_string();
            assert_eq!(text, "bind /nonexistent to /f in the root file system");
        });
    }
}
