//! Locates the guest image and tells the crate where it is. It never builds it: no cargo inside cargo.
//! Builds the holder of a pod's namespaces, one file without dependencies, by the compiler alone. Has relocations
//! packed.
//!
//! `HYPERLIGHT_GUEST_IMAGE` names another image than the one `make guest` leaves in the tree.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use sha2::{Digest, Sha256};

/// Where `make guest` leaves the image, from this crate.
const GUEST_IMAGE: &str = "../guest/target/x86_64-unknown-linux-gnu/release/guest";

/// The holder, from this crate.
const HOLDER: &str = "holder/main.rs";

/// How it is compiled: without a runtime, to an executable that is loaded as it is, in as few pages as can be.
const HOLDER_OPTIONS: [&str; 11] = [
    "--edition=2024",
    "--target=x86_64-unknown-linux-gnu",
    "-Cpanic=abort",
    "-Copt-level=s",
    "-Crelocation-model=static",
    "-Cstrip=symbols",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,--build-id=none",
    "-Dwarnings",
];

fn main() {
    build_holder();
    locate_guest_image();
    pack_relocations();
}

/// Half a megabyte and more of a binary is addresses that the loader fills in at each start, of which there are
/// several for a container. Packed, the list of them is a thirtieth as long (`DT_RELR`: glibc 2.36, musl 1.2.4).
fn pack_relocations() {
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn build_holder() {
    println!("cargo::rerun-if-changed={HOLDER}");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("holder");
    let status = Command::new(rustc).args(HOLDER_OPTIONS).arg("-o").arg(&out).arg(HOLDER).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => println!("cargo::error=compile {HOLDER}: {status}"),
        Err(error) => println!("cargo::error=start the compiler for {HOLDER}: {error}"),
    }
}

fn locate_guest_image() {
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
