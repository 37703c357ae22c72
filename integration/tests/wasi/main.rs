//! What WASI promises, one behaviour a test, in several languages and worlds: each program runs in a
//! micro-VM and by the wasmtime command, and both must do the same.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod clocks;
mod command;
mod files;
mod limits;
mod proposals;
mod streams;
mod text;

/// Tests for each build of a program: `test: program [builds];` calls `test` with "program.build".
macro_rules! behaviours {
    ($($test:ident: $program:ident [$($build:ident)*];)*) => {
        $(mod $test {
            $(#[test]
            fn $build() {
                integration::require_kvm!();
                super::$test(concat!(stringify!($program), ".", stringify!($build)));
            })*
        })*
    };
}
use behaviours;
