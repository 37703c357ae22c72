//! `hyperlight node`: what makes a node of a cluster, or any machine with containerd, one that runs this shim.
//!
//! Installing places the two programs, runs a micro-VM on trial with them, adds the runtime to containerd's
//! configuration, and restarts containerd if it has to. Rules: nothing is changed on a node that could not run a
//! micro-VM, or whose containerd could not; what is changed is noted first, and put back where containerd
//! rejects it; what is as it should be is left alone, so a second run changes nothing; and uninstalling leaves
//! the node as it was found.
//!
//! In a pod the node's root file system is a mounted directory. [`Node::enter`] makes it the root of this process
//! (chroot(2)): paths and symbolic links mean what they mean to the node, and its own programs run there.

mod cluster;
mod config;
mod cri;
mod distribution;
mod error;
mod files;
mod metrics;
mod restart;
mod running;
mod stay;
mod trial;

use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use self::distribution::Imports;
use self::files::{Record, make_directories, place, put_back, read, remove, resolved};
use crate::aot::{AotCache, CACHE_DIR};
use crate::compile::Compiler;
use crate::counts;
use crate::settings::{self, Settings};

pub use cluster::{CONDITION, Cluster, ClusterError, READY_LABEL};
pub use config::{ConfigError, HANDLER, Sandboxer};
pub use cri::CriError;
pub use distribution::Distribution;
pub use error::NodeError;
pub use files::FileError;
pub use restart::{Restart, RestartError};
pub use stay::{Duty, Stay, stay, uninstall_everywhere};
pub use trial::TrialError;

/// The shim's file name, by which containerd knows it.
const SHIM: &str = "containerd-shim-hyperlight-v1";
/// The programs of a node.
const PROGRAMS: [&str; 2] = [SHIM, "hyperlight"];
/// The record's file name, beside the programs' directory.
const RECORD: &str = "node.json";
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Where things are, beyond what the distribution says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's root directory, as this process sees it.
    pub host_root: PathBuf,
    /// Where the programs come from, as this process sees it.
    pub from: PathBuf,
    /// Where they go.
    pub prefix: PathBuf,
    /// The distribution; `None` is the one that is found.
    pub distribution: Option<Distribution>,
    /// Its configuration, if elsewhere.
    pub config: Option<PathBuf>,
    /// The drop-in, if elsewhere.
    pub drop_in: Option<PathBuf>,
    /// containerd's program, if elsewhere.
    pub containerd: Option<PathBuf>,
    /// containerd's socket, if elsewhere.
    pub socket: Option<PathBuf>,
    /// Who makes pods.
    pub sandboxer: Sandboxer,
    /// What is chosen for all containers of the node.
    pub settings: Settings,
    /// How containerd is restarted.
    pub restart: Restart,
    /// How long it may take to serve again.
    pub serves_within: Duration,
}

/// The node that this process has entered.
#[derive(Debug)]
pub struct Node {
    programs: Vec<(&'static str, File)>,
    prefix: PathBuf,
    distribution: Distribution,
    sandboxer: Sandboxer,
    settings: Settings,
    restart: Restart,
    serves_within: Duration,
}

/// What installing has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Whether a program was placed.
    pub programs: bool,
    /// Whether the settings were changed.
    pub settings: bool,
    /// Whether containerd's configuration was changed.
    pub config: bool,
    /// Whether containerd was restarted.
    pub restarted: bool,
    /// How long the micro-VM on trial took, from its image to its end.
    pub trial: Duration,
}

impl Node {
    /// Enters the node: from then on its root directory is this process'.
    ///
    /// # Errors
    ///
    /// A program is not there, or the root cannot be entered.
    pub fn enter(options: Options) -> Result<Self, NodeError> {
        let open = |name| {
            let path = options.from.join(name);
            Ok((name, File::open(&path).map_err(FileError::of("open", &path))?))
        };
        let programs = PROGRAMS.into_iter().map(open).collect::<Result<_, FileError>>()?;
        let plain = |path: &Path| {
            let text = path.to_str().unwrap_or_default();
            path.is_absolute() && !text.contains(|it: char| it == '\'' || it.is_control())
        };
        if !plain(&options.prefix) {
            return Err(NodeError::Prefix(options.prefix));
        }
        if options.host_root != Path::new("/") {
            let entered = rustix::process::chroot(&options.host_root);
            entered.and_then(|()| rustix::process::chdir("/")).map_err(|errno| {
                NodeError::Enter { path: options.host_root, source: errno.into() }
            })?;
        }
        let mut distribution = options.distribution.unwrap_or_else(Distribution::of_this_node);
        distribution.config = options.config.unwrap_or(distribution.config);
        distribution.drop_in = options.drop_in.unwrap_or(distribution.drop_in);
        distribution.containerd = options.containerd.unwrap_or(distribution.containerd);
        distribution.socket = options.socket.unwrap_or(distribution.socket);
        let Options { prefix, sandboxer, settings, restart, serves_within, .. } = options;
        Ok(Self { programs, prefix, distribution, sandboxer, settings, restart, serves_within })
    }

