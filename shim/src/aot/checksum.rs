//! The checksum of an entry's content.
//!
//! Rule: it is the CRC-32 of every block of 4096 bytes that is not all zeros, each behind its number.
//! So it depends on the bytes alone and not on which of them the file system keeps as holes, and of a
//! snapshot, which is mostly holes, only what is there is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};

/// Bytes that are summed at a time.
const BLOCK_BYTES: usize = 4096;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Most bytes, without holes, that an entry may have: what can be read at a start that finds it for the
/// first time since boot.
pub(super) const DATA_BYTES_MAX: u64 = 2 << 30;

/// The checksum of the first `bytes` of `file`, whose position it moves.
pub(super) fn checksum(file: &File, bytes: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut position, mut read) = (0, 0);
    while let Some(range) = next_data(file, position, bytes)? {
        position = range.start;
        while position < range.end {
            let want = range.end - position;
            let want = usize::try_from(want).map_or(CHUNK_BYTES, |want| want.min(CHUNK_BYTES));
            let chunk = chunk.get_mut(..want).unwrap_or_default();
            file.read_exact_at(chunk, position)?;
            for block in chunk.chunks(BLOCK_BYTES) {
                if block.iter().any(|byte| *byte != 0) {
                    hasher.update(&(position / BLOCK_BYTES as u64).to_le_bytes());
                    hasher.update(block);
                }
                position += block.len() as u64;
            }
            read += chunk.len() as u64;
            if read > DATA_BYTES_MAX {
                return Err(io::Error::other("it is too large to be checked"));
            }
        }
    }
    Ok(hasher.finalize())
}

/// The next range that is no hole, from `position` on (lseek(2), `SEEK_DATA`), in whole blocks.
fn next_data(file: &File, position: u64, bytes: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    if position >= bytes {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(position)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(rustix::io::Errno::INVAL) => return Ok(Some(position..bytes)),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    let block = BLOCK_BYTES as u64;
    let (start, end) = (start - start % block, end.next_multiple_of(block).min(bytes));
    Ok((start < end).then_some(start.max(position)..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(parts: &[(u64, &[u8])], len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    #[test]
    fn holes_and_written_zeros_are_the_same() {
        let zeros = vec![0; 1 << 20];
        let (holes, zeros) = (file(&[], 1 << 20), file(&[(0, &zeros)], 1 << 20));
        assert_eq!(checksum(&holes, 1 << 20).unwrap(), checksum(&zeros, 1 << 20).unwrap());
    }

    #[test]
    fn bytes_elsewhere_are_another_sum() {
        let len = 1 << 30;
        let sums = [0, 1, 4096, 512 << 20, (1 << 30) - 1]
            .map(|at| checksum(&file(&[(at, b"x")], len), len).unwrap());
        for (i, sum) in sums.iter().enumerate() {
            assert!(!sums[..i].contains(sum), "{sums:?}");
        }
    }

    #[test]
    fn a_file_of_a_tebibyte_of_holes_is_not_read() {
        let len = 1 << 40;
        let file = file(&[(len - 5, b"last")], len);
        assert_ne!(checksum(&file, len).unwrap(), checksum(&file, len - 5).unwrap());
    }

    #[test]
    fn odd_lengths_count_to_the_last_byte() {
        for len in [1, 4095, 4096, 4097, CHUNK_BYTES + 1] {
            let bytes = vec![0xa5; len];
            let whole = file(&[(0, &bytes)], len as u64);
            let sum = checksum(&whole, len as u64).unwrap();
            whole.write_all_at(b"x", len as u64 - 1).unwrap();
            assert_ne!(checksum(&whole, len as u64).unwrap(), sum, "{len}");
        }
    }
}
