//! Every function of preview 1, with good arguments and with each kind of bad ones, beside Wasmtime's.
//!
//! From one good call of each function the bad ones are made: a descriptor of every other kind, a pointer
//! that leads out of memory, one that is not aligned, flags that do not exist. What must come of a pointer
//! and of flags is known; an error number is compared with Wasmtime's.

use std::collections::BTreeSet;
use std::path::Path;

use oracle::{TRAPPED, Wasi};

use self::meant::{Case, DIFFERENCES};
use super::{DATA, P1, PATH, RESULT, ROOM, ROOT, VECTOR, seeing, vector};
use crate::interpreter::P1 as FUNCTIONS;

mod meant;

/// A descriptor of a file that is open for reading and writing, of a directory that is open, and one
/// that was never given.
const FILE: u64 = 4;
const DIRECTORY: u64 = 5;
const NEVER_OPEN: u64 = 99;
/// Where a pointer leads out of memory.
const OUTSIDE: u64 = 0xffff_0000;
/// `errno`.
const INVAL: u16 = 28;

/// A parameter of a good call.
#[derive(Clone, Copy, Debug)]
enum Good {
    /// A descriptor.
    Fd(u64),
    /// A pointer to what is aligned to so many bytes.
    Pointer(u64, u64),
    /// A pointer to a path, and its length.
    Path(u64, u64),
    /// Flags or a case, and a number that is none.
    Flags(u64, u64),
    Number(u64),
}

use Good::{Fd, Flags, Number, Pointer};

const RESULT8: Good = Pointer(RESULT as u64, 8);
const RESULT4: Good = Pointer(RESULT as u64, 4);
const BUFFER: Good = Pointer(DATA as u64, 1);
const BUFFERS: Good = Pointer(VECTOR as u64, 4);
const FILE_PATH: Good = Good::Path(PATH as u64, 1);
const NEW_PATH: Good = Good::Path(PATH as u64 + ROOM as u64, 3);
const LOOKUP: Good = Flags(1, 2);

/// A good call of each function. `f` is a file, `d` an empty directory, `l` a link, `new` nothing.
fn good_calls() -> Vec<(&'static str, Vec<Good>)> {
    let path = |at: u32| Good::Path(at.into(), 1);
    let (directory_path, link_path) = (path(PATH + 1), path(PATH + 2));
    let root = Fd(ROOT.into());
    vec![
        ("args_get", vec![RESULT4, BUFFER]),
        ("args_sizes_get", vec![RESULT4, Pointer(DATA.into(), 4)]),
        ("environ_get", vec![RESULT4, BUFFER]),
        ("environ_sizes_get", vec![RESULT4, Pointer(DATA.into(), 4)]),
        ("clock_res_get", vec![Flags(0, 4), RESULT8]),
        ("clock_time_get", vec![Flags(1, 4), Number(0), RESULT8]),
        ("fd_advise", vec![Fd(FILE), Number(0), Number(0), Flags(1, 6)]),
        ("fd_allocate", vec![Fd(FILE), Number(0), Number(10)]),
        ("fd_close", vec![Fd(FILE)]),
        ("fd_datasync", vec![Fd(FILE)]),
        ("fd_fdstat_get", vec![Fd(FILE), RESULT8]),
        ("fd_fdstat_set_flags", vec![Fd(FILE), Flags(1, 32)]),
        ("fd_fdstat_set_rights", vec![Fd(FILE), Number(0), Number(0)]),
        ("fd_filestat_get", vec![Fd(FILE), RESULT8]),
        ("fd_filestat_set_size", vec![Fd(FILE), Number(5)]),
        ("fd_filestat_set_times", vec![Fd(FILE), Number(1), Number(1), Flags(5, 16)]),
        ("fd_pread", vec![Fd(FILE), BUFFERS, Number(1), Number(0), RESULT4]),
        ("fd_prestat_get", vec![root, RESULT4]),
        ("fd_prestat_dir_name", vec![root, BUFFER, Number(1)]),
        ("fd_pwrite", vec![Fd(FILE), BUFFERS, Number(1), Number(0), RESULT4]),
        ("fd_read", vec![Fd(FILE), BUFFERS, Number(1), RESULT4]),
        ("fd_readdir", vec![root, BUFFER, Number(1000), Number(0), RESULT4]),
        ("fd_renumber", vec![Fd(FILE), Fd(DIRECTORY)]),
        ("fd_seek", vec![Fd(FILE), Number(1), Flags(1, 3), RESULT8]),
        ("fd_sync", vec![Fd(FILE)]),
        ("fd_tell", vec![Fd(FILE), RESULT8]),
        ("fd_write", vec![Fd(FILE), BUFFERS, Number(1), RESULT4]),
        ("path_create_directory", vec![root, NEW_PATH]),
        ("path_filestat_get", vec![root, LOOKUP, FILE_PATH, RESULT8]),
        (
            "path_filestat_set_times",
            vec![root, LOOKUP, FILE_PATH, Number(1), Number(1), Flags(5, 16)],
        ),
        ("path_link", vec![root, Flags(0, 2), FILE_PATH, root, NEW_PATH]),
        (
            "path_open",
            vec![
                root,
                LOOKUP,
                FILE_PATH,
                Flags(0, 16),
                Number(2),
                Number(0),
                Flags(0, 32),
                RESULT4,
            ],
        ),
        ("path_readlink", vec![root, link_path, BUFFER, Number(10), RESULT4]),
        ("path_remove_directory", vec![root, directory_path]),
        ("path_rename", vec![root, FILE_PATH, root, NEW_PATH]),
        ("path_symlink", vec![FILE_PATH, root, NEW_PATH]),
        ("path_unlink_file", vec![root, FILE_PATH]),
        (
            "poll_oneoff",
            vec![Pointer((DATA + ROOM).into(), 8), RESULT8, Number(1), Pointer(DATA.into(), 4)],
        ),
        ("proc_exit", vec![Flags(3, 200)]),
        ("proc_raise", vec![Flags(0, 31)]),
        ("random_get", vec![BUFFER, Number(10)]),
        ("sched_yield", vec![]),
        ("sock_accept", vec![Fd(FILE), Flags(0, 32), RESULT4]),
        (
            "sock_recv",
            vec![Fd(FILE), BUFFERS, Number(1), Flags(0, 4), RESULT4, Pointer(DATA.into(), 2)],
        ),
        ("sock_send", vec![Fd(FILE), BUFFERS, Number(1), Flags(0, 1), RESULT4]),
        ("sock_shutdown", vec![Fd(FILE), Flags(1, 4)]),
    ]
}