    /// The distribution that was found or named.
    #[must_use]
    pub const fn distribution(&self) -> &Distribution {
        &self.distribution
    }

    fn program(&self, name: &str) -> PathBuf {
        self.prefix.join("bin").join(name)
    }

    fn shim(&self) -> PathBuf {
        self.program(SHIM)
    }

    fn record(&self) -> PathBuf {
        self.prefix.join(RECORD)
    }

    /// What its metrics are read from.
    fn metrics(&self) -> metrics::Sources {
        let cache = AotCache::new(CACHE_DIR, Compiler::at(self.program("hyperlight")));
        let socket = self.distribution.socket.clone();
        metrics::Sources {
            socket,
            cache: match self.settings.cache_bytes {
                Some(bytes) => cache.with_size(bytes),
                None => cache,
            },
            totals: counts::node::DIR.into(),
            look: Mutex::default(),
        }
    }

    /// Installs what is not installed yet.
    ///
    /// # Errors
    ///
    /// The node is not ready, and why: see [`NodeError`].
    pub async fn install(&self) -> Result<Installed, NodeError> {
        is_kvm_there()?;
        self.is_containerd_new_enough()?;
        let mut record = self.begin()?;
        let mut done = Installed::default();
        for (name, from) in &self.programs {
            done.programs |= place(from, &self.program(name))?;
        }
        done.settings = self.set(&mut record)?;
        let began = Instant::now();
        trial::run(&self.distribution.socket, &self.shim()).await?;
        done.trial = began.elapsed();
        done.config = self.configure(&mut record)?;
        if done.config || record.restart_due || !self.is_served().await? {
            done.restarted = self.serve(&mut record).await?;
        }
        Ok(done)
    }

    /// Makes the directories of the programs, and the record with them.
    fn begin(&self) -> Result<Record, NodeError> {
        let path = self.record();
        let mut record = match Record::read(&path)? {
            Some(record) => record,
            None => Record { had_cache: Path::new(CACHE_DIR).exists(), ..Record::default() },
        };
        record.directories.extend(make_directories(self.shim().parent())?);
        record.write(&path)?;
        Ok(record)
    }

    /// Writes the settings, which shims read when they start; returns whether they were changed.
    fn set(&self, record: &mut Record) -> Result<bool, NodeError> {
        let path = self.prefix.join(settings::FILE);
        let text = serde_json::to_string_pretty(&self.settings).map_err(std::io::Error::from);
        let text = text.map_err(FileError::of("write", &path))? + "\n";
        if record.wrote(&path, &text) && read(&path)?.as_ref() == Some(&text) {
            return Ok(false);
        }
        record.change(&path, &text)?;
        record.write(&self.record())?;
        Ok(true)
    }

    /// Adds the runtime to containerd's configuration; returns whether something was changed.
    fn configure(&self, record: &mut Record) -> Result<bool, NodeError> {
        let Distribution { config, drop_in, imports, name, .. } = &self.distribution;
        let broken = |said| NodeError::Broken { said };
        let found = self.dump(config)?.map_err(broken)?;
        let failed = |source| NodeError::Config { path: config.clone(), source };
        let text = read(config)?;
        let version = config::version(text.as_deref()).map_err(failed)?;
        let wanted = config::drop_in(version, &self.shim(), self.sandboxer);
        let is_there = read(drop_in)?.as_ref() == Some(&wanted) && record.wrote(drop_in, &wanted);
        let is_read = |dump: &str| config::has_runtime(dump, &self.shim()).map_err(failed);
        if is_there && (*imports == Imports::Merged || is_read(&found)?) {
            return Ok(false);
        }
        let before = record.clone();
        let undo = [(drop_in, read(drop_in)?), (config, text.clone())];
        let mut changed = || {
            // Noted before it is done: a run that is killed in between is continued by the next.
            record.restart_due = true;
            record.change(drop_in, &wanted)?;
            record.write(&self.record())?;
            let rejected = |said| NodeError::Rejected { said };
            if *imports == Imports::Merged {
                return self.dump(drop_in)?.map(drop).map_err(rejected);
            }
            let mut dump = self.dump(config)?.map_err(rejected)?;
            if !is_read(&dump)? && *imports == Imports::Edited {
                let edited = config::with_import(text.as_deref(), drop_in).map_err(failed)?;
                record.change(config, &edited)?;
                record.write(&self.record())?;
                dump = self.dump(config)?.map_err(rejected)?;
            }
            match (is_read(&dump)?, imports) {
                (true, _) => Ok(()),
                (false, Imports::Generated) => Err(NodeError::NotImported {
                    distribution: name,
                    config: config.clone(),
                    drop_in: drop_in.clone(),
                }),
                (false, _) => Err(rejected(
                    "what it dumps does not have the runtime, though it is imported".to_owned(),
                )),
            }
        };
        let outcome = changed();
        if outcome.is_err() {
            // Directories that were made stay, to be removed with the others.
            let directories = record.directories.clone();
            self.undo(&undo, Record { directories, ..before });
        }
        outcome.map(|()| true)
    }

