//! File descriptors: numbers of the program for descriptors, with what preview 1 keeps for each.

use alloc::string::String;
use alloc::vec::Vec;

use abi::{FileKind, Handle};

use super::errno::{Answer, Errno, Failure};
use crate::descriptor::{Descriptor, Rights};
use crate::directory::DirectoryStream;
use crate::process::Process;

/// An open file descriptor.
pub(super) struct Fd {
    pub(super) descriptor: Descriptor,
    /// The path under which the program sees a directory that was open at start.
    pub(super) preopen: Option<String>,
    /// Where a file is read and written next.
    pub(super) position: u64,
    /// Each write goes to the end of the file.
    pub(super) append: bool,
    /// A call does not wait for a stream.
    pub(super) nonblock: bool,
    /// The standard streams are no files: they have no times, no size, no position.
    pub(super) standard: bool,
    /// Where the last listing of a directory ended.
    pub(super) listing: Option<DirectoryStream>,
}

impl Fd {
    pub(super) fn new(descriptor: Descriptor) -> Self {
        Self {
            descriptor,
            preopen: None,
            position: 0,
            append: false,
            nonblock: false,
            standard: false,
            listing: None,
        }
    }

    /// The descriptor of anything but a standard stream.
    pub(super) fn opened(&self) -> Answer<&Descriptor> {
        if self.standard { Err(Errno::BadFd.into()) } else { Ok(&self.descriptor) }
    }

    /// The descriptor of a file: neither a directory nor a standard stream.
    pub(super) fn file(&self) -> Answer<&Descriptor> {
        match self.descriptor.kind() {
            FileKind::Directory => Err(Errno::BadFd.into()),
            _ => self.opened(),
        }
    }

    /// The descriptor of a directory.
    pub(super) fn directory(&self) -> Answer<&Descriptor> {
        match self.descriptor.kind() {
            FileKind::Directory => Ok(&self.descriptor),
            _ if self.standard => Err(Errno::BadFd.into()),
            _ => Err(Errno::NotDirectory.into()),
        }
    }

    /// Fails for what has no position.
    pub(super) fn check_seekable(&self) -> Answer {
        match self.descriptor.kind() {
            FileKind::Directory => Err(Errno::BadFd.into()),
            _ if self.descriptor.is_seekable() && !self.standard => Ok(()),
            _ => Err(Errno::IllegalSeek.into()),
        }
    }
}

/// The table: numbers are given lowest-first. The host bounds it, for each number has a handle.
pub(super) struct Fds(Vec<Option<Fd>>);

impl Fds {
    /// The standard streams and the directories that are open at start.
    pub(super) fn new(process: &Process) -> Self {
        let standard = |handle, owner, read| {
            let kind = match process.is_terminal(handle) {
                true => FileKind::CharacterDevice,
                false => FileKind::Unknown,
            };
            let rights = Rights { read, write: !read, ..Rights::default() };
            Fd { standard: true, ..Fd::new(Descriptor::stream(owner, kind, rights)) }
        };
        let streams = [
            standard(Handle::STDIN, &process.stdin, true),
            standard(Handle::STDOUT, &process.stdout, false),
            standard(Handle::STDERR, &process.stderr, false),
        ];
        let preopens = process.preopens.iter().map(|(directory, path)| Fd {
            preopen: Some(path.clone()),
            ..Fd::new(directory.clone())
        });
        Self(streams.into_iter().chain(preopens).map(Some).collect())
    }

    pub(super) fn get(&self, fd: u32) -> Answer<&Fd> {
        let slot = self.0.get(fd as usize).and_then(Option::as_ref);
        slot.ok_or(Failure::from(Errno::BadFd))
    }

    pub(super) fn get_mut(&mut self, fd: u32) -> Answer<&mut Fd> {
        let slot = self.0.get_mut(fd as usize).and_then(Option::as_mut);
        slot.ok_or(Failure::from(Errno::BadFd))
    }

    /// Gives the lowest number that is free.
    pub(super) fn insert(&mut self, fd: Fd) -> Answer<u32> {
        let slot = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        let number = u32::try_from(slot).map_err(|_| Failure::from(Errno::TooManyFiles))?;
        match self.0.get_mut(slot) {
            Some(free) => *free = Some(fd),
            None => self.0.push(Some(fd)),
        }
        Ok(number)
    }

    pub(super) fn close(&mut self, fd: u32) -> Answer {
        let slot = self.0.get_mut(fd as usize).and_then(Option::take);
        slot.map(drop).ok_or(Failure::from(Errno::BadFd))
    }

    /// Moves `from` to the number `to`, which is open and is closed.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Answer {
        self.get(from)?;
        self.get(to)?;
        if from != to {
            let moved = self.0.get_mut(from as usize).and_then(Option::take);
            *self.get_mut(to)? = moved.ok_or(Failure::from(Errno::BadFd))?;
        }
        Ok(())
    }
}