/// What is wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Its descriptor is this.
    Fd(u64),
    /// A pointer leads out of memory.
    Outside,
    /// A pointer is not aligned.
    Misaligned,
    /// Flags have an unknown bit, or there is no such case.
    Flags,
    /// A path is empty.
    Empty,
    /// A path has a NUL.
    Nul,
    /// A path is not UTF-8.
    NotText,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Errno(u16),
    /// The program ended with this status.
    Status(i32),
}

/// The arguments of a good call.
fn arguments(good: &[Good]) -> Vec<u64> {
    let values = good.iter().flat_map(|parameter| match *parameter {
        Fd(value) | Pointer(value, _) | Flags(value, _) | Number(value) => vec![value],
        Good::Path(at, len) => vec![at, len],
    });
    values.collect()
}

/// Each way to spoil a good call, with its arguments.
fn bad_calls(good: &[Good]) -> Vec<(Wrong, Vec<u64>)> {
    let mut bad = Vec::new();
    let mut spoil = |wrong, place: usize, spoilt: Good| {
        let mut parameters = good.to_vec();
        parameters[place] = spoilt;
        bad.push((wrong, arguments(&parameters)));
    };
    for (place, parameter) in good.iter().enumerate() {
        match *parameter {
            Fd(own) => {
                let kinds = [1, u64::from(ROOT), FILE, DIRECTORY, NEVER_OPEN, u32::MAX.into()];
                for fd in kinds.into_iter().filter(|fd| *fd != own) {
                    spoil(Wrong::Fd(fd), place, Fd(fd));
                }
            }
            Pointer(at, alignment) => {
                spoil(Wrong::Outside, place, Number(OUTSIDE));
                if alignment > 1 {
                    spoil(Wrong::Misaligned, place, Number(at + 1));
                }
            }
            Good::Path(at, len) => {
                spoil(Wrong::Outside, place, Good::Path(OUTSIDE, len));
                spoil(Wrong::Empty, place, Good::Path(at, 0));
                spoil(Wrong::Nul, place, Good::Path((PATH + 8).into(), 3));
                spoil(Wrong::NotText, place, Good::Path((PATH + 16).into(), 2));
            }
            Flags(_, unknown) => spoil(Wrong::Flags, place, Number(unknown)),
            Number(_) => {}
        }
    }
    bad
}

