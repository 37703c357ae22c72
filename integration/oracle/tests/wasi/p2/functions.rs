//! Every function of WASI 0.2 at least once, beside Wasmtime's.

use std::fs::File;
use std::slice::from_ref;

use oracle::{Grants, TRAPPED, Wasi};
use wasmtime::component::Val;

use super::{ALL, COMMON, P2, bytes, flags, text};
use crate::interpreter::Interpreter;
use crate::p1::seeing;
use crate::session::Session;

/// A script of calls with what each gave.
pub(super) struct Script {
    pub(super) program: P2,
    given: Vec<(String, String)>,
    /// What differs from run to run, with what it is called.
    names: Vec<(String, String)>,
}

impl Script {
    pub(super) fn new(program: P2) -> Self {
        Self { program, given: Vec::new(), names: Vec::new() }
    }

    /// Has what reads `text` in a result compare as `name`.
    pub(super) fn name(&mut self, text: String, name: &str) {
        self.names.push((text, name.to_owned()));
    }

    /// Calls a function, whose result compares as it is, and returns it.
    pub(super) fn call(&mut self, name: &str, arguments: &[&Val]) -> Val {
        let (value, given) = self.made(name, arguments);
        let given = self.names.iter().fold(given, |given, (text, name)| given.replace(text, name));
        self.given.push((name.to_owned(), given));
        value
    }

    /// Calls a function whose result is of a moment, of chance or a handle: that it gave something compares.
    pub(super) fn some(&mut self, name: &str, arguments: &[&Val]) -> Val {
        let (value, _) = self.made(name, arguments);
        self.given.push((name.to_owned(), "something".to_owned()));
        value
    }

    /// The value, without its result around it, and how it reads.
    fn made(&mut self, name: &str, arguments: &[&Val]) -> (Val, String) {
        let arguments: Vec<Val> = arguments.iter().map(|argument| (*argument).clone()).collect();
        let given = self.program.call(name, &arguments);
        let read = format!("{given:?}");
        match given {
            Ok(Some(Val::Result(Ok(Some(value))))) => (*value, read),
            Ok(Some(value)) => (value, read),
            Ok(None) => (Val::Bool(true), read),
            Err(ended) => panic!("{name}: {ended:?}"),
        }
    }

    /// What it called, each with what it gave.
    pub(super) fn given(self) -> Vec<(String, String)> {
        self.given
    }

    /// The functions of the interpreter that were not called, but for those that are `elsewhere`.
    pub(super) fn not_called(&self, interpreter: &Interpreter, elsewhere: &[&str]) -> Vec<String> {
        let called = |name: &str| self.program.called.contains(name) || elsewhere.contains(&name);
        let all = interpreter.functions.iter().map(|function| &function.name);
        all.filter(|name| !called(name)).cloned().collect()
    }

    /// Opens `path`.
    fn open(&mut self, root: &Val, path: &str, open: &[&str], rights: &[&str]) -> Val {
        let arguments = [&flags(&["symlink-follow"]), &text(path), &flags(open), &flags(rights)];
        self.some("types/descriptor.open-at", &[&[root], &arguments[..]].concat())
    }
}

