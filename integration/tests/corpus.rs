//! Programs that real toolchains have built give what their list says, by `hyperlight run` and by
//! `ctr run`.
//!
//! The corpus lies beside the tree (`HYPERLIGHT_CORPUS` names another place): `corpus.json` and one
//! file for each program. Without it these tests are skipped, by name.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use integration::process::{self, Outcome};
use integration::{Node, hyperlight, leaks, require_kvm, skipped, workspace};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    file: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
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

/// The entry `name`; none, with a word about it, if there is no corpus.
fn entry(name: &str) -> Option<Entry> {
    let list = directory().join("corpus.json");
    let Ok(text) = fs::read_to_string(&list) else {
        skipped(&format!("no corpus at {}", list.display()));
        return None;
    };
    let entries: Vec<Entry> = serde_json::from_str(&text).unwrap();
    let entry = entries.into_iter().find(|entry| entry.name == name);
    Some(entry.unwrap_or_else(|| panic!("no {name} in {}", list.display())))
}

fn by_hand(name: &str) {
    require_kvm!();
    let Some(entry) = entry(name) else { return };
    let _watch = leaks::watch().unwrap();
    let writable = std::env::temp_dir().join(format!("corpus-{}", std::process::id()));
    fs::create_dir(&writable).unwrap();
    let mut command = Command::new(hyperlight().unwrap());
    command.arg("run").current_dir(&writable);
    for (name, value) in &entry.env {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    for directory in &entry.preopens {
        command.arg("--dir").arg(directory);
    }
    command
        .arg(fs::canonicalize(directory().join(&entry.file)).unwrap())
        .arg("--")
        .args(&entry.args);
    let outcome = process::run(&mut command).unwrap();
    fs::remove_dir_all(&writable).unwrap();
    entry.expect.check(&outcome);
}

fn by_ctr(name: &str) {
    require_kvm!();
    let Some(entry) = entry(name) else { return };
    let node = Node::start().unwrap();
    let reference = node.pull_component(&entry.name, &directory().join(&entry.file)).unwrap();
    let env: Vec<_> =
        entry.env.iter().map(|(name, value)| format!("--env={name}={value}")).collect();
    let options: Vec<_> = env.iter().map(String::as_str).collect();
    let arguments: Vec<_> =
        [name].into_iter().chain(entry.args.iter().map(String::as_str)).collect();
    let outcome =
        process::run(&mut node.run_command(&reference, "corpus", &options, &arguments)).unwrap();
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
    };
}

corpus! {
    c_hello_deb_p2
    js_cli_quickjs
    rs_bench_p2
    c_coremark_p2adapted
}
