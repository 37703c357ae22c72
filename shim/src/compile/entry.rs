//! Where a program begins.

use serde::{Deserialize, Serialize};

/// What a program has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A command: a component that exports `wasi:cli/run`, a core module that exports `_start`.
    Command,
    /// A handler of HTTP requests: a component that exports `wasi:http/incoming-handler`.
    Handler,
    /// Either: what a container can be.
    Task,
    /// Anything that can be loaded: what it exports can be called.
    Any,
}

/// Where a program can begin. One that has none of these is a library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryPoints {
    /// It is a command.
    pub command: bool,
    /// It handles HTTP requests.
    pub handler: bool,
}

impl Entry {
    /// The word for it among the arguments of a child.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Handler => "handler",
            Self::Task => "task",
            Self::Any => "any",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Command, Self::Handler, Self::Task, Self::Any];
        all.into_iter().find(|entry| entry.word() == word)
    }

    /// Whether a program with these entry points is what is asked for.
    #[must_use]
    pub const fn admits(self, points: EntryPoints) -> bool {
        match self {
            Self::Command => points.command,
            Self::Handler => points.handler,
            Self::Task => points.command || points.handler,
            Self::Any => true,
        }
    }
}

impl EntryPoints {
    const COMMAND: u8 = 1;
    const HANDLER: u8 = 2;

    /// One bit for each.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        (if self.command { Self::COMMAND } else { 0 })
            | (if self.handler { Self::HANDLER } else { 0 })
    }

    /// What [`to_bits`](Self::to_bits) gave; other bits say nothing.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self { command: bits & Self::COMMAND != 0, handler: bits & Self::HANDLER != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_survive_their_bits() {
        for bits in 0..4 {
            assert_eq!(EntryPoints::from_bits(bits).to_bits(), bits);
        }
    }

    #[test]
    fn a_task_is_a_command_or_a_handler() {
        let [none, command, handler, both] = [0, 1, 2, 3].map(EntryPoints::from_bits);
        let admitted = |entry: Entry| [none, command, handler, both].map(|it| entry.admits(it));
        assert_eq!(admitted(Entry::Command), [false, true, false, true]);
        assert_eq!(admitted(Entry::Handler), [false, false, true, true]);
        assert_eq!(admitted(Entry::Task), [false, true, true, true]);
        assert_eq!(admitted(Entry::Any), [true; 4]);
    }
}
