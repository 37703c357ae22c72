//! Files and directories.
//!
//! Rule: what a handle may do is decided before, by [`super::handles`]; where a path leads is decided by
//! [`beneath`]; the functions here do one thing each, once, and translate the outcome. Interrupted calls
//! are not repeated: whoever interrupts wants control back.
//!
//! Opening waits for nobody and acquires no controlling terminal. A FIFO opened for reading has no data
//! until there is a writer; opened for writing only, it needs a reader ([`Errno::NoDevice`]).

mod beneath;
mod list;
#[cfg(test)]
mod tests;

use std::io::IoSlice;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

use abi::{APPEND, Advice, Errno, FileKind, OpenFlags, Stat, TimesMask};
use rustix::fs::{
    Advice as OsAdvice, AtFlags, FallocateFlags, FileType, Mode, OFlags, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, fadvise, fallocate, fcntl_setfl, fdatasync, fstat, fsync, ftruncate,
    linkat, mkdirat, readlinkat, renameat, symlinkat, tell, unlinkat, utimensat,
};
use rustix::io::{Errno as Os, ReadWriteFlags, pread, pwrite, pwritev2};

use self::beneath::Place;
pub(super) use self::list::list;
use super::clock::{nanoseconds, timespec};
use super::errno::refusal;
use super::handles::{DirAccess, Object, Role};
use super::{Answer, net, stdio};

/// Permissions of what a guest creates, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

/// `O_DSYNC`. Not `OFlags::DSYNC`, which rustix makes the costlier `O_SYNC` on Linux.
const DSYNC: OFlags = OFlags::from_bits_retain(libc::O_DSYNC.cast_unsigned());

/// Reads up to `len` bytes into `reply`: a file at `offset`, a stream or socket where it stands.
pub(super) fn read(
    object: &Object,
    offset: u64,
    len: u32,
    wait: bool,
    reply: &mut [u8],
) -> Result<Answer, Errno> {
    let len = usize::try_from(len).map_or(reply.len(), |len| len.min(reply.len()));
    let buffer = &mut reply[..len];
    let read = match object.role {
        Role::File => pread(object.fd(), buffer, position(offset)?).map_err(refusal)?,
        Role::Stream { may_wait } => stdio::read(object.fd(), may_wait, wait, buffer)?,
        Role::Socket { .. } => net::read(object.fd(), wait, buffer)?,
        Role::Directory | Role::Name | Role::Lookup(_) => return Err(Errno::BadHandle),
    };
    Ok(Answer::data(read))
}

/// Writes `data`: to a file at `offset` or [`APPEND`], to a stream or socket where it stands.
pub(super) fn write(
    object: &Object,
    offset: u64,
    wait: bool,
    data: &[u8],
    reply: &mut [u8],
) -> Result<Answer, Errno> {
    let written = match object.role {
        Role::File if offset == APPEND => return append(object, data, reply),
        Role::File => pwrite(object.fd(), data, position(offset)?).map_err(refusal)?,
        Role::Stream { may_wait } => stdio::write(object.fd(), may_wait, wait, data)?,
        Role::Socket { .. } => net::write(object.fd(), wait, data)?,
        Role::Directory | Role::Name | Role::Lookup(_) => return Err(Errno::BadHandle),
    };
    Ok(Answer { value: written as u64, data_bytes: 0 })
}

/// Writes `data` at the end of a file and tells where they end. The descriptor's own position, which
/// nothing else uses, is how the kernel tells.
fn append(object: &Object, data: &[u8], reply: &mut [u8]) -> Result<Answer, Errno> {
    const AT_POSITION: u64 = u64::MAX;
    if reply.len() < size_of::<u64>() {
        return Err(Errno::TooBig); // before it is written
    }
    let data = [IoSlice::new(data)];
    let written = pwritev2(object.fd(), &data, AT_POSITION, ReadWriteFlags::APPEND);
    let written = written.map_err(refusal)?;
    let end = tell(object.fd()).map_err(refusal)?;
    Ok(Answer { value: written as u64, ..Answer::of(&end, reply)? })
}

