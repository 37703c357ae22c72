//! The functions that work on one file descriptor.

use abi::layout::CALL_DATA_BYTES;
use abi::{Advice, FileKind, Request, Stat};

use super::View;
use super::errno::{Answer, Errno, Failure};
use super::fds::Fd;
use super::memory::{Buffers, Memory};
use super::surroundings::length;
use crate::ahead::{Piece, ReadAhead};
use crate::descriptor::{NewTime, Rights, identity, mix};
use crate::handle::OwnedHandle;

/// `fdflags`.
pub(super) mod fdflags {
    pub(in crate::p1) const APPEND: u32 = 1;
    pub(in crate::p1) const DSYNC: u32 = 2;
    pub(in crate::p1) const NONBLOCK: u32 = 4;
    pub(in crate::p1) const RSYNC: u32 = 8;
    pub(in crate::p1) const SYNC: u32 = 16;
    pub(in crate::p1) const ALL: u32 = 31;
}

/// `rights`. The library OS holds those of reading and writing; the others tell a program what makes
/// sense for a descriptor.
pub(super) mod rights {
    pub(in crate::p1) const FD_READ: u64 = 1 << 1;
    pub(in crate::p1) const FD_SEEK: u64 = 1 << 2;
    pub(in crate::p1) const FD_TELL: u64 = 1 << 5;
    pub(in crate::p1) const FD_WRITE: u64 = 1 << 6;
    pub(in crate::p1) const FD_ALLOCATE: u64 = 1 << 8;
    pub(in crate::p1) const FD_READDIR: u64 = 1 << 14;
    /// Truncating as a file is opened. A directory does not say that it may: no runtime takes the right
    /// away again, which programs that see it expect to work.
    pub(in crate::p1) const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
    pub(in crate::p1) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    /// All that begin with `path_`, and listing.
    pub(in crate::p1) const DIRECTORY: u64 = 0x1f << 9 | 0x3f << 14 | 1 << 20 | 7 << 24;
    /// Those of [`DIRECTORY`] that change something.
    pub(in crate::p1) const MUTATE: u64 =
        1 << 9 | 1 << 10 | 3 << 11 | 3 << 16 | 1 << 19 | 1 << 20 | 7 << 24;
    pub(in crate::p1) const ALL: u64 = (1 << 30) - 1;
}

/// Nanoseconds to set, as `fstflags` say.
pub(super) fn new_times(atime: u64, mtime: u64, flags: u32) -> Answer<(NewTime, NewTime)> {
    let time = |given, now, ns| match (flags & given != 0, flags & now != 0) {
        (true, true) => Err(Failure::from(Errno::Invalid)),
        (true, false) => Ok(NewTime::At(ns)),
        (false, true) => Ok(NewTime::Now),
        (false, false) => Ok(NewTime::Keep),
    };
    if flags > 15 {
        return Err(Errno::Invalid.into());
    }
    Ok((time(1, 2, atime)?, time(4, 8, mtime)?))
}

/// `filetype`. There is none for a FIFO.
pub(super) fn filetype(kind: FileKind) -> u8 {
    match kind {
        FileKind::Unknown | FileKind::Fifo => 0,
        FileKind::BlockDevice => 1,
        FileKind::CharacterDevice => 2,
        FileKind::Directory => 3,
        FileKind::RegularFile => 4,
        FileKind::Socket => 6,
        FileKind::SymbolicLink => 7,
    }
}

/// `filestat`, with device and inode numbers that only tell objects apart.
pub(super) fn filestat(stat: &Stat) -> [u8; 64] {
    let (ino, _) = identity(stat.dev, stat.ino);
    let kind = u64::from(filetype(FileKind::from_wire(stat.kind)));
    let fields = [
        mix(stat.dev),
        ino,
        kind,
        stat.links,
        stat.size,
        stat.atime_ns,
        stat.mtime_ns,
        stat.ctime_ns,
    ];
    let mut bytes = [0; 64];
    for (target, field) in bytes.chunks_exact_mut(8).zip(fields) {
        target.copy_from_slice(&field.to_le_bytes());
    }
    bytes
}

