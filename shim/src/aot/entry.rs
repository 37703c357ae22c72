//! A program's file in the cache.
//!
//! ```text
//! 0              the program, as Wasmtime wrote it
//! len - 64       magic, 8 bytes
//! len - 56       key, 32 bytes
//! len - 24       bytes of the program, u64 little-endian
//! len - 16       CRC-32 of the program, u32 little-endian
//! len - 12       1 if the program is a command, 0 if it is a library
//! len - 11       zero, 7 bytes
//! len -  4       CRC-32 of the trailer's 60 bytes before, u32 little-endian
//! ```
//!
//! Rule: [`read`] gives a file only if all of this holds and the file is regular, ours, and writable by
//! nobody else. The checksums find accidents (a torn write, a bad disk); against people there are
//! the directory's and the file's owner and permissions.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, renameat, unlinkat};
use rustix::process::geteuid;

use super::CacheError;
use super::key::Key;

/// The last byte is the version of the trailer.
pub(super) const MAGIC: &[u8; 8] = b"hlcwasm\x02";
const TRAILER_BYTES: usize = 64;
/// Bytes that are checked at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// A sound program in the cache.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) file: File,
    /// Bytes of the program.
    pub(super) bytes: u64,
    /// Whether it is a command.
    pub(super) is_command: bool,
}

/// Whether nobody but this user (and root) can change what `stat` describes.
pub(super) fn is_ours_alone(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0
}

/// The program of `key` and its length, if a sound one is there. What is wrong with one that is not
/// sound goes to the log; it is compiled anew either way.
pub(super) fn read(dir: &File, key: &Key) -> Option<Stored> {
    match open(dir, key) {
        Ok(program) => Some(program),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            log::warn!("compile {} again: {error}", key.program_name());
            None
        }
    }
}

fn open(dir: &File, key: &Key) -> io::Result<Stored> {
    let unsound = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    // Not blocking, in case it is a FIFO.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(dir, key.program_name(), flags, Mode::empty())?);
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unsound("it is no regular file"));
    }
    if !is_ours_alone(&stat) {
        return Err(unsound("it belongs to, or can be written by, another user"));
    }
    let bytes = u64::try_from(stat.st_size)
        .ok()
        .and_then(|bytes| bytes.checked_sub(TRAILER_BYTES as u64))
        .ok_or_else(|| unsound("it is cut off"))?;
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, bytes)?;
    let checksum = checksum(&file, bytes)?;
    let is_command = [true, false]
        .into_iter()
        .find(|is_command| trailer == encode_trailer(key, bytes, checksum, *is_command))
        .ok_or_else(|| unsound("it is damaged, or another file by that name"))?;
    Ok(Stored { file, bytes, is_command })
}

/// Writes the program of `key` and opens it for reading. To be called with the key's lock held: the
/// temporary file is named after the key.
pub(super) fn write(
    dir: &File,
    key: &Key,
    program: &File,
    is_command: bool,
) -> Result<Stored, CacheError> {
    let temporary = temporary_name(&key.stem());
    let stored = (|| {
        remove(dir, &temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR;
        let mut file = File::from(openat(dir, &temporary, flags, mode)?);
        // The compiler has left the position at the end.
        let mut source = program;
        source.rewind()?;
        let bytes = io::copy(&mut source, &mut file)?;
        file.write_all(&encode_trailer(key, bytes, checksum(program, bytes)?, is_command))?;
        file.sync_all()?;
        renameat(dir, &temporary, dir, key.program_name())?;
        dir.sync_all()?;
        open(dir, key)
    })();
    stored.map_err(|source| {
        // The disk may be full: what was begun is of no use to anyone. If this fails, the next sweep
        // removes it.
        let _ = remove(dir, &temporary);
        CacheError::Write { name: key.program_name(), source }
    })
}

/// Name of the file that is being written.
pub(super) fn temporary_name(stem: &str) -> String {
    format!("{stem}.tmp")
}

/// Removes a file that need not exist.
pub(super) fn remove(dir: &File, name: &str) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn encode_trailer(key: &Key, bytes: u64, checksum: u32, is_command: bool) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    let fields: [&[u8]; 6] = [
        MAGIC,
        key.bytes(),
        &bytes.to_le_bytes(),
        &checksum.to_le_bytes(),
        &[u8::from(is_command)],
        &[0; 7],
    ];
    let (head, tail) = trailer.split_at_mut(TRAILER_BYTES - 4);
    for (byte, field) in head.iter_mut().zip(fields.into_iter().flatten()) {
        *byte = *field;
    }
    tail.copy_from_slice(&crc32fast::hash(head).to_le_bytes());
    trailer
}

