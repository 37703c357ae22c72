//! Paths, names and times for generated calls.

use proptest::prelude::*;
use proptest::sample::select;

/// Names in the prepared directory, names that are free, and names that mean something.
const NAMES: [&str; 21] = [
    "f", "g", "h", "d", "x", "e", "l", "ld", "ll", "out", "abs", "dangling", "loop", "slash", "up",
    "root", "new", "n2", "n3", ".", "..",
];

/// Paths in whole.
const ODD: [&str; 11] = [
    "",
    "/",
    "/f",
    "//",
    "./f",
    "d/../f",
    "d/../../outside",
    "ld/../f",
    "f/.",
    "d/e/../x/",
    "../root/f",
];

/// A path: mostly one or two names, at times with what paths can have beside them.
pub(super) fn path() -> impl Strategy<Value = String> {
    let name = || select(&NAMES[..]).prop_map(str::to_owned);
    prop_oneof![
        8 => name(),
        6 => (select(&["d", "ld", "new", "d/e", "d/root"][..]), name())
            .prop_map(|(directory, name)| format!("{directory}/{name}")),
        2 => name().prop_map(|name| name + "/"),
        1 => (name(), name(), name()).prop_map(|(a, b, c)| format!("{a}/{b}//{c}")),
        1 => select(&ODD[..]).prop_map(str::to_owned),
        1 => select(&[255_usize, 256, 4095, 5000][..]).prop_map(|length| "n".repeat(length)),
    ]
}

/// What a symbolic link is to say.
pub(super) fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => path(),
        1 => select(&["../f", "../../outside", "/etc", "new/new", "./d//x", "d/."][..])
            .prop_map(str::to_owned),
    ]
}

/// A time in nanoseconds since the epoch, long before the run.
pub(super) fn time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 1..1_500_000_000_000_000_000_u64]
}

/// A position in a file to read from.
pub(super) fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20_u64,
        2 => 0..10_000_u64,
        1 => select(&[1 << 33, i64::MAX as u64, 1 << 63, u64::MAX][..]),
    ]
}

/// A size of a file, or a position to write to. Its content is compared, so it is small.
pub(super) fn size() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..20_u64, 2 => 0..10_000_u64]
}
