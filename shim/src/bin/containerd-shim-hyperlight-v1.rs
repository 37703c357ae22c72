//! The containerd shim, runtime type `io.containerd.hyperlight.v1`. containerd starts it; people use
//! `hyperlight`.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    shim::serve::main(&arguments)
}
