//! wasi:filesystem: descriptors over handles.
//!
//! Paths are checked for what the contract with the host demands (not empty, no NUL, not too long, not
//! absolute) and then go to the host as they are: the host resolves them beneath the directory and
//! nothing else does. The rights that a descriptor was opened with are kept here and held by the host.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::layout::{CALL_DATA_BYTES, PATH_BYTES_MAX};
use abi::{Errno, FileKind, Handle, OpenFlags, Request, Stat, TimesMask};
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{Error, Result};
use zerocopy::FromBytes;

use super::Wasi;
use super::bindings::wasi::clocks::wall_clock::Datetime;
use super::bindings::wasi::filesystem::preopens;
use super::bindings::wasi::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, MetadataHashValue,
    NewTimestamp, PathFlags,
};
use super::clocks::{NS_PER_S, datetime};
use super::directory::DirectoryEntryStream;
use super::handle::OwnedHandle;
use super::stream::{self, InputStream, IoError, OutputStream};
use crate::doorbell;

/// An open file or directory.
#[derive(Clone, Debug)]
pub struct Descriptor {
    handle: Arc<OwnedHandle>,
    flags: DescriptorFlags,
}

impl Descriptor {
    /// A directory that was open at start.
    pub(super) fn preopened(handle: Handle) -> Self {
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        Self { handle: OwnedHandle::shared(handle), flags }
    }

    fn handle(&self) -> Handle {
        self.handle.get()
    }

    /// The handle, if the descriptor was opened with `right`.
    fn with_right(&self, right: DescriptorFlags) -> Result<Handle, Errno> {
        if self.flags.contains(right) { Ok(self.handle()) } else { Err(Errno::BadHandle) }
    }

    fn stat(&self) -> Result<Stat, Errno> {
        doorbell::call_with(&Request::Stat { handle: self.handle() }, |_, data| read_stat(data))?
    }

    fn is_directory(&self) -> bool {
        matches!(self.stat(), Ok(stat) if FileKind::from_wire(stat.kind) == FileKind::Directory)
    }

    /// Refuses a directory where a file is needed.
    fn file(&self, right: DescriptorFlags) -> Result<Arc<OwnedHandle>, Errno> {
        self.with_right(right)?;
        if self.is_directory() { Err(Errno::BadHandle) } else { Ok(Arc::clone(&self.handle)) }
    }
}

/// How a filesystem operation ends without a result.
#[derive(Debug)]
pub enum FsFailure {
    /// The host declined it.
    Declined(Errno),
    /// The program used a resource that does not exist.
    Trap(Error),
}

impl From<Errno> for FsFailure {
    fn from(errno: Errno) -> Self {
        Self::Declined(errno)
    }
}

impl From<ResourceTableError> for FsFailure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type FsResult<T> = Result<T, FsFailure>;

/// The error of the interface for a refusal of the host.
fn error_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::BadHandle => ErrorCode::BadDescriptor,
        Errno::NotFound => ErrorCode::NoEntry,
        Errno::Access => ErrorCode::Access,
        Errno::NotPermitted => ErrorCode::NotPermitted,
        Errno::Again => ErrorCode::WouldBlock,
        Errno::Exists => ErrorCode::Exist,
        Errno::NotEmpty => ErrorCode::NotEmpty,
        Errno::NotDirectory => ErrorCode::NotDirectory,
        Errno::IsDirectory => ErrorCode::IsDirectory,
        Errno::Invalid => ErrorCode::Invalid,
        Errno::Io | Errno::TooManyHandles | Errno::ConnectionReset => ErrorCode::Io,
        Errno::Loop => ErrorCode::Loop,
        Errno::NameTooLong => ErrorCode::NameTooLong,
        Errno::NoSpace => ErrorCode::InsufficientSpace,
        Errno::Quota => ErrorCode::Quota,
        Errno::ReadOnly => ErrorCode::ReadOnly,
        Errno::NoMemory => ErrorCode::InsufficientMemory,
        Errno::TooManyLinks => ErrorCode::TooManyLinks,
        Errno::FileTooLarge => ErrorCode::FileTooLarge,
        Errno::Busy => ErrorCode::Busy,
        Errno::TextBusy => ErrorCode::TextFileBusy,
        Errno::CrossDevice => ErrorCode::CrossDevice,
        Errno::BrokenPipe => ErrorCode::Pipe,
        Errno::NotSeekable => ErrorCode::InvalidSeek,
        Errno::NotSupported => ErrorCode::Unsupported,
        Errno::TooBig => ErrorCode::MessageSize,
        Errno::Overflow => ErrorCode::Overflow,
        Errno::Deadlock => ErrorCode::Deadlock,
        Errno::NoDevice => ErrorCode::NoDevice,
        Errno::Interrupted => ErrorCode::Interrupted,
        Errno::IllegalBytes => ErrorCode::IllegalByteSequence,
    }
}

