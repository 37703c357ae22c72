//! What a handler of HTTP requests in C is built with: wit-bindgen's text of the interfaces.
//!
//! Such a source includes `program.h`, as the command `wit-bindgen c` writes it for a world `program` that
//! handles requests and makes some.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use super::interpreted::write_texts;

/// What a handler has in its source.
pub(super) const HANDLES: &str = "exports_wasi_http_incoming_handler_handle";

/// Version of the interfaces: that of wasi-libc.
const WIT: &str = "0.2.0";

/// What the linker learns the interfaces from.
pub(super) const TYPE: &str = "program_component_type.o";

/// Writes `program.h`, `program.c` and [`TYPE`] to `work`.
pub(super) fn write_bindings(work: &Path) -> Result<()> {
    let wit = work.join("wit");
    write_texts(&wit, WIT)?;
    let world = format!(
        "package test:program;\nworld program {{\n  import wasi:http/outgoing-handler@{WIT};\n  \
         export wasi:http/incoming-handler@{WIT};\n}}\n"
    );
    fs::write(wit.join("world.wit"), world).context("write the world")?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&wit)?;
    let world = resolve.select_world(&[package], Some("program"))?;
    let mut files = Files::default();
    let mut generator = wit_bindgen_c::Opts::default().build();
    generator.generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        fs::write(work.join(name), content).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}
