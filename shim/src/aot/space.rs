//! The bound on the cache's size: what is in it, and what goes first.
//!
//! Rule: whoever stores makes room. Programs go with their snapshots, the least recently used first,
//! until the directory's entries fit the bound. One stays whatever its age if its key is locked (it is
//! being made) or its file is open somewhere (removing it would free nothing). Removing is unlinking, so
//! it disturbs nobody, and being killed in the middle of it leaves entries that are whole or gone.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, fstatvfs, openat, statat};

use super::entry::{self, Kind};
use super::lock::Lock;
use super::wasm::hex;
use super::{AotCache, CacheError};

/// Most bytes of a cache for which nothing else was said, unless [`DEFAULT_PART`] of its file system is
/// less: about a hundred large components.
const DEFAULT_BYTES_MAX: u64 = 4 << 30;
/// The part of its file system that a cache may take for which nothing else was said: a tenth.
const DEFAULT_PART: u64 = 10;
/// Bytes of a block in [`Stat`](rustix::fs::Stat).
const BLOCK_BYTES: u64 = 512;
/// What names of files end with, behind the key: all that belongs to a program. The order of removal.
const FILES: [&str; 6] =
    ["snapshot.seen", "snapshot", "cwasm.seen", "cwasm", "image.seen", "image"];

/// The environment variable that bounds the cache's size: `4GiB`, `500MB`.
pub const CACHE_SIZE_VARIABLE: &str = "HYPERLIGHT_CACHE_SIZE";

/// A program in the cache, with what belongs to it.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// What people called the wasm when it was compiled; empty for one of another version.
    pub name: String,
    /// SHA-256 of the wasm, in hexadecimal; empty for one of another version.
    pub sha256: String,
    /// The program's file.
    pub path: PathBuf,
    /// Bytes on the disk, the snapshot's among them.
    pub bytes: u64,
    /// Whether there is a snapshot.
    pub has_snapshot: bool,
    /// When it was last used, to within ten minutes.
    pub used: SystemTime,
}

/// What the cache holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Programs.
    pub programs: u64,
    /// Programs that have a snapshot.
    pub snapshots: u64,
    /// Bytes on the disk of all that counts towards the bound.
    pub bytes: u64,
}

/// What [`AotCache::clear`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Programs removed.
    pub programs: u64,
    /// Bytes that they had on the disk.
    pub bytes: u64,
    /// Programs that stay, because they are being made or could not be removed.
    pub kept: u64,
}

/// The files of one key.
struct Group {
    stem: String,
    bytes: u64,
    used: SystemTime,
    has_program: bool,
    has_snapshot: bool,
}

impl AotCache {
    /// What is in the cache, the most recently used first. A cache that does not exist is empty.
    ///
    /// # Errors
    ///
    /// [`CacheError::OpenDir`], [`CacheError::Untrusted`], [`CacheError::List`].
    pub fn entries(&self) -> Result<Vec<CacheEntry>, CacheError> {
        let Some(dir) = self.open_existing_dir()? else { return Ok(Vec::new()) };
        let groups = self.scan(&dir)?.into_iter().rev();
        Ok(groups.filter(|group| group.has_program).map(|it| self.entry(&dir, it)).collect())
    }

    /// How much is in the cache; no file of it is opened.
    ///
    /// # Errors
    ///
    /// [`CacheError::OpenDir`], [`CacheError::Untrusted`], [`CacheError::List`].
    pub fn usage(&self) -> Result<Usage, CacheError> {
        let mut usage = Usage::default();
        let Some(dir) = self.open_existing_dir()? else { return Ok(usage) };
        for group in self.scan(&dir)? {
            usage.programs += u64::from(group.has_program);
            usage.snapshots += u64::from(group.has_program && group.has_snapshot);
            usage.bytes += group.bytes;
        }
        Ok(usage)
    }

    /// Most bytes on the disk that the cache takes.
    ///
    /// # Errors
    ///
    /// [`CacheError::OpenDir`], [`CacheError::Untrusted`], [`CacheError::List`].
    pub fn bytes_max(&self) -> Result<u64, CacheError> {
        match (self.size, self.open_existing_dir()?) {
            (Some(size), _) => Ok(size),
            (None, Some(dir)) => self.bytes_max_in(&dir),
            (None, None) => Ok(DEFAULT_BYTES_MAX),
        }
    }

    /// Removes all programs and snapshots, but those that are being made. Those in use go on running.
    ///
    /// # Errors
    ///
    /// [`CacheError::OpenDir`], [`CacheError::Untrusted`], [`CacheError::List`].
    pub fn clear(&self) -> Result<Cleared, CacheError> {
        let mut cleared = Cleared::default();
        let Some(dir) = self.open_existing_dir()? else { return Ok(cleared) };
        for group in self.scan(&dir)? {
            let is_program = u64::from(group.has_program);
            if remove(&dir, &group.stem, |_| false) {
                cleared.programs += is_program;
                cleared.bytes += group.bytes;
            } else {
                cleared.kept += is_program;
            }
        }
        Ok(cleared)
    }