/// A path as the contract wants it.
fn checked(path: &str) -> Result<&[u8], Errno> {
    let bytes = path.as_bytes();
    match bytes {
        [] => Err(Errno::NotFound),
        [b'/', ..] => Err(Errno::NotPermitted),
        _ if bytes.contains(&0) => Err(Errno::Invalid),
        _ if bytes.len() > PATH_BYTES_MAX => Err(Errno::NameTooLong),
        _ => Ok(bytes),
    }
}

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

/// Reads the answer of a `Stat` or `StatAt`.
fn read_stat(data: &[u8]) -> Result<Stat, Errno> {
    Stat::read_from_prefix(data).map(|(stat, _)| stat).map_err(|_| Errno::Io)
}

fn stat_at(directory: &Descriptor, follow: bool, path: &str) -> Result<Stat, Errno> {
    let request = Request::StatAt { dir: directory.handle(), follow, path: checked(path)? };
    match doorbell::call_with(&request, |_, data| read_stat(data)) {
        Err(Errno::BadHandle) if !directory.is_directory() => Err(Errno::NotDirectory),
        answer => answer?,
    }
}

/// The interface's name for a kind of file.
pub(super) fn descriptor_type(kind: FileKind) -> DescriptorType {
    match kind {
        FileKind::Unknown => DescriptorType::Unknown,
        FileKind::BlockDevice => DescriptorType::BlockDevice,
        FileKind::CharacterDevice => DescriptorType::CharacterDevice,
        FileKind::Directory => DescriptorType::Directory,
        FileKind::Fifo => DescriptorType::Fifo,
        FileKind::SymbolicLink => DescriptorType::SymbolicLink,
        FileKind::RegularFile => DescriptorType::RegularFile,
        FileKind::Socket => DescriptorType::Socket,
    }
}

fn descriptor_stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(FileKind::from_wire(stat.kind)),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: Some(datetime(stat.atime_ns)),
        data_modification_timestamp: Some(datetime(stat.mtime_ns)),
        status_change_timestamp: Some(datetime(stat.ctime_ns)),
    }
}

/// A number of two words that tells an object apart from others without telling its inode: two
/// finalizers of MurmurHash3, each a bijection, over inode and device.
fn metadata_hash(stat: &Stat) -> MetadataHashValue {
    let mix = |mut word: u64| {
        word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        word ^ (word >> 33)
    };
    let lower = mix(stat.ino);
    MetadataHashValue { lower, upper: mix(stat.dev ^ lower.rotate_left(32)) }
}

/// The mask and the two values of a request that sets times.
fn times(atime: NewTimestamp, mtime: NewTimestamp) -> Result<(TimesMask, u64, u64), Errno> {
    let value = |time: NewTimestamp, given: TimesMask, now: TimesMask| match time {
        NewTimestamp::NoChange => Ok((TimesMask::default(), 0)),
        NewTimestamp::Now => Ok((now, 0)),
        NewTimestamp::Timestamp(Datetime { seconds, nanoseconds }) => {
            if u64::from(nanoseconds) >= NS_PER_S {
                return Err(Errno::Invalid);
            }
            let ns =
                seconds.checked_mul(NS_PER_S).and_then(|ns| ns.checked_add(nanoseconds.into()));
            Ok((given, ns.ok_or(Errno::Overflow)?))
        }
    };
    let (atime_mask, atime_ns) = value(atime, TimesMask::ATIME, TimesMask::ATIME_NOW)?;
    let (mtime_mask, mtime_ns) = value(mtime, TimesMask::MTIME, TimesMask::MTIME_NOW)?;
    Ok((atime_mask.with(mtime_mask), atime_ns, mtime_ns))
}

