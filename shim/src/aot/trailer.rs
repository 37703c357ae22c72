//! The last bytes of an entry: what it is, and the checksum of what lies before.
//!
//! ```text
//! len - 192      magic, 8 bytes
//! len - 184      key, 32 bytes
//! len - 152      origin, 32 bytes: SHA-256 of the wasm, or the identity of the snapshot
//! len - 120      bytes of the content, u64 little-endian
//! len - 112      checksum of all before, u32 little-endian
//! len - 108      where the program can begin: 1 as a command, 2 as a handler of requests
//! len - 107      name of the wasm, UTF-8, cut off and filled with zeros to 103 bytes
//! len -   4      CRC-32 of the trailer's 188 bytes before, u32 little-endian
//! ```
//!
//! Rule: decoding believes nothing that the CRC-32 does not cover, and the file's length.

use crate::compile::EntryPoints;

/// The last byte is the version of the trailer.
pub(super) const MAGIC: &[u8; 8] = b"hlcwasm\x05";
/// Bytes of a trailer.
pub(super) const TRAILER_BYTES: usize = 192;
/// Bytes of a name.
const NAME_BYTES: usize = 103;

/// What an entry says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// The key of the program.
    pub(super) key: [u8; 32],
    /// SHA-256 of the wasm that a program comes from; identity of a snapshot.
    pub(super) origin: [u8; 32],
    /// Bytes of the content.
    pub(super) bytes: u64,
    /// [Checksum](super::checksum) of the content and what fills it up.
    pub(super) checksum: u32,
    /// Where the program can begin.
    pub(super) entry_points: EntryPoints,
    /// What people call the wasm.
    pub(super) name: String,
}

impl Trailer {
    /// Its form in the file.
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut encoded = [0; TRAILER_BYTES];
        let name = self.name.floor_char_boundary(NAME_BYTES);
        let fields: [&[u8]; 7] = [
            MAGIC,
            &self.key,
            &self.origin,
            &self.bytes.to_le_bytes(),
            &self.checksum.to_le_bytes(),
            &[self.entry_points.to_bits()],
            self.name.as_bytes().get(..name).unwrap_or_default(),
        ];
        let (head, tail) = encoded.split_at_mut(TRAILER_BYTES - 4);
        for (byte, field) in head.iter_mut().zip(fields.into_iter().flatten()) {
            *byte = *field;
        }
        tail.copy_from_slice(&crc32fast::hash(head).to_le_bytes());
        encoded
    }

    /// Reads it; `None` if it is damaged, or of another version.
    pub(super) fn decode(encoded: &[u8; TRAILER_BYTES]) -> Option<Self> {
        let (head, crc) = encoded.split_last_chunk::<4>()?;
        if crc32fast::hash(head) != u32::from_le_bytes(*crc) {
            return None;
        }
        let rest = head.strip_prefix(MAGIC)?;
        let (key, rest) = rest.split_first_chunk()?;
        let (origin, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let (entry_points, name) = rest.split_first()?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            key: *key,
            origin: *origin,
            bytes: u64::from_le_bytes(*bytes),
            checksum: u32::from_le_bytes(*checksum),
            entry_points: EntryPoints::from_bits(*entry_points),
            name: String::from_utf8_lossy(name).into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(name: &str) -> Trailer {
        Trailer {
            key: [7; 32],
            origin: [8; 32],
            bytes: 1 << 40,
            checksum: 0xdead_beef,
            entry_points: EntryPoints { command: true, handler: false },
            name: name.to_owned(),
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let trailer = trailer("app.wasm");
        assert_eq!(Trailer::decode(&trailer.encode()), Some(trailer));
    }

    #[test]
    fn a_long_name_is_cut_off_between_characters() {
        let long = "ä".repeat(NAME_BYTES);
        let decoded = Trailer::decode(&trailer(&long).encode()).unwrap();
        assert_eq!(decoded.name, "ä".repeat(NAME_BYTES / 2));
    }

    #[test]
    fn any_changed_bit_makes_it_unreadable() {
        let encoded = trailer("app.wasm").encode();
        for bit in 0..TRAILER_BYTES * 8 {
            let mut damaged = encoded;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Trailer::decode(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn a_trailer_of_another_version_is_none() {
        let mut other = trailer("app.wasm").encode();
        other[7] += 1;
        let crc = crc32fast::hash(&other[..TRAILER_BYTES - 4]);
        other[TRAILER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Trailer::decode(&other), None);
    }
}
