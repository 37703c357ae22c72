//! Makes a call of a sequence, and tells what it gave in a form that compares.

use super::{
    Answer, Arena, BTreeMap, Call, DATA, Objects, P1, PATH, RESULT, ROOM, ROOT, Seen, VECTOR, Wasi,
    time, vector,
};

/// Bytes of a `dirent` without its name.
const DIRENT_BYTES: usize = 24;

/// More than a sequence opens.
const NEVER_OPEN: u32 = 1000;

/// A program with what the sequence has opened.
pub(super) struct Run {
    program: P1,
    fds: Vec<u32>,
    objects: Objects,
}

impl Run {
    pub(super) fn start(wasi: Wasi, arena: &Arena) -> Self {
        let program = P1::start(wasi, &arena.root());
        Self { program, fds: vec![ROOT], objects: Objects::default() }
    }

    pub(super) fn perform(&mut self, call: &Call) -> Answer<u16> {
        match self.made(call) {
            Ok(seen) => Answer::Gave(seen),
            Err(errno) => Answer::Error(errno),
        }
    }

    fn made(&mut self, call: &Call) -> Result<Vec<Seen>, u16> {
        match call {
            Call::Open { at, follow, path, open, rights, flags } => {
                let at = self.fd(*at);
                let (path_at, len) = (u64::from(PATH), path.len() as u64);
                let arguments =
                    [at, (*follow).into(), path_at, len, *open, *rights, 0, *flags, RESULT.into()];
                let fd = self.paths(&[path], "path_open", &arguments, 4)?;
                self.fds.push(u32::try_from(number(&fd)).expect("4 bytes"));
                // Which number is free to the one and not to the other: Wasmtime gives the highest.
                Ok(Vec::new())
            }
            Call::Close { fd } => {
                let closed = self.plain("fd_close", *fd, &[])?;
                self.forget(self.fd(*fd));
                Ok(closed)
            }
            Call::Renumber { from, to } => {
                let (old, new) = (self.fd(*from), self.fd(*to));
                let moved = self.plain("fd_renumber", *from, &[new])?;
                if old != new {
                    self.forget(old);
                }
                Ok(moved)
            }
            Call::Read { fd, len } => self.read("fd_read", *fd, *len, &[]),
            Call::Pread { fd, len, offset } => self.read("fd_pread", *fd, *len, &[*offset]),
            Call::Write { fd, len } => self.write("fd_write", *fd, *len, &[]),
            Call::Pwrite { fd, len, offset } => self.write("fd_pwrite", *fd, *len, &[*offset]),
            Call::Seek { fd, offset, whence } => {
                self.number("fd_seek", *fd, &[offset.cast_unsigned(), *whence, RESULT.into()])
            }
            Call::Tell { fd } => self.number("fd_tell", *fd, &[RESULT.into()]),
            Call::Stat { fd } => {
                let fd = self.fd(*fd);
                let stat = self.give(&[], "fd_filestat_get", &[fd, RESULT.into()], 64)?;
                Ok(self.stat(&stat))
            }
            Call::SetSize { fd, size } => self.plain("fd_filestat_set_size", *fd, &[*size]),
            Call::SetTimes { fd, atime, mtime, flags } => {
                self.plain("fd_filestat_set_times", *fd, &[*atime, *mtime, *flags])
            }
            Call::Flags { fd } => {
                let fd = self.fd(*fd);
                let stat = self.give(&[], "fd_fdstat_get", &[fd, RESULT.into()], 24)?;
                Ok(vec![Seen::Number(number(&stat[..1])), Seen::Number(number(&stat[2..4]))])
            }
            Call::SetFlags { fd, flags } => self.plain("fd_fdstat_set_flags", *fd, &[*flags]),
            Call::Sync { fd } => self.plain("fd_sync", *fd, &[]),
            Call::DataSync { fd } => self.plain("fd_datasync", *fd, &[]),
            Call::Advise { fd, offset, len, advice } => {
                self.plain("fd_advise", *fd, &[*offset, *len, *advice])
            }
            Call::List { fd } => self.list(*fd),
            Call::MakeDirectory { at, path } => self.on_path("path_create_directory", *at, path),
            Call::RemoveDirectory { at, path } => self.on_path("path_remove_directory", *at, path),
            Call::Unlink { at, path } => self.on_path("path_unlink_file", *at, path),
            Call::Rename { at, path, to, new } => {
                let (at, to) = (self.fd(*at), self.fd(*to));
                let [a, b] = places(path, new);
                self.paths(&[path, new], "path_rename", &[at, a.0, a.1, to, b.0, b.1], 0)?;
                Ok(Vec::new())
            }
            Call::Link { at, follow, path, to, new } => {
                let (at, to) = (self.fd(*at), self.fd(*to));
                let [a, b] = places(path, new);
                let arguments = [at, (*follow).into(), a.0, a.1, to, b.0, b.1];
                self.paths(&[path, new], "path_link", &arguments, 0)?;
                Ok(Vec::new())
            }
            Call::Symlink { target, at, path } => {
                let at = self.fd(*at);
                let [a, b] = places(target, path);
                self.paths(&[target, path], "path_symlink", &[a.0, a.1, at, b.0, b.1], 0)?;
                Ok(Vec::new())
            }
            Call::ReadLink { at, path, room } => {
                let at = self.fd(*at);
                let [a, _] = places(path, "");
                let arguments = [at, a.0, a.1, DATA.into(), *room, RESULT.into()];
                let used = number(&self.paths(&[path], "path_readlink", &arguments, 4)?);
                Ok(vec![Seen::Number(used), self.data(used)])
            }
            Call::StatAt { at, follow, path } => {
                let at = self.fd(*at);
                let [a, _] = places(path, "");
                let arguments = [at, (*follow).into(), a.0, a.1, RESULT.into()];
                let stat = self.paths(&[path], "path_filestat_get", &arguments, 64)?;
                Ok(self.stat(&stat))
            }
            Call::SetTimesAt { at, follow, path, atime, mtime, flags } => {
                let at = self.fd(*at);
                let [a, _] = places(path, "");
                let arguments = [at, (*follow).into(), a.0, a.1, *atime, *mtime, *flags];
                self.paths(&[path], "path_filestat_set_times", &arguments, 0)?;
                Ok(Vec::new())
            }
        }
    }

