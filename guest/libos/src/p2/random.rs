//! wasi:random: the guest's generators.

use alloc::vec::Vec;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::random::{insecure, insecure_seed, random};

/// Most bytes of one call: the answer is built in the guest's heap before it is copied out.
const BYTES_MAX: u64 = 16 << 20;

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
        bytes(self.process.get()?.random.secure(), len)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        Ok(self.process.get()?.random.secure().next_u64())
    }
}

impl insecure::Host for Wasi {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        bytes(self.process.get()?.random.insecure(), len)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        Ok(self.process.get()?.random.insecure().next_u64())
    }
}

impl insecure_seed::Host for Wasi {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        let insecure = self.process.get()?.random.insecure();
        Ok((insecure.next_u64(), insecure.next_u64()))
    }
}
