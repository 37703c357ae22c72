//! The programs of WASI's own test suite for p1, each in a micro-VM on a copy of its directory.
//!
//! The suite lies beside the tree (`HYPERLIGHT_WASI_TESTSUITE` names another place): `suite.json` and the
//! programs that it lists. Without it these tests are skipped, by name.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use integration::scratch::Scratch;
use integration::{hyperlight, leaks, process, require_kvm, skipped, workspace};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    wasm: PathBuf,
    world: String,
    kind: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    dirs: Vec<Directory>,
    stdin: Option<String>,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
struct Directory {
    copy: PathBuf,
    guest: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    exit: i32,
    stdout: Option<String>,
    stderr: Option<String>,
}

/// Programs that do not run, and why.
const NOT_RUN: [(&str, &str); 0] = [];

fn directory() -> PathBuf {
    let beside = || workspace().join("../shared/wasi-testsuite");
    std::env::var_os("HYPERLIGHT_WASI_TESTSUITE").map_or_else(beside, PathBuf::from)
}

/// The suite's programs for p1 by their names here; none, with a word about it, if it is not there.
fn entries() -> Option<BTreeMap<String, Entry>> {
    let list = directory().join("suite.json");
    let Ok(text) = fs::read_to_string(&list) else {
        skipped(&format!("no test suite at {}", list.display()));
        return None;
    };
    let entries: Vec<Entry> = serde_json::from_str(&text).unwrap();
    let runs = entries.into_iter().filter(|entry| entry.world == "p1" && entry.kind == "run");
    // wts/LANGUAGE/p1/NAME
    let named = runs.map(|entry| {
        let parts: Vec<_> = entry.name.split('/').collect();
        (format!("{}::{}", parts[1], parts[3].replace('-', "_")), entry)
    });
    Some(named.collect())
}

fn passes(name: &str) {
    require_kvm!();
    if let Some((_, reason)) = NOT_RUN.iter().find(|(not_run, _)| *not_run == name) {
        skipped(reason);
        return;
    }
    let Some(mut entries) = entries() else { return };
    let entry = entries.remove(name).unwrap_or_else(|| panic!("no {name} in the suite"));
    let _watch = leaks::watch().unwrap();
    let mut command = Command::new(hyperlight().unwrap());
    command.arg("run");
    for (name, value) in &entry.env {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    let mut copies = Vec::new();
    for Directory { copy, guest } in &entry.dirs {
        let copy = Scratch::copy_of(&directory().join(copy)).unwrap();
        command.arg("--dir").arg(format!("{}::{guest}", copy.display()));
        copies.push(copy);
    }
    command.arg(directory().join(&entry.wasm)).arg("--").args(&entry.args);
    let input = entry.stdin.as_deref().unwrap_or_default();
    let outcome = process::run_with_input(&mut command, input.as_bytes()).unwrap();
    assert_eq!(outcome.code(), entry.expect.exit, "{}\n{}", outcome.stdout, outcome.stderr);
    if let Some(expected) = &entry.expect.stdout {
        assert_eq!(&outcome.stdout, expected, "{}", outcome.stderr);
    }
    if let Some(expected) = &entry.expect.stderr {
        assert_eq!(&outcome.stderr, expected);
    }
}

macro_rules! suite {
    ($($language:ident { $($name:ident)* })*) => {
        $(mod $language {
            $(#[test]
            fn $name() {
                super::passes(concat!(stringify!($language), "::", stringify!($name)));
            })*
        })*

        const NAMES: &[&str] =
            &[$($(concat!(stringify!($language), "::", stringify!($name))),*),*];
    };
}

suite! {
    assemblyscript {
        args_get_multiple_arguments
        args_sizes_get_multiple_arguments
        args_sizes_get_no_arguments
        environ_get_multiple_variables
        environ_sizes_get_multiple_variables
        environ_sizes_get_no_variables
        fd_write_to_invalid_fd
        fd_write_to_stdout
        proc_exit_failure
        proc_exit_success
        random_get_non_zero_length
        random_get_zero_length
    }
    c {
        clock_getres_monotonic
        clock_getres_realtime
        clock_gettime_monotonic
        clock_gettime_realtime
        fdopendir_with_access
        fopen_with_access
        fopen_with_no_access
        lseek
        pread_with_access
        pwrite_with_access
        pwrite_with_append
        sock_shutdown_invalid_fd
        sock_shutdown_not_sock
        stat_dev_ino
    }
    rust {
        big_random_buf
        clock_time_get
        close_preopen
        dangling_fd
        dangling_symlink
        dir_fd_op_failures
        directory_seek
        fd_advise
        fd_fdstat_set_rights
        fd_filestat_set
        fd_flags_set
        fd_readdir
        file_allocate
        file_pread_pwrite
        file_seek_tell
        file_truncation
        file_unbuffered_write
        fstflags_validate
        interesting_paths
        isatty
        nofollow_errors
        overwrite_preopen
        path_exists
        path_filestat
        path_link
        path_open_create_existing
        path_open_dirfd_not_dir
        path_open_missing
        path_open_nonblock
        path_open_preopen
        path_open_read_write
        path_rename
        path_rename_dir_trailing_slashes
        path_symlink_trailing_slashes
        poll_oneoff_stdio
        readlink
        remove_directory_trailing_slashes
        remove_nonempty_directory
        renumber
        sched_yield
        stdio
        symlink_create
        symlink_filestat
        symlink_loop
        truncation_rights
        unlink_file_trailing_slashes
    }
}

#[test]
fn every_program_of_the_suite_for_p1_is_listed() {
    let Some(entries) = entries() else { return };
    let listed: BTreeSet<_> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, entries.into_keys().collect());
    assert!(NOT_RUN.iter().all(|(name, _)| listed.contains(*name)), "{NOT_RUN:?}");
}
