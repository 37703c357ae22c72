//! Disks of the node that are full: what fails says so, and nothing is left.

use std::path::{Path, PathBuf};
use std::process::Command;

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::{micro_vms, require_kvm};

use super::Fixture;

/// A file system of some pages in memory, for as long as it is used.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path, pages: u32) -> Self {
        std::fs::create_dir_all(place).unwrap();
        let size = format!("size={}k", pages * 4);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place);
        process::run(&mut mount).unwrap().success().unwrap();
        Self(place.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = process::run(Command::new("umount").arg(&self.0));
        let unmounted = unmount.is_ok_and(|it| it.status.success());
        assert!(unmounted || std::thread::panicking(), "unmount {}", self.0.display());
    }
}

#[test]
fn a_full_disk_below_the_bundles_is_told_whatever_lacks_its_space_first() {
    require_kvm!();
    // Without a listener to events, which would be a process that is left.
    let Fixture { node, reference, .. } = Fixture::new("hello", &[]);
    let bundles = format!("state/io.containerd.runtime.v2.task/{}", node.namespace());
    let bundles = node.directory().join(bundles);
    let mut runs = 0;
    // The bundle's configuration, containerd's own files, then the shim's.
    for pages in 1..=12 {
        let disk = SmallDisk::mount(&bundles, pages);
        let outcome = node.run(&reference, "full", &[]).unwrap();
        match outcome.code() {
            0 => runs += 1,
            _ => assert!(
                outcome.stderr.contains("no space left on device")
                    || outcome.stderr.contains("No space left on device"),
                "{pages}: {outcome:?}"
            ),
        }
        let bundle_is_gone = || !bundles.join("full").exists();
        wait_until("the bundle to be gone", HANG_LIMIT, bundle_is_gone).unwrap();
        wait_until("the micro-VM to be gone", HANG_LIMIT, || micro_vms().is_empty()).unwrap();
        // Its working directory is there.
        wait_until("the shim to be gone", HANG_LIMIT, || node.shims().is_empty()).unwrap();
        drop(disk);
        node.nothing_left().unwrap();
    }
    assert!((1..12).contains(&runs), "{runs} of 12 have run");
}

#[test]
fn a_full_disk_below_a_log_costs_the_log_and_not_the_task() {
    require_kvm!();
    let it = Fixture::new("large_output.c_p1", &[]);
    let disk = SmallDisk::mount(&it.node.directory().join("tmp/logs"), 4);
    let log = disk.0.join("task.log");

    it.run("l", &["--log-uri", &format!("file://{}", log.display())]);

    // What the program is told of its output is the disk's answer; it ends by itself.
    it.wait_for("l", "", "STOPPED");
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 16 << 10);
    it.remove("l");
    drop(disk);
    std::fs::remove_dir_all(it.node.directory().join("tmp/logs")).unwrap();
}