/// Makes one call in a program of its own, in a directory of its own.
fn end(wasi: Wasi, name: &str, arguments: &[u64]) -> End {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let mut grants = seeing(directory.path());
    grants.args = vec!["program".to_owned()];
    grants.env = vec![("KEY".to_owned(), "VALUE".to_owned())];
    let mut program = P1::start_with(wasi, &grants);
    assert_eq!(program.open(ROOT, b"f", 0, 1 << 1 | 1 << 6, 0), Ok(4));
    assert_eq!(program.open(ROOT, b"d", 2, 1 << 14, 0), Ok(5));
    let buffers = vector(4);
    // A clock that has passed.
    let mut subscription = [0; 48];
    subscription[16] = 1;
    let pokes = [
        (PATH, &b"fdl"[..]),
        (PATH + 8, b"a\0b"),
        (PATH + 16, b"\xff\xfe"),
        (PATH + ROOM, b"new"),
        (VECTOR, &buffers),
        (DATA + ROOM, &subscription),
    ];
    match program.call_with(&pokes, name, arguments, (0, 0)) {
        Ok((errno, _)) => End::Errno(errno),
        Err(ended) => End::Status(ended.status),
    }
}

fn prepare(directory: &Path) {
    std::fs::write(directory.join("f"), "content").unwrap();
    std::fs::create_dir(directory.join("d")).unwrap();
    std::os::unix::fs::symlink("f", directory.join("l")).unwrap();
}

#[test]
fn each_function_has_a_good_call() {
    let called: BTreeSet<_> = good_calls().into_iter().map(|(name, _)| name).collect();
    assert_eq!(called, FUNCTIONS.iter().map(|(name, _)| *name).collect());
}

#[test]
fn calls_end_as_in_wasmtime_or_as_the_table_of_differences_says() {
    let mut differences = Vec::new();
    let mut met = BTreeSet::new();
    for (name, good) in good_calls() {
        let good_call = (Wrong::Nothing, arguments(&good));
        for (wrong, arguments) in std::iter::once(good_call).chain(bad_calls(&good)) {
            let (ours, theirs) =
                (end(Wasi::Ours, name, &arguments), end(Wasi::Theirs, name, &arguments));
            let case = Case { name, wrong, ours, theirs };
            let meant = DIFFERENCES.iter().find(|difference| (difference.applies)(&case));
            met.extend(meant.map(|difference| difference.reason));
            if ours != theirs && meant.is_none() {
                differences.push(format!("{name} {wrong:?}: ours {ours:?}, theirs {theirs:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let stale = DIFFERENCES.iter().map(|it| it.reason).filter(|reason| !met.contains(reason));
    assert_eq!(stale.collect::<Vec<_>>(), [""; 0], "differences that are none");
}

/// Good calls of the functions that look at their arguments: there are no sockets to use them on.
fn good_calls_without_sockets() -> impl Iterator<Item = (&'static str, Vec<Good>)> {
    good_calls().into_iter().filter(|(name, _)| !name.starts_with("sock_"))
}

#[test]
fn a_pointer_out_of_memory_or_misaligned_is_a_trap() {
    let mut others = Vec::new();
    for (name, good) in good_calls_without_sockets() {
        for (wrong, arguments) in bad_calls(&good) {
            if ![Wrong::Outside, Wrong::Misaligned].contains(&wrong) {
                continue;
            }
            let end = end(Wasi::Ours, name, &arguments);
            if end != End::Status(TRAPPED) {
                others.push(format!("{name}({arguments:x?}) {wrong:?}: {end:?}"));
            }
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn unknown_flags_and_cases_are_invalid() {
    let mut others = Vec::new();
    // Every number is an exit status.
    for (name, good) in good_calls_without_sockets().filter(|(name, _)| *name != "proc_exit") {
        for (wrong, arguments) in bad_calls(&good) {
            if wrong != Wrong::Flags {
                continue;
            }
            let end = end(Wasi::Ours, name, &arguments);
            if end != End::Errno(INVAL) {
                others.push(format!("{name}({arguments:x?}): {end:?}"));
            }
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}
