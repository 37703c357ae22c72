//! The programs of a cluster as its node's init system would keep them: started again when they end.
//!
//! containerd and kubelet are restarted by tests and by an installer, which end them and wait for the
//! next. A [`Service`] ends its program when dropped, first by SIGTERM.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to end by SIGTERM.
const GRACE: Duration = Duration::from_secs(15);

/// How often it is looked whether it has ended.
const INTERVAL: Duration = Duration::from_millis(50);

/// A program that runs, and that is started again when it has ended.
#[derive(Debug)]
pub(super) struct Service {
    child: Arc<Mutex<Child>>,
    stopping: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
    log: PathBuf,
}

impl Service {
    /// Starts `command`, whose output goes to NAME.log in `directory`.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(super) fn start(mut command: Command, directory: &Path, name: &str) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = open(&log)?;
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().context("share a log")?).stderr(file);
        let first = command.spawn().with_context(|| format!("start {name}"))?;
        let (child, stopping) = (Arc::new(Mutex::new(first)), Arc::new(AtomicBool::new(false)));
        let (kept, stop) = (Arc::clone(&child), Arc::clone(&stopping));
        let supervisor = std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let mut child = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if !matches!(child.try_wait(), Ok(None))
                    && !stop.load(Ordering::Acquire)
                    && let Ok(next) = command.spawn()
                {
                    *child = next;
                }
                drop(child);
                std::thread::sleep(INTERVAL);
            }
        });
        Ok(Self { child, stopping, supervisor: Some(supervisor), log })
    }

    /// Process id of the program that runs.
    pub(super) fn id(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Ends what runs by a signal; it is started again.
    pub(super) fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // One that has ended by itself is started again as well.
            let _ = kill_process(pid, signal);
        }
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("loading plugin")).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(supervisor) = self.supervisor.take() {
            drop(supervisor.join());
        }
        self.signal(Signal::TERM);
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = || !matches!(child.try_wait(), Ok(None));
        if crate::process::wait_until("a program to end", GRACE, &mut ended).is_err() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn open(log: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.with_context(|| format!("open {}", log.display()))
}
