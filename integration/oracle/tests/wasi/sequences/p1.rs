//! Sequences of calls of preview 1.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Answer, Arena, Difference, Objects, Outcome, Seen, compare_sequences, names_a_directory, paths,
    time,
};
use crate::p1::{DATA, P1, PATH, RESULT, ROOM, ROOT, VECTOR, vector};
use oracle::Wasi;

mod meant;
mod perform;

/// A call. Descriptors are places in the list of those that the sequence has opened, whether or not they
/// are still open.
#[derive(Clone, Debug)]
enum Call {
    Open { at: usize, follow: bool, path: String, open: u64, rights: u64, flags: u64 },
    Close { fd: usize },
    Renumber { from: usize, to: usize },
    Read { fd: usize, len: usize },
    Pread { fd: usize, len: usize, offset: u64 },
    Write { fd: usize, len: usize },
    Pwrite { fd: usize, len: usize, offset: u64 },
    Seek { fd: usize, offset: i64, whence: u64 },
    Tell { fd: usize },
    Stat { fd: usize },
    SetSize { fd: usize, size: u64 },
    SetTimes { fd: usize, atime: u64, mtime: u64, flags: u64 },
    Flags { fd: usize },
    SetFlags { fd: usize, flags: u64 },
    Sync { fd: usize },
    DataSync { fd: usize },
    Advise { fd: usize, offset: u64, len: u64, advice: u64 },
    List { fd: usize },
    MakeDirectory { at: usize, path: String },
    RemoveDirectory { at: usize, path: String },
    Unlink { at: usize, path: String },
    Rename { at: usize, path: String, to: usize, new: String },
    Link { at: usize, follow: bool, path: String, to: usize, new: String },
    Symlink { target: String, at: usize, path: String },
    ReadLink { at: usize, path: String, room: u64 },
    StatAt { at: usize, follow: bool, path: String },
    SetTimesAt { at: usize, follow: bool, path: String, atime: u64, mtime: u64, flags: u64 },
}

/// Rights of a descriptor, as `fd_read`, `fd_write` and `fd_readdir` need them.
const READ: u64 = 1 << 1 | 1 << 14;
const WRITE: u64 = 1 << 6;

fn call() -> impl Strategy<Value = Call> {
    let fd = || 0..8_usize;
    // Mostly the root: what is opened is mostly a file.
    let at = || prop_oneof![6 => Just(0), 1 => fd()];
    let rights = || prop_oneof![3 => Just(READ), 2 => Just(WRITE), 4 => Just(READ | WRITE)];
    // No flag, or some of: create 1, directory 2, exclusive 4, truncate 8.
    let open = || prop_oneof![4 => Just(0), 3 => Just(1), 1 => Just(2), 3 => 0..16_u64];
    // Append 1, nonblock 4.
    let flags = || prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(4), 1 => Just(5)];
    let time_flags = || prop_oneof![4 => Just(5), 3 => 0..16_u64];
    let len = || prop_oneof![3 => 0..30_usize, 1 => 0..8000_usize];
    let follow = any::<bool>;
    prop_oneof![
        10 => (at(), follow(), paths::path(), open(), rights(), flags()).prop_map(
            |(at, follow, path, open, rights, flags)| Call::Open { at, follow, path, open, rights, flags }
        ),
        2 => fd().prop_map(|fd| Call::Close { fd }),
        1 => (1..8_usize, 1..8_usize).prop_map(|(from, to)| Call::Renumber { from, to }),
        3 => (fd(), len()).prop_map(|(fd, len)| Call::Read { fd, len }),
        2 => (fd(), len(), paths::offset()).prop_map(|(fd, len, offset)| Call::Pread { fd, len, offset }),
        // Not of nothing: that goes to the end in Wasmtime where it appends, and nowhere in Linux.
        3 => (fd(), len()).prop_map(|(fd, len)| Call::Write { fd, len: len.max(1) }),
        2 => (fd(), len(), paths::size()).prop_map(|(fd, len, offset)| Call::Pwrite { fd, len, offset }),
        3 => (fd(), -20..60_i64, 0..3_u64).prop_map(|(fd, offset, whence)| Call::Seek { fd, offset, whence }),
        1 => fd().prop_map(|fd| Call::Tell { fd }),
        2 => fd().prop_map(|fd| Call::Stat { fd }),
        2 => (fd(), paths::size()).prop_map(|(fd, size)| Call::SetSize { fd, size }),
        1 => (fd(), paths::time(), paths::time(), time_flags())
            .prop_map(|(fd, atime, mtime, flags)| Call::SetTimes { fd, atime, mtime, flags }),
        1 => fd().prop_map(|fd| Call::Flags { fd }),
        1 => (fd(), prop_oneof![3 => flags(), 1 => 0..32_u64])
            .prop_map(|(fd, flags)| Call::SetFlags { fd, flags }),
        1 => fd().prop_map(|fd| Call::Sync { fd }),
        1 => fd().prop_map(|fd| Call::DataSync { fd }),
        1 => (fd(), paths::offset(), paths::size(), 0..6_u64)
            .prop_map(|(fd, offset, len, advice)| Call::Advise { fd, offset, len, advice }),
        3 => fd().prop_map(|fd| Call::List { fd }),
        3 => (at(), paths::path()).prop_map(|(at, path)| Call::MakeDirectory { at, path }),
        2 => (at(), paths::path()).prop_map(|(at, path)| Call::RemoveDirectory { at, path }),
        3 => (at(), paths::path()).prop_map(|(at, path)| Call::Unlink { at, path }),
        4 => (at(), paths::path(), at(), paths::path())
            .prop_map(|(at, path, to, new)| Call::Rename { at, path, to, new }),
        3 => (at(), prop_oneof![5 => Just(false), 1 => Just(true)], paths::path(), at(), paths::path())
            .prop_map(|(at, follow, path, to, new)| Call::Link { at, follow, path, to, new }),
        3 => (paths::target(), at(), paths::path())
            .prop_map(|(target, at, path)| Call::Symlink { target, at, path }),
        2 => (at(), paths::path(), select(&[0, 1, 3, 4096][..]))
            .prop_map(|(at, path, room)| Call::ReadLink { at, path, room }),
        4 => (at(), follow(), paths::path())
            .prop_map(|(at, follow, path)| Call::StatAt { at, follow, path }),
        2 => (at(), follow(), paths::path(), paths::time(), paths::time(), time_flags()).prop_map(
            |(at, follow, path, atime, mtime, flags)| {
                Call::SetTimesAt { at, follow, path, atime, mtime, flags }
            }
        ),
    ]
}

/// Runs a sequence.
fn run(wasi: Wasi, arena: &Arena, calls: &[Call]) -> Vec<Answer<u16>> {
    let mut run = perform::Run::start(wasi, arena);
    calls.iter().map(|call| run.perform(call)).collect()
}

#[test]
fn sequences_of_calls_do_what_they_do_in_wasmtime() {
    compare_sequences(call(), run, &meant::DIFFERENCES);
}