/// Returns when what was written to a file or directory is on the medium.
///
/// # Errors
///
/// [`Errno::Invalid`] for what has no medium, as fsync(2) says.
pub(super) fn sync(object: &Object, data_only: bool) -> Result<Answer, Errno> {
    if data_only { fdatasync(object.fd()) } else { fsync(object.fd()) }.map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Describes an open object.
pub(super) fn stat(object: &Object, reply: &mut [u8]) -> Result<Answer, Errno> {
    describe(&object.fd, reply)
}

/// Describes what `path` names.
pub(super) fn stat_at(
    dir: &Object,
    follow: bool,
    path: &[u8],
    reply: &mut [u8],
) -> Result<Answer, Errno> {
    describe(&beneath::object(dir.fd(), path, follow)?, reply)
}

/// Sets a file's size.
///
/// # Errors
///
/// [`Errno::ReadOnly`] in a read-only preopen; else [`Errno::BadHandle`] without the write right and for
/// a directory; [`Errno::Invalid`] for a stream, for a standard stream that is a file too: what others
/// wrote there is not the guest's to remove.
pub(super) fn set_size(object: &Object, size: u64) -> Result<Answer, Errno> {
    match object.role {
        Role::Stream { .. } | Role::Socket { .. } | Role::Lookup(_) => return Err(Errno::Invalid),
        Role::Directory => return Err(Errno::BadHandle),
        Role::File | Role::Name => object.check_changeable()?,
    }
    if !object.write {
        return Err(Errno::BadHandle);
    }
    ftruncate(object.fd(), position(size)?).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Reserves room for a part of a file, which grows to hold it.
///
/// # Errors
///
/// [`Errno::NotSeekable`] for a stream, [`Errno::Invalid`] for no bytes.
pub(super) fn allocate(object: &Object, offset: u64, len: u64) -> Result<Answer, Errno> {
    match object.role {
        Role::File => object.check_changeable()?,
        Role::Stream { .. } | Role::Socket { .. } => return Err(Errno::NotSeekable),
        Role::Directory | Role::Name | Role::Lookup(_) => return Err(Errno::BadHandle),
    }
    let (offset, len) = (position(offset)?, position(len)?);
    fallocate(object.fd(), FallocateFlags::empty(), offset, len).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Tells the page cache how a part of a file will be used.
///
/// # Errors
///
/// [`Errno::NotSeekable`] for a stream, [`Errno::BadHandle`] for what has no content.
pub(super) fn advise(
    object: &Object,
    offset: u64,
    len: u64,
    advice: Advice,
) -> Result<Answer, Errno> {
    match object.role {
        Role::File => {}
        Role::Stream { .. } | Role::Socket { .. } => return Err(Errno::NotSeekable),
        Role::Directory | Role::Name | Role::Lookup(_) => return Err(Errno::BadHandle),
    }
    let advice = match advice {
        Advice::Normal => OsAdvice::Normal,
        Advice::Sequential => OsAdvice::Sequential,
        Advice::Random => OsAdvice::Random,
        Advice::WillNeed => OsAdvice::WillNeed,
        Advice::DontNeed => OsAdvice::DontNeed,
        Advice::NoReuse => OsAdvice::NoReuse,
    };
    let len = NonZeroU64::new(position(len)?);
    fadvise(object.fd(), position(offset)?, len, advice).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Sets an open object's times.
///
/// # Errors
///
/// [`Errno::ReadOnly`] in a read-only preopen; [`Errno::NotPermitted`] for a standard stream;
/// [`Errno::Invalid`] if the same time is to be both given and the present.
pub(super) fn set_times(
    object: &Object,
    mask: TimesMask,
    atime_ns: u64,
    mtime_ns: u64,
) -> Result<Answer, Errno> {
    object.check_changeable()?;
    set_times_of(&object.fd, &timestamps(mask, atime_ns, mtime_ns)?)
}

/// Sets the times of what `path` names.
pub(super) fn set_times_at(
    dir: &Object,
    follow: bool,
    mask: TimesMask,
    atime_ns: u64,
    mtime_ns: u64,
    path: &[u8],
) -> Result<Answer, Errno> {
    let times = timestamps(mask, atime_ns, mtime_ns)?;
    set_times_of(&beneath::object(dir.fd(), path, follow)?, &times)
}

/// Opens what `path` names; its rights are those asked for, within the access of `dir`.
///
/// # Errors
///
/// [`Errno::ReadOnly`] for `WRITE`, `CREATE` or `TRUNCATE` in a read-only preopen, whether or not the
/// name exists; [`Errno::Invalid`] for `CREATE` with `DIRECTORY`: open(2) makes no directories.
pub(super) fn open_at(dir: &Object, flags: OpenFlags, path: &[u8]) -> Result<Object, Errno> {
    let asks = |flag| flags.contains(flag);
    let (read, write) = (asks(OpenFlags::READ), asks(OpenFlags::WRITE));
    let (create, truncate) = (asks(OpenFlags::CREATE), asks(OpenFlags::TRUNCATE));
    if write || create || truncate {
        dir.check_changeable()?;
    }
    if create && asks(OpenFlags::DIRECTORY) {
        return Err(Errno::Invalid);
    }
    let volume = dir.volume;

    let mut how = OFlags::empty();
    how.set(OFlags::NOFOLLOW, !asks(OpenFlags::FOLLOW));
    how.set(OFlags::DIRECTORY, asks(OpenFlags::DIRECTORY));
    if !(read || write || create || truncate) {
        let fd = beneath::open(dir.fd(), path, how | OFlags::PATH, Mode::empty())?;
        return Ok(Object { fd: fd.into(), role: Role::Name, read, write, volume });
    }
    how |= match (read, write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        // For CREATE and TRUNCATE alone, the handle then has no right to read.
        (_, false) => OFlags::RDONLY,
    };
    how.set(OFlags::CREATE, create);
    how.set(OFlags::EXCL, create && asks(OpenFlags::EXCLUSIVE));
    how.set(OFlags::TRUNC, truncate);
    how.set(OFlags::SYNC, asks(OpenFlags::SYNC));
    how.set(DSYNC, asks(OpenFlags::SYNC) || asks(OpenFlags::DATA_SYNC));
    let mode = if create { FILE_MODE } else { Mode::empty() };
    let fd = beneath::open(dir.fd(), path, how | OFlags::NONBLOCK | OFlags::NOCTTY, mode)?;

    let role = match FileType::from_raw_mode(fstat(&fd).map_err(refusal)?.st_mode) {
        FileType::Directory => Role::Directory,
        FileType::RegularFile | FileType::BlockDevice => {
            // A file's data always come; not blocking is for what has to wait for somebody.
            fcntl_setfl(&fd, OFlags::empty()).map_err(refusal)?;
            Role::File
        }
        FileType::Fifo
        | FileType::CharacterDevice
        | FileType::Socket
        | FileType::Symlink
        | FileType::Unknown => Role::Stream { may_wait: true },
    };
    Ok(Object { fd: fd.into(), role, read, write, volume })
}

/// Makes a directory.
pub(super) fn mkdir_at(dir: &Object, path: &[u8]) -> Result<Answer, Errno> {
    let place = Place::of(dir.fd(), path)?;
    mkdirat(place.parent(), place.name, DIRECTORY_MODE).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Removes a name: an empty directory, or anything else.
pub(super) fn unlink_at(dir: &Object, directory: bool, path: &[u8]) -> Result<Answer, Errno> {
    let place = Place::of(dir.fd(), path)?;
    let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    unlinkat(place.parent(), place.name, flags).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Renames.
pub(super) fn rename_at(
    from_dir: &Object,
    to_dir: &Object,
    from: &[u8],
    to: &[u8],
) -> Result<Answer, Errno> {
    let (from, to) = (Place::of(from_dir.fd(), from)?, Place::of(to_dir.fd(), to)?);
    renameat(from.parent(), from.name, to.parent(), to.name).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Makes a hard link.
///
/// # Errors
///
/// [`Errno::CrossDevice`] from a read-only preopen into a writable one: through the link the guest could
/// write what it may only read.
pub(super) fn link_at(
    from_dir: &Object,
    to_dir: &Object,
    follow: bool,
    from: &[u8],
    to: &[u8],
) -> Result<Answer, Errno> {
    if from_dir.volume == Some(DirAccess::ReadOnly) {
        return Err(Errno::CrossDevice);
    }
    let (from_parent, from_name) = beneath::link_source(from_dir.fd(), from, follow)?;
    let to = Place::of(to_dir.fd(), to)?;
    linkat(&from_parent, from_name, to.parent(), to.name, AtFlags::empty()).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Makes a symbolic link.
///
/// # Errors
///
/// [`Errno::NotPermitted`] for an absolute target.
pub(super) fn symlink_at(dir: &Object, target: &[u8], path: &[u8]) -> Result<Answer, Errno> {
    if target.starts_with(b"/") {
        return Err(Errno::NotPermitted);
    }
    let place = Place::of(dir.fd(), path)?;
    symlinkat(target, place.parent(), place.name).map_err(refusal)?;
    Ok(Answer::DONE)
}

/// Reads what a symbolic link says, an absolute target too: it is content of the volume.
///
/// # Errors
///
/// [`Errno::Invalid`] for what is no symbolic link.
pub(super) fn read_link_at(dir: &Object, path: &[u8], reply: &mut [u8]) -> Result<Answer, Errno> {
    let link = beneath::object(dir.fd(), path, false)?;
    let target = readlinkat(&link, c"", Vec::new()).map_err(|os| match os {
        Os::NOENT => Errno::Invalid, // readlink(2) says so of an empty path to what is no link
        os => refusal(os),
    })?;
    let target = target.as_bytes();
    reply.get_mut(..target.len()).ok_or(Errno::TooBig)?.copy_from_slice(target);
    Ok(Answer::data(target.len()))
}

/// The kind of object in the contract's words.
fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::RegularFile,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::SymbolicLink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}

fn describe(fd: &OwnedFd, reply: &mut [u8]) -> Result<Answer, Errno> {
    let stat = fstat(fd).map_err(refusal)?;
    let time = |tv_sec, nsec: u64| {
        nanoseconds(Timespec { tv_sec, tv_nsec: i64::try_from(nsec).unwrap_or(0) })
    };
    let described = Stat {
        dev: stat.st_dev,
        ino: stat.st_ino,
        links: stat.st_nlink,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        atime_ns: time(stat.st_atime, stat.st_atime_nsec),
        mtime_ns: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: time(stat.st_ctime, stat.st_ctime_nsec),
        kind: kind(FileType::from_raw_mode(stat.st_mode)) as u32,
        reserved: 0,
    };
    Answer::of(&described, reply)
}

/// Works on descriptors of every kind, `O_PATH` and symbolic links too (`AT_EMPTY_PATH`, Linux 5.8).
fn set_times_of(fd: &OwnedFd, times: &Timestamps) -> Result<Answer, Errno> {
    utimensat(fd, c"", times, AtFlags::EMPTY_PATH).map_err(refusal)?;
    Ok(Answer::DONE)
}

fn timestamps(mask: TimesMask, atime_ns: u64, mtime_ns: u64) -> Result<Timestamps, Errno> {
    let time = |given, now, ns| match (mask.contains(given), mask.contains(now)) {
        (true, true) => Err(Errno::Invalid),
        (true, false) => Ok(timespec(ns)),
        (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }),
        (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
    };
    Ok(Timestamps {
        last_access: time(TimesMask::ATIME, TimesMask::ATIME_NOW, atime_ns)?,
        last_modification: time(TimesMask::MTIME, TimesMask::MTIME_NOW, mtime_ns)?,
    })
}

/// A position or size in a file, which the kernel counts in a signed 64-bit number.
fn position(offset: u64) -> Result<u64, Errno> {
    if i64::try_from(offset).is_ok() { Ok(offset) } else { Err(Errno::Invalid) }
}
