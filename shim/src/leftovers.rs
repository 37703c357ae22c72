//! What a shim that dies leaves behind, and how the `delete` action removes it.
//!
//! Rule: a control group is killed and removed only if the bundle records that a shim made it.
//! Without that record its path is a stranger's word, and killing by it could hit anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchies;
use crate::error::Error;
use crate::linux::{LinuxContainer, OciRuntime};
use crate::rootfs;

/// Name of the record in the bundle directory.
const FILE: &str = "hyperlight.json";

/// The record.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Leftovers {
    /// The task's control group: absolute, taken from the root of each hierarchy.
    cgroup: PathBuf,
    /// Its name for the node's OCI runtime, if it is a Linux container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linux: Option<String>,
}

impl Leftovers {
    /// The record of a task whose control group is at `cgroup`, below the root of each hierarchy.
    #[must_use]
    pub fn of(cgroup: &Path) -> Self {
        Self { cgroup: Path::new("/").join(cgroup), linux: None }
    }

    /// The same of a Linux container that the node's OCI runtime knows as `id`.
    #[must_use]
    pub fn of_linux(cgroup: &Path, id: &str) -> Self {
        Self { linux: Some(id.to_owned()), ..Self::of(cgroup) }
    }

    /// Writes the record into the bundle directory `bundle`, which containerd removes with the
    /// task.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, bundle: &Path) -> Result<(), Error> {
        let path = bundle.join(FILE);
        let json = serde_json::to_vec(self).map_err(Error::Encode)?;
        fs::write(&path, json).map_err(|source| Error::StateFile { action: "write", path, source })
    }

    fn read(bundle: &Path) -> Result<Option<Self>, Error> {
        let path = bundle.join(FILE);
        let failed = |source| Error::StateFile { action: "read", path: path.clone(), source };
        match fs::read(&path) {
            Ok(json) => {
                Ok(Some(serde_json::from_slice(&json).map_err(io::Error::from).map_err(failed)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Kills and removes what is left of the task in `bundle`, of containerd's `namespace`. Blocks; may
/// be repeated, and succeeds when there is nothing.
///
/// # Errors
///
/// Something cannot be removed; the rest is.
pub fn remove(bundle: &Path, namespace: &str) -> Result<(), Error> {
    let cgroup = Leftovers::read(bundle).and_then(|record| {
        let Some(record) = record else { return Ok(()) };
        // The record was written by a shim; the path is checked again all the same.
        let path = crate::cgroup::parse_path(&record.cgroup.to_string_lossy())
            .map_err(crate::bundle::BundleError::from)?;
        Hierarchies::of_this_host()?.cgroup(&path, namespace).kill_and_remove()?;
        match record.linux {
            Some(id) => {
                let runtime = OciRuntime::of_this_node(namespace)?;
                Ok(LinuxContainer::left(runtime, &id, bundle).delete()?)
            }
            None => Ok(()),
        }
    });
    let rootfs = rootfs::unmount_all(&bundle.join("rootfs"));
    cgroup?;
    Ok(rootfs?)
}

/// Removes what is left of the other tasks of `group`, whose bundles lie beside `bundle`. Nobody may serve them.
///
/// # Errors
///
/// The last of those for which [`remove`] fails; the rest is removed.
pub fn remove_group(bundle: &Path, namespace: &str, group: &str) -> Result<(), Error> {
    let beside = bundle.parent().and_then(|parent| fs::read_dir(parent).ok());
    let mut outcome = Ok(());
    for entry in beside.into_iter().flatten().flatten() {
        let (other, id) = (entry.path(), entry.file_name());
        let is_of_group = id.to_str().is_some_and(|id| {
            crate::bundle::group(&other, id).is_ok_and(|of_other| of_other == group)
        });
        if is_of_group && other != bundle {
            outcome = remove(&other, namespace).and(outcome);
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        let bundle = tempfile::tempdir().unwrap();
        let record = Leftovers::of(Path::new("a/b"));

        record.write(bundle.path()).unwrap();

        assert_eq!(Leftovers::read(bundle.path()).unwrap(), Some(record));
    }

    #[test]
    fn a_bundle_without_a_record_has_nothing_to_remove() {
        let bundle = tempfile::tempdir().unwrap();

        remove(bundle.path(), "test").unwrap();
    }

    #[test]
    fn a_bundle_that_is_gone_has_nothing_to_remove() {
        remove(Path::new("/nonexistent/bundle"), "test").unwrap();
    }

    #[test]
    fn a_record_that_climbs_is_refused() {
        let bundle = tempfile::tempdir().unwrap();
        Leftovers::of(Path::new("../x")).write(bundle.path()).unwrap();

        assert!(matches!(remove(bundle.path(), "test"), Err(Error::Bundle(_))));
    }

    /// A bundle of pod `group` beside others, whose record cannot be used.
    fn add(beside: &Path, id: &str, group: &str) {
        let bundle = beside.join(id);
        fs::create_dir(&bundle).unwrap();
        let annotations = serde_json::json!({ crate::bundle::SANDBOX_ID: group });
        let config = serde_json::json!({ "ociVersion": "1.2.0", "annotations": annotations });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        Leftovers::of(Path::new("../x")).write(&bundle).unwrap();
    }

    #[test]
    fn the_other_tasks_of_a_group_are_removed_and_no_others() {
        let beside = tempfile::tempdir().unwrap();
        let bundle = beside.path().join("pod");
        add(beside.path(), "pod", "pod");
        add(beside.path(), "of-another", "another");
        fs::create_dir(beside.path().join("no-bundle")).unwrap();
        remove_group(&bundle, "test", "pod").unwrap();

        add(beside.path(), "of-pod", "pod");
        assert!(remove_group(&bundle, "test", "pod").is_err());
    }
}