pub(super) fn fd_advise(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    offset: u64,
    len: u64,
    advice: u32,
) -> Answer {
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Errno::Invalid.into()),
    };
    Ok(wasi.fds.get(fd)?.file()?.advise(offset, len, advice)?)
}

pub(super) fn fd_allocate(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    offset: u64,
    len: u64,
) -> Answer {
    Ok(wasi.fds.get(fd)?.file()?.allocate(offset, len)?)
}

pub(super) fn fd_close(wasi: &mut View<'_>, _: &mut Memory<'_>, fd: u32) -> Answer {
    wasi.fds.close(fd)
}

pub(super) fn fd_datasync(wasi: &mut View<'_>, _: &mut Memory<'_>, fd: u32) -> Answer {
    Ok(wasi.fds.get(fd)?.opened()?.sync(true)?)
}

pub(super) fn fd_sync(wasi: &mut View<'_>, _: &mut Memory<'_>, fd: u32) -> Answer {
    Ok(wasi.fds.get(fd)?.opened()?.sync(false)?)
}

pub(super) fn fd_fdstat_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    at: u32,
) -> Answer {
    let fd = wasi.fds.get(fd)?;
    let opened = fd.descriptor.rights();
    let flags = [
        (fd.append, fdflags::APPEND),
        (fd.nonblock, fdflags::NONBLOCK),
        (opened.sync, fdflags::SYNC),
        (opened.data_sync, fdflags::DSYNC),
        (opened.read_sync, fdflags::RSYNC),
    ];
    let flags: u32 = flags.iter().filter_map(|(set, flag)| set.then_some(flag)).sum();
    let (base, inheriting) = rights_of(fd, opened);
    let mut bytes = [0; 24];
    bytes[0] = filetype(fd.descriptor.kind());
    bytes[2..4].copy_from_slice(&flags.to_le_bytes()[..2]);
    bytes[8..16].copy_from_slice(&base.to_le_bytes());
    bytes[16..].copy_from_slice(&inheriting.to_le_bytes());
    memory.write_struct(at, &bytes)
}

/// The rights that a program is told: of the descriptor, and of what is opened beneath it.
fn rights_of(fd: &Fd, opened: Rights) -> (u64, u64) {
    if fd.standard {
        let base = if opened.read { rights::FD_READ } else { rights::FD_WRITE };
        return (base, base);
    }
    if fd.descriptor.kind() == FileKind::Directory {
        let read = if opened.read { 0 } else { rights::FD_READDIR };
        let mutate = if opened.mutate { 0 } else { rights::MUTATE };
        let base = rights::ALL
            & !(rights::FD_READ | rights::FD_WRITE | rights::FD_SEEK | rights::FD_TELL)
            & !(rights::FD_ALLOCATE | rights::FD_FILESTAT_SET_SIZE)
            & !(rights::PATH_FILESTAT_SET_SIZE | read | mutate);
        // Of a read-only directory too: what a program may not write it has to ask for, to be told why.
        return (base, rights::ALL);
    }
    let read = if opened.read { 0 } else { rights::FD_READ };
    let write = match opened.write {
        true => 0,
        false => rights::FD_WRITE | rights::FD_ALLOCATE | rights::FD_FILESTAT_SET_SIZE,
    };
    let seek = match fd.descriptor.is_seekable() {
        true => 0,
        false => rights::FD_SEEK | rights::FD_TELL,
    };
    let base = rights::ALL & !(rights::DIRECTORY | read | write | seek);
    (base, base)
}

/// The flags that make writes wait for the medium were given at opening and stay.
pub(super) fn fd_fdstat_set_flags(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    flags: u32,
) -> Answer {
    let fd = wasi.fds.get_mut(fd)?;
    if fd.descriptor.kind() == FileKind::Directory {
        return Err(Errno::BadFd.into());
    }
    if flags & !(fdflags::APPEND | fdflags::NONBLOCK) != 0 {
        return Err(Errno::Invalid.into());
    }
    fd.append = flags & fdflags::APPEND != 0;
    fd.nonblock = flags & fdflags::NONBLOCK != 0;
    Ok(())
}

