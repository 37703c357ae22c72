//! How much memory a micro-VM gets under a container's memory limit.
//!
//! The limit is the control group's and counts the whole VMM process: the guest's memory and what is
//! beside it. The guest must hit its own limit first, where its allocation fails and the program can
//! react, rather than the control group's, where the kernel kills the process.

use super::BundleError;
use crate::workload::{MEMORY_BYTES_DEFAULT, MemoryBytes};

/// What is left to the VMM process under a limit besides the compiled program, in bytes.
///
/// The guest image in large pages, the private slot, the call window, the process itself and the
/// kernel's memory for the virtual machine: 13.8 MB were measured with a small program that spins.
pub const VMM_BYTES: u64 = 16 << 20;

/// Memory of the micro-VM under `limit` (`linux.resources.memory.limit`; none, 0 and below mean
/// unlimited) with a compiled program of `program` bytes, of which the VMM keeps a copy.
///
/// # Errors
///
/// [`BundleError::Memory`] if the limit leaves less than the smallest micro-VM.
pub(super) fn of_limit(limit: Option<i64>, program: u64) -> Result<MemoryBytes, BundleError> {
    let beside = VMM_BYTES.saturating_add(program.next_multiple_of(abi::layout::LARGE_PAGE));
    let bytes = match limit {
        Some(limit @ 1..) => {
            limit.unsigned_abs().saturating_sub(beside).min(abi::layout::RAM_BYTES_MAX)
        }
        Some(_) | None => MEMORY_BYTES_DEFAULT,
    };
    let refused = |_| BundleError::Memory {
        limit: limit.unwrap_or_default(),
        beside,
        needed: beside.saturating_add(vmm::MEMORY_BYTES_MIN),
    };
    MemoryBytes::try_from(bytes).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn bytes(limit: Option<i64>) -> u64 {
        of_limit(limit, 0).unwrap().get()
    }

    #[test]
    fn without_a_limit_the_default_applies() {
        for limit in [None, Some(0), Some(-1)] {
            assert_eq!(bytes(limit), MEMORY_BYTES_DEFAULT);
        }
    }

    #[test]
    fn a_limit_leaves_room_for_the_vmm() {
        assert_eq!(bytes(Some(64 * MIB)), 48 << 20);
    }

    #[test]
    fn a_limit_leaves_room_for_the_program_in_large_pages() {
        assert_eq!(of_limit(Some(64 * MIB), 3 << 20).unwrap().get(), 44 << 20);
    }

    #[test]
    fn the_memory_is_whole_pages() {
        assert_eq!(bytes(Some(64 * MIB + 1)), 48 << 20);
    }

    #[test]
    fn a_huge_limit_gives_the_largest_micro_vm() {
        assert_eq!(bytes(Some(i64::MAX)), abi::layout::RAM_BYTES_MAX);
    }

    #[test]
    fn a_limit_that_leaves_nothing_is_refused_with_the_numbers() {
        let error = of_limit(Some(16 * MIB), 0).unwrap_err().to_string();

        assert!(error.contains("memory limit of 16777216 bytes is too small"), "{error}");
    }
}
