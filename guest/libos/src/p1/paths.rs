//! The functions that name files by paths, and the listing of directories.
//!
//! Paths and names are bytes: what is not UTF-8 passes as it is, in both directions.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::FileKind;

use super::View;
use super::errno::{Answer, Errno};
use super::fds::Fd;
use super::files::{fdflags, filestat, filetype, new_times, rights};
use super::memory::Memory;
use super::surroundings::length;
use crate::descriptor::{OpenHow, Rights, identity};
use crate::directory::DirectoryStream;

/// Bytes of a `dirent`, without its name.
const DIRENT_BYTES: usize = 24;

/// Cookies of the entries that the host does not list: `.` has 0, `..` has 1; the host's follow.
const OWN_ENTRIES: u64 = 2;

/// `lookupflags`: whether a symbolic link at the end of the path is followed.
fn follows(lookup: u32) -> Answer<bool> {
    match lookup {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::Invalid.into()),
    }
}

/// Fills the buffer with entries from `cookie` on. The last one may be cut short by the buffer's end;
/// the program asks for it again by the cookie of the one before.
pub(super) fn fd_readdir(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    at: u32,
    len: u32,
    cookie: u64,
    used: u32,
) -> Answer {
    let fd = wasi.fds.get_mut(fd)?;
    let directory = fd.directory()?;
    let handle = Arc::clone(directory.listable()?);
    let mut listed = Listed { bytes: Vec::new(), room: len as usize };
    let mut next = cookie;
    if next < OWN_ENTRIES {
        let stat = directory.stat()?;
        let (ino, _) = identity(stat.dev, stat.ino);
        // The parent's number is not told: it may lie outside.
        for (own, name) in [(0, &b"."[..]), (1, b"..")] {
            if next == own && listed.push(own + 1, ino, FileKind::Directory, name) {
                next = own + 1;
            }
        }
    }
    if next >= OWN_ENTRIES && listed.has_room() {
        let from = next - OWN_ENTRIES;
        let mut stream = match fd.listing.take() {
            Some(stream) if stream.cookie() == from && from != 0 => stream,
            _ => DirectoryStream::from(handle, from),
        };
        while let Some(entry) = stream.peek()? {
            let (ino, _) = identity(0, entry.header.ino);
            let kind = FileKind::from_wire(entry.header.kind);
            let next = entry.header.next.saturating_add(OWN_ENTRIES);
            if !listed.push(next, ino, kind, entry.name) {
                break;
            }
            stream.advance();
        }
        fd.listing = Some(stream);
    }
    let count = length(listed.bytes.len())?;
    memory.bytes_mut(at, count)?.copy_from_slice(&listed.bytes);
    memory.write_u32(used, count)
}

/// Entries in the form of the interface.
struct Listed {
    bytes: Vec<u8>,
    room: usize,
}

impl Listed {
    fn has_room(&self) -> bool {
        self.bytes.len() < self.room
    }

    /// Appends an entry as far as there is room; whether it is whole.
    fn push(&mut self, next: u64, ino: u64, kind: FileKind, name: &[u8]) -> bool {
        let mut head = [0; DIRENT_BYTES];
        let name_len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        head[..8].copy_from_slice(&next.to_le_bytes());
        head[8..16].copy_from_slice(&ino.to_le_bytes());
        head[16..20].copy_from_slice(&name_len.to_le_bytes());
        head[20] = filetype(kind);
        for part in [&head[..], name] {
            let count = part.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(part.get(..count).unwrap_or_default());
            if count < part.len() {
                return false;
            }
        }
        true
    }
}

pub(super) fn path_create_directory(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
) -> Answer {
    Ok(wasi.fds.get(fd)?.directory()?.create_directory_at(memory.bytes(path, len)?)?)
}

pub(super) fn path_filestat_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    at: u32,
) -> Answer {
    let path = memory.bytes(path, len)?;
    let stat = wasi.fds.get(fd)?.directory()?.stat_at(follows(lookup)?, path)?;
    memory.write_struct(at, &filestat(&stat))
}

