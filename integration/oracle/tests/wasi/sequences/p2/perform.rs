//! Makes a call of a sequence, and tells what it gave in a form that compares.

use std::collections::BTreeMap;
use std::slice::from_ref;

use wasmtime::component::Val;

use super::{Answer, Arena, Call, NewTime, Objects, P2, Seen, Wasi, seeing, time};
use crate::p2::{bytes_of, flags, text};

/// Most reads of one stream.
const READS_MAX: usize = 4;

/// A program with the descriptors that the sequence has opened.
pub(super) struct Run {
    program: P2,
    fds: Vec<u32>,
    objects: Objects,
}

type Made = Result<Vec<Seen>, String>;

impl Run {
    pub(super) fn start(wasi: Wasi, arena: &Arena) -> Self {
        let mut program = P2::start(wasi, &seeing(&arena.root()));
        let root = handle(&program.root());
        Self { program, fds: vec![root], objects: Objects::default() }
    }

    pub(super) fn perform(&mut self, call: &Call) -> Answer<String> {
        match self.made(call) {
            Ok(seen) => Answer::Gave(seen),
            Err(error) => Answer::Error(error),
        }
    }

    fn made(&mut self, call: &Call) -> Made {
        match call {
            Call::Open { at, follow, path, open, flags: rights } => {
                let arguments =
                    [self.fd(*at), follows(*follow), text(path), flags(open), flags(rights)];
                let fd = self.result("types/descriptor.open-at", &arguments)?;
                self.fds.push(handle(&fd));
                Ok(Vec::new())
            }
            Call::Drop { fd } => {
                // The root stays.
                if self.fds.len() > 1 {
                    let fd = self.fds.remove(1 + (fd - 1) % (self.fds.len() - 1));
                    self.program.gives_nothing("types/drop-descriptor", &[Val::U32(fd)]);
                }
                Ok(Vec::new())
            }
            Call::Read { fd, len, offset } => {
                let arguments = [self.fd(*fd), Val::U64(*len), Val::U64(*offset)];
                match self.result("types/descriptor.read", &arguments)? {
                    Val::Tuple(read) => Ok(vec![
                        Seen::Bytes(bytes_of(&read[0])),
                        Seen::Words(vec![format!("{:?}", read[1])]),
                    ]),
                    other => panic!("read gave {other:?}"),
                }
            }
            Call::Write { fd, len, offset } => {
                let arguments = [self.fd(*fd), data(*len), Val::U64(*offset)];
                Ok(vec![Seen::Number(number(&self.result("types/descriptor.write", &arguments)?))])
            }
            Call::ReadStream { .. }
            | Call::WriteStream { .. }
            | Call::AppendStream { .. }
            | Call::Skip { .. }
            | Call::Splice { .. }
            | Call::Zeroes { .. } => self.streamed(call),
            Call::List { fd } => self.list(*fd),
            Call::Stat { fd } => {
                let stat = self.result("types/descriptor.stat", &[self.fd(*fd)])?;
                Ok(self.stat(&stat))
            }
            Call::StatAt { at, follow, path } => {
                let arguments = [self.fd(*at), follows(*follow), text(path)];
                let stat = self.result("types/descriptor.stat-at", &arguments)?;
                Ok(self.stat(&stat))
            }
            Call::SetSize { fd, size } => self.plain("set-size", *fd, &[Val::U64(*size)]),
            Call::SetTimes { fd, atime, mtime } => {
                self.plain("set-times", *fd, &[new_time(*atime), new_time(*mtime)])
            }
            Call::SetTimesAt { at, follow, path, atime, mtime } => {
                let rest = [follows(*follow), text(path), new_time(*atime), new_time(*mtime)];
                self.plain("set-times-at", *at, &rest)
            }
            Call::Flags { fd } => self.described("types/descriptor.get-flags", &[self.fd(*fd)]),
            Call::Type { fd } => self.described("types/descriptor.get-type", &[self.fd(*fd)]),
            Call::Sync { fd, data_only } => {
                self.plain(if *data_only { "sync-data" } else { "sync" }, *fd, &[])
            }
            Call::Advise { fd, offset, len, advice } => {
                let advice = Val::Enum((*advice).to_owned());
                self.plain("advise", *fd, &[Val::U64(*offset), Val::U64(*len), advice])
            }
            Call::IsSame { fd, other } => {
                let arguments = [self.fd(*fd), self.fd(*other)];
                let same = self.program.gives("types/descriptor.is-same-object", &arguments);
                Ok(vec![Seen::Words(vec![format!("{same:?}")])])
            }
            Call::Hash { fd } => self.hash("types/descriptor.metadata-hash", &[self.fd(*fd)]),
            Call::HashAt { at, follow, path } => {
                let arguments = [self.fd(*at), follows(*follow), text(path)];
                self.hash("types/descriptor.metadata-hash-at", &arguments)
            }
            Call::MakeDirectory { at, path } => {
                self.plain("create-directory-at", *at, &[text(path)])
            }
            Call::RemoveDirectory { at, path } => {
                self.plain("remove-directory-at", *at, &[text(path)])
            }
            Call::Unlink { at, path } => self.plain("unlink-file-at", *at, &[text(path)]),
            Call::Rename { at, path, to, new } => {
                let to = self.fd(*to);
                self.plain("rename-at", *at, &[text(path), to, text(new)])
            }
            Call::Link { at, follow, path, to, new } => {
                let to = self.fd(*to);
                self.plain("link-at", *at, &[follows(*follow), text(path), to, text(new)])
            }
            Call::Symlink { target, at, path } => {
                self.plain("symlink-at", *at, &[text(target), text(path)])
            }
            Call::ReadLink { at, path } => {
                self.described("types/descriptor.readlink-at", &[self.fd(*at), text(path)])
            }
        }
    }

