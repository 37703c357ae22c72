//! Differences from Wasmtime's preview 1 that are meant. Ours answers as Linux does, for it asks Linux.

use super::{Call, Difference, Outcome, names_a_directory};

const BADF: u16 = 8;
const INVAL: u16 = 28;
const LOOP: u16 = 32;
const NOTDIR: u16 = 54;
const NOTEMPTY: u16 = 55;
const PERM: u16 = 63;

/// Flags of `path_open`.
const CREATE_EXCLUSIVE_TRUNCATE: u64 = 1 | 4 | 8;
const DIRECTORY: u64 = 2;

pub(super) const DIFFERENCES: [Difference<Call, u16>; 16] = [
    Difference {
        reason: "fsync(2) is for directories too: so a new name is made durable",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::Sync { .. } | Call::DataSync { .. })
                && (ours, theirs) == (Ok(()), Err(&BADF))
        },
    },
    Difference {
        reason: "futimens(2) is for directories too; Wasmtime holds them by descriptors of which it is not",
        parts: true,
        applies: |call, ours, theirs| {
            matches!(call, Call::SetTimes { .. }) && (ours, theirs) == (Ok(()), Err(&BADF))
        },
    },
    Difference {
        reason: "a path is relative to no directory: ENOTDIR, as openat(2) says; Wasmtime does so for \
                 path_open alone",
        parts: true,
        applies: |call, ours, theirs| {
            !matches!(call, Call::Open { .. }) && (ours, theirs) == (Err(&NOTDIR), Err(&BADF))
        },
    },
    Difference {
        reason: "linkat(2) can follow a symbolic link; Wasmtime's cannot",
        parts: true,
        applies: |call, _, theirs| {
            matches!(call, Call::Link { follow: true, .. }) && theirs == Err(&INVAL)
        },
    },
    Difference {
        reason: "of two paths that are wrong, or two reasons, either may be told",
        parts: true,
        applies: |call, ours, theirs| {
            let two =
                matches!(call, Call::Link { .. } | Call::Rename { .. } | Call::Symlink { .. });
            two && both_failed(ours, theirs)
        },
    },
    Difference {
        reason: "an offset that no file has is told after a descriptor that is not for reading, and not at \
                 all for a read of nothing",
        parts: false,
        applies: |call, ours, theirs| {
            let Call::Pread { offset, len, .. } = call else { return false };
            let nothing = *len == 0 && (ours, theirs) == (Ok(()), Err(&INVAL));
            i64::try_from(*offset).is_err() && (nothing || both_failed(ours, theirs))
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
                names_a_directory(path) && (both_failed(ours, theirs) || theirs == Err(&INVAL))
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
            let together = open & DIRECTORY != 0 && open & CREATE_EXCLUSIVE_TRUNCATE != 0;
            together && theirs == Err(&INVAL)
        },
    },
    Difference {
        reason: "a symbolic link that is to be a directory and is not to be followed is ENOTDIR (open(2))",
        parts: true,
        applies: |call, ours, theirs| {
            let Call::Open { open, follow: false, .. } = call else { return false };
            open & DIRECTORY != 0 && (ours, theirs) == (Err(&NOTDIR), Err(&LOOP))
        },
    },
    Difference {
        reason: "what an absolute link says can be read; following it is what is refused",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::ReadLink { .. }) && (ours, theirs) == (Ok(()), Err(&PERM))
        },
    },
    Difference {
        reason: "a file is written by the right to write, not because it was created or emptied",
        parts: true,
        applies: |call, ours, theirs| {
            let writes =
                matches!(call, Call::Write { .. } | Call::Pwrite { .. } | Call::SetSize { .. });
            writes && (ours, theirs) == (Err(&BADF), Ok(()))
        },
    },
    Difference {
        reason: "a descriptor that is not open for writing is EBADF, which POSIX has for ftruncate beside \
                 the EINVAL of Linux",
        parts: true,
        applies: |call, ours, theirs| {
            matches!(call, Call::SetSize { .. }) && (ours, theirs) == (Err(&BADF), Err(&INVAL))
        },
    },
    Difference {
        reason: "a path is looked at even if no time is to be set; Linux itself does not",
        parts: false,
        applies: |call, ours, theirs| {
            let nothing = matches!(call, Call::SetTimesAt { flags: 0, .. });
            nothing && ours.is_err() && theirs.is_ok()
        },
    },
    Difference {
        reason: "rmdir(2) has ENOTEMPTY for the parent",
        parts: true,
        applies: |call, ours, theirs| {
            matches!(call, Call::RemoveDirectory { .. })
                && (ours, theirs) == (Err(&NOTEMPTY), Err(&INVAL))
        },
    },
    Difference {
        reason: "no file has an offset beyond i64::MAX; Wasmtime lets it overflow",
        parts: false,
        applies: |call, ours, theirs| {
            let Call::Advise { offset, .. } = call else { return false };
            i64::try_from(*offset).is_err() && (ours, theirs) == (Err(&INVAL), Ok(()))
        },
    },
    Difference {
        reason: "a descriptor of a directory keeps the flags that it was opened with, too",
        parts: false,
        applies: |call, ours, theirs| {
            matches!(call, Call::Flags { .. }) && (ours, theirs) == (Ok(()), Ok(()))
        },
    },
];

fn both_failed(ours: Outcome<'_, u16>, theirs: Outcome<'_, u16>) -> bool {
    ours.is_err() && theirs.is_err()
}