/// Rights are those of opening. Other runtimes have given the function up too.
pub(super) fn fd_fdstat_set_rights(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    _base: u64,
    _inheriting: u64,
) -> Answer {
    wasi.fds.get(fd)?;
    Err(Errno::NotSupported.into())
}

pub(super) fn fd_filestat_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    at: u32,
) -> Answer {
    let stat = wasi.fds.get(fd)?.descriptor.stat()?;
    memory.write_struct(at, &filestat(&stat))
}

pub(super) fn fd_filestat_set_size(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    size: u64,
) -> Answer {
    Ok(wasi.fds.get(fd)?.file()?.set_size(size)?)
}

pub(super) fn fd_filestat_set_times(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    atime: u64,
    mtime: u64,
    flags: u32,
) -> Answer {
    let (atime, mtime) = new_times(atime, mtime, flags)?;
    Ok(wasi.fds.get(fd)?.opened()?.set_times(atime, mtime)?)
}

pub(super) fn fd_prestat_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    at: u32,
) -> Answer {
    let path = wasi.fds.get(fd)?.preopen.as_ref().ok_or(Failure::from(Errno::BadFd))?;
    // The tag of a directory is 0; the length lies behind it, aligned to 4 bytes.
    memory.write_u32(at, 0)?;
    memory.write_u32(at.wrapping_add(4), length(path.len())?)
}

pub(super) fn fd_prestat_dir_name(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
) -> Answer {
    let name = wasi.fds.get(fd)?.preopen.as_ref().ok_or(Failure::from(Errno::NotDirectory))?;
    if name.len() > len as usize {
        return Err(Errno::NameTooLong.into());
    }
    memory.bytes_mut(path, length(name.len())?)?.copy_from_slice(name.as_bytes());
    Ok(())
}

pub(super) fn fd_renumber(wasi: &mut View<'_>, _: &mut Memory<'_>, from: u32, to: u32) -> Answer {
    wasi.fds.renumber(from, to)
}

pub(super) fn fd_seek(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position: u32,
) -> Answer {
    let fd = wasi.fds.get_mut(fd)?;
    fd.check_seekable()?;
    let base = match whence {
        0 => 0,
        1 => fd.position,
        2 => fd.descriptor.stat()?.size,
        _ => return Err(Errno::Invalid.into()),
    };
    let target = base.checked_add_signed(offset).filter(|target| i64::try_from(*target).is_ok());
    let target = target.ok_or(Failure::from(Errno::Invalid))?;
    memory.write_u64(position, target)?;
    fd.position = target;
    Ok(())
}

pub(super) fn fd_tell(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    position: u32,
) -> Answer {
    let fd = wasi.fds.get(fd)?;
    fd.check_seekable()?;
    memory.write_u64(position, fd.position)
}

/// Reads a file until the buffers are full or it ends.
fn read_file(
    ahead: &mut ReadAhead,
    handle: &OwnedHandle,
    offset: u64,
    memory: &mut Memory<'_>,
    buffers: &Buffers,
) -> Answer<u32> {
    let mut done = 0;
    while done < buffers.total() {
        let position = offset.saturating_add(done as u64);
        let piece = ahead.read(handle, position, buffers.total() - done, |bytes| {
            buffers.scatter(memory.all(), done, bytes);
        });
        match piece {
            Ok(Piece { count, at_end }) => {
                done += count;
                if at_end || count == 0 {
                    break;
                }
            }
            Err(abi::Errno::Interrupted) => {}
            Err(errno) if done == 0 => return Err(errno.into()),
            Err(_) => break, // the next call meets it again
        }
    }
    length(done)
}

