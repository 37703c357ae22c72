//! Random numbers: ChaCha20 keyed by the seed of the boot information.
//!
//! Invariant: the secure and the insecure numbers come from streams of their own, so that what a program
//! learns from the one tells nothing about the other.

use alloc::boxed::Box;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Both generators, which are made when the program wants the first number: most programs want none.
pub(crate) struct Random {
    seed: [u8; 32],
    generators: Option<Box<Generators>>,
}

struct Generators {
    secure: ChaCha20Rng,
    insecure: ChaCha20Rng,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, generators: None }
    }

    /// The generator of numbers that nobody can predict.
    pub(crate) fn secure(&mut self) -> &mut ChaCha20Rng {
        &mut self.generators().secure
    }

    /// The generator of numbers that need not be so.
    pub(crate) fn insecure(&mut self) -> &mut ChaCha20Rng {
        &mut self.generators().insecure
    }

    fn generators(&mut self) -> &mut Generators {
        let Self { seed, generators } = self;
        generators.get_or_insert_with(|| {
            let mut secure = ChaCha20Rng::from_seed(*seed);
            let mut key = [0; 32];
            secure.fill_bytes(&mut key);
            Box::new(Generators { secure, insecure: ChaCha20Rng::from_seed(key) })
        })
    }
}
