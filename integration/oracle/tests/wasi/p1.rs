//! Calls of preview 1 by their own names, and the tests of what they do.

mod calls;

use std::path::Path;
use std::sync::LazyLock;

use super::interpreter::{Interpreter, SCRATCH};
use super::session::{Command, Ended, Session};
use oracle::{Directory, Grants, Wasi};

/// The interpreter for preview 1.
static INTERPRETER: LazyLock<Interpreter> = LazyLock::new(Interpreter::p1);

/// Where a path lies for a call; a second one [`ROOM`] bytes behind it.
pub(super) const PATH: u32 = SCRATCH;
/// Bytes between the places of arguments.
pub(super) const ROOM: u32 = 0x1_0000;
/// Where a vector of one buffer lies.
pub(super) const VECTOR: u32 = SCRATCH + 2 * ROOM;
/// Where a call writes its results.
pub(super) const RESULT: u32 = SCRATCH + 3 * ROOM;
/// Where data to write and data that were read lie.
pub(super) const DATA: u32 = SCRATCH + 4 * ROOM;

/// The first directory that is open at start.
pub(super) const ROOT: u32 = 3;

/// A program that makes calls of preview 1.
pub(super) struct P1(pub(super) Session);

impl P1 {
    /// A program that sees `directory` as `/`.
    pub(super) fn start(wasi: Wasi, directory: &Path) -> Self {
        Self::start_with(wasi, &seeing(directory))
    }

    pub(super) fn start_with(wasi: Wasi, grants: &Grants) -> Self {
        Self(Session::start_silent(wasi, &INTERPRETER, grants))
    }

    pub(super) fn with_stdout(
        wasi: Wasi,
        grants: &Grants,
        stdout: impl Into<std::os::fd::OwnedFd>,
    ) -> Self {
        Self(Session::start(wasi, &INTERPRETER, grants, stdout))
    }

    /// Calls a function after `pokes`, and returns its error number and `peek` of memory.
    pub(super) fn call_with(
        &mut self,
        pokes: &[(u32, &[u8])],
        name: &str,
        arguments: &[u64],
        peek: (u32, u32),
    ) -> Result<(u16, Vec<u8>), Ended> {
        let number = self.0.interpreter.number(name);
        let mut commands: Vec<_> =
            pokes.iter().map(|(at, bytes)| Command::Poke(*at, bytes)).collect();
        commands.extend([Command::Call(number, arguments), Command::Peek(peek.0, peek.1)]);
        let mut answer = self.0.exchange(&commands, &[])?;
        let data = answer.split_off(8);
        let errno = u64::from_le_bytes(answer.try_into().expect("8 bytes"));
        Ok((u16::try_from(errno).expect("error numbers are small"), data))
    }

    /// Calls a function and returns its error number.
    pub(super) fn call(&mut self, name: &str, arguments: &[u64]) -> Result<u16, Ended> {
        self.call_with(&[], name, arguments, (0, 0)).map(|(errno, _)| errno)
    }

    /// Calls a function that does not end the program.
    pub(super) fn errno(&mut self, name: &str, arguments: &[u64]) -> u16 {
        self.call(name, arguments).unwrap_or_else(|ended| panic!("{name}: {ended:?}"))
    }
}

/// Nothing but `directory`, as `/`.
pub(super) fn seeing(directory: &Path) -> Grants {
    let directory = Directory { host: directory.into(), guest: "/".to_owned(), writable: true };
    Grants { directories: vec![directory], ..Grants::default() }
}
