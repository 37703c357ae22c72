//! What can be opened.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use shim::jail::{Mount, MountKind};
use tempfile::TempDir;

use super::{Attempt, can_run};

const NO_SUCH_FILE: &str = "No such file";
const NOT_PERMITTED: &str = "Permission denied";

/// A file with an owner and permissions.
fn file(path: &Path, owner: u32, mode: u32) {
    fs::write(path, "content").unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn bind(source: &Path, destination: &str, read_only: bool) -> Mount {
    let source = source.to_owned();
    let kind = MountKind::Bind { source, recursive: true, follows_host: false };
    Mount { destination: destination.into(), kind, read_only }
}

#[tokio::test]
async fn the_root_holds_the_container_and_nothing_else() {
    if can_run() {
        Attempt::new().ends(&["list", "/"]).await.said("own");
    }
}

#[tokio::test]
async fn a_file_outside_the_root_cannot_be_opened() {
    if can_run() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let path = outside.path().to_str().unwrap();
        let container = Attempt::new();

        container.ends(&["read", path]).await.refused(NO_SUCH_FILE);
        container.ends(&["climb", path]).await.refused(NO_SUCH_FILE);
        container.ends(&["read", "/etc/passwd"]).await.refused(NO_SUCH_FILE);
    }
}

#[tokio::test]
async fn a_link_of_the_image_does_not_lead_outside() {
    if can_run() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let container = Attempt::new();
        std::os::unix::fs::symlink(outside.path(), container.path("link")).unwrap();

        container.ends(&["read", "/link"]).await.refused(NO_SUCH_FILE);
    }
}

#[tokio::test]
async fn processes_are_not_seen() {
    if can_run() {
        let container = Attempt::new();
        fs::create_dir(container.path("proc")).unwrap();

        // There is no proc file system, and no call that would tell of a process.
        container.ends(&["list", "/proc"]).await.said("");
        container.ends(&["read", "/proc/1/environ"]).await.refused(NO_SUCH_FILE);
    }
}

#[tokio::test]
async fn kvm_cannot_be_opened_again() {
    if can_run() {
        Attempt::new().ends(&["append", "/dev/kvm"]).await.refused(NO_SUCH_FILE);
    }
}

#[tokio::test]
async fn a_device_in_the_image_is_none() {
    if can_run() {
        let container = Attempt::new();
        let kvm = fs::metadata("/dev/kvm").unwrap().rdev();
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let of_type = rustix::fs::FileType::CharacterDevice;
        let place = container.path("kvm");
        rustix::fs::mknodat(rustix::fs::CWD, &place, of_type, mode, kvm).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o666)).unwrap();

        container.ends(&["append", "/kvm"]).await.refused(NOT_PERMITTED);
    }
}

#[tokio::test]
async fn root_in_a_container_uses_the_files_that_root_owns() {
    if can_run() {
        let volume = TempDir::new().unwrap();
        file(&volume.path().join("roots"), 0, 0o600);
        let container = Attempt::new().mount(bind(volume.path(), "/volume", false));

        container.ends(&["append", "/volume/roots"]).await.said("done");
        container.ends(&["write", "/volume/made"]).await.said("done");

        let made = fs::metadata(volume.path().join("made")).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (0, 0, 0o644));
    }
}

#[tokio::test]
async fn root_in_a_container_has_no_power_over_the_files_of_others() {
    if can_run() {
        let container = Attempt::new();
        file(&container.path("private"), 1000, 0o600);
        file(&container.path("public"), 1000, 0o644);

        container.ends(&["read", "/private"]).await.refused(NOT_PERMITTED);
        container.ends(&["read", "/public"]).await.said("content");
        container.ends(&["append", "/public"]).await.refused(NOT_PERMITTED);
    }
}

#[tokio::test]
async fn another_user_of_a_container_uses_its_own_files() {
    if can_run() {
        let container = Attempt::new().user(1000);
        fs::set_permissions(container.rootfs.path(), fs::Permissions::from_mode(0o755)).unwrap();
        file(&container.path("mine"), 1000, 0o600);
        file(&container.path("roots"), 0, 0o600);

        container.ends(&["append", "/mine"]).await.said("done");
        container.ends(&["read", "/roots"]).await.refused(NOT_PERMITTED);
        container.ends(&["write", "/made"]).await.refused(NOT_PERMITTED);
    }
}

#[tokio::test]
async fn a_read_only_volume_cannot_be_written() {
    if can_run() {
        let volume = TempDir::new().unwrap();
        file(&volume.path().join("f"), 0, 0o644);
        let container = Attempt::new().mount(bind(volume.path(), "/volume", true));

        container.ends(&["read", "/volume/f"]).await.said("content");
        container.ends(&["append", "/volume/f"]).await.refused("Read-only file system");
    }
}

#[tokio::test]
async fn memory_can_be_mounted() {
    if can_run() {
        let kind = MountKind::Tmpfs { options: "size=64k,mode=1777".to_owned() };
        let tmpfs = Mount { destination: "/run/lock".into(), kind, read_only: false };
        let container = Attempt::new().user(1000).mount(tmpfs);

        fs::set_permissions(container.rootfs.path(), fs::Permissions::from_mode(0o755)).unwrap();
        container.ends(&["write", "/run/lock/f"]).await.said("done");

        assert!(!container.path("run/lock/f").exists());
    }
}