    /// Puts files back as they were before this run, as far as that is possible.
    fn undo(&self, files: &[(&PathBuf, Option<String>)], before: Record) {
        for (path, text) in files {
            if let Err(error) = put_back(&resolved(path), text.as_deref()) {
                log::error!("{}", crate::error::line(&error));
            }
        }
        if let Err(error) = before.write(&self.record()) {
            log::error!("{}", crate::error::line(&error));
        }
    }

    /// Restarts containerd and waits until it serves the runtime; returns whether it was restarted.
    async fn serve(&self, record: &mut Record) -> Result<bool, NodeError> {
        let served = match self.restart.run(&self.distribution) {
            Ok(true) => self.wait_until_served(true).await,
            // The handler tells that containerd was restarted, the only thing that does.
            Ok(false) if self.is_served().await? => Ok(()),
            Ok(false) => return Err(NodeError::AwaitsRestart),
            Err(error @ RestartError::Failed { .. }) => Err(crate::error::line(&error)),
            Err(error) => return Err(error.into()),
        };
        let Err(said) = served else {
            record.restart_due = false;
            record.write(&self.record())?;
            return Ok(self.restart != Restart::ByOthers);
        };
        let settings = resolved(&self.prefix.join(settings::FILE));
        let (kept, changed): (Vec<_>, Vec<_>) =
            record.files.clone().into_iter().partition(|it| it.path == settings);
        let files: Vec<_> = changed.iter().map(|it| (&it.path, it.original.clone())).collect();
        self.undo(&files, Record { files: kept, restart_due: false, ..record.clone() });
        self.restart.run(&self.distribution)?;
        Err(NodeError::DoesNotServe { said })
    }

