//! The compiled program: read-only memory that the guest executes in place.
//!
//! It is shared by all micro-VMs of the process, and in large pages: each 4 KiB page that is touched would cost
//! a fault. What the page cache holds of a file in large folios is mapped, and so shared by all processes
//! too; any other piece is copied once into anonymous memory. Whoever has a file mapped must know that nobody changes
//! it ([`Program::from_file`]).

use std::fs::File;
use std::io::{self, Read};

use abi::layout;

use crate::Error;
use crate::memory::{Region, SharedRegion};

/// Largest compiled program in bytes: the program slot.
pub const PROGRAM_BYTES_MAX: u64 = layout::PROGRAM.end - layout::PROGRAM.start;

/// Bytes that [`Program::from_file`] reads at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// A compiled program. Clones share the memory.
#[derive(Clone, Debug)]
pub struct Program {
    region: SharedRegion,
    bytes: u64,
}

impl Program {
    /// Copies a program.
    ///
    /// # Errors
    ///
    /// [`Error::ProgramSize`] if it is empty or exceeds [`PROGRAM_BYTES_MAX`]; [`Error::MapMemory`] and
    /// [`Error::ProtectMemory`] if the host has no memory for it.
    pub fn from_bytes(program: &[u8]) -> Result<Self, Error> {
        Self::copy(program.len() as u64, program)
    }

    /// The program in `file`, from its start on, whatever the file's position.
    ///
    /// The file may be mapped as long as any micro-VM of the program lives: it must be one that is never
    /// changed or cut short, as one of the node's cache, which is only ever replaced.
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](Self::from_bytes), and [`Error::ReadProgram`] if the file cannot be read or is
    /// shorter than its metadata say.
    pub fn from_file(file: &File) -> Result<Self, Error> {
        let bytes = file.metadata().map_err(Error::ReadProgram)?.len();
        if bytes > 0 && bytes <= PROGRAM_BYTES_MAX && bytes.is_multiple_of(layout::LARGE_PAGE) {
            return Ok(Self { region: SharedRegion::of_program(file, bytes)?, bytes });
        }
        Self::copy(bytes, ReadFromStart { file, position: 0 })
    }

    fn copy(bytes: u64, mut source: impl Read) -> Result<Self, Error> {
        if bytes == 0 || bytes > PROGRAM_BYTES_MAX {
            return Err(Error::ProgramSize { bytes });
        }
        let mut region = Region::new(bytes)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let want = usize::try_from(bytes - offset).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
            let chunk = chunk.get_mut(..want).unwrap_or_default();
            source.read_exact(chunk).map_err(Error::ReadProgram)?;
            let len = chunk.len() as u64;
            region.write(offset, chunk).ok_or(Error::OutsideMemory { gpa: offset, len })?;
            offset += len;
        }
        Ok(Self { region: region.into_shared()?, bytes })
    }

    /// Bytes of the program.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether both share their memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.region.is_same(&other.region)
    }

    pub(crate) const fn region(&self) -> &SharedRegion {
        &self.region
    }
}

/// Reads a file from its start without moving its position, which others may share.
struct ReadFromStart<'a> {
    file: &'a File,
    position: u64,
}

impl Read for ReadFromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    fn content(program: &Program) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(program.bytes()).unwrap()];
        program.region().read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_program_has_the_bytes_of_its_file() {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(CHUNK_BYTES + 77).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.seek(SeekFrom::Start(9)).unwrap();
        let program = Program::from_file(&file).unwrap();
        assert_eq!(file.stream_position().unwrap(), 9);
        assert!(content(&program) == bytes);
    }

    #[test]
    fn a_program_of_whole_large_pages_has_the_bytes_of_its_file() {
        // Written in pieces of two sizes, which the page cache may hold in folios of as many.
        let large = usize::try_from(layout::LARGE_PAGE).unwrap();
        let bytes: Vec<u8> = (0..251).cycle().take(3 * large).collect();
        let mut file = tempfile::tempfile().unwrap();
        for small in bytes[..large].chunks(4096) {
            file.write_all(small).unwrap();
        }
        file.write_all(&bytes[large..]).unwrap();
        let program = Program::from_file(&file).unwrap();
        assert!(content(&program) == bytes);
        drop(program);
        assert!(std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap() == bytes);
    }

    #[test]
    fn an_empty_program_is_refused() {
        assert!(matches!(Program::from_bytes(b""), Err(Error::ProgramSize { bytes: 0 })));
    }

    #[test]
    fn a_program_beyond_its_slot_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PROGRAM_BYTES_MAX + 1).unwrap();
        assert!(matches!(Program::from_file(&file), Err(Error::ProgramSize { .. })));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(directory.path()).unwrap();
        assert!(Program::from_file(&file).is_err());
    }
}
