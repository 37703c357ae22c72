//! A node: a private containerd with a registry beside it, in one directory, for one test.
//!
//! Its containerd has its own root, state, socket and log; its containers live below a cgroup directory
//! named after the run, which is also their containerd namespace, unless they are of pods. Dropping a node takes it
//! down and asserts twice that nothing is left: while containerd still runs (so that its clean-up at the next
//! start cannot hide anything) and after it has ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::containerd::{self, Pods, Sandboxer};
use crate::leaks::{self, RUN_PREFIX, Traces, Watch};
use crate::network::{self, Network};
use crate::oci::{self, Image};
use crate::process::{self, Outcome, wait_until};
use crate::{RUNTIME, Registry, hyperlight, kubernetes, tools};

/// A running containerd and registry; dropping it checks that nothing is left over.
#[derive(Debug)]
pub struct Node {
    name: String,
    directory: PathBuf,
    registry: Option<Registry>,
    pods: Option<Pods>,
    containerd: Child,
    ctr: PathBuf,
    // Taken when containerd was up and had no container.
    idle: Traces,
    // Last: it compares after everything else is gone, and ends the turn.
    _watch: Watch,
}

impl Node {
    /// Starts a node; waits for the end of any other test that is watched.
    ///
    /// # Errors
    ///
    /// A program is missing or does not come up.
    pub fn start() -> Result<Self> {
        Self::start_with(|_, _, _| Ok(None))
    }

    /// Starts a node with the CRI, whose sandboxes have the image `sandbox`; [`crate::Cri`] works with it.
    pub(crate) fn start_for_pods(sandbox: &Image, sandboxer: Sandboxer) -> Result<Self> {
        Self::start_with(|name, directory, registry| {
            let sandbox_image = registry.push("pause", sandbox)?;
            let network = Network::start(name, directory)?;
            Ok(Some(Pods { network, sandbox_image, sandboxer }))
        })
    }

    fn start_with(
        pods: impl FnOnce(&str, &Path, &Registry) -> Result<Option<Pods>>,
    ) -> Result<Self> {
        let watch = leaks::watch()?;
        remove_dead_runs();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{RUN_PREFIX}{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        for part in ["tmp", "fifo"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        }
        let registry = Registry::start(&directory)?;
        let pods = pods(&name, &directory, &registry)?;
        let containerd = containerd::start(&directory, pods.as_ref())?;
        let ctr = tools::tree("containerd")?.file(&["usr/bin/ctr"])?;
        let idle = Traces::now(&[]);
        let mut node = Self {
            name,
            directory,
            registry: Some(registry),
            pods,
            containerd,
            ctr,
            idle,
            _watch: watch,
        };
        node.wait_for_containerd()?;
        node.idle = Traces::now(&node.kept_for_containers());
        Ok(node)
    }

    fn wait_for_containerd(&self) -> Result<()> {
        wait_until("containerd to answer", Duration::from_secs(60), || {
            self.ctr(["version"]).is_ok_and(|it| it.code() == 0)
        })
        .with_context(|| self.log())
    }

    /// Ends containerd by force (`kill -9`), and starts it again on what it has left.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn restart_containerd(&mut self) -> Result<()> {
        self.containerd.kill().context("kill containerd")?;
        self.containerd.wait().context("wait for containerd")?;
        self.containerd = containerd::start(&self.directory, self.pods.as_ref())?;
        self.idle.add_process(self.containerd(), "containerd");
        self.wait_for_containerd()
    }

