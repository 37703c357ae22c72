//! Differences from Wasmtime's preview 1 that are meant, each with its reason.

use oracle::TRAPPED;

use super::{DIRECTORY, End, FILE, ROOT, Wrong};

const SUCCESS: End = End::Errno(0);
const BADF: End = End::Errno(8);
const ILSEQ: End = End::Errno(25);
const INVAL: End = End::Errno(28);
const NOTDIR: End = End::Errno(54);
const NOTSOCK: End = End::Errno(57);
const NOTSUP: End = End::Errno(58);
const SPIPE: End = End::Errno(70);
const TRAP: End = End::Status(TRAPPED);

/// A call by its function, what is wrong with it, and how it ended, ours and theirs.
pub(super) struct Case<'a> {
    pub(super) name: &'a str,
    pub(super) wrong: Wrong,
    pub(super) ours: End,
    pub(super) theirs: End,
}

/// A difference that is meant.
pub(super) struct Difference {
    /// Why ours is as it is.
    pub(super) reason: &'static str,
    pub(super) applies: fn(&Case<'_>) -> bool,
}

impl Case<'_> {
    fn ends(&self, ours: End, theirs: End) -> bool {
        (self.ours, self.theirs) == (ours, theirs)
    }

    fn is_socket(&self) -> bool {
        self.name.starts_with("sock_")
    }
}

pub(super) const DIFFERENCES: [Difference; 12] = [
    Difference {
        reason: "flags and cases that do not exist are INVAL, as in other runtimes; Wasmtime ends the \
                 program",
        applies: |case| case.wrong == Wrong::Flags && case.ends(INVAL, TRAP),
    },
    Difference {
        reason: "there are no sockets, so nothing else of a call on one is looked at",
        applies: |case| case.is_socket() && case.ends(NOTSOCK, TRAP),
    },
    Difference {
        reason: "fsync(2) is for directories too: so a new name is made durable",
        applies: |case| {
            let directory = [Wrong::Fd(ROOT.into()), Wrong::Fd(DIRECTORY)].contains(&case.wrong);
            ["fd_sync", "fd_datasync"].contains(&case.name) && directory && case.ends(SUCCESS, BADF)
        },
    },
    Difference {
        reason: "futimens(2) is for directories too; Wasmtime holds its roots by descriptors of which it \
                 is not",
        applies: |case| {
            case.name == "fd_filestat_set_times"
                && case.wrong == Wrong::Fd(ROOT.into())
                && case.ends(SUCCESS, BADF)
        },
    },
    Difference {
        reason: "standard streams can be made non-blocking",
        applies: |case| {
            case.name == "fd_fdstat_set_flags"
                && case.wrong == Wrong::Fd(1)
                && case.ends(SUCCESS, BADF)
        },
    },
    Difference {
        reason: "rights cannot be changed, of standard streams neither",
        applies: |case| {
            case.name == "fd_fdstat_set_rights"
                && case.wrong == Wrong::Fd(1)
                && case.ends(NOTSUP, BADF)
        },
    },
    Difference {
        reason: "standard output has no positions, whatever is done there",
        applies: |case| {
            case.name == "fd_pread" && case.wrong == Wrong::Fd(1) && case.ends(SPIPE, BADF)
        },
    },
    Difference {
        reason: "a path is relative to no directory: ENOTDIR, as openat(2) says; Wasmtime does so for \
                 path_open alone",
        applies: |case| case.wrong == Wrong::Fd(FILE) && case.ends(NOTDIR, BADF),
    },
    Difference {
        reason: "paths are bytes, as in Linux; Wasmtime's are text",
        applies: |case| case.wrong == Wrong::NotText && case.theirs == ILSEQ,
    },
    Difference {
        reason: "any exit status can be had; Wasmtime's are less than 126",
        applies: |case| {
            case.name == "proc_exit"
                && case.wrong == Wrong::Flags
                && case.ends(End::Status(200), TRAP)
        },
    },
    Difference {
        reason: "room can be reserved in a file",
        applies: |case| {
            case.name == "fd_allocate" && case.wrong == Wrong::Nothing && case.ends(SUCCESS, NOTSUP)
        },
    },
    Difference {
        reason: "signal 0 raises nothing, and others do what they do by default",
        applies: |case| {
            case.name == "proc_raise" && case.wrong == Wrong::Nothing && case.ends(SUCCESS, NOTSUP)
        },
    },
];
