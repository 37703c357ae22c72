//! How much memory a micro-VM gets under a container's memory limit.
//!
//! The limit is the control group's and counts the whole VMM process: the guest's memory and what
//! is beside it. The guest must hit its own limit first, where its allocation fails and the program
//! can react, rather than the control group's, where the kernel kills the process.

use super::BundleError;
use crate::workload::{MEMORY_BYTES_DEFAULT, MemoryBytes};

/// What is left to the VMM process under a limit, in bytes: the guest image, the private slot, the
/// call window, the process itself and the kernel's memory for the virtual machine.
pub const VMM_BYTES: u64 = 16 << 20;

/// Memory of the micro-VM under `limit` (`linux.resources.memory.limit`; none, 0 and below mean
/// unlimited).
///
/// # Errors
///
/// [`BundleError::Memory`] if the limit leaves less than the smallest micro-VM.
pub(super) fn of_limit(limit: Option<i64>) -> Result<MemoryBytes, BundleError> {
    let bytes = match limit {
        Some(limit @ 1..) => {
            limit.unsigned_abs().saturating_sub(VMM_BYTES).min(abi::layout::RAM_BYTES_MAX)
        }
        Some(_) | None => MEMORY_BYTES_DEFAULT,
    };
    let least = vmm::MEMORY_BYTES_MIN;
    let refused = |_| BundleError::Memory { limit: limit.unwrap_or_default(), least };
    MemoryBytes::try_from(bytes).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn bytes(limit: Option<i64>) -> u64 {
        of_limit(limit).unwrap().get()
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
    fn the_memory_is_whole_pages() {
        assert_eq!(bytes(Some(64 * MIB + 1)), 48 << 20);
    }

    #[test]
    fn a_huge_limit_gives_the_largest_micro_vm() {
        assert_eq!(bytes(Some(i64::MAX)), abi::layout::RAM_BYTES_MAX);
    }

    #[test]
    fn a_limit_that_leaves_nothing_is_refused_with_the_numbers() {
        let error = of_limit(Some(16 * MIB)).unwrap_err().to_string();

        assert!(error.contains("memory limit of 16777216 bytes is too small"), "{error}");
    }
}
