//! Differences from Wasmtime's WASI 0.2 that are meant. Ours answers as Linux does, for it asks Linux.

use super::{Call, Difference, Outcome, names_a_directory};

const OK: Result<(), &str> = Ok(());

/// An outcome to compare with: constants are no strings of their own.
fn plain(outcome: Outcome<'_, String>) -> Result<(), &str> {
    outcome.map_err(String::as_str)
}

fn both_failed(ours: Outcome<'_, String>, theirs: Outcome<'_, String>) -> bool {
    ours.is_err() && theirs.is_err()
}

fn has_invalid_time(call: &Call) -> bool {
    match call {
        Call::SetTimes { atime, mtime, .. } | Call::SetTimesAt { atime, mtime, .. } => {
            [atime, mtime].iter().any(|time| time.is_invalid())
        }
        _ => false,
    }
}

pub(super) const DIFFERENCES: [Difference<Call, String>; 18] = [
    Difference {
        reason: "futimens(2) is for directories too; Wasmtime holds them by descriptors of which it is not",
        parts: true,
        applies: |call, ours, theirs| {
            matches!(call, Call::SetTimes { .. })
                && (plain(ours), plain(theirs)) == (OK, Err("bad-descriptor"))
        },
    },
    Difference {
        reason: "nanoseconds are less than a second (wasi:clocks/wall-clock); Wasmtime carries over",
        parts: true,
        applies: |call, ours, _| has_invalid_time(call) && plain(ours) == Err("invalid"),
    },
    Difference {
        reason: "a path is looked at even if no time is to be set; Linux itself does not",
        parts: false,
        applies: |call, ours, theirs| {
            let Call::SetTimesAt { atime, mtime, .. } = call else { return false };
            let nothing = atime.is_no_change() && mtime.is_no_change();
            nothing && ours.is_err() && theirs.is_ok()
        },
    },
    Difference {
        reason: "linkat(2) can follow a symbolic link; Wasmtime's cannot",
        parts: true,
        applies: |call, _, theirs| {
            matches!(call, Call::Link { follow: true, .. }) && plain(theirs) == Err("invalid")
        },
    },
    Difference {
        reason: "of two paths that are wrong, or two reasons, either may be told",
        parts: false,
        applies: |call, ours, theirs| {
            let two =
                matches!(call, Call::Link { .. } | Call::Rename { .. } | Call::Symlink { .. });
            two && both_failed(ours, theirs)
        },
    },
    Difference {
        reason: "a slash after a symbolic link has it followed, and after a file is ENOTDIR \
                 (path_resolution(7)); Wasmtime takes the slash away, or removes no directory that has it",
        parts: true,
        applies: |call, ours, theirs| match call {
            Call::StatAt { path, follow: false, .. } => names_a_directory(path),
            Call::Unlink { path, .. } => names_a_directory(path) && both_failed(ours, theirs),
            Call::RemoveDirectory { path, .. } => {
                names_a_directory(path)
                    && (both_failed(ours, theirs) || plain(theirs) == Err("invalid"))
            }
            _ => false,
        },
    },
    Difference {
        reason: "a directory can be opened with flags that mean nothing to it, if none would change it; \
                 Wasmtime refuses them together before it looks",
        parts: true,
        applies: |call, _, theirs| {
            let Call::Open { open, .. } = call else { return false };
            open.contains(&"directory") && open.len() > 1 && plain(theirs) == Err("invalid")
        },
    },
    Difference {
        reason: "a symbolic link that is to be a directory and is not to be followed is ENOTDIR (open(2))",
        parts: false,
        applies: |call, ours, theirs| {
            let Call::Open { open, follow: false, .. } = call else { return false };
            let outcomes = (plain(ours), plain(theirs));
            open.contains(&"directory") && outcomes == (Err("not-directory"), Err("loop"))
        },
    },
    Difference {
        reason: "what an absolute link says can be read; following it is what is refused",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::ReadLink { .. })
                && (plain(ours), plain(theirs)) == (OK, Err("not-permitted"))
        },
    },
    Difference {
        reason: "a file is written by the right to write, not because it was created or emptied",
        parts: true,
        applies: |call, ours, theirs| {
            call.writes() && (plain(ours), plain(theirs)) == (Err("bad-descriptor"), OK)
        },
    },
    Difference {
        reason: "the flags are those of the open call, and for a directory whether it can be changed; \
                 Wasmtime adds write to what was created or emptied",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::Flags { .. }) && (plain(ours), plain(theirs)) == (OK, OK)
        },
    },
    Difference {
        reason: "a stream without its right is refused when it is asked for, not when it is used",
        parts: false,
        applies: |call, ours, theirs| {
            call.is_of_streams()
                && plain(ours) == Err("bad-descriptor")
                && plain(theirs)
                    .is_err_and(|error| error == "closed" || error.starts_with("stream"))
        },
    },
    Difference {
        reason: "a read of no bytes is no read: it meets neither the end nor an error",
        parts: false,
        applies: |call, ours, theirs| {
            let nothing = matches!(
                call,
                Call::ReadStream { len: 0, .. }
                    | Call::Skip { len: 0, .. }
                    | Call::Splice { len: 0, .. }
            );
            nothing && ours.is_ok() && theirs.is_err()
        },
    },
    Difference {
        reason: "a read of no bytes does not tell the end",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::Read { len: 0, .. }) && (plain(ours), plain(theirs)) == (OK, OK)
        },
    },
    Difference {
        reason: "a descriptor that is not for reading, and an offset that no file has: either may be told",
        parts: false,
        applies: |call, ours, theirs| {
            let Call::Read { offset, .. } = call else { return false };
            i64::try_from(*offset).is_err() && both_failed(ours, theirs)
        },
    },
    Difference {
        reason: "a descriptor that is not open for writing is EBADF, which POSIX has for ftruncate beside \
                 the EINVAL of Linux",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::SetSize { .. })
                && (plain(ours), plain(theirs)) == (Err("bad-descriptor"), Err("invalid"))
        },
    },
    Difference {
        reason: "rmdir(2) has ENOTEMPTY for the parent",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::RemoveDirectory { .. })
                && (plain(ours), plain(theirs)) == (Err("not-empty"), Err("invalid"))
        },
    },
    Difference {
        reason: "no file has an offset beyond i64::MAX; Wasmtime lets it overflow",
        parts: false,
        applies: |call, ours, theirs| {
            let Call::Advise { offset, .. } = call else { return false };
            i64::try_from(*offset).is_err() && (plain(ours), plain(theirs)) == (Err("invalid"), OK)
        },
    },
];
