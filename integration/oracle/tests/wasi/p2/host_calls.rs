//! Host calls that an operation of WASI 0.2 costs: each is an exit of a micro-VM.

use std::slice::from_ref;

use oracle::Wasi;
use wasmtime::component::Val;

use super::{P2, bytes, flags, text};
use crate::p1::seeing;

/// A file of this size is there as `file`.
const FILE_BYTES: usize = 4 << 20;
/// Files beside it.
const FILES: usize = 50;

/// Counts.
struct Meter {
    program: P2,
    /// Operations that cost more than they may.
    dearer: Vec<String>,
}

impl Meter {
    /// Calls a function that may cost `most` host calls, and returns what it gave.
    fn costs(&mut self, most: usize, name: &str, arguments: &[Val]) -> Val {
        let _ = self.program.session.calls();
        let given = self.program.call(name, arguments);
        let calls = self.program.session.calls();
        if calls.len() > most {
            self.dearer.push(format!("{name}: {calls:?}, and not {most}"));
        }
        match given {
            Ok(Some(Val::Result(Ok(Some(value))))) => *value,
            Ok(Some(Val::Result(Err(error)))) => panic!("{name}: {error:?}"),
            Ok(Some(value)) => value,
            Ok(None) => Val::Bool(true),
            Err(ended) => panic!("{name}: {ended:?}"),
        }
    }

    /// As [`costs`](Self::costs), for a method of a descriptor.
    fn file(&mut self, most: usize, method: &str, arguments: &[&Val]) -> Val {
        let arguments: Vec<Val> = arguments.iter().map(|argument| (*argument).clone()).collect();
        self.costs(most, &format!("types/descriptor.{method}"), &arguments)
    }
}

fn meter(directory: &std::path::Path) -> Meter {
    std::fs::write(directory.join("file"), vec![7; FILE_BYTES]).unwrap();
    for number in 0..FILES {
        std::fs::write(directory.join(format!("{number}")), "").unwrap();
    }
    Meter { program: P2::start(Wasi::Ours, &seeing(directory)), dearer: Vec::new() }
}

#[test]
fn surroundings_and_standard_output_cost_what_they_must() {
    let directory = tempfile::tempdir().unwrap();
    let mut meter = meter(directory.path());
    for name in ["get-environment", "get-arguments", "initial-cwd"] {
        meter.costs(0, &format!("environment/{name}"), &[]);
    }
    meter.costs(1, "monotonic-clock/now", &[]); // the first sample
    for name in ["monotonic-clock/now", "monotonic-clock/resolution", "wall-clock/now"] {
        meter.costs(0, name, &[]);
    }
    meter.costs(0, "random/get-random-u64", &[]);
    meter.costs(0, "random/get-random-bytes", &[Val::U64(1 << 20)]);
    meter.costs(0, "insecure/get-insecure-random-bytes", &[Val::U64(100)]);
    meter.costs(0, "insecure-seed/insecure-seed", &[]);
    meter.costs(0, "terminal-stdout/get-terminal-stdout", &[]);

    let output = meter.costs(0, "stdout/get-stdout", &[]);
    let line = bytes(b"a line\n");
    meter.costs(0, "streams/output-stream.check-write", from_ref(&output));
    meter.costs(1, "streams/output-stream.write", &[output.clone(), line.clone()]);
    meter.costs(0, "streams/output-stream.blocking-flush", from_ref(&output));
    meter.costs(1, "streams/output-stream.blocking-write-and-flush", &[output.clone(), line]);
    meter.costs(0, "streams/drop-output-stream", &[output]);

    meter.costs(1, "monotonic-clock/now", &[]); // the sample, if that is a second old
    let timer = meter.costs(0, "monotonic-clock/subscribe-duration", &[Val::U64(1_000_000)]);
    meter.costs(1, "poll/pollable.block", from_ref(&timer));
    meter.costs(0, "poll/pollable.ready", from_ref(&timer));
    meter.costs(0, "poll/drop-pollable", &[timer]);
    let timer = meter.costs(0, "monotonic-clock/subscribe-duration", &[Val::U64(1_000_000)]);
    let input = meter.costs(0, "stdin/get-stdin", &[]);
    let readable = meter.costs(0, "streams/input-stream.subscribe", &[input]);
    meter.costs(1, "poll/poll", &[Val::List(vec![timer, readable])]);
    assert!(meter.dearer.is_empty(), "{}", meter.dearer.join("\n"));
}