    /// A `ctr` command line for this containerd and the run's namespace.
    pub fn ctr_command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.ctr);
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", self.namespace()])
            .args(arguments);
        command
    }

    /// Runs `ctr` to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started, or hangs.
    pub fn ctr<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Outcome> {
        process::run(&mut self.ctr_command(arguments))
    }

    /// `ctr run --rm --runtime io.containerd.hyperlight.v1 [OPTIONS] REFERENCE ID [ARGUMENTS]`, ready
    /// to be started. `options` come before the reference; `arguments` after the id replace
    /// the image's whole command, its first word included.
    #[must_use]
    pub fn run_command(
        &self,
        reference: &str,
        id: &str,
        options: &[&str],
        arguments: &[&str],
    ) -> Command {
        let mut command = self.ctr_command(["run", "--rm", "--runtime", RUNTIME]);
        command.arg("--fifo-dir").arg(self.directory.join("fifo"));
        command.args(options).args([reference, id]).args(arguments);
        command
    }

    /// Runs a container to its end in the foreground.
    ///
    /// # Errors
    ///
    /// `ctr` cannot be started, or hangs.
    pub fn run(&self, reference: &str, id: &str, arguments: &[&str]) -> Result<Outcome> {
        process::run(&mut self.run_command(reference, id, &[], arguments))
    }

    /// Pushes `image` to the registry as `name:latest` and pulls it into containerd, which is as far
    /// as `ctr` gets with any layout. Returns the reference.
    ///
    /// # Errors
    ///
    /// The push or the pull fails.
    pub fn pull(&self, name: &str, image: &Image) -> Result<String> {
        let reference = self.registry().push(name, image)?;
        let pull = ["image", "pull", "--plain-http", &reference];
        self.ctr(pull)?.success().with_context(|| format!("pull {reference}"))?;
        Ok(reference)
    }

    /// Makes a pulled artifact runnable: `hyperlight image adapt REFERENCE`.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn adapt(&self, reference: &str) -> Result<()> {
        let mut command = Command::new(hyperlight()?);
        command.args(["image", "adapt", "--address"]).arg(self.socket());
        command.args(["--namespace", self.namespace(), reference]);
        process::run(&mut command)?.success().with_context(|| format!("adapt {reference}"))?;
        Ok(())
    }

    /// Pushes the component `wasm` in wkg's layout, pulls and adapts it: ready for [`Node::run`].
    ///
    /// # Errors
    ///
    /// A step fails.
    pub fn pull_component(&self, name: &str, wasm: &Path) -> Result<String> {
        let bytes = fs::read(wasm).with_context(|| format!("read {}", wasm.display()))?;
        let reference = self.pull(name, &oci::wkg(&format!("{name}.wasm"), &bytes)?)?;
        self.adapt(&reference)?;
        Ok(reference)
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        #[expect(clippy::expect_used, reason = "taken only by drop")]
        self.registry.as_ref().expect("the registry lives as long as the node")
    }

    /// containerd's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// The containerd namespace of the run: its name, or the CRI's own.
    #[must_use]
    pub fn namespace(&self) -> &str {
        if self.pods.is_some() { "k8s.io" } else { &self.name }
    }

    /// Name of the run, which is also its directory below that of each cgroup controller.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run's directory, for files of the test; removed with the node.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The end of containerd's log without its start, which includes what the shims log.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.join(containerd::LOG)).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains("loading plugin")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Process ids of the shims that serve this node, and of no other.
    #[must_use]
    pub fn shims(&self) -> Vec<i32> {
        let shims =
            leaks::descendants().into_iter().filter(|it| it.name.starts_with("containerd-shim"));
        shims.map(|shim| shim.pid).collect()
    }

    /// Every process that is there for tasks: shims, holders of pods, VMM processes, programs of Linux containers.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        self.idle.processes_that_came()
    }

    /// Process id of containerd.
    #[must_use]
    pub fn containerd(&self) -> i32 {
        i32::try_from(self.containerd.id()).unwrap_or_default()
    }

    /// Waits until no trace of a container is left while containerd runs.
    ///
    /// # Errors
    ///
    /// Lists what is left.
    pub fn nothing_left(&self) -> Result<()> {
        self.idle.nothing_more(&self.kept_for_containers())
    }

    /// As [`Node::nothing_left`], of everything but files of containerd.
    ///
    /// # Errors
    ///
    /// Lists what is left.
    pub fn nothing_left_but_files(&self) -> Result<()> {
        self.idle.nothing_more(&[])
    }

    /// What is there only for containers and pods: containerd's and the runtimes' own files of each, open
    /// FIFOs, temporary files.
    fn kept_for_containers(&self) -> Vec<PathBuf> {
        // A directory itself is its owner's to keep; what is in it is not.
        let directories = [
            format!("state/io.containerd.runtime.v2.task/{}", self.namespace()),
            format!("root/io.containerd.runtime.v2.task/{}", self.namespace()),
            format!("runc/{}", self.namespace()),
            "fifo".to_owned(),
            "tmp".to_owned(),
            format!("state/io.containerd.sandbox.controller.v1.shim/{}", self.namespace()),
            format!("root/io.containerd.sandbox.controller.v1.shim/{}", self.namespace()),
            "state/io.containerd.grpc.v1.cri/containers".to_owned(),
            "state/io.containerd.grpc.v1.cri/netns".to_owned(),
            "state/io.containerd.grpc.v1.cri/sandboxes".to_owned(),
            "root/io.containerd.grpc.v1.cri/containers".to_owned(),
            "root/io.containerd.grpc.v1.cri/sandboxes".to_owned(),
        ];
        let below = |directory: String| leaks::names(&self.directory.join(directory));
        let network = self.pods.iter().flat_map(|pods| pods.network.kept_for_pods());
        directories.into_iter().flat_map(below).chain(network).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let left = if failing { Ok(()) } else { self.nothing_left() };
        if failing || left.is_err() {
            eprintln!("the end of containerd's log:\n{}", self.log());
            // No container may keep containerd's directories busy.
            self.idle.kill_what_came();
        }
        if let Some(pid) = i32::try_from(self.containerd.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself; whoever used it has noticed.
            let _ = kill_process(pid, Signal::TERM);
        }
        let mut ended = || !matches!(self.containerd.try_wait(), Ok(None));
        if wait_until("containerd to end", Duration::from_secs(30), &mut ended).is_err() {
            drop(self.containerd.kill());
            drop(self.containerd.wait());
        }
        self.registry = None;
        self.pods = None;
        let left = left.and(remove_run(&self.name));
        match left {
            Err(left) if failing => eprintln!("{left:#}"),
            Err(left) => panic!("{left:#}"),
            Ok(()) => {}
        }
        // The watch compares what is left now.
    }
}

