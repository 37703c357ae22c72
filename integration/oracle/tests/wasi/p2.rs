//! Calls of WASI 0.2 by their own names, and the tests of what they do.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use wasmtime::component::Val;
use wit_parser::Function;

use super::interpreter::{COMMANDS, HEAP, Interpreter, RETURNED, RETURNED_BYTES, SCRATCH};
use super::session::{Command, Ended, Session};
use super::world::{self, INTERFACES, World};
use oracle::{Grants, Wasi};

mod functions;
mod host_calls;
mod http;
mod sockets;
mod streams;

/// What both sides have, and the interpreter for it.
static COMMON: LazyLock<(World, Interpreter)> = LazyLock::new(|| interpreter(INTERFACES));
/// Sockets, which both sides have.
static SOCKETS: LazyLock<(World, Interpreter)> = LazyLock::new(|| interpreter(world::SOCKETS));
/// All that ours has.
static ALL: LazyLock<(World, Interpreter)> = LazyLock::new(|| {
    let all = INTERFACES.into_iter().chain(["clocks/timezone"]).chain(world::SOCKETS);
    interpreter(all.collect::<BTreeSet<_>>())
});
/// A handler of requests.
static HANDLER: LazyLock<(World, Interpreter)> = LazyLock::new(|| {
    let world = World::exporting("http/incoming-handler", world::HTTP);
    let interpreter = Interpreter::handler(&world);
    (world, interpreter)
});

fn interpreter(interfaces: impl IntoIterator<Item = &'static str>) -> (World, Interpreter) {
    let world = World::new(interfaces);
    let interpreter = Interpreter::p2(&world);
    (world, interpreter)
}

/// A program that makes calls of WASI 0.2.
pub(super) struct P2 {
    pub(super) session: Session,
    world: &'static World,
    /// The functions that were called.
    called: BTreeSet<String>,
}

impl P2 {
    pub(super) fn start(wasi: Wasi, grants: &Grants) -> Self {
        let (world, interpreter) = &*COMMON;
        let session = Session::start_silent(wasi, interpreter, grants);
        Self { session, world, called: BTreeSet::new() }
    }

    /// A program that uses sockets.
    pub(super) fn start_with_sockets(wasi: Wasi, grants: &Grants) -> Self {
        let (world, interpreter) = &*SOCKETS;
        let session = Session::start_silent(wasi, interpreter, grants);
        Self { session, world, called: BTreeSet::new() }
    }

    /// A program that imports all that ours has.
    pub(super) fn start_ours(grants: &Grants, stdout: impl Into<OwnedFd>) -> Self {
        let (world, interpreter) = &*ALL;
        let session = Session::start(Wasi::Ours, interpreter, grants, stdout);
        Self { session, world, called: BTreeSet::new() }
    }

    /// The directory that is open at start.
    pub(super) fn root(&mut self) -> Val {
        match self.gives("preopens/get-directories", &[]) {
            Val::List(directories) => match directories.into_iter().next() {
                Some(Val::Tuple(mut directory)) => directory.swap_remove(0),
                other => panic!("no directory: {other:?}"),
            },
            other => panic!("no directories: {other:?}"),
        }
    }