#[test]
fn files_cost_one_host_call_for_an_operation() {
    let directory = tempfile::tempdir().unwrap();
    let mut meter = meter(directory.path());
    let root = meter.program.root();
    let (name, new, newer) = (text("file"), text("new"), text("newer"));
    let (none, follow, both) = (flags(&[]), flags(&["symlink-follow"]), flags(&["read", "write"]));
    let (zero, chunk) = (Val::U64(0), Val::U64(64 << 10));
    let no_change = Val::Variant("no-change".to_owned(), None);

    let file = meter.file(1, "open-at", &[&root, &follow, &name, &none, &both]);
    meter.file(0, "get-flags", &[&file]);
    meter.file(0, "get-type", &[&file]);
    meter.file(1, "stat", &[&file]);
    meter.file(1, "metadata-hash", &[&file]);
    meter.file(2, "is-same-object", &[&file, &root]);
    meter.file(1, "read", &[&file, &chunk, &zero]);
    meter.file(1, "write", &[&file, &bytes(&[1; 64 << 10]), &zero]);
    meter.file(1, "set-size", &[&file, &Val::U64(FILE_BYTES as u64)]);
    meter.file(1, "set-times", &[&file, &no_change, &no_change]);
    meter.file(1, "sync", &[&file]);
    meter.file(1, "sync-data", &[&file]);
    meter.file(1, "advise", &[&file, &zero, &zero, &Val::Enum("random".to_owned())]);
    meter.file(1, "stat-at", &[&root, &follow, &name]);
    meter.file(1, "metadata-hash-at", &[&root, &follow, &name]);
    meter.file(1, "set-times-at", &[&root, &follow, &name, &no_change, &no_change]);
    meter.file(1, "create-directory-at", &[&root, &new]);
    meter.file(1, "remove-directory-at", &[&root, &new]);
    meter.file(1, "symlink-at", &[&root, &name, &new]);
    meter.file(1, "readlink-at", &[&root, &new]);
    meter.file(1, "unlink-file-at", &[&root, &new]);
    meter.file(1, "link-at", &[&root, &none, &name, &root, &new]);
    meter.file(1, "rename-at", &[&root, &new, &root, &newer]);

    let input = meter.file(0, "read-via-stream", &[&file, &zero]);
    for _ in 0..3 {
        let arguments = [input.clone(), chunk.clone()];
        meter.costs(1, "streams/input-stream.blocking-read", &arguments);
    }
    meter.costs(0, "streams/drop-input-stream", &[input]);
    let output = meter.file(0, "write-via-stream", &[&file, &zero]);
    let arguments = [output.clone(), bytes(&[2; 4096])];
    meter.costs(1, "streams/output-stream.blocking-write-and-flush", &arguments);
    meter.costs(0, "streams/drop-output-stream", &[output]);

    let entries = meter.file(0, "read-directory", &[&root]);
    let next = "types/directory-entry-stream.read-directory-entry";
    meter.costs(1, next, from_ref(&entries));
    for _ in 1..FILES {
        meter.costs(0, next, from_ref(&entries));
    }
    meter.costs(0, "types/drop-directory-entry-stream", &[entries]);
    meter.costs(1, "types/drop-descriptor", &[file]);
    assert!(meter.dearer.is_empty(), "{}", meter.dearer.join("\n"));
}
