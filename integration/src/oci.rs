//! Image layouts: what the tools of the field push for a `.wasm` file.
//!
//! An [`Image`] is a manifest and its blobs, ready for [`crate::Registry::push`]. The layouts are
//! those of `wkg oci push` (the CNCF's wasm OCI artifact), of runwasi's image builder, and of a
//! container image that has the file in its root file system.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Media type of an OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Media type of an OCI image configuration.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image: what a registry stores under one reference.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Value,
    /// Configuration and layers, by digest.
    pub blobs: Vec<Vec<u8>>,
}

/// Digest of `bytes` as OCI writes it.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"))
}

/// What `wkg oci push` writes for a component: the wasm configuration naming imports and exports,
/// and the file as the one layer.
///
/// <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>
///
/// # Errors
///
/// `wasm` is no binary at all, so its imports cannot be listed.
pub fn wkg(file_name: &str, wasm: &[u8]) -> Result<Image> {
    let (imports, exports) = imports_and_exports(wasm)?;
    let config = json!({
        "created": "2026-01-01T00:00:00Z",
        "author": null,
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [digest(wasm)],
        "component": { "exports": exports, "imports": imports, "target": null },
    });
    let title = json!({ "org.opencontainers.image.title": file_name });
    image(
        "application/vnd.wasm.config.v0+json",
        &config,
        vec![Layer { media_type: "application/wasm", annotations: title, bytes: wasm.to_vec() }],
    )
}

/// What runwasi's image builder writes: an image configuration for `wasip1`/`wasm` and the file as a
/// layer of runwasi's component media type, which is no layer of the root file system (`diff_ids`).
///
/// # Errors
///
/// None in practice: JSON of strings can be written.
pub fn runwasi(file_name: &str, wasm: &[u8]) -> Result<Image> {
    let config = json!({
        "architecture": "wasm",
        "os": "wasip1",
        "config": { "Entrypoint": [format!("/{file_name}")] },
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    image(
        CONFIG,
        &config,
        vec![Layer {
            media_type: "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
            annotations: json!({ "org.opencontainers.image.title": file_name }),
            bytes: wasm.to_vec(),
        }],
    )
}

/// A container image for Linux with `files` in its root file system and `entrypoint` as its command.
///
/// # Errors
///
/// A path does not fit a tar header.
pub fn rootfs(files: &[(&str, &[u8])], entrypoint: &str) -> Result<Image> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        archive
            .append_data(&mut header, path, *bytes)
            .with_context(|| format!("add {path} to a layer"))?;
    }
    let layer = archive.into_inner().context("finish the layer")?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": [entrypoint] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    image(
        CONFIG,
        &config,
        vec![Layer {
            media_type: "application/vnd.oci.image.layer.v1.tar",
            annotations: Value::Null,
            bytes: layer,
        }],
    )
}

struct Layer {
    media_type: &'static str,
    annotations: Value,
    bytes: Vec<u8>,
}

fn image(config_type: &str, config: &Value, layers: Vec<Layer>) -> Result<Image> {
    let config = serde_json::to_vec(config).context("write the configuration")?;
    let mut descriptors = Vec::new();
    let mut blobs = Vec::new();
    for layer in layers {
        let mut descriptor = descriptor(layer.media_type, &layer.bytes);
        if !layer.annotations.is_null() {
            descriptor["annotations"] = layer.annotations;
        }
        descriptors.push(descriptor);
        blobs.push(layer.bytes);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config_type, &config),
        "layers": descriptors,
    });
    blobs.push(config);
    Ok(Image { manifest, blobs })
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

/// Names of the imports and exports of a component, in their order.
fn imports_and_exports(wasm: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    // Only the outermost component's sections count; inner ones come between Version and End.
    let mut depth = 0_usize;
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        match payload.context("read the wasm binary")? {
            wasmparser::Payload::Version { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth -= 1,
            wasmparser::Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.context("read an import")?.name.name.to_owned());
                }
            }
            wasmparser::Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.context("read an export")?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}
