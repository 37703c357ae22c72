//! wasi:filesystem.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, FileKind, Stat};
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::clocks::wall_clock::Datetime;
use super::bindings::wasi::filesystem::preopens;
use super::bindings::wasi::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use super::clocks::datetime;
use super::streams::IoError;
use crate::descriptor::{Descriptor, NS_PER_S, NewTime, OpenHow, Rights, identity};
use crate::directory::DirectoryStream;
use crate::process::NotGranted;
use crate::stream::{CHUNK_BYTES, InputStream, OutputStream, read_file};

/// How a filesystem operation ends without a result.
#[derive(Debug)]
pub enum FsFailure {
    /// The host declined it.
    Declined(Errno),
    /// The program used a resource that does not exist, or called too early.
    Trap(Error),
}

impl From<Errno> for FsFailure {
    fn from(errno: Errno) -> Self {
        Self::Declined(errno)
    }
}

impl From<NotGranted> for FsFailure {
    fn from(error: NotGranted) -> Self {
        Self::Trap(error.into())
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
        // The others are no file's.
        Errno::Io
        | Errno::ConnectionReset
        | Errno::AddressInUse
        | Errno::AddressNotAvailable
        | Errno::ConnectionRefused
        | Errno::ConnectionAborted
        | Errno::NotConnected
        | Errno::IsConnected
        | Errno::Unreachable
        | Errno::TimedOut
        | Errno::MessageTooLarge
        | Errno::AddressFamily
        | Errno::InProgress
        | Errno::NameNotFound
        | Errno::NameTryAgain
        | Errno::NameFailure => ErrorCode::Io,
        Errno::Loop => ErrorCode::Loop,
        Errno::NameTooLong => ErrorCode::NameTooLong,
        Errno::NoSpace => ErrorCode::InsufficientSpace,
        Errno::Quota => ErrorCode::Quota,
        Errno::ReadOnly => ErrorCode::ReadOnly,
        // The interface has no word for a full table of handles.
        Errno::NoMemory | Errno::TooManyHandles => ErrorCode::InsufficientMemory,
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

/// The interface's name for a kind of file.
fn descriptor_type(kind: FileKind) -> DescriptorType {
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

fn metadata_hash(stat: &Stat) -> MetadataHashValue {
    let (lower, upper) = identity(stat.dev, stat.ino);
    MetadataHashValue { lower, upper }
}

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

/// A time to set, in nanoseconds.
fn new_time(time: NewTimestamp) -> Result<NewTime, Errno> {
    match time {
        NewTimestamp::NoChange => Ok(NewTime::Keep),
        NewTimestamp::Now => Ok(NewTime::Now),
        NewTimestamp::Timestamp(Datetime { nanoseconds, .. })
            if u64::from(nanoseconds) >= NS_PER_S =>
        {
            Err(Errno::Invalid)
        }
        NewTimestamp::Timestamp(Datetime { seconds, nanoseconds }) => {
            let ns =
                seconds.checked_mul(NS_PER_S).and_then(|ns| ns.checked_add(nanoseconds.into()));
            Ok(NewTime::At(ns.ok_or(Errno::Overflow)?))
        }
    }
}

fn rights_of(flags: DescriptorFlags) -> Rights {
    Rights {
        read: flags.contains(DescriptorFlags::READ),
        write: flags.contains(DescriptorFlags::WRITE),
        mutate: flags.contains(DescriptorFlags::MUTATE_DIRECTORY),
        sync: flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC),
        data_sync: flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC),
        read_sync: flags.contains(DescriptorFlags::REQUESTED_WRITE_SYNC),
    }
}

fn flags_of(rights: Rights) -> DescriptorFlags {
    let Rights { read, write, mutate, sync, data_sync, read_sync } = rights;
    [
        (read, DescriptorFlags::READ),
        (write, DescriptorFlags::WRITE),
        (mutate, DescriptorFlags::MUTATE_DIRECTORY),
        (sync, DescriptorFlags::FILE_INTEGRITY_SYNC),
        (data_sync, DescriptorFlags::DATA_INTEGRITY_SYNC),
        (read_sync, DescriptorFlags::REQUESTED_WRITE_SYNC),
    ]
    .into_iter()
    .filter_map(|(set, flag)| set.then_some(flag))
    .fold(DescriptorFlags::empty(), |flags, flag| flags | flag)
}

/// The host's word for an advice.
fn advice_of(advice: Advice) -> abi::Advice {
    match advice {
        Advice::Normal => abi::Advice::Normal,
        Advice::Sequential => abi::Advice::Sequential,
        Advice::Random => abi::Advice::Random,
        Advice::WillNeed => abi::Advice::WillNeed,
        Advice::DontNeed => abi::Advice::DontNeed,
        Advice::NoReuse => abi::Advice::NoReuse,
    }
}

impl types::Host for Wasi {
    fn convert_error_code(&mut self, failure: FsFailure) -> Result<ErrorCode> {
        match failure {
            FsFailure::Declined(errno) => Ok(error_code(errno)),
            FsFailure::Trap(error) => Err(error),
        }
    }

    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        Ok(match self.table.get(&error)? {
            IoError::Host(errno) => Some(error_code(*errno)),
            IoError::Http(_) => None,
        })
    }
}

impl preopens::Host for Wasi {
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        let preopens = self.process.get()?.preopens.clone();
        preopens.into_iter().map(|(dir, path)| Ok((self.hand_out(dir)?, path))).collect()
    }
}