/// Compares what scripts were given, ours first; `meant` are the differences that are as they should be:
/// function, ours, theirs, and why.
pub(super) fn assert_same(given: &[Vec<(String, String)>], meant: &[(&str, &str, &str, &str)]) {
    let mut differences = Vec::new();
    for (index, ((name, ours), (_, theirs))) in given[0].iter().zip(&given[1]).enumerate() {
        let meant = meant.iter().any(|row| (row.0, row.1, row.2) == (name, ours, theirs));
        if ours != theirs && !meant {
            differences.push(format!("{index}: {name}:\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(given[0].len(), given[1].len());
}

/// Calls everything that both sides have.
fn common(script: &mut Script) {
    for name in ["get-environment", "get-arguments", "initial-cwd"] {
        script.call(&format!("environment/{name}"), &[]);
    }
    for name in ["stdin", "stdout", "stderr"] {
        script.call(&format!("terminal-{name}/get-terminal-{name}"), &[]);
    }
    for name in ["random/get-random", "insecure/get-insecure-random"] {
        script.some(&format!("{name}-bytes"), &[&Val::U64(10)]);
        script.call(&format!("{name}-bytes"), &[&Val::U64(0)]);
        script.some(&format!("{name}-u64"), &[]);
    }
    script.some("insecure-seed/insecure-seed", &[]);
    for name in ["monotonic-clock/now", "wall-clock/now"] {
        script.some(name, &[]);
    }
    for name in ["monotonic-clock/resolution", "wall-clock/resolution"] {
        script.call(name, &[]);
    }
    let past = script.some("monotonic-clock/subscribe-instant", &[&Val::U64(0)]);
    let soon = script.some("monotonic-clock/subscribe-duration", &[&Val::U64(1000)]);
    let never = script.some("monotonic-clock/subscribe-instant", &[&Val::U64(u64::MAX)]);
    script.call("poll/pollable.ready", &[&past]);
    script.call("poll/pollable.ready", &[&never]);
    script.call("poll/pollable.block", &[&soon]);
    script.call("poll/pollable.ready", &[&soon]);
    let all = Val::List(vec![never.clone(), past.clone(), never.clone(), soon.clone()]);
    script.call("poll/poll", &[&all]);
    for pollable in [past, soon, never] {
        script.call("poll/drop-pollable", &[&pollable]);
    }
}

fn files(script: &mut Script) {
    let root = script.program.root();
    let (none, follow) = (flags(&[]), flags(&["symlink-follow"]));
    let [file_name, directory_name, link_name, new, newer] =
        ["f", "d", "l", "new", "newer"].map(text);
    let file = script.open(&root, "f", &[], &["read", "write"]);
    let directory = script.open(&root, "d", &["directory"], &["read"]);
    for (descriptor, other) in [(&file, &directory), (&directory, &file)] {
        script.call("types/descriptor.get-flags", &[descriptor]);
        script.call("types/descriptor.get-type", &[descriptor]);
        script.some("types/descriptor.stat", &[descriptor]);
        script.some("types/descriptor.metadata-hash", &[descriptor]);
        script.call("types/descriptor.is-same-object", &[descriptor, descriptor]);
        script.call("types/descriptor.is-same-object", &[descriptor, other]);
        script.call("types/descriptor.read", &[descriptor, &Val::U64(100), &Val::U64(3)]);
        script.call("types/descriptor.read", &[descriptor, &Val::U64(100), &Val::U64(300)]);
        script.call("types/descriptor.write", &[descriptor, &bytes(b"written"), &Val::U64(2)]);
        script.call("types/descriptor.set-size", &[descriptor, &Val::U64(8)]);
        script.call("types/descriptor.sync", &[descriptor]);
        script.call("types/descriptor.sync-data", &[descriptor]);
        let advice = Val::Enum("will-need".to_owned());
        script.call("types/descriptor.advise", &[descriptor, &Val::U64(0), &Val::U64(0), &advice]);
        let (keep, now) =
            (Val::Variant("no-change".to_owned(), None), Val::Variant("now".to_owned(), None));
        script.call("types/descriptor.set-times", &[descriptor, &keep, &now]);
        script.call("types/descriptor.set-times-at", &[descriptor, &follow, &new, &keep, &now]);
        script.call("types/descriptor.stat-at", &[descriptor, &follow, &new]);
        script.call("types/descriptor.metadata-hash-at", &[descriptor, &follow, &new]);
        script.call("types/descriptor.readlink-at", &[descriptor, &new]);
        script.call("types/descriptor.create-directory-at", &[descriptor, &new]);
        script.call("types/descriptor.rename-at", &[descriptor, &new, descriptor, &newer]);
        script.call("types/descriptor.remove-directory-at", &[descriptor, &newer]);
        script.call("types/descriptor.symlink-at", &[descriptor, &new, &newer]);
        script.call("types/descriptor.link-at", &[descriptor, &none, &newer, descriptor, &new]);
        script.call("types/descriptor.unlink-file-at", &[descriptor, &newer]);
        script.call("types/descriptor.unlink-file-at", &[descriptor, &new]);
    }
    script.call("types/descriptor.open-at", &[&file, &none, &file_name, &none, &none]);
    script.call("types/descriptor.read-directory", &[&file]);
    script.call("types/descriptor.readlink-at", &[&root, &link_name]);
    script.call("types/descriptor.unlink-file-at", &[&root, &directory_name]);
    script.call("types/descriptor.remove-directory-at", &[&root, &file_name]);
    let entries = script.some("types/descriptor.read-directory", &[&directory]);
    script.call("types/directory-entry-stream.read-directory-entry", &[&entries]);
    script.call("types/drop-directory-entry-stream", &[&entries]);
    for descriptor in [file, directory] {
        script.call("types/drop-descriptor", &[&descriptor]);
    }
}

fn streams(script: &mut Script) {
    let root = script.program.root();
    let file = script.open(&root, "f", &[], &["read", "write"]);
    let copy = script.open(&root, "copy", &["create"], &["read", "write"]);
    let (zero, few, many) = (Val::U64(0), Val::U64(3), Val::U64(4000));
    let output = script.some("types/descriptor.write-via-stream", &[&copy, &few]);
    script.call("streams/output-stream.blocking-write-and-flush", &[&output, &bytes(b"begin")]);
    for (name, arguments) in [
        ("check-write", vec![&output]),
        ("write", vec![&output, &bytes(b"middle")]),
        ("flush", vec![&output]),
        ("blocking-flush", vec![&output]),
        ("write-zeroes", vec![&output, &few]),
        ("blocking-flush", vec![&output]),
        ("blocking-write-zeroes-and-flush", vec![&output, &few]),
    ] {
        // How much is permitted is each side's own affair.
        let name = format!("streams/output-stream.{name}");
        match name.ends_with("check-write") {
            true => script.some(&name, &arguments),
            false => script.call(&name, &arguments),
        };
    }
    let input = script.some("types/descriptor.read-via-stream", &[&file, &zero]);
    script.call("streams/output-stream.blocking-splice", &[&output, &input, &few]);
    script.call("streams/output-stream.blocking-flush", &[&output]);
    // Wasmtime reads ahead on another thread, so what a read gives that does not wait is a matter of time.
    script.some("streams/input-stream.read", &[&input, &zero]);
    script.some("streams/input-stream.skip", &[&input, &zero]);
    let ready = script.some("streams/output-stream.subscribe", &[&output]);
    script.call("poll/pollable.block", &[&ready]);
    script.some("streams/output-stream.splice", &[&output, &input, &zero]);
    script.call("streams/output-stream.blocking-flush", &[&output]);
    script.call("streams/input-stream.blocking-skip", &[&input, &few]);
    script.call("streams/input-stream.blocking-read", &[&input, &many]);
    script.call("streams/input-stream.blocking-read", &[&input, &many]);
    let readable = script.some("streams/input-stream.subscribe", &[&input]);
    script.call("poll/pollable.block", &[&readable]);
    for pollable in [ready, readable] {
        script.call("poll/drop-pollable", &[&pollable]);
    }
    script.call("streams/drop-input-stream", &[&input]);
    script.call("streams/drop-output-stream", &[&output]);
    let end = script.some("types/descriptor.append-via-stream", &[&copy]);
    script.call("streams/output-stream.blocking-write-and-flush", &[&end, &bytes(b"end")]);
    script.call("streams/drop-output-stream", &[&end]);
    script.call("types/descriptor.read", &[&copy, &many, &zero]);

    // An error of a stream: no file has this offset.
    let far = script.some("types/descriptor.read-via-stream", &[&file, &Val::U64(1 << 63)]);
    let failed = script.some("streams/input-stream.blocking-read", &[&far, &many]);
    let Val::Result(Err(Some(error))) = failed else { panic!("{failed:?}") };
    let Val::Variant(_, Some(error)) = *error else { panic!("{error:?}") };
    script.call("types/filesystem-error-code", &[&error]);
    script.some("error/error.to-debug-string", &[&error]);
    script.call("error/drop-error", &[&error]);
    for name in ["stdin/get-stdin", "stdout/get-stdout", "stderr/get-stderr"] {
        script.some(name, &[]);
    }
}

/// Functions that are called elsewhere: they end a program, or need a terminal.
const ELSEWHERE: [&str; 4] = [
    "exit/exit",
    "exit/exit-with-code",
    "terminal-input/drop-terminal-input",
    "terminal-output/drop-terminal-output",
];

/// What differs as it is meant to: function, ours, theirs, and why.
const MEANT: [(&str, &str, &str, &str); 2] = [
    (
        "poll/pollable.ready",
        "Ok(Some(Bool(true)))",
        "Ok(Some(Bool(false)))",
        "a time that has come is ready; Wasmtime's timers begin when they are waited for",
    ),
    (
        "types/descriptor.get-flags",
        r#"Ok(Some(Result(Ok(Some(Flags(["read", "mutate-directory"]))))))"#,
        r#"Ok(Some(Result(Ok(Some(Flags(["read"]))))))"#,
        "a directory can be changed as far as that can through which it was opened",
    ),
];

#[test]
fn every_function_answers_as_in_wasmtime() {
    let mut given = Vec::new();
    for wasi in [Wasi::Ours, Wasi::Theirs] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), "content").unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        std::os::unix::fs::symlink("f", directory.path().join("l")).unwrap();
        let mut grants = seeing(directory.path());
        grants.args = vec!["program".to_owned(), "ünïcödé".to_owned(), String::new()];
        grants.env =
            vec![("KEY".to_owned(), "a=b".to_owned()), ("EMPTY".to_owned(), String::new())];
        grants.cwd = Some("/d".to_owned());
        let mut script = Script::new(P2::start(wasi, &grants));
        common(&mut script);
        files(&mut script);
        streams(&mut script);
        let (_, interpreter) = &*COMMON;
        assert_eq!(script.not_called(interpreter, &ELSEWHERE), [""; 0], "functions not called");
        given.push(script.given);
    }
    assert_same(&given, &MEANT);
}

#[test]
fn a_time_zone_is_utc() {
    let null = File::options().write(true).open("/dev/null").unwrap();
    let mut program = P2::start_ours(&Grants::default(), null);
    let now = program.gives("wall-clock/now", &[]);
    assert_eq!(program.gives("timezone/utc-offset", from_ref(&now)), Val::S32(0));
    let Val::Record(display) = program.gives("timezone/display", &[now]) else {
        panic!("no record")
    };
    let values: Vec<Val> = display.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [Val::S32(0), text("UTC"), Val::Bool(false)]);
}

