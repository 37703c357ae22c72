//! What a shim that dies leaves behind, and how the `delete` action removes it.
//!
//! Rule: a control group is killed and removed only if the bundle records that it is a shim's. Without that record
//! its path is a stranger's word, and killing by it could hit anything. The record is written once nobody else
//! is in the group, and before the group is made: a shim that dies in between leaves nothing unknown.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, Hierarchies};
use crate::container::OwnedCgroup;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::linux::{LinuxContainer, OciRuntime};
use crate::pod_files;
use crate::rootfs;

/// Name of the record in the bundle directory.
const FILE: &str = "hyperlight.json";

/// Where containerd has the bundles of pods that it leaves to the shim, each below that of its namespace, as those
/// of tasks are beside it.
const SANDBOXES: &str = "io.containerd.sandbox.controller.v1.shim";

/// How the names of the records of a pod's tasks begin, in the bundle of the pod.
const OF_POD: &str = "hyperlight-of-";

/// The record.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Leftovers {
    /// The task's control group: absolute, taken from the root of each hierarchy.
    cgroup: PathBuf,
    /// Its name for the node's OCI runtime, if it is a Linux container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linux: Option<String>,
    /// Its hooks, of which those of the end are to be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hooks: Option<Hooks>,
    /// Its bundle, in the record that its pod has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<PathBuf>,
}

impl Leftovers {
    /// The record of a task whose control group is at `cgroup`, below the root of each hierarchy.
    #[must_use]
    pub fn of(cgroup: &Path) -> Self {
        Self { cgroup: Path::new("/").join(cgroup), linux: None, hooks: None, bundle: None }
    }

    /// The same of a Linux container that the node's OCI runtime knows as `id`.
    #[must_use]
    pub fn of_linux(cgroup: &Path, id: &str) -> Self {
        Self { linux: Some(id.to_owned()), ..Self::of(cgroup) }
    }

    /// The same with its hooks.
    #[must_use]
    pub fn with_hooks(self, hooks: Option<&Hooks>) -> Self {
        Self { hooks: hooks.cloned(), ..self }
    }

    /// Makes `cgroup`, which is this one, for task `id` of `bundle`, and of `pod` if it is in one that another has
    /// made; recorded before it is there.
    ///
    /// # Errors
    ///
    /// Others are in it, it cannot be recorded or made, or a limit is refused; then nothing is left of it.
    pub fn make_cgroup(
        &self,
        cgroup: Cgroup,
        resources: Option<&LinuxResources>,
        bundle: &Path,
        (id, pod): (&str, Option<&str>),
    ) -> Result<OwnedCgroup, Error> {
        cgroup.refuse_if_in_use()?;
        let recorded = self.write(bundle).and_then(|()| self.write_for_pod(bundle, pod, id));
        let made = recorded.and_then(|()| Ok(cgroup.create(resources)?));
        if let Err(error) = made {
            forget(bundle, id);
            return Err(error);
        }
        Ok(OwnedCgroup::new(cgroup))
    }