impl types::HostDescriptor for Wasi {
    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<InputStream>> {
        let descriptor = self.table.get(&fd)?;
        if descriptor.kind() == FileKind::Directory {
            return Err(Errno::IsDirectory.into()); // as read(2) says
        }
        let handle = Arc::clone(descriptor.readable()?);
        let stream = match descriptor.is_seekable() {
            true => InputStream::of_file(handle, offset),
            false => InputStream::of_pipe(handle),
        };
        self.admit(stream)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<OutputStream>> {
        let descriptor = self.table.get(&fd)?;
        let handle = Arc::clone(descriptor.writable()?);
        let stream = match descriptor.is_seekable() {
            true => OutputStream::of_file(handle, offset),
            false => OutputStream::of_pipe(handle),
        };
        self.admit(stream)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<OutputStream>> {
        let descriptor = self.table.get(&fd)?;
        let handle = Arc::clone(descriptor.writable()?);
        let stream = match descriptor.is_seekable() {
            true => OutputStream::at_end(handle),
            false => OutputStream::of_pipe(handle),
        };
        self.admit(stream)
    }

    fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
        len: u64,
        advice: Advice,
    ) -> FsResult<()> {
        Ok(self.table.get(&fd)?.advise(offset, len, advice_of(advice))?)
    }

    fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        Ok(self.table.get(&fd)?.sync(true)?)
    }

    fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        Ok(self.table.get(&fd)?.sync(false)?)
    }

    fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(flags_of(self.table.get(&fd)?.rights()))
    }

    fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(descriptor_type(self.table.get(&fd)?.kind()))
    }

    fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        Ok(self.table.get(&fd)?.set_size(size)?)
    }

    fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        Ok(self.table.get(&fd)?.set_times(new_time(atime)?, new_time(mtime)?)?)
    }

    fn read(
        &mut self,
        fd: Resource<Descriptor>,
        len: u64,
        offset: u64,
    ) -> FsResult<(Vec<u8>, bool)> {
        let descriptor = self.table.get(&fd)?;
        let handle = descriptor.readable()?;
        let bytes = match descriptor.is_seekable() {
            true => read_file(&mut self.process.get()?.ahead, handle, offset, len)?,
            false => {
                self.process.get()?.bodies.release();
                handle.calls().read(handle.get(), len.min(CHUNK_BYTES as u64), true)?
            }
        };
        let at_end = bytes.is_empty() && len != 0;
        Ok((bytes, at_end))
    }

    fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let handle = self.table.get(&fd)?.writable()?;
        self.process.get()?.bodies.release();
        Ok(handle.calls().write(handle.get(), offset, &bytes, true)? as u64)
    }

    fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryStream>> {
        let handle = Arc::clone(self.table.get(&fd)?.listable()?);
        self.admit(DirectoryStream::from(handle, 0))
    }

    fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        Ok(self.table.get(&fd)?.create_directory_at(path.as_bytes())?)
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
        Ok(descriptor_stat(&self.table.get(&fd)?.stat_at(follows(flags), path.as_bytes())?))
    }

    fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        let (atime, mtime) = (new_time(atime)?, new_time(mtime)?);
        Ok(self.table.get(&fd)?.set_times_at(follows(flags), path.as_bytes(), atime, mtime)?)
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
        Ok(old.link_at(follows(flags), old_path.as_bytes(), new, new_path.as_bytes())?)
    }

    fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let how = OpenHow {
            follow: follows(path_flags),
            create: open_flags.contains(OpenFlags::CREATE),
            exclusive: open_flags.contains(OpenFlags::EXCLUSIVE),
            truncate: open_flags.contains(OpenFlags::TRUNCATE),
            directory: open_flags.contains(OpenFlags::DIRECTORY),
        };
        let opened = self.table.get(&fd)?.open_at(path.as_bytes(), how, rights_of(flags))?;
        self.admit(opened)
    }

    fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let target = self.table.get(&fd)?.read_link_at(path.as_bytes())?;
        String::from_utf8(target).map_err(|_| Errno::IllegalBytes.into())
    }

    fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        Ok(self.table.get(&fd)?.remove_at(true, path.as_bytes())?)
    }

    fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (old, new) = (self.table.get(&fd)?, self.table.get(&new_fd)?);
        Ok(old.rename_at(old_path.as_bytes(), new, new_path.as_bytes())?)
    }

    fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        Ok(self.table.get(&fd)?.symlink_at(target.as_bytes(), path.as_bytes())?)
    }

    fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        Ok(self.table.get(&fd)?.remove_at(false, path.as_bytes())?)
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
        Ok(metadata_hash(&self.table.get(&fd)?.stat_at(follows(flags), path.as_bytes())?))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> Result<()> {
        self.take_back(fd)
    }
}

impl types::HostDirectoryEntryStream for Wasi {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let stream = self.table.get_mut(&stream)?;
        let Some(entry) = stream.peek()? else { return Ok(None) };
        // A name that is no Unicode string cannot be told; the entries after it can.
        let entry = match String::from_utf8(entry.name.to_vec()) {
            Ok(name) => Ok(Some(DirectoryEntry {
                type_: descriptor_type(FileKind::from_wire(entry.header.kind)),
                name,
            })),
            Err(_) => Err(Errno::IllegalBytes.into()),
        };
        stream.advance();
        entry
    }

    fn drop(&mut self, stream: Resource<DirectoryStream>) -> Result<()> {
        self.take_back(stream)
    }
}
