//! wasi:random: ChaCha20 keyed by the seed of the boot information.
//!
//! Invariant: the secure and the insecure numbers come from streams of their own, so that what a program
//! learns from the one tells nothing about the other.

use alloc::vec::Vec;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::random::{insecure, insecure_seed, random};

/// Most bytes of one call: the answer is built in the guest's heap before it is copied out.
const BYTES_MAX: u64 = 16 << 20;

/// Both generators.
pub(super) struct Random {
    secure: ChaCha20Rng,
    insecure: ChaCha20Rng,
}

impl Random {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let mut secure = ChaCha20Rng::from_seed(seed);
        let mut key = [0; 32];
        secure.fill_bytes(&mut key);
        Self { secure, insecure: ChaCha20Rng::from_seed(key) }
    }
}

fn bytes(generator: &mut ChaCha20Rng, len: u64) -> Result<Vec<u8>> {
    let len = usize::try_from(len.min(BYTES_MAX + 1))?;
    if len as u64 > BYTES_MAX {
        return Err(Error::msg(alloc::format!(
            "wasi:random: at most {BYTES_MAX} bytes can be had in one call"
        )));
    }
    let mut bytes = alloc::vec![0; len];
    generator.fill_bytes(&mut bytes);
    Ok(bytes)
}

impl random::Host for Wasi {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        bytes(&mut self.random.secure, len)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        Ok(self.random.secure.next_u64())
    }
}

impl insecure::Host for Wasi {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        bytes(&mut self.random.insecure, len)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        Ok(self.random.insecure.next_u64())
    }
}

impl insecure_seed::Host for Wasi {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.random.insecure.next_u64(), self.random.insecure.next_u64()))
    }
}