/// Reads a stream once, waiting for something if `wait`.
fn read_stream(
    handle: &OwnedHandle,
    wait: bool,
    memory: &mut Memory<'_>,
    buffers: &Buffers,
) -> Answer<u32> {
    let len = length(buffers.total().min(CALL_DATA_BYTES))?;
    if len == 0 {
        return Ok(0);
    }
    let request = Request::Read { handle: handle.get(), offset: 0, len, wait };
    loop {
        let result = handle.calls().call_for_bytes(&request, |bytes| {
            buffers.scatter(memory.all(), 0, bytes);
            bytes.len()
        });
        match result {
            Err(abi::Errno::Interrupted) => {}
            result => return length(result?),
        }
    }
}

/// Writes all buffers by `write`, which is given how much is done and the bytes that follow, and says
/// how many of them it wrote.
fn write(
    memory: &mut Memory<'_>,
    buffers: &Buffers,
    mut write: impl FnMut(u64, &[u8]) -> Result<usize, abi::Errno>,
) -> Answer<u32> {
    if let Some(range) = buffers.single() {
        return length(write(0, memory.all().get(range).unwrap_or_default())?);
    }
    let mut done = 0;
    while done < buffers.total() {
        let bytes = buffers.gather(memory.all(), done, CALL_DATA_BYTES);
        match write(done as u64, &bytes) {
            Ok(count) => {
                done += count;
                if count < bytes.len() {
                    break;
                }
            }
            Err(errno) if done == 0 => return Err(errno.into()),
            Err(_) => break, // the next call meets it again
        }
    }
    length(done)
}

pub(super) fn fd_read(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    done: u32,
) -> Answer {
    let buffers = Buffers::read(memory, buffers, count)?;
    let fd = wasi.fds.get_mut(fd)?;
    let handle = fd.descriptor.readable()?;
    if fd.check_seekable().is_err() {
        let count = read_stream(handle, !fd.nonblock, memory, &buffers)?;
        return memory.write_u32(done, count);
    }
    let ahead = &mut wasi.process.ahead;
    let count = read_file(ahead, handle, fd.position, memory, &buffers)?;
    fd.position = fd.position.saturating_add(count.into());
    memory.write_u32(done, count)
}

pub(super) fn fd_pread(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    offset: u64,
    done: u32,
) -> Answer {
    let buffers = Buffers::read(memory, buffers, count)?;
    let fd = wasi.fds.get(fd)?;
    fd.check_seekable()?;
    let (ahead, handle) = (&mut wasi.process.ahead, fd.descriptor.readable()?);
    let count = read_file(ahead, handle, offset, memory, &buffers)?;
    memory.write_u32(done, count)
}

pub(super) fn fd_write(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    done: u32,
) -> Answer {
    let buffers = Buffers::read(memory, buffers, count)?;
    let fd = wasi.fds.get_mut(fd)?;
    let handle = fd.descriptor.writable()?;
    if fd.check_seekable().is_err() {
        let wait = !fd.nonblock;
        let count = write(memory, &buffers, |_, bytes| handle.write_all(0, bytes, wait))?;
        return memory.write_u32(done, count);
    }
    if fd.append {
        let mut position = fd.position;
        let count = write(memory, &buffers, |_, bytes| {
            let (count, end) = handle.append_all(bytes)?;
            position = end;
            Ok(count)
        })?;
        fd.position = position;
        return memory.write_u32(done, count);
    }
    let start = fd.position;
    let count = write(memory, &buffers, |past, bytes| {
        handle.write_all(start.saturating_add(past), bytes, true)
    })?;
    fd.position = start.saturating_add(count.into());
    memory.write_u32(done, count)
}

/// On a descriptor that appends, the offset means nothing: so it is on Linux (pwrite(2), "Bugs").
pub(super) fn fd_pwrite(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    offset: u64,
    done: u32,
) -> Answer {
    let buffers = Buffers::read(memory, buffers, count)?;
    let fd = wasi.fds.get(fd)?;
    fd.check_seekable()?;
    let handle = fd.descriptor.writable()?;
    let count = write(memory, &buffers, |past, bytes| match fd.append {
        true => handle.append_all(bytes).map(|(count, _)| count),
        false => handle.write_all(offset.saturating_add(past), bytes, true),
    })?;
    memory.write_u32(done, count)
}