    fn fd(&self, place: usize) -> u64 {
        self.fds[place % self.fds.len()].into()
    }

    /// From now on, this descriptor is one that is not open, whatever gets its number.
    fn forget(&mut self, number: u64) {
        for fd in self.fds.iter_mut().filter(|fd| u64::from(**fd) == number) {
            *fd = NEVER_OPEN;
        }
    }

    /// Calls a function after `pokes` and gives what it wrote to [`RESULT`].
    fn give(
        &mut self,
        pokes: &[(u32, &[u8])],
        name: &str,
        arguments: &[u64],
        bytes: u32,
    ) -> Result<Vec<u8>, u16> {
        match self.program.call_with(pokes, name, arguments, (RESULT, bytes)) {
            Ok((0, data)) => Ok(data),
            Ok((errno, _)) => Err(errno),
            Err(ended) => panic!("{name} ended the program: {ended:?}"),
        }
    }

    fn paths(
        &mut self,
        paths: &[&str],
        name: &str,
        arguments: &[u64],
        bytes: u32,
    ) -> Result<Vec<u8>, u16> {
        let pokes: Vec<(u32, &[u8])> =
            [PATH, PATH + ROOM].into_iter().zip(paths.iter().map(|path| path.as_bytes())).collect();
        self.give(&pokes, name, arguments, bytes)
    }

    /// Calls a function that gives nothing.
    fn plain(&mut self, name: &str, fd: usize, rest: &[u64]) -> Result<Vec<Seen>, u16> {
        let arguments = [&[self.fd(fd)], rest].concat();
        self.give(&[], name, &arguments, 0)?;
        Ok(Vec::new())
    }

