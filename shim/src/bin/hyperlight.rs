//! The `hyperlight` command. Everything is in the library, where it is tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    shim::cli::main(std::env::args_os())
}