/// Makes a request that works in `directories`. To the host a file is no handle for it; the program is
/// told that it is no directory.
fn within(directories: &[&Descriptor], request: &Request<'_>) -> Result<u64, Errno> {
    doorbell::call(request).map_err(|errno| match errno {
        Errno::BadHandle if !directories.iter().all(|fd| fd.is_directory()) => Errno::NotDirectory,
        errno => errno,
    })
}

/// Makes a request that answers with nothing.
fn done(request: &Request<'_>) -> FsResult<()> {
    doorbell::call(request)?;
    Ok(())
}

impl types::Host for Wasi {
    fn convert_error_code(&mut self, failure: FsFailure) -> Result<ErrorCode> {
        match failure {
            FsFailure::Declined(errno) => Ok(error_code(errno)),
            FsFailure::Trap(error) => Err(error),
        }
    }

    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        let IoError(errno) = self.table.get(&error)?;
        Ok(Some(error_code(*errno)))
    }
}

impl preopens::Host for Wasi {
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        let Self { preopens, table, .. } = self;
        preopens.iter().map(|(dir, path)| Ok((table.push(dir.clone())?, path.clone()))).collect()
    }
}

impl types::HostDescriptor for Wasi {
    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<InputStream>> {
        let handle = self.table.get(&fd)?.file(DescriptorFlags::READ)?;
        Ok(self.table.push(InputStream::File(handle, offset))?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<OutputStream>> {
        let handle = self.table.get(&fd)?.file(DescriptorFlags::WRITE)?;
        Ok(self.table.push(OutputStream::File(handle, offset))?)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<OutputStream>> {
        let handle = self.table.get(&fd)?.file(DescriptorFlags::WRITE)?;
        Ok(self.table.push(OutputStream::Append(handle))?)
    }

    /// Advice is taken and not acted on: the host's page cache serves every program alike.
    fn advise(&mut self, fd: Resource<Descriptor>, _: u64, _: u64, _: Advice) -> FsResult<()> {
        self.table.get(&fd)?.file(DescriptorFlags::empty())?;
        Ok(())
    }

    fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        done(&Request::Sync { handle: self.table.get(&fd)?.handle(), data_only: true })
    }

    fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        done(&Request::Sync { handle: self.table.get(&fd)?.handle(), data_only: false })
    }

    fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(self.table.get(&fd)?.flags)
    }

    fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(descriptor_type(FileKind::from_wire(self.table.get(&fd)?.stat()?.kind)))
    }

    fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        let handle = self.table.get(&fd)?.with_right(DescriptorFlags::WRITE)?;
        done(&Request::SetSize { handle, size })
    }

    fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        let handle = self.table.get(&fd)?.handle();
        let (mask, atime_ns, mtime_ns) = times(atime, mtime)?;
        done(&Request::SetTimes { handle, mask, atime_ns, mtime_ns })
    }

    fn read(
        &mut self,
        fd: Resource<Descriptor>,
        len: u64,
        offset: u64,
    ) -> FsResult<(Vec<u8>, bool)> {
        let handle = self.table.get(&fd)?.with_right(DescriptorFlags::READ)?;
        let wanted = len.min(CALL_DATA_BYTES as u64);
        let bytes = stream::read_at(handle, offset, u32::try_from(wanted).unwrap_or(u32::MAX))?;
        let at_end = bytes.is_empty() && wanted != 0;
        Ok((bytes, at_end))
    }

    fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let handle = self.table.get(&fd)?.with_right(DescriptorFlags::WRITE)?;
        if offset == abi::APPEND {
            return Err(Errno::Invalid.into());
        }
        let chunk = bytes.get(..CALL_DATA_BYTES.min(bytes.len())).unwrap_or_default();
        Ok(stream::write_at(handle, offset, chunk)? as u64)
    }

    fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let descriptor = self.table.get(&fd)?;
        descriptor.with_right(DescriptorFlags::READ)?;
        if FileKind::from_wire(descriptor.stat()?.kind) != FileKind::Directory {
            return Err(Errno::NotDirectory.into());
        }
        let stream = DirectoryEntryStream::new(Arc::clone(&descriptor.handle));
        Ok(self.table.push(stream)?)
    }

    fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let dir = self.table.get(&fd)?;
        within(&[dir], &Request::MkdirAt { dir: dir.handle(), path: checked(&path)? })?;
        Ok(())
    }

    fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(descriptor_stat(&self.table.get(&fd)?.stat()?))
    }

    fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(descriptor_stat(&stat_at(self.table.get(&fd)?, follows(flags), &path)?))
    }

    fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        let directory = self.table.get(&fd)?;
        let (mask, atime_ns, mtime_ns) = times(atime, mtime)?;
        let (dir, follow, path) = (directory.handle(), follows(flags), checked(&path)?);
        within(&[directory], &Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path })?;
        Ok(())
    }

    fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (old, new) = (self.table.get(&fd)?, self.table.get(&new_fd)?);
        let (from_dir, to_dir) = (old.handle(), new.handle());
        let (follow, from, to) = (follows(flags), checked(&old_path)?, checked(&new_path)?);
        within(&[old, new], &Request::LinkAt { from_dir, to_dir, follow, from, to })?;
        Ok(())
    }

    fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let directory = self.table.get(&fd)?;
        let has = |flag| flags.contains(flag);
        let opens = |flag| open_flags.contains(flag);
        let truncates = opens(types::OpenFlags::TRUNCATE);
        let writes = has(DescriptorFlags::WRITE) || truncates;
        let host_flags = OpenFlags::READ
            .when(has(DescriptorFlags::READ) || !writes)
            .with(OpenFlags::WRITE.when(writes))
            .with(OpenFlags::CREATE.when(opens(types::OpenFlags::CREATE)))
            .with(OpenFlags::EXCLUSIVE.when(opens(types::OpenFlags::EXCLUSIVE)))
            .with(OpenFlags::DIRECTORY.when(opens(types::OpenFlags::DIRECTORY)))
            .with(OpenFlags::TRUNCATE.when(truncates))
            .with(OpenFlags::FOLLOW.when(follows(path_flags)))
            .with(OpenFlags::SYNC.when(has(DescriptorFlags::FILE_INTEGRITY_SYNC)))
            .with(OpenFlags::DATA_SYNC.when(has(DescriptorFlags::DATA_INTEGRITY_SYNC)));
        let (dir, path) = (directory.handle(), checked(&path)?);
        let number = within(&[directory], &Request::OpenAt { dir, flags: host_flags, path })?;
        let handle = Handle(u32::try_from(number).map_err(|_| Errno::Io)?);
        let descriptor = Descriptor { handle: OwnedHandle::shared(handle), flags };
        Ok(self.table.push(descriptor)?)
    }

    fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let request =
            Request::ReadLinkAt { dir: self.table.get(&fd)?.handle(), path: checked(&path)? };
        let target = doorbell::call_with(&request, |len, data| {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(data.len());
            data.get(..len).unwrap_or_default().to_vec()
        })?;
        String::from_utf8(target).map_err(|_| Errno::IllegalBytes.into())
    }

    fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let dir = self.table.get(&fd)?;
        let (handle, path) = (dir.handle(), checked(&path)?);
        within(&[dir], &Request::UnlinkAt { dir: handle, directory: true, path })?;
        Ok(())
    }

    fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (old, new) = (self.table.get(&fd)?, self.table.get(&new_fd)?);
        let (from_dir, to_dir) = (old.handle(), new.handle());
        let (from, to) = (checked(&old_path)?, checked(&new_path)?);
        within(&[old, new], &Request::RenameAt { from_dir, to_dir, from, to })?;
        Ok(())
    }

    fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        let directory = self.table.get(&fd)?;
        let (dir, target, path) = (directory.handle(), checked(&target)?, checked(&path)?);
        within(&[directory], &Request::SymlinkAt { dir, target, path })?;
        Ok(())
    }

    fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let dir = self.table.get(&fd)?;
        let (handle, path) = (dir.handle(), checked(&path)?);
        within(&[dir], &Request::UnlinkAt { dir: handle, directory: false, path })?;
        Ok(())
    }

    fn is_same_object(
        &mut self,
        fd: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> Result<bool> {
        let (a, b) = (self.table.get(&fd)?.stat(), self.table.get(&other)?.stat());
        Ok(matches!((a, b), (Ok(a), Ok(b)) if (a.dev, a.ino) == (b.dev, b.ino)))
    }

    fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        Ok(metadata_hash(&self.table.get(&fd)?.stat()?))
    }

    fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(metadata_hash(&stat_at(self.table.get(&fd)?, follows(flags), &path)?))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> Result<()> {
        self.table.delete(fd)?;
        Ok(())
    }
}
