//! Sequences of calls of WASI 0.2.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{
    Answer, Arena, Difference, Objects, Outcome, Seen, compare_sequences, names_a_directory, paths,
    time,
};
use crate::p1::seeing;
use crate::p2::P2;
use oracle::Wasi;

mod meant;
mod perform;

/// A call, or a few that belong together. Descriptors are places in the list of those that are open.
#[derive(Clone, Debug)]
enum Call {
    Open {
        at: usize,
        follow: bool,
        path: String,
        open: Words,
        flags: Words,
    },
    Drop {
        fd: usize,
    },
    Read {
        fd: usize,
        len: u64,
        offset: u64,
    },
    Write {
        fd: usize,
        len: usize,
        offset: u64,
    },
    /// Reads by a stream until it ends or a read more than this is made.
    ReadStream {
        fd: usize,
        offset: u64,
        len: u64,
    },
    /// Writes by a stream, in two parts.
    WriteStream {
        fd: usize,
        offset: u64,
        len: usize,
    },
    AppendStream {
        fd: usize,
        len: usize,
    },
    Skip {
        fd: usize,
        offset: u64,
        len: u64,
    },
    /// From one file to another by streams.
    Splice {
        from: usize,
        to: usize,
        offset: u64,
        len: u64,
    },
    Zeroes {
        fd: usize,
        offset: u64,
        len: u64,
    },
    List {
        fd: usize,
    },
    Stat {
        fd: usize,
    },
    StatAt {
        at: usize,
        follow: bool,
        path: String,
    },
    SetSize {
        fd: usize,
        size: u64,
    },
    SetTimes {
        fd: usize,
        atime: NewTime,
        mtime: NewTime,
    },
    SetTimesAt {
        at: usize,
        follow: bool,
        path: String,
        atime: NewTime,
        mtime: NewTime,
    },
    Flags {
        fd: usize,
    },
    Type {
        fd: usize,
    },
    Sync {
        fd: usize,
        data_only: bool,
    },
    Advise {
        fd: usize,
        offset: u64,
        len: u64,
        advice: &'static str,
    },
    IsSame {
        fd: usize,
        other: usize,
    },
    Hash {
        fd: usize,
    },
    HashAt {
        at: usize,
        follow: bool,
        path: String,
    },
    MakeDirectory {
        at: usize,
        path: String,
    },
    RemoveDirectory {
        at: usize,
        path: String,
    },
    Unlink {
        at: usize,
        path: String,
    },
    Rename {
        at: usize,
        path: String,
        to: usize,
        new: String,
    },
    Link {
        at: usize,
        follow: bool,
        path: String,
        to: usize,
        new: String,
    },
    Symlink {
        target: String,
        at: usize,
        path: String,
    },
    ReadLink {
        at: usize,
        path: String,
    },
}

/// Names of flags.
type Words = Vec<&'static str>;

/// A time to set.
#[derive(Clone, Copy, Debug)]
enum NewTime {
    NoChange,
    Now,
    Timestamp { seconds: u64, nanoseconds: u32 },
}

impl NewTime {
    fn is_invalid(self) -> bool {
        matches!(self, Self::Timestamp { nanoseconds: 1_000_000_000.., .. })
    }

    fn is_no_change(self) -> bool {
        matches!(self, Self::NoChange)
    }
}

impl Call {
    fn writes(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::WriteStream { .. }
                | Self::AppendStream { .. }
                | Self::Splice { .. }
                | Self::Zeroes { .. }
                | Self::SetSize { .. }
        )
    }

    fn is_of_streams(&self) -> bool {
        matches!(
            self,
            Self::ReadStream { .. }
                | Self::WriteStream { .. }
                | Self::AppendStream { .. }
                | Self::Skip { .. }
                | Self::Splice { .. }
                | Self::Zeroes { .. }
        )
    }
}