    /// Waits until containerd's CRI answers and has the handler, or has it no more.
    async fn wait_until_served(&self, wanted: bool) -> Result<(), String> {
        let since = Instant::now();
        loop {
            let said = match self.is_served().await {
                Ok(is_served) if is_served == wanted => return Ok(()),
                Ok(_) => {
                    format!("its CRI {} the handler", if wanted { "lacks" } else { "still has" })
                }
                Err(error) => crate::error::line(&error),
            };
            if since.elapsed() > self.serves_within {
                return Err(format!("{said}, {} s after its restart", since.elapsed().as_secs()));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn is_served(&self) -> Result<bool, CriError> {
        let handlers = cri::handlers(&self.distribution.socket).await?;
        Ok(handlers.iter().any(|handler| handler == HANDLER))
    }

    /// Puts the node back as it was found; returns whether anything was there to be removed. With `force` also
    /// while tasks run.
    ///
    /// # Errors
    ///
    /// Tasks of the runtime run, a file cannot be put back, or containerd does not come up.
    pub async fn uninstall(&self, force: bool) -> Result<bool, NodeError> {
        let Some(record) = Record::read(&self.record())? else { return Ok(false) };
        if !force {
            let running = running::tasks(&self.distribution.socket).await?;
            if !running.is_empty() {
                return Err(NodeError::InUse(running));
            }
        }
        let drop_in = resolved(&self.distribution.drop_in);
        let is_configured = record.files.iter().any(|it| it.path == drop_in);
        for changed in record.files.iter().rev() {
            self.restore(changed)?;
        }
        if is_configured && self.restart.run(&self.distribution)? {
            let said = self.wait_until_served(false).await;
            said.map_err(|said| NodeError::DoesNotServe { said })?;
        }
        for name in PROGRAMS {
            remove(&self.program(name))?;
        }
        if !record.had_cache
            && let Err(error) = std::fs::remove_dir_all(CACHE_DIR)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(FileError::of("remove", CACHE_DIR.as_ref())(error).into());
        }
        remove(&self.record())?;
        for directory in record.directories.iter().rev() {
            // What others have put there stays, and its directory.
            let _ = std::fs::remove_dir(directory);
        }
        Ok(true)
    }

    /// Puts a file back; from one that others have changed since, only our import is taken.
    fn restore(&self, changed: &files::Changed) -> Result<(), NodeError> {
        let Some(current) = read(&changed.path)? else { return Ok(()) };
        let is_ours = crate::aot::sha256_hex(current.as_bytes()) == changed.written;
        if is_ours || changed.path != resolved(&self.distribution.config) {
            return Ok(put_back(&changed.path, changed.original.as_deref())?);
        }
        let failed = |source| NodeError::Config { path: changed.path.clone(), source };
        let text = config::without_import(&current, &self.distribution.drop_in).map_err(failed)?;
        Ok(put_back(&changed.path, Some(&text))?)
    }

    /// Looks at the node without changing it, but for a micro-VM on trial. Tells each thing that is as
    /// it should be by `tell`.
    ///
    /// # Errors
    ///
    /// The first thing that is not.
    pub async fn check(&self, tell: &mut dyn FnMut(&str)) -> Result<(), NodeError> {
        is_kvm_there()?;
        tell("/dev/kvm is there");
        let version = self.is_containerd_new_enough()?;
        tell(&format!("containerd {version} is new enough ({})", self.distribution.name));
        let record = Record::read(&self.record())?.ok_or(NodeError::NotInstalled)?;
        for name in PROGRAMS {
            if !self.program(name).is_file() {
                return Err(NodeError::Changed { what: "a program" });
            }
        }
        tell(&format!("the programs are in {}", self.prefix.join("bin").display()));
        let drop_in = &self.distribution.drop_in;
        let text = read(drop_in)?.ok_or(NodeError::Changed { what: "the drop-in" })?;
        if !record.wrote(drop_in, &text) {
            return Err(NodeError::Changed { what: "the drop-in" });
        }
        if record.restart_due || !self.is_served().await? {
            return Err(NodeError::AwaitsRestart);
        }
        tell(&format!("containerd serves the handler {HANDLER} ({})", drop_in.display()));
        trial::run(&self.distribution.socket, &self.shim()).await?;
        tell("a micro-VM has run on trial");
        Ok(())
    }

    /// containerd's version, if the shim can serve it as it is to.
    fn is_containerd_new_enough(&self) -> Result<String, NodeError> {
        let program = &self.distribution.containerd;
        let output = restart::program(program).arg("--version").output();
        let output = output
            .map_err(|source| NodeError::NoContainerd { program: program.clone(), source })?;
        // "containerd github.com/containerd/containerd/v2 2.1.9 REVISION"; distributions add to the version.
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let numbers = |word: &str| -> Option<(u32, u32)> {
            let mut parts = word.trim_start_matches('v').split('.');
            let minor = parts.next().zip(parts.next());
            minor.and_then(|(major, minor)| major.parse().ok().zip(minor.parse().ok()))
        };
        let found =
            said.split_whitespace().find_map(|word| Some((numbers(word)?, word.to_owned())));
        let (numbers, version) = found.ok_or(NodeError::NoVersion(said))?;
        match self.sandboxer {
            _ if numbers < (2, 0) => Err(NodeError::TooOld { version }),
            Sandboxer::Shim if numbers < (2, 3) => Err(NodeError::TooOldForPods { version }),
            Sandboxer::Shim | Sandboxer::Podsandbox => Ok(version),
        }
    }

    /// The configuration as containerd reads it, with its imports; the inner error is what it says against it.
    fn dump(&self, config: &Path) -> Result<Result<String, String>, NodeError> {
        let program = &self.distribution.containerd;
        let mut command = restart::program(program);
        // Without a file containerd has its defaults, but not where one is named.
        if config.exists() {
            command.arg("--config").arg(config);
        }
        let output = command.args(["config", "dump"]).output();
        let output = output
            .map_err(|source| NodeError::NoContainerd { program: program.clone(), source })?;
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!("{} ({})", text(&output.stderr), output.status)),
        })
    }
}

/// Whether `/dev/kvm` is a device. Whether it works, the trial tells.
fn is_kvm_there() -> Result<(), NodeError> {
    match std::fs::metadata("/dev/kvm") {
        Ok(metadata) if metadata.file_type().is_char_device() => Ok(()),
        Ok(_) | Err(_) => Err(NodeError::NoKvm),
    }
}
