//! A node's root file system with a containerd of its own, for what changes a node: a directory that is the root
//! in a mount namespace of its own.
//!
//! What runs there is what runs here, but `systemctl`, which restarts that containerd and notes what it was asked.
//! Dropping it ends what runs there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, Outcome, wait_until};
use crate::scratch::Scratch;
use crate::{hyperlight, leaks, oci, tools};

/// containerd's configuration, where a test has none of its own.
pub const CONFIG: &str = "\
# A node's own.
version = 3
root = '/var/lib/containerd'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true # none of ours
";

/// The programs of the image that installs on nodes, as `make static` leaves them.
///
/// # Errors
///
/// They are not there: it says what builds them.
pub fn programs() -> Result<Vec<(&'static str, PathBuf)>> {
    let directory = crate::target_directory().join("static");
    let path = |name| {
        let path = directory.join(name);
        ensure!(path.exists(), "no {}: run `make static` first", path.display());
        Ok((name, path))
    };
    ["hyperlight", "containerd-shim-hyperlight-v1"].into_iter().map(path).collect()
}

/// The image that installs on nodes, with the files that the Dockerfile puts there.
///
/// # Errors
///
/// As [`programs`].
pub fn image() -> Result<oci::Image> {
    let mut files = Vec::new();
    for (name, path) in programs()? {
        files.push((name, fs::read(&path).with_context(|| format!("read {}", path.display()))?));
    }
    let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    oci::rootfs(&files, "/hyperlight")
}

/// A node's root file system.
#[derive(Debug)]
pub struct Host {
    root: Scratch,
    holder: Child,
    _watch: leaks::Watch,
}

impl Host {
    /// A host with containerd 2.x and [`CONFIG`].
    ///
    /// # Errors
    ///
    /// A program is missing, or a mount is refused.
    pub fn new() -> Result<Self> {
        Self::with(&tools::tree("containerd")?.file(&["usr/bin/containerd"])?)
    }

    /// A host with the containerd in the file `program`.
    ///
    /// # Errors
    ///
    /// A mount is refused.
    pub fn with(program: &Path) -> Result<Self> {
        let watch = leaks::watch()?;
        let root = Scratch::new()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/host.sh");
        let mut holder = Command::new("unshare");
        holder.args(["--mount", script]).arg(&*root).arg(program);
        let mut holder = holder.stdout(Stdio::piped()).spawn().context("run unshare")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut line).context("read what host.sh says")?;
        let host = Self { root, holder, _watch: watch };
        ensure!(line == "ready\n", "host.sh said {line:?}");
        host.write("etc/containerd/config.toml", CONFIG)?;
        Ok(host)
    }

    /// A file or directory of the host, from outside. What is mounted there is not seen.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes a file of the host.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Reads a file of the host.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        let path = self.path(path);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// A command in the host's mount namespace, with this machine's root.
    fn beside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.id())).arg("--mount");
        command
    }

    /// A command on the host.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.beside();
        command.args([
            "--root",
            "--wd",
            "--",
            "env",
            "PATH=/opt/containerd/bin:/usr/sbin:/usr/bin",
        ]);
        command.arg(program);
        command
    }

    /// Starts containerd there.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn start_containerd(&self) -> Result<()> {
        process::run(&mut self.command("/opt/containerd/bin/start"))?.success()?;
        let booted = || self.log().contains("containerd successfully booted");
        wait_until("containerd to boot", Duration::from_secs(60), booted)
    }

    /// `hyperlight node ARGUMENTS` as a pod with the host's root file system runs it.
    ///
    /// # Errors
    ///
    /// It cannot be started, or hangs.
    pub fn node(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.beside();
        command.arg("--").arg(hyperlight()?).arg("node").args(arguments);
        process::run(command.arg("--host-root").arg(&*self.root))
    }

    /// containerd's log without its start.
    #[must_use]
    pub fn log(&self) -> String {
        let log = self.read("var/log/containerd.log").unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains("loading plugin")).collect();
        lines.join("\n")
    }

    /// What systemctl was asked, one line each.
    #[must_use]
    pub fn asked_of_systemd(&self) -> Vec<String> {
        let asked = self.read("var/log/systemctl").unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    /// Everything in the places that an installer may change: paths with the digests of files.
    ///
    /// # Errors
    ///
    /// Something cannot be read.
    pub fn contents(&self) -> Result<BTreeMap<PathBuf, String>> {
        let mut found = BTreeMap::new();
        let mut pending: Vec<_> = ["etc", "opt", "var/cache"].map(|it| self.path(it)).into();
        while let Some(path) = pending.pop() {
            let what = if path.is_dir() {
                pending.extend(leaks::names(&path));
                String::new()
            } else {
                let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                oci::digest(&bytes)
            };
            found.insert(path, what);
        }
        Ok(found)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the host's containerd:\n{}", self.log());
        }
        let pid = self.read("run/containerd.pid").ok().and_then(|it| it.trim().parse().ok());
        if let Some(pid) = pid {
            leaks::kill(pid);
        }
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
