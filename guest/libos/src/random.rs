//! Random numbers: ChaCha20 keyed by the seed of the boot information.
//!
//! Invariant: the secure and the insecure numbers come from streams of their own, so that what a program
//! learns from the one tells nothing about the other.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// Both generators.
pub(crate) struct Random {
    pub(crate) secure: ChaCha20Rng,
    pub(crate) insecure: ChaCha20Rng,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        use rand_chacha::rand_core::Rng;

        let mut secure = ChaCha20Rng::from_seed(seed);
        let mut key = [0; 32];
        secure.fill_bytes(&mut key);
        Self { secure, insecure: ChaCha20Rng::from_seed(key) }
    }
}