fn new_time() -> impl Strategy<Value = NewTime> {
    let nanoseconds = prop_oneof![9 => 0..1_000_000_000_u32, 1 => 1_000_000_000_u32..];
    prop_oneof![
        1 => Just(NewTime::NoChange),
        1 => Just(NewTime::Now),
        3 => (0..1_500_000_000_u64, nanoseconds)
            .prop_map(|(seconds, nanoseconds)| NewTime::Timestamp { seconds, nanoseconds }),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let fd = || 0..8_usize;
    // Mostly the root: what is opened is mostly a file.
    let at = || prop_oneof![6 => Just(0), 1 => fd()];
    let open = || {
        let all = vec!["create", "directory", "exclusive", "truncate"];
        prop_oneof![
            4 => Just(vec![]),
            3 => Just(vec!["create"]),
            1 => Just(vec!["directory"]),
            3 => subsequence(all, 0..=4),
        ]
    };
    let flags = || {
        prop_oneof![
            3 => Just(vec!["read"]),
            2 => Just(vec!["write"]),
            4 => Just(vec!["read", "write"]),
            1 => Just(vec!["read", "mutate-directory"]),
        ]
    };
    let advice =
        select(&["normal", "sequential", "random", "will-need", "dont-need", "no-reuse"][..]);
    let len = || prop_oneof![3 => 0..30_usize, 1 => 0..4097_usize];
    let length = || len().prop_map(|len| len as u64);
    let follow = any::<bool>;
    let rarely = || prop_oneof![5 => Just(false), 1 => Just(true)];
    prop_oneof![
        10 => (at(), follow(), paths::path(), open(), flags()).prop_map(
            |(at, follow, path, open, flags)| Call::Open { at, follow, path, open, flags }
        ),
        1 => (1..8_usize).prop_map(|fd| Call::Drop { fd }),
        2 => (fd(), length(), paths::offset()).prop_map(|(fd, len, offset)| Call::Read { fd, len, offset }),
        3 => (fd(), len(), paths::size()).prop_map(|(fd, len, offset)| Call::Write { fd, len, offset }),
        2 => (fd(), paths::offset(), length())
            .prop_map(|(fd, offset, len)| Call::ReadStream { fd, offset, len }),
        3 => (fd(), paths::size(), len())
            .prop_map(|(fd, offset, len)| Call::WriteStream { fd, offset, len }),
        2 => (fd(), len()).prop_map(|(fd, len)| Call::AppendStream { fd, len }),
        1 => (fd(), paths::offset(), length()).prop_map(|(fd, offset, len)| Call::Skip { fd, offset, len }),
        1 => (fd(), fd(), paths::size(), length())
            .prop_map(|(from, to, offset, len)| Call::Splice { from, to, offset, len }),
        1 => (fd(), paths::size(), length()).prop_map(|(fd, offset, len)| Call::Zeroes { fd, offset, len }),
        3 => fd().prop_map(|fd| Call::List { fd }),
        2 => fd().prop_map(|fd| Call::Stat { fd }),
        4 => (at(), follow(), paths::path()).prop_map(|(at, follow, path)| Call::StatAt { at, follow, path }),
        2 => (fd(), paths::size()).prop_map(|(fd, size)| Call::SetSize { fd, size }),
        1 => (fd(), new_time(), new_time()).prop_map(|(fd, atime, mtime)| Call::SetTimes { fd, atime, mtime }),
        2 => (at(), follow(), paths::path(), new_time(), new_time()).prop_map(
            |(at, follow, path, atime, mtime)| Call::SetTimesAt { at, follow, path, atime, mtime }
        ),
        1 => fd().prop_map(|fd| Call::Flags { fd }),
        1 => fd().prop_map(|fd| Call::Type { fd }),
        1 => (fd(), any::<bool>()).prop_map(|(fd, data_only)| Call::Sync { fd, data_only }),
        1 => (fd(), paths::offset(), paths::size(), advice)
            .prop_map(|(fd, offset, len, advice)| Call::Advise { fd, offset, len, advice }),
        1 => (fd(), fd()).prop_map(|(fd, other)| Call::IsSame { fd, other }),
        1 => fd().prop_map(|fd| Call::Hash { fd }),
        // A slash has a symbolic link followed, but not in Wasmtime; a hash does not tell which it is of.
        1 => (at(), follow(), paths::path()).prop_map(|(at, follow, path)| {
            let follow = follow || names_a_directory(&path);
            Call::HashAt { at, follow, path }
        }),
        3 => (at(), paths::path()).prop_map(|(at, path)| Call::MakeDirectory { at, path }),
        2 => (at(), paths::path()).prop_map(|(at, path)| Call::RemoveDirectory { at, path }),
        3 => (at(), paths::path()).prop_map(|(at, path)| Call::Unlink { at, path }),
        4 => (at(), paths::path(), at(), paths::path())
            .prop_map(|(at, path, to, new)| Call::Rename { at, path, to, new }),
        3 => (at(), rarely(), paths::path(), at(), paths::path())
            .prop_map(|(at, follow, path, to, new)| Call::Link { at, follow, path, to, new }),
        3 => (paths::target(), at(), paths::path())
            .prop_map(|(target, at, path)| Call::Symlink { target, at, path }),
        2 => (at(), paths::path()).prop_map(|(at, path)| Call::ReadLink { at, path }),
    ]
}

/// Runs a sequence.
fn run(wasi: Wasi, arena: &Arena, calls: &[Call]) -> Vec<Answer<String>> {
    let mut run = perform::Run::start(wasi, arena);
    calls.iter().map(|call| run.perform(call)).collect()
}

#[test]
fn sequences_of_calls_do_what_they_do_in_wasmtime() {
    compare_sequences(call(), run, &meant::DIFFERENCES);
}