    /// What is done by way of streams, which end with it.
    fn streamed(&mut self, call: &Call) -> Made {
        match call {
            Call::ReadStream { fd, offset, len } => self.with_input(*fd, *offset, |run, input| {
                let mut seen = Vec::new();
                for _ in 0..READS_MAX {
                    let arguments = [input.clone(), Val::U64(*len)];
                    let read = run.stream("streams/input-stream.blocking-read", &arguments)?;
                    seen.push(Seen::Bytes(bytes_of(&read)));
                }
                Ok(seen)
            }),
            Call::Skip { fd, offset, len } => self.with_input(*fd, *offset, |run, input| {
                let arguments = [input.clone(), Val::U64(*len)];
                let skipped = run.stream("streams/input-stream.blocking-skip", &arguments)?;
                Ok(vec![Seen::Number(number(&skipped))])
            }),
            Call::WriteStream { fd, offset, len } => {
                self.with_output(*fd, Some(*offset), |run, output| {
                    for part in [len / 2, len - len / 2] {
                        let arguments = [output.clone(), data(part)];
                        let name = "streams/output-stream.blocking-write-and-flush";
                        run.stream(name, &arguments)?;
                    }
                    Ok(Vec::new())
                })
            }
            Call::AppendStream { fd, len } => self.with_output(*fd, None, |run, output| {
                let name = "streams/output-stream.blocking-write-and-flush";
                run.stream(name, &[output.clone(), data(*len)])?;
                Ok(Vec::new())
            }),
            Call::Zeroes { fd, offset, len } => {
                self.with_output(*fd, Some(*offset), |run, output| {
                    let name = "streams/output-stream.blocking-write-zeroes-and-flush";
                    run.stream(name, &[output.clone(), Val::U64(*len)])?;
                    Ok(Vec::new())
                })
            }
            Call::Splice { from, to, offset, len } => {
                self.with_input(*from, *offset, |run, input| {
                    run.with_output(*to, Some(*offset), |run, output| {
                        let arguments = [output.clone(), input.clone(), Val::U64(*len)];
                        let moved =
                            run.stream("streams/output-stream.blocking-splice", &arguments)?;
                        run.stream("streams/output-stream.blocking-flush", from_ref(output))?;
                        Ok(vec![Seen::Number(number(&moved))])
                    })
                })
            }
            other => panic!("{other:?} is not of streams"),
        }
    }

    fn with_input(
        &mut self,
        fd: usize,
        offset: u64,
        with: impl FnOnce(&mut Self, &Val) -> Made,
    ) -> Made {
        let arguments = [self.fd(fd), Val::U64(offset)];
        let input = self.result("types/descriptor.read-via-stream", &arguments)?;
        let made = with(self, &input);
        self.program.gives_nothing("streams/drop-input-stream", &[input]);
        made
    }

    /// With a stream to an offset, or the end.
    fn with_output(
        &mut self,
        fd: usize,
        offset: Option<u64>,
        with: impl FnOnce(&mut Self, &Val) -> Made,
    ) -> Made {
        let output = match offset {
            Some(offset) => {
                let arguments = [self.fd(fd), Val::U64(offset)];
                self.result("types/descriptor.write-via-stream", &arguments)?
            }
            None => self.result("types/descriptor.append-via-stream", &[self.fd(fd)])?,
        };
        let made = with(self, &output);
        self.program.gives_nothing("streams/drop-output-stream", &[output]);
        made
    }

    fn fd(&self, place: usize) -> Val {
        Val::U32(self.fds[place % self.fds.len()])
    }

    /// Calls a function of wasi:filesystem.
    fn result(&mut self, name: &str, arguments: &[Val]) -> Result<Val, String> {
        match self.program.gives(name, arguments) {
            Val::Result(Ok(value)) => Ok(value.map_or(Val::Bool(true), |value| *value)),
            Val::Result(Err(Some(code))) => match *code {
                Val::Enum(code) => Err(code),
                other => panic!("{name} failed with {other:?}"),
            },
            other => panic!("{name} gave {other:?}"),
        }
    }