#[expect(clippy::too_many_arguments, reason = "the interface's")]
pub(super) fn path_filestat_set_times(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    atime: u64,
    mtime: u64,
    flags: u32,
) -> Answer {
    let (atime, mtime) = new_times(atime, mtime, flags)?;
    let path = memory.bytes(path, len)?;
    Ok(wasi.fds.get(fd)?.directory()?.set_times_at(follows(lookup)?, path, atime, mtime)?)
}

#[expect(clippy::too_many_arguments, reason = "the interface's")]
pub(super) fn path_link(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    new_fd: u32,
    new_path: u32,
    new_len: u32,
) -> Answer {
    let (from_dir, to_dir) = (wasi.fds.get(fd)?, wasi.fds.get(new_fd)?);
    let (from, to) = (memory.bytes(path, len)?, memory.bytes(new_path, new_len)?);
    Ok(from_dir.directory()?.link_at(follows(lookup)?, from, to_dir.directory()?, to)?)
}

#[expect(clippy::too_many_arguments, reason = "the interface's")]
pub(super) fn path_open(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    open: u32,
    base: u64,
    _inheriting: u64,
    flags: u32,
    opened: u32,
) -> Answer {
    const CREATE: u32 = 1;
    const DIRECTORY: u32 = 2;
    const EXCLUSIVE: u32 = 4;
    const TRUNCATE: u32 = 8;
    if open > 15 || flags > fdflags::ALL {
        return Err(Errno::Invalid.into());
    }
    let how = OpenHow {
        follow: follows(lookup)?,
        create: open & CREATE != 0,
        directory: open & DIRECTORY != 0,
        exclusive: open & EXCLUSIVE != 0,
        truncate: open & TRUNCATE != 0,
    };
    let wanted = Rights {
        read: base & (rights::FD_READ | rights::FD_READDIR) != 0,
        write: base & rights::FD_WRITE != 0,
        mutate: false,
        sync: flags & fdflags::SYNC != 0,
        data_sync: flags & fdflags::DSYNC != 0,
        read_sync: flags & fdflags::RSYNC != 0,
    };
    // Where the number goes is checked before there is one to lose.
    memory.read_u32(opened)?;
    let path = memory.bytes(path, len)?;
    let descriptor = wasi.fds.get(fd)?.directory()?.open_at(path, how, wanted)?;
    let number = wasi.fds.insert(Fd {
        append: flags & fdflags::APPEND != 0,
        nonblock: flags & fdflags::NONBLOCK != 0,
        ..Fd::new(descriptor)
    })?;
    memory.write_u32(opened, number)
}

/// What does not fit is cut off.
#[expect(clippy::too_many_arguments, reason = "the interface's")]
pub(super) fn path_readlink(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
    at: u32,
    room: u32,
    used: u32,
) -> Answer {
    let target = wasi.fds.get(fd)?.directory()?.read_link_at(memory.bytes(path, len)?)?;
    let target = target.get(..target.len().min(room as usize)).unwrap_or_default();
    let count = length(target.len())?;
    memory.bytes_mut(at, count)?.copy_from_slice(target);
    memory.write_u32(used, count)
}

pub(super) fn path_remove_directory(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
) -> Answer {
    Ok(wasi.fds.get(fd)?.directory()?.remove_at(true, memory.bytes(path, len)?)?)
}

#[expect(clippy::too_many_arguments, reason = "the interface's")]
pub(super) fn path_rename(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
    new_fd: u32,
    new_path: u32,
    new_len: u32,
) -> Answer {
    let (from_dir, to_dir) = (wasi.fds.get(fd)?, wasi.fds.get(new_fd)?);
    let (from, to) = (memory.bytes(path, len)?, memory.bytes(new_path, new_len)?);
    Ok(from_dir.directory()?.rename_at(from, to_dir.directory()?, to)?)
}

pub(super) fn path_symlink(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    target: u32,
    target_len: u32,
    fd: u32,
    path: u32,
    len: u32,
) -> Answer {
    let (target, path) = (memory.bytes(target, target_len)?, memory.bytes(path, len)?);
    Ok(wasi.fds.get(fd)?.directory()?.symlink_at(target, path)?)
}

pub(super) fn path_unlink_file(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
) -> Answer {
    Ok(wasi.fds.get(fd)?.directory()?.remove_at(false, memory.bytes(path, len)?)?)
}
