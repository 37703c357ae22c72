//! The wasm file to run: an open file, its name for people, and the digest of its bytes.
//!
//! Rule: the bytes are not trusted to stay. The digest names them in the cache; whoever compiles them
//! computes it again over the bytes that it compiles.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, fstat, memfd_create};
use sha2::{Digest as _, Sha256};

use super::digests;
use super::identity::{Identity, is_settled};
use crate::compile::WASM_BYTES_MAX;
use crate::digest::Digest;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Smallest file whose digest is remembered: summing a smaller one takes no longer than asking.
const REMEMBERED_FROM: u64 = 64 << 10;

/// A wasm file.
#[derive(Debug)]
pub struct Wasm {
    file: File,
    name: String,
    bytes: u64,
    sha256: String,
}

/// Why a wasm file cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// It cannot be opened.
    #[error("open {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("read {name}")]
    Read {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It is a directory.
    #[error("{name} is a directory; name a .wasm file")]
    Directory {
        /// Its name.
        name: String,
    },
    /// It is larger than the compiler accepts.
    #[error("{name} has {bytes} bytes or more; at most {WASM_BYTES_MAX} are compiled")]
    TooLarge {
        /// Its name.
        name: String,
        /// How large it is.
        bytes: u64,
    },
}

impl Wasm {
    /// The file at `path`; a pipe is read to its end.
    ///
    /// # Errors
    ///
    /// [`WasmError`].
    pub fn open(path: &Path) -> Result<Self, WasmError> {
        Self::open_known(path, || None)
    }

    /// [`open`](Self::open), with the digests that are known in the directory that `cache` opens.
    pub(super) fn open_known(
        path: &Path,
        cache: impl FnOnce() -> Option<File>,
    ) -> Result<Self, WasmError> {
        let file =
            File::open(path).map_err(|source| WasmError::Open { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self::from_file_known(name, file, cache)
    }

    /// An open file that people know as `name`; a pipe is read to its end.
    ///
    /// # Errors
    ///
    /// [`WasmError`].
    pub fn from_file(name: impl Into<String>, file: File) -> Result<Self, WasmError> {
        Self::from_file_known(name.into(), file, || None)
    }

    /// [`from_file`](Self::from_file), with the digests that are known in the directory that `cache`
    /// opens.
    pub(super) fn from_file_known(
        name: String,
        file: File,
        cache: impl FnOnce() -> Option<File>,
    ) -> Result<Self, WasmError> {
        let read = |source| WasmError::Read { name: name.clone(), source };
        let metadata = file.metadata().map_err(read)?;
        if metadata.is_dir() {
            return Err(WasmError::Directory { name });
        }
        let is_file = metadata.is_file();
        let file = if is_file { file } else { in_memory(file).map_err(read)? };
        let is_large = is_file && (REMEMBERED_FROM..=WASM_BYTES_MAX).contains(&metadata.len());
        if is_large && let Some(dir) = cache() {
            let (sha256, bytes) = known_sha256(&file, &dir).map_err(read)?;
            return Self { file, name, bytes, sha256 }.of_bearable_size();
        }
        let (sha256, bytes) = sha256_of_file(&file).map_err(read)?;
        let sha256 = hex(&sha256);
        Self { file, name, bytes, sha256 }.of_bearable_size()
    }

    /// Bytes that people know as `name`.
    ///
    /// # Errors
    ///
    /// [`WasmError`].
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self, WasmError> {
        let name = name.into();
        let file =
            in_memory(bytes).map_err(|source| WasmError::Read { name: name.clone(), source })?;
        let sha256 = sha256_hex(bytes);
        Self { file, name, bytes: bytes.len() as u64, sha256 }.of_bearable_size()
    }

    /// A regular file whose bytes were verified to have `digest` when they were stored, as a content
    /// store does. They are verified again only when they are compiled.
    ///
    /// # Errors
    ///
    /// [`WasmError`].
    pub fn verified(
        name: impl Into<String>,
        file: File,
        digest: &Digest,
    ) -> Result<Self, WasmError> {
        let name = name.into();
        let bytes =
            file.metadata().map_err(|source| WasmError::Read { name: name.clone(), source })?.len();
        Self { file, name, bytes, sha256: digest.hex().to_owned() }.of_bearable_size()
    }

    fn of_bearable_size(self) -> Result<Self, WasmError> {
        if self.bytes > WASM_BYTES_MAX {
            return Err(WasmError::TooLarge { name: self.name, bytes: self.bytes });
        }
        Ok(self)
    }

    /// What people call it: the file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Digest of its bytes, 64 hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// [`sha256`](Self::sha256) as it is in files of the cache.
    pub(super) fn sha256_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(self.sha256.as_bytes().chunks(2)) {
            // Digits, as the type has it.
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        bytes
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

/// Copies what can be read only once, up to one byte more than is accepted.
fn in_memory(source: impl Read) -> io::Result<File> {
    let mut file = File::from(memfd_create("wasm", MemfdFlags::CLOEXEC)?);
    io::copy(&mut source.take(WASM_BYTES_MAX + 1), &mut file)?;
    file.flush()?;
    Ok(file)
}

/// Digest in hexadecimal and length of a regular file, from the cache directory `dir` if it was read
/// before, else read and remembered there.
fn known_sha256(file: &File, dir: &File) -> io::Result<(String, u64)> {
    let stat = fstat(file)?;
    let identity = Identity::of(&stat, digests::PURPOSE);
    if let Some(sha256) = identity.and_then(|identity| digests::recall(dir, &identity)) {
        return Ok((hex(&sha256), u64::try_from(stat.st_size).unwrap_or_default()));
    }
    // Asked before the file is read: what changes from here on has another time.
    let is_settled = is_settled(&stat);
    let (sha256, bytes) = sha256_of_file(file)?;
    if let Some(identity) = identity
        && is_settled
    {
        digests::remember(dir, &identity, &sha256);
    }
    Ok((hex(&sha256), bytes))
}

/// Digest and length of a file, read from its start; reading ends where it is too long to be accepted.
fn sha256_of_file(file: &File) -> io::Result<([u8; 32], u64)> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut position = 0;
    while position <= WASM_BYTES_MAX {
        match file.read_at(&mut chunk, position) {
            Ok(0) => break,
            Ok(n) => {
                digest.update(chunk.get(..n).unwrap_or_default());
                position += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((digest.finalize().into(), position))
}

/// Digest of `bytes`, in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_is_digested_from_its_start_wherever_it_stands() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(file.stream_position().unwrap(), 3);
        let wasm = Wasm::from_file("x.wasm", file).unwrap();
        assert_eq!((wasm.sha256(), wasm.bytes()), (ABC, 3));
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"abc").unwrap();
        drop(writer);
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let wasm = Wasm::from_file("pipe", file).unwrap();
        assert_eq!((wasm.sha256(), wasm.bytes()), (ABC, 3));
    }

    #[test]
    fn a_directory_is_named_as_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Wasm::open(directory.path()), Err(WasmError::Directory { .. })));
    }

    #[test]
    fn an_endless_file_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(WASM_BYTES_MAX + 1).unwrap();
        let digest = Digest::of(b"");
        assert!(matches!(Wasm::verified("x", file, &digest), Err(WasmError::TooLarge { .. })));
    }

    #[test]
    fn a_file_has_the_name_of_its_last_component() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.wasm");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(Wasm::open(&path).unwrap().name(), "app.wasm");
    }
}
