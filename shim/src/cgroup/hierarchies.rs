//! Where the cgroups of this host are: the hierarchies of cgroup v1, or the one of v2.
//!
//! Rule: the mount table decides, not the directories that a distribution usually has.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Cgroup, CgroupError, Node};

/// The cgroup file systems of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    pub(super) version: Version,
    pub(super) mounts: Vec<Mount>,
    /// Where the v2 tree without controllers of a hybrid host is mounted.
    pub(super) unified: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// v1: the controllers bound to this mount (`name=systemd` for a named one). v2: empty.
    pub(super) controllers: Vec<String>,
    pub(super) point: PathBuf,
}

impl Hierarchies {
    /// Finds the mounted hierarchies. On a hybrid host (v1 controllers and an empty v2 tree) the v1
    /// ones count, as they hold the controllers.
    ///
    /// # Errors
    ///
    /// The mount table cannot be read, or nothing is mounted.
    pub fn of_this_host() -> Result<Self, CgroupError> {
        let table = fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Mounts)?;
        Self::from_mountinfo(&table).ok_or(CgroupError::NotMounted)
    }

    /// Reads a mount table (proc(5), `/proc/pid/mountinfo`).
    fn from_mountinfo(table: &str) -> Option<Self> {
        let mut v1: Vec<Mount> = Vec::new();
        let mut v2 = None;
        for line in table.lines() {
            let Some((mount, superblock)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4).map(unescape) else { continue };
            let mut fields = superblock.split(' ');
            let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup2") => v2 = v2.or(Some(point)),
                Some("cgroup") => {
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|option| {
                            !GENERIC_OPTIONS.contains(option) && !option.contains("release_agent")
                        })
                        .map(str::to_owned)
                        .collect();
                    if !v1.iter().any(|mount| mount.controllers == controllers) {
                        v1.push(Mount { controllers, point });
                    }
                }
                Some(_) | None => {}
            }
        }
        if !v1.is_empty() {
            return Some(Self { version: Version::V1, mounts: v1, unified: v2 });
        }
        v2.map(|point| Self {
            version: Version::V2,
            mounts: vec![Mount { controllers: Vec::new(), point }],
            unified: None,
        })
    }

    /// The cgroup at `path` in every hierarchy; it need not exist. `path` is relative to the root
    /// of the hierarchy and has no `..` ([`parse_path`](super::parse_path) makes such a path).
    ///
    /// If it lies in a directory named after containerd's `namespace`, which is where `ctr` puts
    /// containers, that directory goes with its last container. Every other parent is someone's, as
    /// a pod's is the kubelet's, and stays.
    #[must_use]
    pub fn cgroup(&self, path: &Path, namespace: &str) -> Cgroup {
        let nodes = self
            .mounts
            .iter()
            .map(|mount| Node { dir: mount.point.join(path), mount: mount.clone() });
        Cgroup {
            version: self.version,
            nodes: nodes.collect(),
            unified: self
                .unified
                .as_ref()
                .map(|point| point.join(path))
                .filter(|dir| Some(dir) != self.unified.as_ref()),
            parent_goes: path.parent() == Some(Path::new(namespace)),
        }
    }
}

/// Superblock options of a v1 mount that are not controllers.
const GENERIC_OPTIONS: [&str; 7] =
    ["rw", "ro", "xattr", "noprefix", "clone_children", "nsdelegate", "seclabel"];

/// A mount point as mountinfo writes it: space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let replaced = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain));
    PathBuf::from(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:24 / /other\\040place/memory rw,relatime - cgroup cgroup rw,memory
29 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,release_agent=/x,name=systemd
30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 25 0:27 / /proc rw - proc proc rw
";

    const UNIFIED: &str = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn a_hybrid_host_is_v1_with_each_controller_once() {
        let found = Hierarchies::from_mountinfo(HYBRID).unwrap();

        let points: Vec<_> =
            found.mounts.iter().map(|mount| mount.point.to_str().unwrap()).collect();
        assert_eq!(found.version, Version::V1);
        assert_eq!(
            points,
            ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"]
        );
        assert_eq!(found.mounts[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found.mounts[2].controllers, ["name=systemd"]);
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn a_host_with_one_tree_is_v2() {
        let found = Hierarchies::from_mountinfo(UNIFIED).unwrap();

        assert_eq!((found.version, &found.unified), (Version::V2, &None));
        let point = "/sys/fs/cgroup".into();
        assert_eq!(found.mounts, [Mount { controllers: Vec::new(), point }]);
    }

    #[test]
    fn a_host_without_cgroups_has_none() {
        assert_eq!(Hierarchies::from_mountinfo("31 25 0:27 / /proc rw - proc proc rw"), None);
    }

    #[test]
    fn an_escaped_mount_point_is_read_back() {
        assert_eq!(unescape("/a\\040b\\134c"), PathBuf::from("/a b\\c"));
    }
}
