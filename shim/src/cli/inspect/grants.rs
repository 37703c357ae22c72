//! What a program is given of what it imports.
//!
//! Rule: only what the file imports is named, and nothing that the options of `hyperlight run` cannot
//! grant is promised.

use std::collections::BTreeMap;

use crate::compile::{Inspection, Item};

/// What a program is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    /// Without asking.
    pub(super) by_default: Vec<&'static str>,
    /// What each option gives.
    pub(super) by_options: BTreeMap<&'static str, &'static str>,
    /// By no option.
    pub(super) never: Vec<&'static str>,
}

/// How a program comes by something.
enum Grant {
    ByDefault(&'static str),
    ByOption(&'static str, &'static str),
    Never(&'static str),
}

const STREAMS: Grant = Grant::ByDefault("standard streams");
const ARGUMENTS: Grant = Grant::ByDefault("arguments");
const CLOCKS: Grant = Grant::ByDefault("clocks");
const RANDOM: Grant = Grant::ByDefault("random numbers");
const ENVIRONMENT: Grant = Grant::ByOption("--env", "environment variables");
const DIRECTORIES: Grant = Grant::ByOption("--dir", "directories");
const NETWORK: Grant = Grant::ByDefault("network");
/// Preview 1 can only use sockets that somebody opened before.
const OPEN_SOCKETS: Grant = Grant::Never("open sockets");

/// What the interfaces of WASI 0.2, and the functions of preview 1, give: by the start of their names.
const TABLE: &[(&str, &[Grant])] = &[
    ("wasi:cli/std", &[STREAMS]),
    ("wasi:cli/environment@", &[ARGUMENTS, ENVIRONMENT]),
    ("wasi:clocks/", &[CLOCKS]),
    ("wasi:random/", &[RANDOM]),
    ("wasi:filesystem/", &[DIRECTORIES]),
    ("wasi:sockets/", &[NETWORK]),
    ("wasi:http/", &[NETWORK]),
    ("wasi_snapshot_preview1.args_", &[ARGUMENTS]),
    ("wasi_snapshot_preview1.environ_", &[ENVIRONMENT]),
    ("wasi_snapshot_preview1.clock_", &[CLOCKS]),
    ("wasi_snapshot_preview1.poll_oneoff", &[CLOCKS]),
    ("wasi_snapshot_preview1.fd_read", &[STREAMS]),
    ("wasi_snapshot_preview1.fd_write", &[STREAMS]),
    ("wasi_snapshot_preview1.path_", &[DIRECTORIES]),
    ("wasi_snapshot_preview1.random_", &[RANDOM]),
    ("wasi_snapshot_preview1.sock_", &[OPEN_SOCKETS]),
];

impl Grants {
    /// What the file is given.
    pub(super) fn of(inspection: &Inspection) -> Self {
        let names: Vec<String> = inspection.imports.iter().flat_map(names).collect();
        let mut grants = Self::default();
        let imported = |start: &str| names.iter().any(|name| name.starts_with(start));
        for grant in TABLE.iter().filter(|(start, _)| imported(start)).flat_map(|(_, all)| *all) {
            match grant {
                Grant::ByDefault(what) => add(&mut grants.by_default, what),
                Grant::Never(what) => add(&mut grants.never, what),
                Grant::ByOption(option, what) => {
                    grants.by_options.insert(option, what);
                }
            }
        }
        grants
    }
}

/// The names under which an import is in the table: its own, and those of its functions.
fn names(item: &Item) -> Vec<String> {
    let functions = item.functions.iter().map(|it| format!("{}.{}", item.name, it.name));
    std::iter::once(item.name.clone()).chain(functions).collect()
}

fn add(list: &mut Vec<&'static str>, what: &'static str) {
    if !list.contains(&what) {
        list.push(what);
    }
}
