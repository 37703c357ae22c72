//! Mounts, each test in a mount namespace of its own.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sched::{CloneFlags, unshare};
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

fn bind(source: &Path, destination: &str, read_only: bool) -> Mount {
    let source = source.to_owned();
    let kind = MountKind::Bind { source, recursive: true, follows_host: false };
    Mount { destination: destination.into(), kind, read_only }
}

fn root(path: &TempDir, mounts: Vec<Mount>) -> Root {
    Root { path: path.path().to_owned(), mounts, ..Root::default() }
}

#[test]
fn a_file_is_seen_at_a_path_that_did_not_exist() {
    apart(|| {
        let (dir, host) = (TempDir::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        fs::write(host.path(), "hosts").unwrap();

        root(&dir, vec![bind(host.path(), "/etc/deep/hosts", false)]).make().unwrap();

        let seen = dir.path().join("etc/deep/hosts");
        assert_eq!(fs::read_to_string(&seen).unwrap(), "hosts");
        fs::write(&seen, "changed").unwrap();
        assert_eq!(fs::read_to_string(host.path()).unwrap(), "changed");
    });
}

#[test]
fn a_read_only_file_cannot_be_written() {
    apart(|| {
        let (dir, host) = (TempDir::new().unwrap(), tempfile::NamedTempFile::new().unwrap());

        root(&dir, vec![bind(host.path(), "/f", true)]).make().unwrap();

        let error = fs::write(dir.path().join("f"), "x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn a_link_of_the_image_does_not_lead_out() {
    apart(|| {
        let (dir, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let host = tempfile::NamedTempFile::new().unwrap();
        fs::write(host.path(), "mine").unwrap();
        fs::write(outside.path().join("target"), "theirs").unwrap();
        symlink(outside.path(), dir.path().join("etc")).unwrap();

        let bound = root(&dir, vec![bind(host.path(), "/etc/target", false)]).make();

        // The link names nothing inside the root.
        assert!(bound.is_err());
        assert_eq!(fs::read_to_string(outside.path().join("target")).unwrap(), "theirs");
    });
}

#[test]
fn a_directory_is_bound_with_what_is_in_it() {
    apart(|| {
        let (dir, host) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::write(host.path().join("f"), "content").unwrap();

        root(&dir, vec![bind(host.path(), "/data/deep", false)]).make().unwrap();

        assert_eq!(fs::read_to_string(dir.path().join("data/deep/f")).unwrap(), "content");
    });
}

#[test]
fn a_mount_lies_in_the_one_before_it() {
    apart(|| {
        let (dir, outer, inner) =
            (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::write(inner.path().join("f"), "inner").unwrap();
        let mounts = vec![bind(outer.path(), "/a", false), bind(inner.path(), "/a/b", true)];

        root(&dir, mounts).make().unwrap();

        assert_eq!(fs::read_to_string(dir.path().join("a/b/f")).unwrap(), "inner");
        fs::write(dir.path().join("a/g"), "").unwrap();
        let error = fs::write(dir.path().join("a/b/g"), "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn a_read_only_root_can_hold_mounts_that_are_writable() {
    apart(|| {
        let dir = TempDir::new().unwrap();
        let kind = MountKind::Tmpfs { options: "size=64k".to_owned() };
        let tmpfs = Mount { destination: "/tmp".into(), kind, read_only: false };

        Root { read_only: true, ..root(&dir, vec![tmpfs]) }.make().unwrap();

        fs::write(dir.path().join("tmp/f"), "x").unwrap();
        let error = fs::write(dir.path().join("f"), "x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn masked_paths_are_empty_and_missing_ones_are_no_error() {
    apart(|| {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "secret").unwrap();
        fs::write(dir.path().join("f"), "secret").unwrap();
        let masked = ["/d", "/f", "/none", "/f/none"].map(PathBuf::from).into();

        Root { masked, ..root(&dir, Vec::new()) }.make().unwrap();

        assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), 0);
        assert_ne!(fs::read_to_string(dir.path().join("f")).ok().as_deref(), Some("secret"));
    });
}

#[test]
fn read_only_paths_cannot_be_written() {
    apart(|| {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();

        let read_only_paths = vec!["/etc".into(), "/none".into()];
        Root { read_only_paths, ..root(&dir, Vec::new()) }.make().unwrap();

        let error = fs::write(dir.path().join("etc/f"), "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        fs::write(dir.path().join("f"), "").unwrap();
    });
}

#[test]
fn what_the_host_mounts_later_is_not_seen() {
    apart(|| {
        let (dir, host) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::create_dir(host.path().join("later")).unwrap();
        let kind = |follows_host| MountKind::Bind {
            source: host.path().to_owned(),
            recursive: true,
            follows_host,
        };
        let mount = |at: &str, follows| Mount {
            destination: at.into(),
            kind: kind(follows),
            read_only: false,
        };
        // The host's mounts are shared, as systemd makes them.
        mount_bind(host.path(), host.path()).unwrap();
        mount_change(host.path(), MountPropagationFlags::SHARED).unwrap();
        root(&dir, vec![mount("/apart", false), mount("/follows", true)]).make().unwrap();

        let later = host.path().join("later");
        rustix::mount::mount("tmpfs", &later, "tmpfs", MountFlags::empty(), c"").unwrap();
        fs::write(later.join("f"), "").unwrap();

        assert!(!dir.path().join("apart/later/f").exists());
        assert!(dir.path().join("follows/later/f").exists());
    });
}

#[test]
fn a_source_that_is_missing_is_named() {
    apart(|| {
        let dir = TempDir::new().unwrap();

        let bound = root(&dir, vec![bind(Path::new("/nonexistent"), "/f", false)]).make();

        let text = bound.unwrap_err().to_string();
        assert_eq!(text, "bind /nonexistent to /f in the root file system");
    });
}
