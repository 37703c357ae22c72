//! What a micro-VM is given, parsed once.
//!
//! A [`Config`] exists only with values that a machine can be built from; nothing later checks them again.

use abi::layout;

use crate::Error;

/// Least memory of a micro-VM in bytes: page tables and boot information of an ordinary program take
/// less than 64 KiB, and what is left starts a guest that allocates nothing large.
pub const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// What a micro-VM is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    memory_bytes: u64,
}

impl Config {
    /// A micro-VM with `memory_bytes` of memory for page tables, boot information and all that the
    /// guest maps. Memory that the guest never touches is not taken from the host.
    ///
    /// # Errors
    ///
    /// [`Error::MemorySize`] unless `memory_bytes` is a multiple of the page size from
    /// [`MEMORY_BYTES_MIN`] to [`layout::RAM_BYTES_MAX`].
    pub fn new(memory_bytes: u64) -> Result<Self, Error> {
        let in_range = (MEMORY_BYTES_MIN..=layout::RAM_BYTES_MAX).contains(&memory_bytes);
        if in_range && memory_bytes.is_multiple_of(layout::PAGE) {
            Ok(Self { memory_bytes })
        } else {
            Err(Error::MemorySize { memory_bytes })
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub const fn memory_bytes(self) -> u64 {
        self.memory_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_at_both_ends_are_accepted() {
        for bytes in [MEMORY_BYTES_MIN, layout::RAM_BYTES_MAX] {
            assert_eq!(Config::new(bytes).unwrap().memory_bytes(), bytes);
        }
    }

    #[test]
    fn sizes_out_of_range_or_between_pages_are_refused() {
        for bytes in [0, MEMORY_BYTES_MIN - layout::PAGE, MEMORY_BYTES_MIN + 1, u64::MAX] {
            assert!(matches!(Config::new(bytes), Err(Error::MemorySize { .. })), "{bytes}");
        }
    }
}
