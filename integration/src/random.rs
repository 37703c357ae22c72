//! Numbers for tests that try what happens at any moment: other ones in each run, the same ones on request.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::say;

/// What has a run repeat the numbers of another, which has printed it.
const SEED: &str = "HYPERLIGHT_TEST_SEED";

/// Numbers of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
#[derive(Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl From<u64> for Random {
    fn from(seed: u64) -> Self {
        Self { seed, state: seed }
    }
}

/// What repeats the numbers.
impl std::fmt::Display for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SEED}={}", self.seed)
    }
}

impl Random {
    /// Of `HYPERLIGHT_TEST_SEED`, or of the time. Says which, with `what` they are for.
    ///
    /// # Panics
    ///
    /// The variable is no number.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = Self::from(number(SEED).unwrap_or(now.as_secs()));
        say(&format!("{what}: {random}"));
        random
    }

    /// The next number, below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// One of `all`, if there is any.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
        all.get(usize::try_from(self.below(count)).ok()?).copied()
    }
}

/// The number that the environment has for `variable`.
///
/// # Panics
///
/// It has something else.
#[must_use]
#[expect(clippy::panic, reason = "a test is told what it cannot do")]
pub fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, not a number")))
}
