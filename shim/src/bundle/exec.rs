//! The bundle as an exec sees it: the container's, with another process.

use oci_spec::runtime::Process;

use super::confinement::{limits, user};
use super::{Bundle, BundleError, args, env};
use crate::launch::Confinement;
use crate::stdio::WindowSize;

impl Bundle {
    /// What `process` needs to know to run beside the container's own.
    ///
    /// # Errors
    ///
    /// It has no arguments, or some that cannot be handed to a program.
    pub fn of_exec(self, process: &Process) -> Result<Self, BundleError> {
        let confinement =
            Confinement { user: user(process), limits: limits(process), ..self.confinement };
        Ok(Self {
            confinement,
            args: args(process).ok_or(BundleError::NoArguments)??,
            env: env(process)?,
            cwd: process.cwd().clone(),
            oom_score_adj: process.oom_score_adj().or(self.oom_score_adj),
            terminal: process.terminal() == Some(true),
            window: window(process),
            ..self
        })
    }
}

/// The size of a process's terminal, where it has one.
pub(super) fn window(process: &Process) -> Option<WindowSize> {
    let size = process.console_size()?;
    let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
    // containerd writes zeroes for a size that nobody knows.
    let (rows, columns) = (side(size.height()), side(size.width()));
    (rows > 0 && columns > 0).then_some(WindowSize { rows, columns })
}
