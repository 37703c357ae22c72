//! Calls of preview 1 by their own names, and the tests of what they do.

mod directories;
mod files;
mod functions;
mod host_calls;
mod streams;

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

impl P1 {
    /// Opens a path, which need not be text, with rights and flags.
    pub(super) fn open(
        &mut self,
        at: u32,
        path: &[u8],
        open: u64,
        rights: u64,
        flags: u64,
    ) -> Result<u32, u16> {
        let (path_at, len) = (PATH.into(), path.len() as u64);
        let arguments = [at.into(), 1, path_at, len, open, rights, 0, flags, RESULT.into()];
        let pokes = [(PATH, path)];
        let (errno, fd) = self
            .call_with(&pokes, "path_open", &arguments, (RESULT, 4))
            .unwrap_or_else(|ended| panic!("path_open: {ended:?}"));
        if errno == 0 { Ok(word(&fd)) } else { Err(errno) }
    }

    /// Writes by `fd_write`.
    pub(super) fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, u16> {
        let vector = vector(bytes.len());
        let pokes = [(VECTOR, &vector[..]), (DATA, bytes)];
        let arguments = [fd.into(), VECTOR.into(), 1, RESULT.into()];
        let (errno, count) = self
            .call_with(&pokes, "fd_write", &arguments, (RESULT, 4))
            .unwrap_or_else(|ended| panic!("fd_write: {ended:?}"));
        if errno == 0 { Ok(word(&count)) } else { Err(errno) }
    }

    /// Lists by one `fd_readdir` with a buffer of `room` bytes: the entries that are whole, each its
    /// cookie and name.
    pub(super) fn list(&mut self, fd: u32, room: u32, cookie: u64) -> (u32, Vec<(u64, Vec<u8>)>) {
        const DIRENT_BYTES: usize = 24;
        let arguments = [fd.into(), DATA.into(), room.into(), cookie, RESULT.into()];
        assert_eq!(self.errno("fd_readdir", &arguments), 0);
        let (_, used) = self.call_with(&[], "sched_yield", &[], (RESULT, 4)).expect("read memory");
        let used = word(&used);
        let (_, data) = self.call_with(&[], "sched_yield", &[], (DATA, used)).expect("read memory");
        let mut entries = Vec::new();
        let mut rest = &data[..];
        while let Some((head, tail)) = rest.split_at_checked(DIRENT_BYTES) {
            let len = word(&head[16..20]) as usize;
            let Some((name, tail)) = tail.split_at_checked(len) else { break };
            let next = u64::from_le_bytes(head[..8].try_into().expect("8 bytes"));
            entries.push((next, name.to_vec()));
            rest = tail;
        }
        (used, entries)
    }
}

/// A number of 4 bytes.
pub(super) fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("4 bytes"))
}

/// A vector of one buffer at [`DATA`].
pub(super) fn vector(len: usize) -> Vec<u8> {
    let len = u32::try_from(len).expect("small");
    [DATA.to_le_bytes(), len.to_le_bytes()].concat()
}

/// Nothing but `directory`, as `/`.
pub(super) fn seeing(directory: &Path) -> Grants {
    let directory = Directory { host: directory.into(), guest: "/".to_owned(), writable: true };
    Grants { directories: vec![directory], ..Grants::default() }
}
