//! Open files and directories: what WASI's filesystem calls do, for every version of WASI.
//!
//! Paths are checked for what the contract with the host demands (not empty, no NUL, not too long, not
//! absolute) and then go to the host as they are: the host resolves them beneath the directory and
//! nothing else does. The rights that a descriptor was opened with are kept here and held by the host.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::boot::Preopen;
use abi::layout::PATH_BYTES_MAX;
use abi::{Errno, FileKind, Handle, OpenFlags, Request, Stat, TimesMask};

use crate::call::Calls;
use crate::handle::OwnedHandle;

/// Nanoseconds of a second.
pub(crate) const NS_PER_S: u64 = 1_000_000_000;

/// What a descriptor was opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Read a file, list a directory.
    pub(crate) read: bool,
    /// Write a file.
    pub(crate) write: bool,
    /// Change a directory.
    pub(crate) mutate: bool,
    /// Each write is on the medium with all metadata when it returns.
    pub(crate) sync: bool,
    /// Each write is on the medium when it returns.
    pub(crate) data_sync: bool,
    /// Reads wait for such writes (`O_RSYNC`, which Linux takes for `O_SYNC` of writes).
    pub(crate) read_sync: bool,
}

/// What an open call does beside opening.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenHow {
    pub(crate) follow: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewTime {
    /// Leave it as it is.
    Keep,
    /// The present.
    Now,
    /// Nanoseconds since the Unix epoch.
    At(u64),
}

/// An open file or directory.
#[derive(Clone, Debug)]
pub struct Descriptor {
    handle: Arc<OwnedHandle>,
    kind: FileKind,
    rights: Rights,
}

impl Descriptor {
    /// A directory that was open at start.
    pub(crate) fn preopened(calls: &Calls, preopen: &Preopen<'_>) -> Self {
        let handle = OwnedHandle::shared(calls, preopen.handle);
        let rights = Rights { read: true, mutate: preopen.writable, ..Rights::default() };
        Self { handle, kind: FileKind::Directory, rights }
    }

    /// A standard stream.
    pub(crate) fn stream(handle: &Arc<OwnedHandle>, kind: FileKind, rights: Rights) -> Self {
        Self { handle: Arc::clone(handle), kind, rights }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.get()
    }

    pub(crate) fn kind(&self) -> FileKind {
        self.kind
    }

    pub(crate) fn rights(&self) -> Rights {
        self.rights
    }

    /// Whether it has a position: all else is read and written where it stands.
    pub(crate) fn is_seekable(&self) -> bool {
        matches!(self.kind, FileKind::RegularFile | FileKind::BlockDevice)
    }

    fn calls(&self) -> &Calls {
        self.handle.calls()
    }

    /// The handle, if there is content that may be read.
    pub(crate) fn readable(&self) -> Result<&Arc<OwnedHandle>, Errno> {
        let may = self.rights.read && self.kind != FileKind::Directory;
        if may { Ok(&self.handle) } else { Err(Errno::BadHandle) }
    }

    /// The handle, if there is content that may be written.
    pub(crate) fn writable(&self) -> Result<&Arc<OwnedHandle>, Errno> {
        let may = self.rights.write && self.kind != FileKind::Directory;
        if may { Ok(&self.handle) } else { Err(Errno::BadHandle) }
    }

    /// The handle, if it is a directory.
    pub(crate) fn directory(&self) -> Result<Handle, Errno> {
        match self.kind {
            FileKind::Directory => Ok(self.handle()),
            _ => Err(Errno::NotDirectory),
        }
    }

    /// The handle, if it is a directory that may be listed.
    pub(crate) fn listable(&self) -> Result<&Arc<OwnedHandle>, Errno> {
        self.directory()?;
        if self.rights.read { Ok(&self.handle) } else { Err(Errno::BadHandle) }
    }