    fn on_path(&mut self, name: &str, at: usize, path: &str) -> Result<Vec<Seen>, u16> {
        let at = self.fd(at);
        self.paths(&[path], name, &[at, PATH.into(), path.len() as u64], 0)?;
        Ok(Vec::new())
    }

    /// Calls a function that gives a number of 8 bytes.
    fn number(&mut self, name: &str, fd: usize, rest: &[u64]) -> Result<Vec<Seen>, u16> {
        let arguments = [&[self.fd(fd)], rest].concat();
        let given = self.give(&[], name, &arguments, 8)?;
        Ok(vec![Seen::Number(number(&given))])
    }

    fn read(&mut self, name: &str, fd: usize, len: usize, rest: &[u64]) -> Result<Vec<Seen>, u16> {
        let buffer = vector(len);
        let buffers = [self.fd(fd), VECTOR.into(), 1];
        let arguments = [&buffers[..], rest, &[RESULT.into()]].concat();
        let count = number(&self.give(&[(VECTOR, &buffer)], name, &arguments, 4)?);
        Ok(vec![Seen::Number(count), self.data(count)])
    }

    fn write(&mut self, name: &str, fd: usize, len: usize, rest: &[u64]) -> Result<Vec<Seen>, u16> {
        let buffer = vector(len);
        let bytes: Vec<u8> = (b'a'..=b'z').cycle().take(len).collect();
        let buffers = [self.fd(fd), VECTOR.into(), 1];
        let arguments = [&buffers[..], rest, &[RESULT.into()]].concat();
        let pokes = [(VECTOR, &buffer[..]), (DATA, &bytes)];
        Ok(vec![Seen::Number(number(&self.give(&pokes, name, &arguments, 4)?))])
    }

    /// What lies at [`DATA`].
    fn data(&mut self, bytes: u64) -> Seen {
        let peek = (DATA, u32::try_from(bytes).expect("small"));
        let (_, data) = self.program.call_with(&[], "sched_yield", &[], peek).expect("read memory");
        Seen::Bytes(data)
    }

    /// A `filestat` without what differs between two directories.
    fn stat(&mut self, bytes: &[u8]) -> Vec<Seen> {
        let word = |index: usize| number(&bytes[8 * index..8 * index + 8]);
        vec![
            Seen::Object(self.objects.place((0, word(1)))),
            Seen::Number(word(2) & 0xff),
            Seen::Number(word(3)),
            // The size of a directory is its file system's affair.
            Seen::Number(if word(2) & 0xff == 3 { 0 } else { word(4) }),
            time(word(6)),
        ]
    }

    fn list(&mut self, fd: usize) -> Result<Vec<Seen>, u16> {
        const ROOM_BYTES: u64 = 0x1_0000;
        let arguments = [self.fd(fd), DATA.into(), ROOM_BYTES, 0, RESULT.into()];
        let used = number(&self.give(&[], "fd_readdir", &arguments, 4)?);
        let Seen::Bytes(data) = self.data(used) else { unreachable!("data are bytes") };
        let mut entries = BTreeMap::new();
        let mut rest = &data[..];
        while let Some((head, tail)) = rest.split_at_checked(DIRENT_BYTES) {
            let len = usize::try_from(number(&head[16..20])).expect("short");
            let (name, tail) = tail.split_at(len);
            entries.insert(name.to_vec(), (number(&head[20..21]), number(&head[8..16])));
            rest = tail;
        }
        // Objects are numbered in an order that does not depend on the directory.
        let mut object = |identity| Some(self.objects.place((0, identity)));
        let entries = entries.into_iter().map(|(name, (kind, ino))| (name, (kind, object(ino))));
        Ok(vec![Seen::Entries(entries.collect())])
    }
}

fn places(first: &str, second: &str) -> [(u64, u64); 2] {
    let place = |at: u32, text: &str| (u64::from(at), text.len() as u64);
    [place(PATH, first), place(PATH + ROOM, second)]
}

fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
