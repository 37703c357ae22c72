//! Takes the boot information out of the call window.

use alloc::vec::Vec;

use abi::boot::BOOT_BYTES_MAX;
use abi::{AbortKind, Request};
use libos::HostCall;

use crate::doorbell::{self, Doorbell};
use crate::word;

/// The boot information of `bytes` bytes, whose beginning the last host call left in the data area.
pub(crate) fn read(bytes: u64) -> Vec<u8> {
    if bytes > BOOT_BYTES_MAX {
        malformed(format_args!("it has {bytes} bytes, and {BOOT_BYTES_MAX} are the most"));
    }
    let len = word(bytes);
    let mut boot = Vec::with_capacity(len);
    let take = |boot: &mut Vec<u8>, data: &[u8]| {
        boot.extend_from_slice(data.get(..data.len().min(len - boot.len())).unwrap_or_default());
    };
    Doorbell.data(&mut |data| take(&mut boot, data));
    while boot.len() < len {
        let (before, offset) = (boot.len(), boot.len() as u64);
        let result = Doorbell.call(&Request::BootInfo { offset }, &mut |count, data| {
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(data.len());
            take(&mut boot, data.get(..count).unwrap_or_default());
        });
        if result.is_err() || boot.len() == before {
            malformed(format_args!("it ends after {before} of {len} bytes: {result:?}"));
        }
    }
    boot
}

/// Ends the micro-VM because of its boot information.
pub(crate) fn malformed(why: core::fmt::Arguments<'_>) -> ! {
    doorbell::abort(AbortKind::Panic, format_args!("boot information is malformed: {why}"))
}