#[test]
fn a_program_ends_with_the_status_that_it_exits_with() {
    let endings = [
        ("exit/exit", Val::Result(Ok(None)), 0),
        ("exit/exit", Val::Result(Err(None)), 1),
        ("exit/exit-with-code", Val::U8(0), 0),
        ("exit/exit-with-code", Val::U8(77), 77),
        ("exit/exit-with-code", Val::U8(255), 255),
    ];
    for (name, status, expected) in endings {
        for wasi in [Wasi::Ours, Wasi::Theirs] {
            let mut program = P2::start(wasi, &Grants::default());
            let ended = program.call(name, from_ref(&status)).unwrap_err();
            assert_eq!(
                (ended.status, ended.report.as_str()),
                (expected, ""),
                "{wasi:?} {status:?}"
            );
        }
    }
}

#[test]
fn a_handle_that_was_never_given_is_a_trap_in_every_function_that_takes_one() {
    const NEVER_GIVEN: u64 = 999;
    let (world, interpreter) = &*ALL;
    let null = || File::options().write(true).open("/dev/null").unwrap();
    let mut others = Vec::new();
    for (number, function) in (0..).zip(&interpreter.functions) {
        let method =
            function.field.starts_with("[method]") || function.field.starts_with("[resource-drop]");
        if !method {
            continue;
        }
        let mut arguments = vec![0; function.params.len()];
        arguments[0] = NEVER_GIVEN;
        let mut session = Session::start(Wasi::Ours, interpreter, &Grants::default(), null());
        let call = [crate::session::Command::Call(number, &arguments)];
        match session.exchange(&call, &[]) {
            Err(ended) if ended.status == TRAPPED => {}
            other => others.push(format!("{}: {other:?}", function.name)),
        }
    }
    assert!(world.function("types/descriptor.stat").is_some());
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn a_terminal_is_told_from_a_pipe() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    let path = ptsname(&control, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    let mut program = P2::start_ours(&Grants::default(), terminal);
    let none = Val::Option(None);
    assert_eq!(program.gives("terminal-stdin/get-terminal-stdin", &[]), none);
    assert_eq!(program.gives("terminal-stderr/get-terminal-stderr", &[]), none);
    let Val::Option(Some(terminal)) = program.gives("terminal-stdout/get-terminal-stdout", &[])
    else {
        panic!("standard output is no terminal");
    };
    program.gives_nothing("terminal-output/drop-terminal-output", &[*terminal]);
}
