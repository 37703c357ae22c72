//! Prints 16 random bytes in hexadecimal, from what hash maps are seeded with: they differ between runs.

use std::hash::{BuildHasher, RandomState};

fn main() {
    println!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2));
}
