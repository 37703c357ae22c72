//! The end of a task for containerd: everything of it is given back, and its name is free.
//!
//! Rule: a deletion runs to its end even if containerd stops waiting. Who deletes a task that is being created or
//! deleted waits for that: a containerd that was killed in the middle asks when it starts again, and never more.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::{Entry, IsOver, SIGKILL, Sandbox};
use crate::container::Container;
use crate::error::Error;
use crate::state::Exit;

impl Sandbox {
    /// Deletes a task that has ended, or that is being created: a containerd that was killed in the middle asks for
    /// that when it starts again, and never more. Where it is being deleted, what comes of that is waited for: who is
    /// told that there is none of that name takes everything of it away.
    ///
    /// # Errors
    ///
    /// There is none of that name, it has not ended, or something of it cannot be removed; then it
    /// stays and may be deleted again.
    pub async fn delete(&self, id: &str) -> Result<(Arc<Container>, Exit), Error> {
        let Some(mut is_over) = self.is_over(id) else { return self.delete_standing(id).await };
        let (sandbox, name) = (self.clone(), id.to_owned());
        let deleted = tokio::spawn(async move {
            let _ = is_over.changed().await;
            let container = sandbox.task(&name)?;
            // One that has ended meanwhile is as good.
            let _ = container.kill("", SIGKILL, true);
            container.wait().await;
            sandbox.delete_standing(&name).await
        });
        deleted.await.unwrap_or(Err(Error::CutOff(id.to_owned())))
    }

    /// What tells that the creation or deletion of task `id` is over, if one goes on.
    fn is_over(&self, id: &str) -> Option<IsOver> {
        match self.lock().get(id) {
            Some(Entry::Creating(is_over) | Entry::Deleting(_, is_over)) => Some(is_over.clone()),
            Some(Entry::Ready(_)) | None => None,
        }
    }

    /// Deletes a task of which nothing else is being made.
    async fn delete_standing(&self, id: &str) -> Result<(Arc<Container>, Exit), Error> {
        let (container, deleting) = self.begin_delete(id)?;
        let sandbox = self.clone();
        let (send, receive) = oneshot::channel();
        tokio::spawn(async move {
            if let Some(stdio) = container.take_stdio() {
                stdio.finish().await;
            }
            let released = Arc::clone(&container);
            let outcome = tokio::task::spawn_blocking(move || released.release()).await;
            let id = container.id().to_owned();
            let answer = match outcome {
                Ok(Ok(exit)) => {
                    sandbox.remove(&id);
                    sandbox.events.deleted(&container, exit);
                    Ok((container, exit))
                }
                failed => {
                    sandbox.lock().insert(id.clone(), Entry::Ready(container));
                    Err(match failed {
                        Ok(Err(error)) => Error::Container(error),
                        Ok(Ok(_)) | Err(_) => Error::CutOff(id),
                    })
                }
            };
            // containerd may wait no longer.
            let _ = send.send(answer);
            drop(deleting);
        });
        receive.await.unwrap_or(Err(Error::CutOff(id.to_owned())))
    }

    /// The task, and what is dropped when its deletion is over.
    fn begin_delete(&self, id: &str) -> Result<(Arc<Container>, watch::Sender<()>), Error> {
        let mut tasks = self.lock();
        let entry = tasks.get_mut(id).ok_or_else(|| Error::NoTask(id.to_owned()))?;
        let container = match entry {
            Entry::Ready(container) => Arc::clone(container),
            Entry::Creating(_) | Entry::Deleting(..) => return Err(Error::Busy(id.to_owned())),
        };
        container.may_delete()?;
        let (deleting, is_over) = watch::channel(());
        *entry = Entry::Deleting(Arc::clone(&container), is_over);
        Ok((container, deleting))
    }
}
