//! Sequences of host calls, made to a host with a scratch directory.
#![no_main]

use fuzz::requests::{Sequence, fresh};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|sequence: Sequence| fuzz::dispatch::run(&sequence));

fuzz_mutator!(|data: &mut [u8], bytes: usize, max_bytes: usize, seed: u32| {
    fresh(data, max_bytes, seed).unwrap_or_else(|| fuzzer_mutate(data, bytes, max_bytes))
});