    /// Makes a call that answers with nothing.
    fn done(&self, request: &Request<'_>) -> Result<(), Errno> {
        self.calls().call(request).map(drop)
    }

    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        let (_, stat) = self.calls().call_for_stat(&Request::Stat { handle: self.handle() })?;
        Ok(stat)
    }

    pub(crate) fn stat_at(&self, follow: bool, path: &[u8]) -> Result<Stat, Errno> {
        let request = Request::StatAt { dir: self.directory()?, follow, path: checked(path)? };
        let (_, stat) = self.calls().call_for_stat(&request)?;
        Ok(stat)
    }

    pub(crate) fn open_at(&self, path: &[u8], how: OpenHow, rights: Rights) -> Result<Self, Errno> {
        let writes = rights.write || how.truncate;
        let flags = OpenFlags::READ
            .when(rights.read || !writes)
            .with(OpenFlags::WRITE.when(writes))
            .with(OpenFlags::CREATE.when(how.create))
            .with(OpenFlags::EXCLUSIVE.when(how.exclusive))
            .with(OpenFlags::DIRECTORY.when(how.directory))
            .with(OpenFlags::TRUNCATE.when(how.truncate))
            .with(OpenFlags::FOLLOW.when(how.follow))
            .with(OpenFlags::SYNC.when(rights.sync || rights.read_sync))
            .with(OpenFlags::DATA_SYNC.when(rights.data_sync));
        let request = Request::OpenAt { dir: self.directory()?, flags, path: checked(path)? };
        let (number, stat) = self.calls().call_for_stat(&request)?;
        let handle = Handle(u32::try_from(number).map_err(|_| Errno::Io)?);
        let kind = FileKind::from_wire(stat.kind);
        let rights = match kind {
            FileKind::Directory => Rights { mutate: self.rights.mutate, ..rights },
            _ => Rights { mutate: false, ..rights },
        };
        Ok(Self { handle: OwnedHandle::shared(self.calls(), handle), kind, rights })
    }

    pub(crate) fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.done(&Request::Sync { handle: self.handle(), data_only })
    }

    pub(crate) fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.done(&Request::SetSize { handle: self.writable()?.get(), size })
    }

    pub(crate) fn allocate(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.done(&Request::Allocate { handle: self.writable()?.get(), offset, len })
    }

    pub(crate) fn advise(&self, offset: u64, len: u64, advice: abi::Advice) -> Result<(), Errno> {
        self.done(&Request::Advise { handle: self.handle(), offset, len, advice })
    }

    pub(crate) fn set_times(&self, atime: NewTime, mtime: NewTime) -> Result<(), Errno> {
        let (mask, atime_ns, mtime_ns) = times(atime, mtime);
        self.done(&Request::SetTimes { handle: self.handle(), mask, atime_ns, mtime_ns })
    }

    pub(crate) fn set_times_at(
        &self,
        follow: bool,
        path: &[u8],
        atime: NewTime,
        mtime: NewTime,
    ) -> Result<(), Errno> {
        let (dir, path) = (self.directory()?, checked(path)?);
        let (mask, atime_ns, mtime_ns) = times(atime, mtime);
        self.done(&Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path })
    }

    pub(crate) fn create_directory_at(&self, path: &[u8]) -> Result<(), Errno> {
        self.done(&Request::MkdirAt { dir: self.directory()?, path: checked(path)? })
    }

    /// Removes an empty directory, or else anything but a directory.
    pub(crate) fn remove_at(&self, directory: bool, path: &[u8]) -> Result<(), Errno> {
        self.done(&Request::UnlinkAt { dir: self.directory()?, directory, path: checked(path)? })
    }

    pub(crate) fn rename_at(&self, from: &[u8], to_dir: &Self, to: &[u8]) -> Result<(), Errno> {
        let (from_dir, to_dir) = (self.directory()?, to_dir.directory()?);
        let (from, to) = (checked(from)?, checked(to)?);
        self.done(&Request::RenameAt { from_dir, to_dir, from, to })
    }

    pub(crate) fn link_at(
        &self,
        follow: bool,
        from: &[u8],
        to_dir: &Self,
        to: &[u8],
    ) -> Result<(), Errno> {
        let (from_dir, to_dir) = (self.directory()?, to_dir.directory()?);
        let (from, to) = (checked(from)?, checked(to)?);
        self.done(&Request::LinkAt { from_dir, to_dir, follow, from, to })
    }

    pub(crate) fn symlink_at(&self, target: &[u8], path: &[u8]) -> Result<(), Errno> {
        let (dir, target, path) = (self.directory()?, checked(target)?, checked(path)?);
        self.done(&Request::SymlinkAt { dir, target, path })
    }

    pub(crate) fn read_link_at(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let request = Request::ReadLinkAt { dir: self.directory()?, path: checked(path)? };
        self.calls().call_for_bytes(&request, <[u8]>::to_vec)
    }
}

/// A path as the contract wants it.
fn checked(path: &[u8]) -> Result<&[u8], Errno> {
    match path {
        [] => Err(Errno::NotFound),
        [b'/', ..] => Err(Errno::NotPermitted),
        _ if path.contains(&0) => Err(Errno::Invalid),
        _ if path.len() > PATH_BYTES_MAX => Err(Errno::NameTooLong),
        _ => Ok(path),
    }
}

/// The mask and the two values of a request that sets times.
fn times(atime: NewTime, mtime: NewTime) -> (TimesMask, u64, u64) {
    let value = |time, given, now| match time {
        NewTime::Keep => (TimesMask::default(), 0),
        NewTime::Now => (now, 0),
        NewTime::At(ns) => (given, ns),
    };
    let (atime_mask, atime_ns) = value(atime, TimesMask::ATIME, TimesMask::ATIME_NOW);
    let (mtime_mask, mtime_ns) = value(mtime, TimesMask::MTIME, TimesMask::MTIME_NOW);
    (atime_mask.with(mtime_mask), atime_ns, mtime_ns)
}

/// Two numbers that tell an object apart from others without telling its device or inode: two
/// finalizers of MurmurHash3, each a bijection. The first depends on the inode alone, so that the
/// entries of a directory have it too.
pub(crate) fn identity(dev: u64, ino: u64) -> (u64, u64) {
    let lower = mix(ino);
    (lower, mix(dev ^ lower.rotate_left(32)))
}

/// One finalizer of MurmurHash3.
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}