/// Removes what runs have left whose process was killed before it could.
pub(crate) fn remove_dead_runs() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(RUN_PREFIX).and_then(|rest| rest.split_once('-'));
        if pid.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            eprintln!("removing {name}, which a killed run has left");
            kill_run(&name);
            if let Err(left) = remove_run(&name) {
                eprintln!("{left:#}");
            }
        }
    }
}

/// Kills every process that names the run in its command line, as containerd, a registry and a shim
/// do, or in its environment, as those of a cluster, with what they have started.
fn kill_run(name: &str) {
    let all = leaks::processes();
    let variable = format!("{}={name}", kubernetes::RUN);
    let names_run = |pid: i32| {
        let file = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        String::from_utf8_lossy(&file("cmdline")).contains(name)
            || file("environ").split(|&byte| byte == 0).any(|it| it == variable.as_bytes())
    };
    let mut doomed: Vec<_> = all.iter().map(|it| it.pid).filter(|pid| names_run(*pid)).collect();
    let mut next = 0;
    while let Some(parent) = doomed.get(next).copied() {
        doomed.extend(all.iter().filter(|it| it.parent == parent).map(|it| it.pid));
        next += 1;
    }
    doomed.into_iter().for_each(leaks::kill);
}

/// Removes a run's mounts, cgroups and directory. Its processes have ended.
///
/// # Errors
///
/// A cgroup is still in use after a while. Mounts and files that stay show up in the comparison.
pub(crate) fn remove_run(name: &str) -> Result<()> {
    let directory = std::env::temp_dir().join(name);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    for point in points.filter(|point| point.starts_with(&directory)) {
        let _ = unmount(point, UnmountFlags::DETACH);
    }
    // One that was just emptied by force may stay busy for a moment.
    let gone = wait_until("the end of the run's cgroups", Duration::from_secs(10), || {
        let mut cgroups = leaks::directories("/sys/fs/cgroup".as_ref());
        cgroups.retain(|cgroup| cgroup.components().any(|part| part.as_os_str() == name));
        // Deepest first.
        cgroups.sort_by_key(|cgroup| std::cmp::Reverse(cgroup.components().count()));
        cgroups.into_iter().filter(|cgroup| fs::remove_dir(cgroup).is_err()).count() == 0
    });
    network::remove(name);
    drop(fs::remove_dir_all(directory));
    gone.with_context(|| format!("remove what is named {name} below /sys/fs/cgroup"))
}
