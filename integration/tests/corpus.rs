//! Programs that real toolchains have built give what their list says, by `hyperlight run` and by
//! `ctr run`.
//!
//! The corpus lies beside the tree (`HYPERLIGHT_CORPUS` names another place): `corpus.json` and one
//! file for each program. Without it these tests are skipped, by name.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use integration::process::{self, Outcome};
use integration::scratch::Scratch;
use integration::{Node, hyperlight, leaks, require_kvm, skipped, workspace};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    file: String,
    world: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    stdin: Option<String>,
    files: BTreeMap<String, String>,
    preopens: Vec<String>,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
struct Expect {
    out: Option<String>,
    out_re: Option<String>,
}

impl Expect {
    fn check(&self, outcome: &Outcome) {
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        if let Some(text) = &self.out {
            assert_eq!(&outcome.stdout, text, "{outcome:?}");
        }
        if let Some(pattern) = &self.out_re {
            assert!(regex::Regex::new(pattern).unwrap().is_match(&outcome.stdout), "{outcome:?}");
        }
        assert!(self.out.is_some() || self.out_re.is_some(), "nothing is expected");
    }
}

fn directory() -> PathBuf {
    let beside = || workspace().join("../shared/corpus");
    std::env::var_os("HYPERLIGHT_CORPUS").map_or_else(beside, PathBuf::from)
}

/// Commands of the corpus that do not run, and why.
const NOT_RUN: [(&str, &str); 1] =
    [("rs_tcpkv_p2", "it serves wasi:sockets, and a program has no network")];

/// The corpus; none, with a word about it, if it is not there.
fn entries() -> Option<Vec<Entry>> {
    let list = directory().join("corpus.json");
    let Ok(text) = fs::read_to_string(&list) else {
        skipped(&format!("no corpus at {}", list.display()));
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// The entry `name`; none, with a word about it, if there is no corpus or it does not run.
fn entry(name: &str) -> Option<Entry> {
    if let Some((_, reason)) = NOT_RUN.iter().find(|(not_run, _)| *not_run == name) {
        skipped(reason);
        return None;
    }
    let entry = entries()?.into_iter().find(|entry| entry.name == name);
    Some(entry.unwrap_or_else(|| panic!("no {name} in the corpus")))
}

/// A directory with the files that an entry needs.
fn files(entry: &Entry) -> Scratch {
    let directory = Scratch::new().unwrap();
    for (name, text) in &entry.files {
        fs::write(directory.join(name), text).unwrap();
    }
    directory
}

fn by_hand(name: &str) {
    require_kvm!();
    let Some(entry) = entry(name) else { return };
    let _watch = leaks::watch().unwrap();
    let files = files(&entry);
    let mut command = Command::new(hyperlight().unwrap());
    command.arg("run");
    for (name, value) in &entry.env {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    for guest in &entry.preopens {
        command.arg("--dir").arg(format!("{}::{guest}", files.display()));
    }
    command.arg(directory().join(&entry.file)).arg("--").args(&entry.args);
    let input = entry.stdin.as_deref().unwrap_or_default();
    let outcome = process::run_with_input(&mut command, input.as_bytes()).unwrap();
    entry.expect.check(&outcome);
}

fn by_ctr(name: &str) {
    require_kvm!();
    let Some(entry) = entry(name) else { return };
    let node = Node::start().unwrap();
    let reference = node.pull_component(&entry.name, &directory().join(&entry.file)).unwrap();
    let env: Vec<_> =
        entry.env.iter().map(|(name, value)| format!("--env={name}={value}")).collect();
    // The root file system of a container is what it finds at /.
    let files = files(&entry);
    let mounts: Vec<_> = entry
        .files
        .keys()
        .map(|name| {
            let source = files.join(name);
            format!("--mount=type=bind,src={},dst=/{name},options=rbind", source.display())
        })
        .collect();
    let options: Vec<_> = env.iter().chain(&mounts).map(String::as_str).collect();
    let arguments: Vec<_> =
        [name].into_iter().chain(entry.args.iter().map(String::as_str)).collect();
    let mut command = node.run_command(&reference, "corpus", &options, &arguments);
    let input = entry.stdin.as_deref().unwrap_or_default();
    let outcome = process::run_with_input(&mut command, input.as_bytes()).unwrap();
    entry.expect.check(&outcome);
}

macro_rules! corpus {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn gives_what_is_expected_by_hyperlight_run() {
                super::by_hand(stringify!($name));
            }

            #[test]
            fn gives_what_is_expected_by_ctr_run() {
                super::by_ctr(stringify!($name));
            }
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

#[test]
fn every_command_of_the_corpus_is_listed() {
    let Some(entries) = entries() else { return };
    let commands = entries.into_iter().filter(|entry| ["p1", "p2-cli"].contains(&&*entry.world));
    let commands: BTreeSet<_> = commands.map(|entry| entry.name).collect();
    assert_eq!(NAMES.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>(), commands);
    assert!(NOT_RUN.iter().all(|(name, _)| NAMES.contains(name)), "{NOT_RUN:?}");
}

corpus! {
    c_hello_zig
    c_hello_deb_p1
    c_hello_deb_p2
    c_lua_p1_eh
    rs_bench_p1
    js_cli_quickjs
    rs_bench_p2
    c_coremark_p2adapted
    rs_tcpkv_p2
}
