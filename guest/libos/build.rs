//! Generates the bindings of WASI 0.2.
//!
//! The WIT packages of WASI come with the `wasip2` crate. `bindgen!` wants its path as a literal, so
//! the macro's invocation is written out here, with the place where cargo has unpacked that crate.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["build.rs", "src/p2/bindings.in"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let manifest_dir = PathBuf::from(cargo_variable("CARGO_MANIFEST_DIR")?);
    let wit = wit_packages(&manifest_dir)?;
    let invocation = fs::read_to_string(manifest_dir.join("src/p2/bindings.in"))?;
    let out = PathBuf::from(cargo_variable("OUT_DIR")?).join("bindings.rs");
    fs::write(out, invocation.replace("@WIT@", &wit.display().to_string()))?;
    Ok(())
}

/// A variable that cargo sets for build scripts.
fn cargo_variable(name: &str) -> Result<String, Box<dyn Error>> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// The `wit` folder of the unpacked `wasip2` crate.
fn wit_packages(manifest_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(cargo_variable("CARGO")?)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(manifest_dir)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "wasip2"))
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata does not list the build dependency wasip2")?;
    Ok(Path::new(manifest).with_file_name("wit"))
}