    /// Removes what was not used for longest, until the rest fits. That it does not succeed is no reason
    /// to fail: the next who stores tries again.
    pub(super) fn make_room(&self, dir: &File) {
        if let Err(error) = self.try_make_room(dir) {
            log::warn!("bound the size of the cache: {}", crate::error::line(&error));
        }
    }

    fn try_make_room(&self, dir: &File) -> Result<(), CacheError> {
        // One at a time, or each would remove enough. Where there are no locks, so it is.
        if flock(dir, FlockOperation::NonBlockingLockExclusive)
            == Err(rustix::io::Errno::WOULDBLOCK)
        {
            return Ok(());
        }
        let bytes_max = self.bytes_max_in(dir)?;
        let groups = self.scan(dir)?;
        let mut bytes: u64 = groups.iter().map(|group| group.bytes).sum();
        for group in groups {
            if bytes <= bytes_max {
                break;
            }
            if remove(dir, &group.stem, |file| is_in_use(dir, file)) {
                log::info!("removed {} from the cache to make room", group.stem);
                bytes = bytes.saturating_sub(group.bytes);
            }
        }
        Ok(())
    }

    fn bytes_max_in(&self, dir: &File) -> Result<u64, CacheError> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        let system = fstatvfs(dir).map_err(|error| self.list_error(error))?;
        Ok(match system.f_blocks.saturating_mul(system.f_frsize) / DEFAULT_PART {
            // A file system without a size of its own.
            0 => DEFAULT_BYTES_MAX,
            part => part.min(DEFAULT_BYTES_MAX),
        })
    }

    /// The keys that have files, the least recently used first.
    fn scan(&self, dir: &File) -> Result<Vec<Group>, CacheError> {
        let failed = |error| self.list_error(error);
        let mut groups = std::collections::HashMap::new();
        for found in rustix::fs::Dir::read_from(dir).map_err(failed)? {
            let found = found.map_err(failed)?;
            let Ok(name) = found.file_name().to_str() else { continue };
            let Some((stem, file)) = name.split_once('.') else { continue };
            if !super::lock::is_stem(stem) || !FILES.contains(&file) {
                continue;
            }
            // It may be gone meanwhile.
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let group = groups.entry(stem.to_owned()).or_insert_with(|| Group {
                stem: stem.to_owned(),
                bytes: 0,
                used: UNIX_EPOCH,
                has_program: false,
                has_snapshot: false,
            });
            let modified = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
            group.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK_BYTES;
            group.used = group.used.max(UNIX_EPOCH + modified);
            group.has_program |= file == Kind::Program.extension();
            group.has_snapshot |= file == Kind::Snapshot.extension();
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| group.used);
        Ok(groups)
    }

    fn entry(&self, dir: &File, group: Group) -> CacheEntry {
        let file = format!("{}.{}", group.stem, Kind::Program.extension());
        let trailer = open(dir, &file).and_then(|file| {
            let stat = fstat(&file).ok()?;
            entry::trailer(&file, &stat).ok().map(|(trailer, _)| trailer)
        });
        let (name, sha256) = trailer.map(|it| (it.name, hex(&it.origin))).unwrap_or_default();
        CacheEntry {
            name,
            sha256,
            path: self.path.join(file),
            bytes: group.bytes,
            has_snapshot: group.has_snapshot,
            used: group.used,
        }
    }

    fn list_error(&self, error: rustix::io::Errno) -> CacheError {
        CacheError::List { path: self.path.clone(), source: error.into() }
    }
}

/// The bound that the environment sets.
pub(super) fn size_from_environment() -> Option<u64> {
    let value = std::env::var_os(CACHE_SIZE_VARIABLE)?;
    let size = value.to_str().and_then(|value| value.parse::<bytesize::ByteSize>().ok());
    if size.is_none() {
        log::warn!("{CACHE_SIZE_VARIABLE} is {value:?}, which is no size like 4GiB: not regarded");
    }
    size.map(|size| size.as_u64())
}

/// Removes the files of a key unless one of them `stays` or the key is locked. Whether they are gone.
fn remove(dir: &File, stem: &str, stays: impl Fn(&str) -> bool) -> bool {
    let Ok(Some(_lock)) = Lock::try_take(dir, stem) else { return false };
    let names = FILES.map(|file| format!("{stem}.{file}"));
    if names.iter().any(|name| stays(name)) {
        return false;
    }
    names.iter().all(|name| {
        let removed = entry::remove(dir, name);
        removed.inspect_err(|error| log::warn!("remove {name} from the cache: {error}")).is_ok()
    })
}

/// Whether somebody has the file open as [`entry::read`] opens it.
fn is_in_use(dir: &File, name: &str) -> bool {
    open(dir, name).is_some_and(|file| {
        let lock = flock(&file, FlockOperation::NonBlockingLockExclusive);
        lock == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

fn open(dir: &File, name: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(dir, name, flags, Mode::empty()).ok().map(File::from)
}
