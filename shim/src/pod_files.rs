//! The files of a pod that each of its containers has in its own place: `/etc/hostname`, `/etc/hosts`,
//! `/etc/resolv.conf`, and the memory that they share, `/dev/shm`.
//!
//! Rule: they are made only where containerd leaves the pod to the shim. They lie in the pod's bundle, but for the
//! memory: containerd cannot remove a directory with a mount in it. The `config.json` of each container is given the
//! mounts that it does not have yet: from there on micro-VMs and Linux containers find what containerd would have
//! written for them.
//!
//! Source: OCI runtime specification 1.2, config.md, "Mounts"; k8s.io/cri-api, `DNSConfig`, `NamespaceOption`.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use crate::bundle::{BundleError, read_config};
use crate::error::Error;
use crate::rootfs::{MountSource, Rootfs, RootfsError, remove_directory, unmount_all};

/// Their directory in the bundle of the pod.
const DIR: &str = "pod";

/// The size of the shared memory, in KiB: 64 MiB, as containerd has it.
const MEMORY_KIB: u32 = 64 << 10;

/// Where the shared memory is for a program, and on the node.
const MEMORY: &str = "/dev/shm";

/// Where that of each pod is mounted, by the namespace of containerd and the name of the pod.
const MEMORIES: &str = "/run/hyperlight/shm";

/// The files, by their names in the directory, and where a program looks for them.
const FILES: [(&str, &str); 3] =
    [("hostname", "/etc/hostname"), ("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")];

/// What a pod's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFiles {
    /// Its name, where that is not the node's.
    pub host_name: Option<String>,
    /// How names are resolved, as resolv.conf(5) has it, where that is not as on the node.
    pub resolver: Option<String>,
    /// Whether its shared memory is its own, not the node's.
    pub has_memory: bool,
}