/// CRC-32 of the first `bytes` of a file.
fn checksum(file: &File, bytes: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut position = 0;
    while position < bytes {
        let want = usize::try_from(bytes - position).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
        let chunk = chunk.get_mut(..want).unwrap_or_default();
        file.read_exact_at(chunk, position)?;
        hasher.update(chunk);
        position += chunk.len() as u64;
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const PROGRAM: &[u8] = b"a program that is long enough to be damaged in the middle";

    /// A cache directory with one program in it.
    struct Cache {
        path: tempfile::TempDir,
        dir: File,
        key: Key,
    }

    impl Cache {
        fn new() -> Self {
            let path = tempfile::tempdir().unwrap();
            let dir = File::open(path.path()).unwrap();
            let cache = Self { path, dir, key: Key::from_bytes([7; 32]) };
            let mut program = tempfile::tempfile().unwrap();
            program.write_all(PROGRAM).unwrap();
            write(&cache.dir, &cache.key, &program, true).unwrap();
            cache
        }

        fn file(&self) -> PathBuf {
            self.path.path().join(self.key.program_name())
        }

        fn read(&self) -> Option<Stored> {
            read(&self.dir, &self.key)
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let cache = Cache::new();
        let Stored { file, bytes, is_command } = cache.read().unwrap();
        assert!(is_command);
        let mut program = vec![0; usize::try_from(bytes).unwrap()];
        file.read_exact_at(&mut program, 0).unwrap();
        assert_eq!(program, PROGRAM);
    }

    #[test]
    fn only_the_program_is_left_behind_by_writing() {
        let cache = Cache::new();
        let names: Vec<_> = std::fs::read_dir(cache.path.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, [cache.key.program_name()]);
    }

    #[test]
    fn a_file_cut_off_anywhere_is_not_read() {
        let cache = Cache::new();
        let whole = std::fs::read(cache.file()).unwrap();
        std::fs::set_permissions(cache.file(), PermissionsExt::from_mode(0o600)).unwrap();
        for len in 0..whole.len() {
            std::fs::write(cache.file(), &whole[..len]).unwrap();
            assert!(cache.read().is_none(), "first {len} bytes");
        }
        std::fs::write(cache.file(), &whole).unwrap();
        assert!(cache.read().is_some());
    }

    #[test]
    fn a_file_with_any_bit_changed_is_not_read() {
        let cache = Cache::new();
        let whole = std::fs::read(cache.file()).unwrap();
        std::fs::set_permissions(cache.file(), PermissionsExt::from_mode(0o600)).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(cache.file(), &damaged).unwrap();
            assert!(cache.read().is_none(), "bit {bit}");
        }
    }

    #[test]
    fn the_program_of_another_key_is_not_read() {
        let cache = Cache::new();
        let other = Key::from_bytes([8; 32]);
        std::fs::rename(cache.file(), cache.path.path().join(other.program_name())).unwrap();
        assert!(read(&cache.dir, &other).is_none());
    }

    #[test]
    fn a_file_that_others_can_write_is_not_read() {
        let cache = Cache::new();
        for mode in [0o620, 0o602, 0o777] {
            std::fs::set_permissions(cache.file(), PermissionsExt::from_mode(mode)).unwrap();
            assert!(cache.read().is_none(), "{mode:o}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_not_read() {
        if !geteuid().is_root() {
            eprintln!("skipped: giving a file away needs root");
            return;
        }
        let cache = Cache::new();
        std::os::unix::fs::chown(cache.file(), Some(65534), None).unwrap();
        assert!(cache.read().is_none());
    }

    #[test]
    fn a_link_to_a_sound_program_is_not_followed() {
        let cache = Cache::new();
        let elsewhere = cache.path.path().join("elsewhere");
        std::fs::rename(cache.file(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, cache.file()).unwrap();
        assert!(cache.read().is_none());
    }

    #[test]
    fn a_fifo_by_the_name_does_not_block() {
        let cache = Cache::new();
        std::fs::remove_file(cache.file()).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(&cache.dir, cache.key.program_name(), mode).unwrap();
        assert!(cache.read().is_none());
    }

    #[test]
    fn a_program_that_cannot_be_copied_leaves_nothing_behind() {
        let cache = Cache::new();
        let unreadable = File::options().write(true).open("/dev/null").unwrap();
        let key = Key::from_bytes([9; 32]);
        let error = write(&cache.dir, &key, &unreadable, true).unwrap_err();
        assert!(matches!(error, CacheError::Write { .. }));
        assert!(!cache.path.path().join(temporary_name(&key.stem())).exists());
    }
}
