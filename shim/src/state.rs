//! The life of a task as containerd sees it: created, running, stopped.
//!
//! [`State::after`] is the only place that says what may follow what. The first exit counts: a task
//! that has stopped keeps its status.

use std::time::SystemTime;

/// How and when a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit status, or 128 + the signal's number.
    pub status: u32,
    /// When it was noticed.
    pub at: SystemTime,
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The micro-VM is ready and waits for the start.
    Created,
    /// The program runs.
    Running,
    /// The VMM process has ended.
    Stopped(Exit),
}

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// containerd starts it.
    Start,
    /// containerd sends it a signal.
    Signal,
    /// Its process ends.
    End(Exit),
    /// containerd deletes it.
    Delete,
}

/// Why a step cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It runs.
    #[error("has been started already")]
    Started,
    /// It has ended.
    #[error("has exited already")]
    Exited,
    /// It has not ended.
    #[error("has not exited: kill it first")]
    Alive,
}

impl State {
    /// The state after `step`.
    ///
    /// # Errors
    ///
    /// The step cannot be made in this state, which stays as it is.
    pub fn after(self, step: Step) -> Result<Self, Refusal> {
        match (self, step) {
            (Self::Created, Step::Start) => Ok(Self::Running),
            (Self::Running, Step::Start) => Err(Refusal::Started),
            (Self::Stopped(_), Step::Start | Step::Signal) => Err(Refusal::Exited),
            (Self::Created | Self::Running, Step::Signal) => Ok(self),
            (Self::Created | Self::Running, Step::End(exit)) => Ok(Self::Stopped(exit)),
            (Self::Stopped(first), Step::End(_)) => Ok(Self::Stopped(first)),
            (Self::Created | Self::Running, Step::Delete) => Err(Refusal::Alive),
            (Self::Stopped(exit), Step::Delete) => Ok(Self::Stopped(exit)),
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(self) -> Option<Exit> {
        match self {
            Self::Created | Self::Running => None,
            Self::Stopped(exit) => Some(exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: u32) -> Exit {
        Exit { status, at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn the_table_is_this() {
        use State::{Created, Running, Stopped};
        use Step::{Delete, End, Signal, Start};
        let (three, nine) = (exit(3), exit(9));
        let table = [
            (Created, Start, Ok(Running)),
            (Created, Signal, Ok(Created)),
            (Created, End(nine), Ok(Stopped(nine))),
            (Created, Delete, Err(Refusal::Alive)),
            (Running, Start, Err(Refusal::Started)),
            (Running, Signal, Ok(Running)),
            (Running, End(nine), Ok(Stopped(nine))),
            (Running, Delete, Err(Refusal::Alive)),
            (Stopped(three), Start, Err(Refusal::Exited)),
            (Stopped(three), Signal, Err(Refusal::Exited)),
            (Stopped(three), End(nine), Ok(Stopped(three))),
            (Stopped(three), Delete, Ok(Stopped(three))),
        ];
        for (state, step, expected) in table {
            assert_eq!(state.after(step), expected, "{state:?} {step:?}");
        }
    }

    #[test]
    fn only_a_stopped_task_has_an_exit() {
        assert_eq!(State::Created.exit(), None);
        assert_eq!(State::Running.exit(), None);
        assert_eq!(State::Stopped(exit(3)).exit(), Some(exit(3)));
    }
}
