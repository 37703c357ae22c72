//! Locates the guest image and tells the crate where it is. It never builds it: no cargo inside cargo.
//!
//! `HYPERLIGHT_GUEST_IMAGE` names another image than the one `make guest` leaves in the tree.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

use sha2::{Digest, Sha256};

/// Where `make guest` leaves the image, from this crate.
const GUEST_IMAGE: &str = "../guest/target/x86_64-unknown-linux-gnu/release/guest";

fn main() {
    println!("cargo::rerun-if-env-changed=HYPERLIGHT_GUEST_IMAGE");
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let default = Path::new(&manifest_dir).join(GUEST_IMAGE);
    let image = env::var_os("HYPERLIGHT_GUEST_IMAGE").map_or(default, PathBuf::from);
    println!("cargo::rerun-if-changed={}", image.display());
    match image.canonicalize() {
        Ok(path) if path.is_file() => {
            println!("cargo::rustc-env=HYPERLIGHT_GUEST_IMAGE_FILE={}", path.display());
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let digest: String =
                        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                    println!("cargo::rustc-env=HYPERLIGHT_GUEST_IMAGE_SHA256={digest}");
                }
                Err(error) => println!("cargo::error=read {}: {error}", path.display()),
            }
        }
        _ => {
            println!("cargo::error=no guest image at {}: run `make guest`", image.display());
            exit(1);
        }
    }
}