    /// Calls a function whose result is an ok.
    pub(super) fn done(&mut self, name: &str, arguments: &[Val]) -> Val {
        match self.gives(name, arguments) {
            Val::Result(Ok(value)) => value.map_or(Val::Bool(true), |value| *value),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Calls a function that has a result and does not end the program.
    pub(super) fn gives(&mut self, name: &str, arguments: &[Val]) -> Val {
        match self.call(name, arguments) {
            Ok(Some(value)) => value,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Calls a function that has no result and does not end the program.
    pub(super) fn gives_nothing(&mut self, name: &str, arguments: &[Val]) {
        let given = self.call(name, arguments);
        assert!(matches!(given, Ok(None)), "{name}: {given:?}");
    }

    /// Calls a function (`INTERFACE/NAME`) and returns its result, if it has one.
    pub(super) fn call(&mut self, name: &str, arguments: &[Val]) -> Result<Option<Val>, Ended> {
        let function = self.world.function(name);
        let mut data = Vec::new();
        let flat = match (function, arguments) {
            (Some(function), _) => self.world.lower(function, arguments, SCRATCH, &mut data),
            (None, [Val::U32(handle)]) => vec![u64::from(*handle)],
            (None, _) => panic!("{name} takes one handle"),
        };
        self.called.insert(name.to_owned());
        let number = self.session.interpreter.number(name);
        let commands = [
            Command::Poke(SCRATCH, &data),
            Command::Call(number, &flat),
            Command::Peek(RETURNED, RETURNED_BYTES),
            Command::Heap,
        ];
        let answer = self.session.exchange(&commands, &[])?;
        let (number, memory) = answer.split_at(8);
        let (returned, heap) = memory.split_at(RETURNED_BYTES as usize);
        Ok(function.and_then(|function| self.lifted(function, number, returned, heap)))
    }

    /// What a function gave: its core result, and the memory behind it.
    fn lifted(
        &self,
        function: &Function,
        number: &[u8],
        returned: &[u8],
        heap: &[u8],
    ) -> Option<Val> {
        let read = |at: u32, len: usize| match at.checked_sub(HEAP) {
            Some(offset) => heap[offset as usize..][..len].to_vec(),
            // An empty list may be anywhere.
            None if len == 0 => Vec::new(),
            None => returned[(at - RETURNED) as usize..][..len].to_vec(),
        };
        let number = u64::from_le_bytes(number.try_into().expect("8 bytes"));
        self.world.lift(function, number, &read)
    }
}

impl P2 {
    /// Makes calls one after the other, without a word in between: what the program does for the
    /// conversation is host calls too, some of which may wait. Returns the handle that each gave, if that
    /// is what it gave, and the result of the last.
    pub(super) fn calls(&mut self, steps: &[Step<'_>]) -> Result<(Vec<u32>, Option<Val>), Ended> {
        let (mut data, mut calls) = (Vec::new(), Vec::new());
        for (name, arguments) in steps {
            data.resize(data.len().next_multiple_of(8), 0);
            let function = self.world.function(name);
            let flat = match (function, &arguments[..]) {
                (Some(function), _) => self.world.lower(function, arguments, SCRATCH, &mut data),
                (None, [Val::U32(handle)]) => vec![u64::from(*handle)],
                (None, _) => panic!("{name} takes one handle"),
            };
            calls.push((name, function, flat));
        }
        let poke = Command::Poke(SCRATCH, &data);
        // Where the copies of a result go is known when all of the frame is.
        let is_result = |word: &u64, step: usize| *word == u64::from(result_of(step));
        let uses = |step: usize| {
            let uses = calls.iter().flat_map(|(_, _, flat)| flat);
            uses.filter(|word| is_result(word, step)).count()
        };
        let copy_bytes = Command::Copy(0, 0).bytes();
        let mut starts = Vec::new();
        let mut at = COMMANDS as usize + poke.bytes();
        for (step, (_, _, flat)) in calls.iter().enumerate() {
            starts.push(at + 12);
            let call = Command::Call(0, flat).bytes() + Command::Peek(0, 0).bytes();
            at += call + uses(step) * copy_bytes;
        }
        let mut commands = vec![poke];
        for (step, (name, function, flat)) in calls.iter().enumerate() {
            commands.push(Command::Call(self.session.interpreter.number(name), flat));
            let number = RETURNED - 8;
            let from = function.map_or(number, |it| self.world.handle_at(it, number));
            commands.push(Command::Peek(from, 4));
            for (start, (_, _, flat)) in starts.iter().zip(&calls) {
                let places = flat.iter().enumerate().filter(|(_, word)| is_result(word, step));
                let to = places.map(|(index, _)| u32::try_from(start + 8 * index).expect("small"));
                commands.extend(to.map(|to| Command::Copy(to, from)));
            }
        }
        commands.extend([Command::Peek(RETURNED, RETURNED_BYTES), Command::Heap]);
        let answer = self.session.exchange(&commands, &[])?;
        let (given, memory) = answer.split_at(calls.len() * 12);
        let handle = |step: &[u8]| u32::from_le_bytes(step[8..].try_into().expect("4 bytes"));
        let handles = given.chunks_exact(12).map(handle).collect();
        let (returned, heap) = memory.split_at(RETURNED_BYTES as usize);
        let function = calls.last().and_then(|(_, function, _)| *function);
        let number = &given[given.len() - 12..][..8];
        Ok((handles, function.and_then(|it| self.lifted(it, number, returned, heap))))
    }
}

/// A call: its name, and what it is given, results of earlier steps among that.
pub(super) type Step<'a> = (&'a str, Vec<Val>);

/// The handle that a step gave, the first of which is 0.
pub(super) fn step(step: u32) -> Val {
    Val::U32(result_of(step as usize))
}

/// No handle is as large.
fn result_of(step: usize) -> u32 {
    0x7e57_0000 + u32::try_from(step).expect("few steps")
}

/// A text.
pub(super) fn text(text: &str) -> Val {
    Val::String(text.to_owned())
}

/// A list of bytes.
pub(super) fn bytes(bytes: &[u8]) -> Val {
    Val::List(bytes.iter().copied().map(Val::U8).collect())
}

/// Flags that are set.
pub(super) fn flags(flags: &[&str]) -> Val {
    Val::Flags(flags.iter().map(|flag| (*flag).to_owned()).collect())
}

/// The bytes of a list of them.
pub(super) fn bytes_of(value: &Val) -> Vec<u8> {
    let byte = |value: &Val| match value {
        Val::U8(byte) => *byte,
        other => panic!("{other:?} is no byte"),
    };
    match value {
        Val::List(bytes) => bytes.iter().map(byte).collect(),
        other => panic!("{other:?} is no list"),
    }
}
