//! Programs that real toolchains have built give what their list says, by `hyperlight run` and by
//! `ctr run`.
//!
//! The corpus lies beside the tree (`HYPERLIGHT_CORPUS` names another place): `corpus.json` and one
//! file for each program. Without it these tests are skipped, by name.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use integration::process::{self, HANG_LIMIT, Outcome};
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
    /// A port of loopback, what a client sends there, and what comes back.
    tcp: Option<(u16, String, String)>,
}

impl Expect {
    /// Runs the program to its end, with a client if it is a server.
    fn run(&self, command: &mut Command, input: &[u8]) {
        let Some((port, question, answer)) = &self.tcp else {
            return self.check(&process::run_with_input(command, input).unwrap());
        };
        let mut server = process::start(command.stdin(Stdio::null())).unwrap();
        let mut client = None;
        process::wait_until("the server to listen", HANG_LIMIT, || {
            client = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).ok();
            client.is_some() || server.has_ended().unwrap()
        })
        .unwrap();
        let mut received = String::new();
        if let Some(mut client) = client {
            client.set_read_timeout(Some(HANG_LIMIT)).unwrap();
            client.write_all(question.as_bytes()).unwrap();
            client.read_to_string(&mut received).unwrap();
        }
        let outcome = process::finish(server).unwrap();
        assert_eq!((received.as_str(), outcome.code()), (answer.as_str(), 0), "{outcome:?}");
    }

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

/// The corpus; none, with a word about it, if it is not there.
fn entries() -> Option<Vec<Entry>> {
    let list = directory().join("corpus.json");
    let Ok(text) = fs::read_to_string(&list) else {
        skipped(&format!("no corpus at {}", list.display()));
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// The entry `name`; none, with a word about it, if there is no corpus.
fn entry(name: &str) -> Option<Entry> {
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
    entry.expect.run(&mut command, input.as_bytes());
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
    // A client is outside: it sees what the container sees.
    let network = entry.expect.tcp.is_some().then_some("--net-host");
    let options: Vec<_> = env.iter().chain(&mounts).map(String::as_str).chain(network).collect();
    let arguments: Vec<_> =
        [name].into_iter().chain(entry.args.iter().map(String::as_str)).collect();
    let mut command = node.run_command(&reference, "corpus", &options, &arguments);
    let input = entry.stdin.as_deref().unwrap_or_default();
    entry.expect.run(&mut command, input.as_bytes());
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
