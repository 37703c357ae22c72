//! Links the guest by `guest.ld`.

use std::env::{VarError, var};
use std::path::Path;

fn main() -> Result<(), VarError> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=guest.ld");
    let script = Path::new(&var("CARGO_MANIFEST_DIR")?).join("guest.ld");
    let script = format!("-Wl,-T,{}", script.display());
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,--no-eh-frame-hdr",
        "-Wl,-z,norelro",
        "-Wl,-z,max-page-size=4096",
        "-Wl,--gc-sections",
        &script,
    ] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
    Ok(())
}