    /// Calls a function of wasi:io/streams; an error is told by its code.
    fn stream(&mut self, name: &str, arguments: &[Val]) -> Result<Val, String> {
        match self.program.gives(name, arguments) {
            Val::Result(Ok(value)) => Ok(value.map_or(Val::Bool(true), |value| *value)),
            Val::Result(Err(Some(error))) => match *error {
                Val::Variant(_, Some(error)) => {
                    let code =
                        self.program.gives("types/filesystem-error-code", &[(*error).clone()]);
                    self.program.gives_nothing("error/drop-error", &[*error]);
                    Err(format!("stream: {code:?}"))
                }
                Val::Variant(closed, None) => Err(closed),
                other => panic!("{name} failed with {other:?}"),
            },
            other => panic!("{name} gave {other:?}"),
        }
    }

    /// Calls a method of a descriptor that gives nothing.
    fn plain(&mut self, method: &str, fd: usize, rest: &[Val]) -> Made {
        let arguments = [&[self.fd(fd)], rest].concat();
        self.result(&format!("types/descriptor.{method}"), &arguments)?;
        Ok(Vec::new())
    }

    /// Calls a function whose result compares as it is.
    fn described(&mut self, name: &str, arguments: &[Val]) -> Made {
        Ok(vec![Seen::Words(vec![format!("{:?}", self.result(name, arguments)?)])])
    }

    fn hash(&mut self, name: &str, arguments: &[Val]) -> Made {
        let Val::Record(hash) = self.result(name, arguments)? else {
            panic!("{name} gave no hash")
        };
        let identity = (number(&hash[0].1), number(&hash[1].1));
        Ok(vec![Seen::Object(self.objects.place(identity))])
    }

    /// A `descriptor-stat` without what differs between two directories.
    fn stat(&mut self, stat: &Val) -> Vec<Seen> {
        let Val::Record(fields) = stat else { panic!("{stat:?} is no record") };
        let field = |name| &fields.iter().find(|(field, _)| field == name).expect("a field").1;
        let kind = format!("{:?}", field("type"));
        // The size of a directory is its file system's affair.
        let size = if kind.contains("directory") { 0 } else { number(field("size")) };
        let modified = match field("data-modification-timestamp") {
            Val::Option(Some(datetime)) => match &**datetime {
                Val::Record(parts) => number(&parts[0].1) * 1_000_000_000 + number(&parts[1].1),
                other => panic!("{other:?} is no time"),
            },
            other => panic!("{other:?} is no time"),
        };
        let links = Seen::Number(number(field("link-count")));
        vec![Seen::Words(vec![kind]), links, Seen::Number(size), time(modified)]
    }

    fn list(&mut self, fd: usize) -> Made {
        let stream = self.result("types/descriptor.read-directory", &[self.fd(fd)])?;
        let mut entries = BTreeMap::new();
        let name = "types/directory-entry-stream.read-directory-entry";
        while let Val::Option(Some(entry)) = self.result(name, from_ref(&stream))? {
            let Val::Record(fields) = *entry else { panic!("no entry") };
            let Val::String(name) = &fields[1].1 else { panic!("no name") };
            // Kinds compare by their names' first letters, of which no two are the same here.
            let kind = format!("{:?}", fields[0].1).bytes().nth(6).map_or(0, u64::from);
            entries.insert(name.clone().into_bytes(), (kind, None));
        }
        self.program.gives_nothing("types/drop-directory-entry-stream", &[stream]);
        Ok(vec![Seen::Entries(entries)])
    }
}

fn handle(value: &Val) -> u32 {
    match value {
        Val::U32(handle) => *handle,
        other => panic!("{other:?} is no handle"),
    }
}

fn number(value: &Val) -> u64 {
    match value {
        Val::U64(number) => *number,
        Val::U32(number) => (*number).into(),
        other => panic!("{other:?} is no number"),
    }
}

fn data(len: usize) -> Val {
    Val::List((b'a'..=b'z').cycle().take(len).map(Val::U8).collect())
}

fn follows(follow: bool) -> Val {
    flags(if follow { &["symlink-follow"] } else { &[] })
}

fn new_time(time: NewTime) -> Val {
    match time {
        NewTime::NoChange => Val::Variant("no-change".to_owned(), None),
        NewTime::Now => Val::Variant("now".to_owned(), None),
        NewTime::Timestamp { seconds, nanoseconds } => {
            let seconds = ("seconds".to_owned(), Val::U64(seconds));
            let nanoseconds = ("nanoseconds".to_owned(), Val::U32(nanoseconds));
            let datetime = Val::Record(vec![seconds, nanoseconds]);
            Val::Variant("timestamp".to_owned(), Some(Box::new(datetime)))
        }
    }
}
