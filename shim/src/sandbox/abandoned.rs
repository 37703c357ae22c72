//! A server that nobody can reach any more.
//!
//! Rule: one without a process of a task, whose bundle is gone, ends, and with it a pod that it was left. containerd ends
//! a server by Shutdown, but one that was killed, or whose disk is full, may never have come to know of a server that it
//! has started, and one whose client waits no longer may give a pod up without a word.

use std::time::Duration;

use rustix::fs::stat;

use super::{Entry, Sandbox};
use crate::state::State;

/// Pause between two looks, while nothing runs.
const POLL: Duration = Duration::from_secs(1);

impl Sandbox {
    /// Waits until no process of a task is there and the working directory, which is the bundle of the first
    /// task, is gone. To be called again when this returns `false`: then a process was there.
    pub(crate) async fn is_abandoned(&self) -> bool {
        loop {
            tokio::time::sleep(POLL).await;
            if self.has_process() {
                return false;
            }
            // A directory without a name is removed, whatever is called like it by now.
            if stat(".").is_ok_and(|directory| directory.st_nlink == 0) {
                return true;
            }
        }
    }

    /// Whether a task has a process, or is to have one. The holder of a pod that the shim was left is no task.
    pub(super) fn has_process(&self) -> bool {
        self.lock().values().any(|entry| match entry {
            Entry::Creating(_) => true,
            Entry::Ready(container) | Entry::Deleting(container, _) => {
                container.is_announced() && !matches!(container.state(), State::Stopped(_))
            }
        })
    }

    /// Waits until a process of a task has ended that may have been the last.
    pub(crate) async fn an_end(&self) {
        self.ends.notified().await;
    }
}
