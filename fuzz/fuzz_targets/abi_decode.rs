//! Bytes of a guest, or of a host, as the other side reads them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzz::decode::call(bytes);
    fuzz::decode::boot_info(bytes);
    fuzz::decode::entries(bytes);
});
