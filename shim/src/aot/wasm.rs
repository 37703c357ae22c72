//! The wasm file to run: an open file, its name for people, and the digest of its bytes.
//!
//! Rule: the bytes are not trusted to stay. The digest names them in the cache; whoever compiles them
//! computes it again over the bytes that it compiles.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest as _, Sha256};

use crate::compile::WASM_BYTES_MAX;
use crate::digest::Digest;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;

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
        let file =
            File::open(path).map_err(|source| WasmError::Open { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self::from_file(name, file)
    }

    /// An open file that people know as `name`; a pipe is read to its end.
    ///
    /// # Errors
    ///
    /// [`WasmError`].
    pub fn from_file(name: impl Into<String>, file: File) -> Result<Self, WasmError> {
        let name = name.into();
        let read = |source| WasmError::Read { name: name.clone(), source };
        let metadata = file.metadata().map_err(read)?;
        if metadata.is_dir() {
            return Err(WasmError::Directory { name });
        }
        let file = if metadata.is_file() { file } else { in_memory(file).map_err(read)? };
        let (sha256, bytes) = sha256_of_file(&file).map_err(read)?;
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

/// Digest and length of a file, read from its start; reading ends where it is too long to be accepted.
fn sha256_of_file(file: &File) -> io::Result<(String, u64)> {
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
    Ok((hex(&digest.finalize()), position))
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
