//! Streams: the standard streams, and what a guest opened that has no offsets (FIFO, terminal, device).
//!
//! Rule: a stream is read and written where it stands, and a call on it waits only if the guest says so:
//! else what has no data or no room is [`Errno::Again`], and the guest polls. Only poll(2) waits, which a
//! signal ends. The descriptors of the standard streams are shared with other processes, so their flags
//! are not ours to change: a write says `RWF_NOWAIT`, or where the stream does not know that, asks
//! poll(2) first and writes no more at once than a pipe that polls as writable is bound to take.
//!
//! A file that serves as a standard stream (`< file`, `> file`, `>> file`) is read and written at the
//! descriptor's own position, which it shares with whoever else has it, and never waits.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use abi::boot::boot_flags;
use abi::{Errno, Handle};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno as Os, ReadWriteFlags, pwritev2};
use rustix::termios::isatty;

use super::Error;
use super::clock::timespec;
use super::errno::refusal;
use super::handles::{Object, Role};
use crate::signal;

/// `PIPE_BUF`: a pipe that polls as writable takes this much without waiting (pipe(7)).
const PIPE_BUF: usize = 4096;

/// How long a write pauses: short for who reads, long for a processor.
const PAUSE_NS: u64 = 1_000_000;

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

/// Standard streams that any number of guests can be granted, one after the other or together: what is to
/// be known of them was asked once.
#[derive(Clone, Debug)]
pub struct Streams([Stream; 3]);

#[derive(Clone, Debug)]
struct Stream {
    fd: Arc<OwnedFd>,
    may_wait: bool,
    is_terminal: bool,
}

impl Streams {
    /// Looks at `stdio`.
    ///
    /// From then on the process survives `SIGPIPE` and `SIGXFSZ`, unless it has chosen something else for
    /// them: a guest that writes to a pipe without a reader gets [`Errno::BrokenPipe`], and one that
    /// reaches the limit of file sizes (`RLIMIT_FSIZE`) gets [`Errno::FileTooLarge`].
    ///
    /// # Errors
    ///
    /// [`Error::CatchSignal`], [`Error::InspectStdio`].
    pub fn new(stdio: Stdio) -> Result<Self, Error> {
        for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
            signal::catch_unless_handled(signal)
                .map_err(|source| Error::CatchSignal { signal, source })?;
        }
        let stream = |fd, handle| {
            Stream::new(fd).map_err(|source| Error::InspectStdio { handle, source: source.into() })
        };
        Ok(Self([
            stream(stdio.stdin, Handle::STDIN)?,
            stream(stdio.stdout, Handle::STDOUT)?,
            stream(stdio.stderr, Handle::STDERR)?,
        ]))
    }

    /// The objects for them, in the order of their handles. The first is read, the others are written.
    pub(super) fn objects(&self) -> impl Iterator<Item = Object> {
        self.0.iter().zip([true, false, false]).map(|(stream, read)| Object {
            fd: Arc::clone(&stream.fd),
            role: Role::Stream { may_wait: stream.may_wait },
            read,
            write: !read,
            volume: None,
        })
    }

    /// Which of them are terminals: [`boot_flags`].
    pub(super) fn terminal_flags(&self) -> u32 {
        let flags = [
            boot_flags::STDIN_IS_TERMINAL,
            boot_flags::STDOUT_IS_TERMINAL,
            boot_flags::STDERR_IS_TERMINAL,
        ];
        let terminals = self.0.iter().zip(flags).filter(|(stream, _)| stream.is_terminal);
        terminals.fold(0, |all, (_, flag)| all | flag)
    }
}

impl Stream {
    fn new(fd: OwnedFd) -> Result<Self, Os> {
        let may_wait = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::RegularFile | FileType::BlockDevice | FileType::Directory => false,
            FileType::Fifo
            | FileType::CharacterDevice
            | FileType::Socket
            | FileType::Symlink
            | FileType::Unknown => true,
        };
        let is_terminal = isatty(&fd);
        Ok(Self { fd: fd.into(), may_wait, is_terminal })
    }
}

/// Reads what there is into `buffer`, or what there will be if `wait`. Returns the bytes read; 0 at the
/// end.
///
/// poll(2) is asked even where the descriptor does not block: a FIFO that no writer has opened yet
/// reads as ended, but does not poll as readable.
pub(super) fn read(
    fd: BorrowedFd<'_>,
    may_wait: bool,
    wait: bool,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    if may_wait && !is_ready(fd, PollFlags::IN, wait)? {
        return Err(Errno::Again);
    }
    rustix::io::read(fd, buffer).map_err(refusal)
}

/// Writes as much of `data` as the stream takes, at least something if `wait`. Returns the bytes
/// written.
pub(super) fn write(
    fd: BorrowedFd<'_>,
    may_wait: bool,
    wait: bool,
    data: &[u8],
) -> Result<usize, Errno> {
    let mut has_waited = false;
    loop {
        match write_now(fd, may_wait, data) {
            Err(Errno::Again) if wait => {
                if has_waited {
                    pause()?;
                }
                is_ready(fd, PollFlags::OUT, true)?;
                has_waited = true;
            }
            result => return result,
        }
    }
}

/// Waits a little: for a stream that polls as writable and still takes nothing, because there is less room
/// than the smallest piece needs. A signal ends it, and with it the write.
fn pause() -> Result<(), Errno> {
    poll(&mut [], Some(&timespec(PAUSE_NS))).map(drop).map_err(refusal)
}

/// Writes what the stream takes at once.
fn write_now(fd: BorrowedFd<'_>, may_wait: bool, data: &[u8]) -> Result<usize, Errno> {
    let blocks = may_wait && !fcntl_getfl(fd).map_err(refusal)?.contains(OFlags::NONBLOCK);
    if !blocks {
        return rustix::io::write(fd, data).map_err(refusal);
    }
    // One call for all of it, where this kind of stream can be written without waiting (pipes, since
    // Linux 5.18).
    const AT_POSITION: u64 = u64::MAX;
    match pwritev2(fd, &[IoSlice::new(data)], AT_POSITION, ReadWriteFlags::NOWAIT) {
        Err(Os::OPNOTSUPP | Os::SPIPE | Os::INVAL | Os::NOSYS) => {}
        result => return result.map_err(refusal),
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
    if !is_ready(fd, PollFlags::OUT, false)? {
        return Err(Errno::Again);
    }
    rustix::io::write(fd, chunk).map_err(refusal)
}

/// Whether a call for `events` would make progress, at once or after waiting for it; an error or a
/// hang-up is progress.
fn is_ready(fd: BorrowedFd<'_>, events: PollFlags, wait: bool) -> Result<bool, Errno> {
    let now = timespec(0);
    let timeout = if wait { None } else { Some(&now) };
    let ready = poll(&mut [PollFd::from_borrowed_fd(fd, events)], timeout);
    Ok(ready.map_err(refusal)? > 0)
}
