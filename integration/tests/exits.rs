//! No operation of input and output costs more VM exits than it should.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::Path;

use integration::exits::{self, OPERATIONS, WORLDS};
use integration::scratch::Scratch;
use integration::{leaks, require_kvm};

/// Measures every operation of one world and lists those that cost too much.
fn too_many(world: usize, directory: &Path) -> Vec<String> {
    let program = &exits::programs().unwrap()[world];
    let cost = |(operation, most): &(&str, [u32; 2])| {
        let measure = || exits::of(program, operation, directory).unwrap();
        let is_more = |exits: f64| exits > f64::from(most[world]);
        // Where many operations take more than a second the clock is sampled once more: they are made again.
        let mut exits = measure();
        for _ in 0..2 {
            exits = if is_more(exits) { measure() } else { exits };
        }
        let message = format!("{operation}: {exits} exits, not {}", most[world]);
        is_more(exits).then_some(message)
    };
    OPERATIONS.iter().filter_map(cost).collect()
}

fn check(world: usize) {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let directory = Scratch::new().unwrap();
    let wrong = too_many(world, &directory);
    assert!(wrong.is_empty(), "{}: {wrong:#?}", WORLDS[world]);
}

#[test]
fn no_operation_of_wasi_p1_costs_more_exits_than_it_should() {
    check(0);
}

#[test]
fn no_operation_of_wasi_0_2_costs_more_exits_than_it_should() {
    check(1);
}
