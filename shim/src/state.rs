//! The life of a task, or of a process beside it, as containerd sees it: created, running, stopped; and
//! paused meanwhile.
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
    /// The program is kept from running.
    Paused,
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
    /// containerd pauses it.
    Pause,
    /// containerd lets it go on.
    Resume,
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
    /// It does not run yet.
    #[error("has not been started")]
    NotStarted,
    /// It is paused.
    #[error("is paused: resume it first")]
    Paused,
    /// It is not paused.
    #[error("is not paused")]
    NotPaused,
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
            (Self::Running | Self::Paused, Step::Start) => Err(Refusal::Started),
            (Self::Stopped(_), Step::Start | Step::Signal | Step::Pause | Step::Resume) => {
                Err(Refusal::Exited)
            }
            (Self::Created | Self::Running | Self::Paused, Step::Signal) => Ok(self),
            (Self::Running, Step::Pause) => Ok(Self::Paused),
            (Self::Created, Step::Pause | Step::Resume) => Err(Refusal::NotStarted),
            (Self::Paused, Step::Pause) => Err(Refusal::Paused),
            (Self::Paused, Step::Resume) => Ok(Self::Running),
            (Self::Running, Step::Resume) => Err(Refusal::NotPaused),
            (Self::Created | Self::Running | Self::Paused, Step::End(exit)) => {
                Ok(Self::Stopped(exit))
            }
            (Self::Stopped(first), Step::End(_)) => Ok(Self::Stopped(first)),
            (Self::Created | Self::Running | Self::Paused, Step::Delete) => Err(Refusal::Alive),
            (Self::Stopped(exit), Step::Delete) => Ok(Self::Stopped(exit)),
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(self) -> Option<Exit> {
        match self {
            Self::Created | Self::Running | Self::Paused => None,
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
        use State::{Created, Paused, Running, Stopped};
        use Step::{Delete, End, Pause, Resume, Signal, Start};
        let (three, nine) = (exit(3), exit(9));
        let table = [
            (Created, Start, Ok(Running)),
            (Created, Signal, Ok(Created)),
            (Created, Pause, Err(Refusal::NotStarted)),
            (Created, Resume, Err(Refusal::NotStarted)),
            (Created, End(nine), Ok(Stopped(nine))),
            (Created, Delete, Err(Refusal::Alive)),
            (Running, Start, Err(Refusal::Started)),
            (Running, Signal, Ok(Running)),
            (Running, Pause, Ok(Paused)),
            (Running, Resume, Err(Refusal::NotPaused)),
            (Running, End(nine), Ok(Stopped(nine))),
            (Running, Delete, Err(Refusal::Alive)),
            (Paused, Start, Err(Refusal::Started)),
            (Paused, Signal, Ok(Paused)),
            (Paused, Pause, Err(Refusal::Paused)),
            (Paused, Resume, Ok(Running)),
            (Paused, End(nine), Ok(Stopped(nine))),
            (Paused, Delete, Err(Refusal::Alive)),
            (Stopped(three), Start, Err(Refusal::Exited)),
            (Stopped(three), Signal, Err(Refusal::Exited)),
            (Stopped(three), Pause, Err(Refusal::Exited)),
            (Stopped(three), Resume, Err(Refusal::Exited)),
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
        assert_eq!(State::Paused.exit(), None);
        assert_eq!(State::Stopped(exit(3)).exit(), Some(exit(3)));
    }
}