/// Why a pod's files are not there.
#[derive(Debug, thiserror::Error)]
pub enum PodFilesError {
    /// One could not be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the node has in its place could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The shared memory could not be mounted.
    #[error(transparent)]
    Memory(#[from] RootfsError),
}

impl PodFiles {
    /// Makes them in `bundle`. Returns the mount of the shared memory, to be kept as long as the pod. Blocks.
    ///
    /// # Errors
    ///
    /// See [`PodFilesError`]; then nothing is mounted.
    pub fn make(&self, bundle: &Path) -> Result<Rootfs, PodFilesError> {
        let dir = bundle.join(DIR);
        fs::create_dir_all(&dir)
            .map_err(|source| PodFilesError::Write { path: dir.clone(), source })?;
        let host_name = match &self.host_name {
            Some(name) => name.clone(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        let resolver = self.resolver.clone().map_or_else(|| of_node("/etc/resolv.conf"), Ok)?;
        let texts = [format!("{host_name}\n"), of_node("/etc/hosts")?, resolver];
        for ((name, _), text) in FILES.iter().zip(texts) {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| PodFilesError::Write { path, source })?;
        }
        let options = ["nosuid", "nodev", "noexec", "mode=1777", &format!("size={MEMORY_KIB}k")];
        let memory = MountSource {
            kind: "tmpfs".to_owned(),
            source: "shm".to_owned(),
            options: options.map(str::to_owned).to_vec(),
        };
        let mounts = if self.has_memory { vec![memory] } else { Vec::new() };
        Ok(Rootfs::mount(memory_of(bundle), &mounts)?.with_directory())
    }
}

/// Gives the container of `bundle` the mounts of those files of the pod of `pod`, another bundle, that its
/// `config.json` does not mount something on already. May be repeated. Blocks.
///
/// # Errors
///
/// The file cannot be read or is malformed ([`Error::Bundle`]), or cannot be written; then it is as it was.
pub fn add_to(bundle: &Path, pod: &Path) -> Result<(), Error> {
    let path = bundle.join("config.json");
    let json = |source| BundleError::Json { path: path.clone(), source };
    let mut spec: serde_json::Map<String, Value> = read_config(&path)?;
    let is_read_only = spec.get("root").is_some_and(|root| root["readonly"] == true);
    let access = if is_read_only { "ro" } else { "rw" };
    let mounts = spec.entry("mounts").or_insert_with(|| json!([]));
    let mut mounts: Vec<Value> = serde_json::from_value(mounts.take()).map_err(json)?;
    // What every container is given that says nothing of it: memory that it shares with none.
    mounts.retain(|mount| !(is_on(mount, MEMORY) && mount["type"] == "tmpfs"));
    let mut add = |source: PathBuf, destination: &str, options: &[&str]| {
        if !mounts.iter().any(|mount| is_on(mount, destination)) {
            let options = [&["rbind", "rprivate"], options].concat();
            mounts.push(json!({
                "type": "bind", "source": source, "destination": destination, "options": options,
            }));
        }
    };
    for (name, destination) in FILES {
        add(pod.join(DIR).join(name), destination, &[access]);
    }
    let own = memory_of(pod);
    let memory = if own.is_dir() { own } else { PathBuf::from(MEMORY) };
    add(memory, MEMORY, &["rw", "nosuid", "nodev", "noexec"]);
    spec.insert("mounts".to_owned(), Value::Array(mounts));
    let text = serde_json::to_vec(&spec).map_err(json)?;
    // As a whole or not at all.
    let new = bundle.join("config.json.new");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
    written.map_err(|source| PodFilesError::Write { path: new, source }.into())
}

/// Whether a mount of `config.json` is on `destination`.
fn is_on(mount: &Value, destination: &str) -> bool {
    mount["destination"].as_str().map(Path::new) == Some(destination.as_ref())
}

/// Unmounts the shared memory of the pod of `bundle`, which succeeds if nothing is mounted.
///
/// # Errors
///
/// The kernel refuses.
pub fn remove(bundle: &Path) -> Result<(), RootfsError> {
    let memory = memory_of(bundle);
    unmount_all(&memory)?;
    remove_directory(&memory);
    Ok(())
}

/// Where the shared memory of the pod of `bundle`, which is `.../NAMESPACE/POD`, is mounted, if it is its own.
fn memory_of(bundle: &Path) -> PathBuf {
    let name = |part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    };
    let mut names = bundle.components().rev().filter_map(name);
    let (pod, namespace) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    Path::new(MEMORIES).join(namespace).join(pod)
}

/// A file of the node; nothing, if the node has none.
fn of_node(path: &str) -> Result<String, PodFilesError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(PodFilesError::Read { path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(bundle: &Path) -> Value {
        let text = fs::read(bundle.join("config.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["mounts"].take()
    }

    fn bundles() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (pod, task) = (dir.path().join("p"), dir.path().join("t"));
        for bundle in [&pod, &task] {
            fs::create_dir(bundle).unwrap();
        }
        (dir, pod, task)
    }

    #[test]
    fn a_pod_without_memory_of_its_own_shares_the_nodes() {
        let (_dir, pod, task) = bundles();
        let files = PodFiles {
            host_name: Some("web".to_owned()),
            resolver: Some("nameserver 10.0.0.10\n".to_owned()),
            has_memory: false,
        };
        drop(files.make(&pod).unwrap());
        fs::write(task.join("config.json"), r#"{"root":{"path":"rootfs","readonly":true},"x":1}"#)
            .unwrap();

        add_to(&task, &pod).unwrap();

        assert_eq!(fs::read_to_string(pod.join("pod/hostname")).unwrap(), "web\n");
        assert_eq!(
            fs::read_to_string(pod.join("pod/resolv.conf")).unwrap(),
            "nameserver 10.0.0.10\n"
        );
        let added = mounts(&task);
        assert_eq!(added[0]["source"], json!(pod.join("pod/hostname")));
        assert_eq!(added[0]["options"], json!(["rbind", "rprivate", "ro"]));
        assert_eq!(added[3]["source"], MEMORY);
        let text = fs::read(task.join("config.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap()["x"], 1, "the rest stays");
    }

    #[test]
    fn what_a_container_mounts_itself_stays_and_nothing_is_added_twice() {
        let (_dir, pod, task) = bundles();
        let own = json!([{ "destination": "/etc/hosts/", "source": "/of/the/kubelet" }]);
        fs::write(task.join("config.json"), json!({ "mounts": own }).to_string()).unwrap();

        add_to(&task, &pod).unwrap();
        let once = mounts(&task);
        add_to(&task, &pod).unwrap();

        assert_eq!(once[0]["source"], "/of/the/kubelet");
        let places: Vec<_> = once.as_array().unwrap().iter().map(|it| &it["destination"]).collect();
        assert_eq!(places, ["/etc/hosts/", "/etc/hostname", "/etc/resolv.conf", "/dev/shm"]);
        assert_eq!(mounts(&task), once);
    }

    #[test]
    fn memory_that_a_container_has_by_default_is_the_pods_instead_and_a_volume_stays() {
        let (_dir, pod, task) = bundles();
        fs::create_dir_all(memory_of(&pod)).unwrap();
        for (kind, source) in [("tmpfs", memory_of(&pod)), ("bind", "/volume".into())] {
            let given = json!([{ "destination": MEMORY, "type": kind, "source": "/volume" }]);
            fs::write(task.join("config.json"), json!({ "mounts": given }).to_string()).unwrap();

            add_to(&task, &pod).unwrap();

            let added = mounts(&task);
            let of_memory = |it: &&Value| is_on(it, MEMORY);
            let found: Vec<_> = added.as_array().unwrap().iter().filter(of_memory).collect();
            assert_eq!(found.len(), 1, "{kind}");
            assert_eq!(found[0]["source"], json!(source), "{kind}");
        }
        remove(&pod).unwrap();
        assert!(!memory_of(&pod).exists());
        fs::remove_dir(memory_of(&pod).parent().unwrap()).unwrap();
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_left_as_it_was() {
        let (_dir, pod, task) = bundles();
        for text in ["[]", "{\"mounts\":3}", "{"] {
            fs::write(task.join("config.json"), text).unwrap();
            let refused = add_to(&task, &pod);
            assert!(matches!(refused, Err(Error::Bundle(BundleError::Json { .. }))), "{text}");
            assert_eq!(fs::read_to_string(task.join("config.json")).unwrap(), text);
        }
    }
}
