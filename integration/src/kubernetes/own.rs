//! A cluster of our own: its directory, its programs, and the proof that it leaves nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::certificates::{ADMIN, Certificates};
use super::control_plane::ControlPlane;
use super::namespaces::{Namespaces, layer};
use super::node::Worker;
use crate::leaks::{self, RUN_PREFIX, Traces};
use crate::{Registry, cri, node};

/// How long pods that are deleted may take to leave the node: the kubelet removes what they had in rounds.
const SETTLE: Duration = Duration::from_secs(90);

/// Where there is something for each pod on the node, and only for pods.
const KEPT_FOR_PODS: [&str; 5] = [
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/containerd/runc/k8s.io",
    "/run/netns",
    "/var/lib/cni/results",
    "/var/lib/kubelet/pods",
];

/// The programs of a cluster; dropping it takes it down.
#[derive(Debug)]
pub struct Own {
    name: String,
    directory: PathBuf,
    certificates: Certificates,
    // Until it is taken down, with what was mounted on the node when it had no pod.
    running: Option<Running>,
    // What was there before. No turn is taken as for a watch: nothing else is watched beside a cluster.
    before: Traces,
}

#[derive(Debug)]
struct Running {
    worker: Worker,
    control_plane: ControlPlane,
    namespaces: Namespaces,
    mounts: Vec<PathBuf>,
}

impl Own {
    /// Starts it, with its registry.
    pub(super) fn start() -> Result<(Self, Registry)> {
        leaks::adopt_orphans()?;
        node::remove_dead_runs();
        let before = Traces::now(&[]);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{RUN_PREFIX}{}-k{count}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory).context("create the run's directory")?;
        let namespaces = Namespaces::start(&name, &directory)?;
        namespaces.enter_network()?;
        let certificates = Certificates::make(directory.join("certificates"))?;
        let registry = Registry::start(&directory)?;
        let sandbox_image = registry.push("pause", &cri::pause()?)?;
        let control_plane = ControlPlane::start(&directory, &namespaces, &certificates)?;
        let worker = Worker::start(&name, &directory, &namespaces, &certificates, &sandbox_image)?;
        let mounts = namespaces.mounts();
        let running = Some(Running { worker, control_plane, namespaces, mounts });
        Ok((Self { name, directory, certificates, running, before }, registry))
    }

    /// The kubeconfig of who may do everything.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.certificates.kubeconfig(ADMIN).into()
    }

    /// Ends containerd by force (`kill -9`), and waits for the next, which finds what it has left.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn restart_containerd(&self) -> Result<()> {
        let running = self.running()?;
        running.worker.restart_containerd(&running.namespaces)
    }

    /// Makes the runtime known to containerd.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or containerd does not come up.
    pub fn add_runtime(&self) -> Result<()> {
        let running = self.running()?;
        running.worker.add_runtime(&running.namespaces)
    }

    /// Makes the runtime unknown to containerd.
    ///
    /// # Errors
    ///
    /// The file cannot be removed, or containerd does not come up.
    pub fn remove_runtime(&self) -> Result<()> {
        let running = self.running()?;
        running.worker.remove_runtime(&running.namespaces)
    }

    /// Ends the kubelet by force, and waits for the next.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn restart_kubelet(&self) -> Result<()> {
        self.running()?.worker.restart_kubelet()
    }

    /// Does what needs the network that there was before.
    ///
    /// # Errors
    ///
    /// It fails.
    pub(super) fn outside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.running()?.namespaces.outside(work)
    }

    /// Runs a program of the system on the node, and returns what it printed.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn on_node(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.running()?.namespaces.run(program, arguments)
    }

    /// Process ids of the shims.
    #[must_use]
    pub fn shims(&self) -> Vec<i32> {
        let all = leaks::descendants().into_iter();
        all.filter(|it| it.name.starts_with("containerd-shim")).map(|it| it.pid).collect()
    }

    /// The ends of the programs' logs.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |it| {
            format!("{}\n---\n{}", it.control_plane.log(), it.worker.log())
        })
    }

    /// Takes the cluster down.
    ///
    /// # Errors
    ///
    /// Lists what pods have left on the node, or the cluster on the machine.
    pub(super) fn stop(mut self) -> Result<()> {
        let left = self.nothing_left();
        self.take_down(left.is_err());
        left.and(self.before.nothing_more(&[]))
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("the cluster was taken down")
    }

    /// Waits until no trace of a pod is left.
    fn nothing_left(&self) -> Result<()> {
        let since = Instant::now();
        loop {
            let left = self.left()?;
            if left.is_empty() {
                return Ok(());
            }
            if since.elapsed() > SETTLE {
                bail!("left on the node after {} s:\n  {}", SETTLE.as_secs(), left.join("\n  "));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What is on the node only while pods are.
    fn left(&self) -> Result<Vec<String>> {
        let running = self.running()?;
        let mut left = Vec::new();
        left.extend(self.shims().iter().map(|pid| format!("shim {pid}")));
        let mut mounts = running.namespaces.mounts();
        mounts.retain(|place| !running.mounts.contains(place));
        left.extend(mounts.iter().map(|place| format!("mount {}", place.display())));
        for place in KEPT_FOR_PODS {
            let (top, below) = ["/run", "/var/lib"]
                .into_iter()
                .find_map(|top| Some((top, place.strip_prefix(top)?)))
                .context("a place that is not the run's")?;
            let place = layer(&self.directory, top).join(below.trim_start_matches('/'));
            let names = leaks::names(&place).into_iter();
            left.extend(names.map(|file| format!("file {}", file.display())));
        }
        let links = running.namespaces.run("ip", &["-brief", "link"])?;
        let links = links.lines().filter(|link| link.starts_with("veth"));
        left.extend(links.map(|link| format!("interface {link}")));
        let cgroups = leaks::directories("/sys/fs/cgroup".as_ref()).into_iter().filter(|cgroup| {
            let name = cgroup.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("pod") && cgroup.components().any(|it| it.as_os_str() == &*self.name)
        });
        left.extend(cgroups.map(|cgroup| format!("cgroup {}", cgroup.display())));
        Ok(left)
    }

    fn take_down(&mut self, by_force: bool) {
        let Some(running) = self.running.take() else { return };
        let Running { worker, control_plane, namespaces, .. } = running;
        drop(worker);
        drop(control_plane);
        if by_force {
            // No container may keep the run's directories busy.
            self.before.kill_what_came();
        }
        drop(namespaces);
        if let Err(left) = node::remove_run(&self.name) {
            eprintln!("{left:#}");
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Whoever has not stopped it has failed, and pods may run.
        self.take_down(true);
    }
}
