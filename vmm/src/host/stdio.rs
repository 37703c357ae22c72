//! Streams: the standard streams, and what a guest opened that has no offsets (FIFO, terminal, device).
//!
//! Rule: a stream is read and written where it stands, and a call on it never waits: what has no data
//! or no room is [`Errno::Again`], and the guest polls. The descriptors of the standard streams are
//! shared with other processes, so their flags are not ours to change: a call asks poll(2) first, and
//! writes no more at once than a pipe that polls as writable is bound to take.
//!
//! A file that serves as a standard stream (`< file`, `> file`, `>> file`) is read and written at the
//! descriptor's own position, which it shares with whoever else has it, and never waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use abi::{Errno, Handle};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno as Os;

use super::Error;
use super::clock::timespec;
use super::errno::refusal;
use super::handles::{Object, Role};

/// `PIPE_BUF`: a pipe that polls as writable takes this much without waiting (pipe(7)).
const PIPE_BUF: usize = 4096;

/// The standard streams of a guest.
#[derive(Debug)]
pub struct Stdio {
    /// Read by the guest as [`Handle::STDIN`].
    pub stdin: OwnedFd,
    /// Written by the guest as [`Handle::STDOUT`].
    pub stdout: OwnedFd,
    /// Written by the guest as [`Handle::STDERR`].
    pub stderr: OwnedFd,
}

impl Stdio {
    /// Duplicates of the standard streams of this process.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateStdio`] if there are no descriptors left.
    pub fn inherit() -> Result<Self, Error> {
        let duplicate = |fd: BorrowedFd<'_>, handle: Handle| {
            fd.try_clone_to_owned().map_err(|source| Error::DuplicateStdio { handle, source })
        };
        Ok(Self {
            stdin: duplicate(io::stdin().as_fd(), Handle::STDIN)?,
            stdout: duplicate(io::stdout().as_fd(), Handle::STDOUT)?,
            stderr: duplicate(io::stderr().as_fd(), Handle::STDERR)?,
        })
    }
}

/// The object for a standard stream, which is read or else written.
pub(super) fn object(fd: OwnedFd, read: bool) -> Result<Object, Os> {
    let may_wait = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
        FileType::RegularFile | FileType::BlockDevice | FileType::Directory => false,
        FileType::Fifo
        | FileType::CharacterDevice
        | FileType::Socket
        | FileType::Symlink
        | FileType::Unknown => true,
    };
    Ok(Object { fd, role: Role::Stream { may_wait }, read, write: !read, volume: None })
}

/// Reads what there is into `buffer`. Returns the bytes read; 0 at the end.
///
/// poll(2) is asked even where the descriptor does not block: a FIFO that no writer has opened yet
/// reads as ended, but does not poll as readable.
pub(super) fn read(fd: BorrowedFd<'_>, may_wait: bool, buffer: &mut [u8]) -> Result<usize, Errno> {
    if may_wait && !is_ready(fd, PollFlags::IN)? {
        return Err(Errno::Again);
    }
    rustix::io::read(fd, buffer).map_err(refusal)
}

/// Writes as much of `data` as the stream takes. Returns the bytes written.
pub(super) fn write(fd: BorrowedFd<'_>, may_wait: bool, data: &[u8]) -> Result<usize, Errno> {
    let blocks = may_wait && !fcntl_getfl(fd).map_err(refusal)?.contains(OFlags::NONBLOCK);
    if !blocks {
        return rustix::io::write(fd, data).map_err(refusal);
    }
    let mut written = 0;
    for chunk in data.chunks(PIPE_BUF) {
        match write_if_ready(fd, chunk) {
            Ok(len) => written += len,
            Err(_) if written > 0 => break, // the next call meets it again
            Err(errno) => return Err(errno),
        }
    }
    Ok(written)
}

fn write_if_ready(fd: BorrowedFd<'_>, chunk: &[u8]) -> Result<usize, Errno> {
    if !is_ready(fd, PollFlags::OUT)? {
        return Err(Errno::Again);
    }
    rustix::io::write(fd, chunk).map_err(refusal)
}

/// Whether a call for `events` would make progress at once; an error or a hang-up is progress.
fn is_ready(fd: BorrowedFd<'_>, events: PollFlags) -> Result<bool, Errno> {
    let ready = poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&timespec(0)));
    Ok(ready.map_err(refusal)? > 0)
}
