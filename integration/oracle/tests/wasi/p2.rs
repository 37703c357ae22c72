//! Calls of WASI 0.2 by their own names, and the tests of what they do.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use wasmtime::component::Val;

use super::interpreter::{HEAP, Interpreter, RETURNED, RETURNED_BYTES, SCRATCH};
use super::session::{Command, Ended, Session};
use super::world::{self, INTERFACES, World};
use oracle::{Grants, Wasi};

mod functions;
mod host_calls;
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
        let read = |at: u32, len: usize| match at.checked_sub(HEAP) {
            Some(offset) => heap[offset as usize..][..len].to_vec(),
            // An empty list may be anywhere.
            None if len == 0 => Vec::new(),
            None => returned[(at - RETURNED) as usize..][..len].to_vec(),
        };
        let number = u64::from_le_bytes(number.try_into().expect("8 bytes"));
        Ok(function.and_then(|function| self.world.lift(function, number, &read)))
    }
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
