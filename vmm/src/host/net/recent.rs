//! A set that forgets: what was put in last is in it, what was put in long ago need not be.
//!
//! Rule: it never holds more than its limit, and always the newest half of that.

use std::collections::HashSet;
use std::hash::Hash;

/// The set, in two generations.
#[derive(Debug)]
pub(super) struct Recent<T> {
    young: HashSet<T>,
    old: HashSet<T>,
    limit: usize,
}

impl<T: Eq + Hash> Recent<T> {
    /// An empty set of at most `limit` elements.
    pub(super) fn new(limit: usize) -> Self {
        Self { young: HashSet::new(), old: HashSet::new(), limit }
    }

    pub(super) fn contains(&self, element: &T) -> bool {
        self.young.contains(element) || self.old.contains(element)
    }

    pub(super) fn insert(&mut self, element: T) {
        if self.young.len() >= self.limit / 2 && !self.young.contains(&element) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(element);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.young.retain(&keep);
        self.old.retain(&keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_half_is_kept_and_the_limit_holds() {
        let mut recent = Recent::new(8);
        for number in 0_u32..100 {
            recent.insert(number);
            let kept: Vec<_> = (0..=number).filter(|n| recent.contains(n)).collect();
            assert!(kept.len() <= 8, "{kept:?}");
            assert!((number.saturating_sub(3)..=number).all(|n| kept.contains(&n)), "{kept:?}");
        }
    }

    #[test]
    fn what_is_put_in_again_stays() {
        let mut recent = Recent::new(4);
        for number in 1..100 {
            recent.insert(0);
            recent.insert(number);
            assert!(recent.contains(&0));
        }
    }
}
