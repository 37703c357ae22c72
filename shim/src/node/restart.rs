//! Restarting containerd, which reads its configuration only when it starts.
//!
//! Rule: containers outlive it; that is what shims are for. It is done only when something has changed.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::distribution::{Distribution, PATH};

/// How containerd is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// By systemd: the unit of the distribution that is active. Where the distribution has none, its starter
    /// sees the drop-in.
    Unit,
    /// By a command for the node's shell.
    Command(String),
    /// Not by us.
    ByOthers,
}

/// Why containerd was not restarted.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// A program could not be started.
    #[error(
        "restart containerd: run {program}: name another way with --restart-command or --no-restart"
    )]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No unit is active.
    #[error(
        "restart containerd: systemd runs none of {}: name another way with --restart-command or \
         --no-restart",
        .0.join(", ")
    )]
    NoUnit(&'static [&'static str]),
    /// It failed.
    #[error("restart containerd: {command:?} failed: {said}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
}

/// A program of the node, looked for where nodes have programs.
pub(super) fn program(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    // systemctl refuses to work in a changed root directory, unless it is told that systemd is the one to talk to.
    command.env_clear().env("PATH", PATH).env("SYSTEMD_IGNORE_CHROOT", "1").stdin(Stdio::null());
    command
}

impl Restart {
    /// Restarts containerd, and waits as long as that takes; returns whether that is ours to do.
    pub(super) fn run(&self, distribution: &Distribution) -> Result<bool, RestartError> {
        match self {
            Self::ByOthers => Ok(false),
            Self::Command(text) => {
                let mut shell = program("sh");
                shell.args(["-c", text]);
                succeed("sh", shell, text).map(|()| true)
            }
            Self::Unit if distribution.units.is_empty() => Ok(true),
            Self::Unit => {
                let mut active = None;
                for unit in distribution.units {
                    let mut ask = program("systemctl");
                    ask.args(["is-active", "--quiet", unit]);
                    let answer = ask.status().map_err(started("systemctl"))?;
                    active = active.or(answer.success().then_some(unit));
                }
                let unit = active.ok_or(RestartError::NoUnit(distribution.units))?;
                let mut restart = program("systemctl");
                restart.args(["restart", unit]);
                succeed("systemctl", restart, &format!("systemctl restart {unit}")).map(|()| true)
            }
        }
    }
}

fn started(program: &'static str) -> impl FnOnce(io::Error) -> RestartError {
    move |source| RestartError::Start { program, source }
}

fn succeed(name: &'static str, mut command: Command, text: &str) -> Result<(), RestartError> {
    // What the command leaves running may keep its output: it must not be waited for.
    let output = command.stdout(Stdio::null()).stderr(Stdio::inherit()).status();
    match output.map_err(started(name))? {
        status if status.success() => Ok(()),
        status => Err(RestartError::Failed { command: text.to_owned(), said: status.to_string() }),
    }
}
