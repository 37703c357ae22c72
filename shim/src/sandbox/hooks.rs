//! Hooks around the creation and the start of a task.
//!
//! Rule: once a hook of the creation may have run, those of the end run too, whatever comes of the task. They
//! run when everything of it has gone.

use super::place::Place;
use super::{SIGKILL, Sandbox};
use crate::container::Container;
use crate::error::Error;
use crate::hooks::{HookError, Hooks};
use crate::launch::Idle;

/// Runs the hooks of the creation of a task, whose process waits for them in its namespaces.
///
/// # Errors
///
/// The process did not get there, or a hook fails; then nothing of the task is left.
pub(super) async fn create(
    mut idle: Idle,
    place: Place,
    hooks: &Hooks,
) -> Result<(Idle, Place), Error> {
    if !hooks.of_creation() {
        return Ok((idle, place));
    }
    if let Err(error) = idle.made().await {
        idle.end().await;
        return Err(error.into());
    }
    let (of_task, pid) = (hooks.clone(), idle.pid());
    let entered = match apart(move || of_task.create(pid)).await {
        Ok(()) => idle.enter().await.map_err(Error::from),
        Err(error) => Err(error),
    };
    match entered {
        Ok(()) => Ok((idle, place)),
        Err(error) => {
            idle.end().await;
            drop(place);
            given_up(Some(hooks)).await;
            Err(error)
        }
    }
}

/// Runs the hooks of the end of a task that was not created, of which nothing is left.
pub(super) async fn given_up(hooks: Option<&Hooks>) {
    let Some(hooks) = hooks.cloned() else { return };
    // They tell the log what went wrong.
    let ran = apart(move || {
        hooks.given_up();
        Ok(())
    });
    let _ = ran.await;
}

impl Sandbox {
    /// Runs the hooks of the start of a task that has been started.
    ///
    /// # Errors
    ///
    /// One fails; then the task is ended.
    pub(super) async fn poststart(&self, container: &Container) -> Result<(), Error> {
        let Some(hooks) = container.hooks().cloned() else { return Ok(()) };
        let pid = container.pid();
        let ran = apart(move || hooks.started(pid)).await;
        if ran.is_err() {
            // One that has ended meanwhile is as good.
            let _ = container.kill("", SIGKILL, true);
        }
        ran
    }
}

/// Runs what blocks.
async fn apart(work: impl FnOnce() -> Result<(), HookError> + Send + 'static) -> Result<(), Error> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_panicked| Error::CutOff("with hooks".to_owned()))??)
}