    /// Writes the record into the bundle directory `bundle`, which containerd removes with the
    /// task.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, bundle: &Path) -> Result<(), Error> {
        self.write_to(bundle.join(FILE))
    }

    /// Writes the record of task `id` into the bundle of its `pod` too: containerd may remove the task's own before
    /// it asks for what is left of a pod whose shim has died, or never ask for what that task itself has left.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_for_pod(&self, bundle: &Path, pod: Option<&str>, id: &str) -> Result<(), Error> {
        match pod.and_then(|pod| in_pod(bundle, pod, id)) {
            Some(path) => {
                let record = Self { bundle: Some(bundle.to_owned()), ..self.clone() };
                record.write_to(path)
            }
            None => Ok(()),
        }
    }

    fn write_to(&self, path: PathBuf) -> Result<(), Error> {
        let json = serde_json::to_vec(self).map_err(Error::Encode)?;
        fs::write(&path, json).map_err(|source| Error::StateFile { action: "write", path, source })
    }

    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let failed = |source| Error::StateFile { action: "read", path: path.to_owned(), source };
        match fs::read(path) {
            Ok(json) => {
                Ok(Some(serde_json::from_slice(&json).map_err(io::Error::from).map_err(failed)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Kills and removes what the record is of; `bundle` is there for notes of the OCI runtime.
    fn remove(&self, bundle: &Path, namespace: &str) -> Result<(), Error> {
        // The record was written by a shim; the path is checked again all the same.
        let path = crate::cgroup::parse_path(&self.cgroup.to_string_lossy())
            .map_err(crate::bundle::BundleError::from)?;
        Hierarchies::of_this_host()?.cgroup(&path, namespace).kill_and_remove()?;
        match &self.linux {
            Some(id) => {
                let runtime = OciRuntime::of_this_node(namespace)?;
                Ok(LinuxContainer::left(runtime, id, bundle).delete()?)
            }
            None => Ok(()),
        }
    }
}

/// Where the bundle of `pod` has the record of its task `id`, whose bundle is `bundle`; `None` if it is not there.
fn in_pod(bundle: &Path, pod: &str, id: &str) -> Option<PathBuf> {
    let of_namespace = bundle.parent()?;
    let state = of_namespace.parent()?.parent()?;
    let beside = of_namespace.join(pod);
    let of_sandboxes = state.join(SANDBOXES).join(of_namespace.file_name()?).join(pod);
    let dir = [beside, of_sandboxes].into_iter().find(|dir| dir.is_dir())?;
    (pod != id).then(|| dir.join(format!("{OF_POD}{id}.json")))
}

/// Removes the records of task `id`, from its bundle and that of its pod: nothing is left of it.
pub fn forget(bundle: &Path, id: &str) {
    // Without it there is nothing to forget; else it names what is not there.
    let _ = fs::remove_file(bundle.join(FILE));
    let pod = crate::bundle::group(bundle, id).ok();
    if let Some(path) = pod.and_then(|pod| in_pod(bundle, &pod, id)) {
        let _ = fs::remove_file(path);
    }
}

/// Kills and removes what is left of task `id` in `bundle`, of containerd's `namespace`, and runs the hooks of
/// its end. Blocks; may be repeated, and succeeds when there is nothing.
///
/// # Errors
///
/// Something cannot be removed; the rest is.
pub fn remove(bundle: &Path, namespace: &str, id: &str) -> Result<(), Error> {
    let record = Leftovers::read(&bundle.join(FILE));
    let removed = match &record {
        Ok(Some(record)) => record.remove(bundle, namespace),
        Ok(None) | Err(_) => Ok(()),
    };
    let rootfs = rootfs::unmount_all(&bundle.join("rootfs")).and(pod_files::remove(bundle));
    let record = record?;
    removed?;
    rootfs?;
    if let Some(hooks) = record.and_then(|record| record.hooks) {
        hooks.stopped();
    }
    forget(bundle, id);
    Ok(())
}

/// Removes what is left of the other tasks of the pod whose bundle is `bundle`. Nobody may serve them.
///
/// # Errors
///
/// The last of those that cannot be removed; the rest is.
pub fn remove_tasks_of_pod(bundle: &Path, namespace: &str) -> Result<(), Error> {
    let mut outcome = Ok(());
    for entry in fs::read_dir(bundle).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(OF_POD)) {
            outcome = remove_task_of_pod(bundle, namespace, &entry.path()).and(outcome);
        }
    }
    outcome
}

fn remove_task_of_pod(bundle: &Path, namespace: &str, path: &Path) -> Result<(), Error> {
    let Some(record) = Leftovers::read(path)? else { return Ok(()) };
    let removed = record.remove(bundle, namespace);
    let unmounted =
        record.bundle.map_or(Ok(()), |bundle| rootfs::unmount_all(&bundle.join("rootfs")));
    removed?;
    unmounted?;
    if let Some(hooks) = record.hooks {
        hooks.stopped();
    }
    // It goes with the bundle at the latest.
    let _ = fs::remove_file(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::mount::MountFlags;

    use super::*;

    #[test]
    fn a_record_is_read_back() {
        let bundle = tempfile::tempdir().unwrap();
        let record = Leftovers::of(Path::new("a/b"));

        record.write(bundle.path()).unwrap();

        assert_eq!(Leftovers::read(&bundle.path().join(FILE)).unwrap(), Some(record));
    }

    #[test]
    fn a_bundle_without_a_record_has_nothing_to_remove() {
        let bundle = tempfile::tempdir().unwrap();

        remove(bundle.path(), "test", "task").unwrap();
    }

    #[test]
    fn a_bundle_that_is_gone_has_nothing_to_remove() {
        remove(Path::new("/nonexistent/bundle"), "test", "task").unwrap();
    }

    #[test]
    fn a_record_that_climbs_is_refused() {
        let bundle = tempfile::tempdir().unwrap();
        Leftovers::of(Path::new("../x")).write(bundle.path()).unwrap();

        assert!(matches!(remove(bundle.path(), "test", "task"), Err(Error::Bundle(_))));
    }

    #[test]
    fn a_pod_knows_what_its_tasks_leave() {
        let dir = tempfile::tempdir().unwrap();
        let (pod, task) = (dir.path().join("pod"), dir.path().join("task"));
        for bundle in [&pod, &task] {
            fs::create_dir(bundle).unwrap();
        }
        let annotations = serde_json::json!({ crate::bundle::SANDBOX_ID: "pod" });
        let config = serde_json::json!({ "ociVersion": "1.2.0", "annotations": annotations });
        fs::write(task.join("config.json"), config.to_string()).unwrap();
        // One that cannot be removed, to be seen.
        let record = Leftovers::of(Path::new("../x"));

        record.write_for_pod(&task, Some("pod"), "task").unwrap();
        assert!(remove_tasks_of_pod(&task, "test").is_ok());
        assert!(remove_tasks_of_pod(&pod, "test").is_err());

        forget(&task, "task");
        assert!(remove_tasks_of_pod(&pod, "test").is_ok());
    }

    #[test]
    fn a_pod_that_is_the_shims_knows_it_too() {
        let state = tempfile::tempdir().unwrap();
        let task = state.path().join("io.containerd.runtime.v2.task/k8s.io/task");
        let pod = state.path().join(SANDBOXES).join("k8s.io/pod");
        for bundle in [&pod, &task] {
            fs::create_dir_all(bundle).unwrap();
        }

        let record = Leftovers::of(Path::new("../x"));
        record.write_for_pod(&task, Some("pod"), "task").unwrap();

        assert!(remove_tasks_of_pod(&pod, "k8s.io").is_err());
    }

    #[test]
    fn what_a_task_of_a_pod_has_mounted_goes_with_the_pod() {
        let dir = tempfile::tempdir().unwrap();
        let (pod, task) = (dir.path().join("pod"), dir.path().join("task"));
        let rootfs = task.join("rootfs");
        fs::create_dir(&pod).unwrap();
        fs::create_dir_all(&rootfs).unwrap();
        let none = None::<&std::ffi::CStr>;
        rustix::mount::mount("none", &rootfs, "tmpfs", MountFlags::empty(), none).unwrap();
        let record = Leftovers::of(Path::new("hyperlight-test/absent"));
        record.write_for_pod(&task, Some("pod"), "task").unwrap();

        remove_tasks_of_pod(&pod, "test").unwrap();

        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(rootfs.to_str().unwrap()), "{mounts}");
        assert_eq!(fs::read_dir(&pod).unwrap().count(), 0);
    }

    #[test]
    fn a_task_without_a_pod_beside_it_is_recorded_by_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let task = dir.path().join("task");
        let record = Leftovers::of(Path::new("a"));
        for pod in [None, Some("task"), Some("absent")] {
            record.write_for_pod(&task, pod, "task").unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
