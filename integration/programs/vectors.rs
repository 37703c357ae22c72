//! Adds numbers with 128-bit vectors, by the compiler's own choice and by intrinsics.
//!
//! flags: -C target-feature=+simd128

use std::arch::wasm32::{f32x4, f32x4_add, f32x4_extract_lane, f32x4_mul};

fn main() {
    let numbers: Vec<u32> = (0..1000).collect();
    let sum: u32 = numbers.iter().map(|number| number.wrapping_mul(3)).sum();
    let vector = f32x4_mul(f32x4_add(f32x4(1.0, 2.0, 3.0, 4.0), f32x4(0.5, 0.5, 0.5, 0.5)), f32x4(2.0, 2.0, 2.0, 2.0));
    println!("{sum} {} {}", f32x4_extract_lane::<0>(vector), f32x4_extract_lane::<3>(vector));
}
