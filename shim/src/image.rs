//! Images in containerd's store: making them runnable ([`adapt`]) and ready to start (`prepare`).
//!
//! `image adapt` makes a pulled wasm artifact runnable where an OCI image is expected. `wkg` pushes artifacts whose configuration is no image configuration, so `ctr run` and a Pod
//! without a command refuse them. Adapting writes, into containerd's content store, an image
//! configuration (linux, this architecture, an entrypoint, no root file system layers) and a
//! manifest with it and the same wasm layer, and points the image's record there. Rules: the wasm
//! is not copied; the original manifest stays, referred to by the new one; adapting the same image
//! twice changes nothing the second time.
//!
//! Source: OCI image spec 1.1, config.md and manifest.md; containerd, docs/garbage-collection.md.

mod prepare;

use std::collections::HashMap;
use std::io;

use containerd_client::types::Descriptor;
use serde::Serialize;
use serde_json::json;

use crate::aot::WasmError;
use crate::artifact::{CONFIG_WASM, Found, LayerChoice, ManifestError, choose, manifests};
use crate::containerd::{Containerd, ContainerdError};
use crate::digest::{Digest, DigestError};

pub use prepare::wasm;

/// Annotation of the derived manifest and label of the image record: the digest of the original
/// manifest.
pub const ADAPTED_FROM: &str = "io.containerd.hyperlight.adapted-from";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Labels by which containerd's garbage collector finds what a blob refers to.
const GC_REF: &str = "containerd.io/gc.ref.content";

/// Why an image could not be adapted or prepared.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// containerd refused.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// The image cannot be read.
    #[error("image {reference}")]
    Manifest {
        /// The image.
        reference: String,
        /// Why.
        source: ManifestError,
    },
    /// There is nothing to adapt or prepare.
    #[error(
        "image {reference} has no wasm layer (layers: {layers}); an image with a .wasm file among its \
         files runs as it is, and is compiled when its first container is created"
    )]
    NoWasm {
        /// The image.
        reference: String,
        /// Media types of its layers.
        layers: String,
    },
    /// The manifest could not be encoded.
    #[error("encode the image's {what}")]
    Encode {
        /// Which part.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A layer's digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The wasm cannot be used.
    #[error(transparent)]
    Wasm(#[from] WasmError),
    /// No runtime for the calls.
    #[error("start the tokio runtime")]
    Runtime(#[source] io::Error),
}

/// What adapting has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapted {
    /// The image's reference, which runs now.
    pub reference: String,
    /// The manifest that it names.
    pub manifest: String,
    /// The entrypoint, argument 0 of its containers.
    pub entrypoint: String,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Adapts the image `reference` of containerd's `namespace`; `address` is containerd's socket.
/// Blocks.
///
/// # Errors
///
/// See [`ImageError`]; the image is then as it was.
pub fn adapt(address: &str, namespace: &str, reference: &str) -> Result<Adapted, ImageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ImageError::Runtime)?.block_on(async {
        let mut containerd = Containerd::connect(address, namespace).await?;
        containerd.lease().await?;
        let adapted = adapt_leased(&containerd, reference).await;
        let released = containerd.release().await;
        let adapted = adapted?;
        released?;
        Ok(adapted)
    })
}

async fn adapt_leased(containerd: &Containerd, reference: &str) -> Result<Adapted, ImageError> {
    let refuse = |source| ImageError::Manifest { reference: reference.to_owned(), source };
    let mut image = containerd.image(reference).await?;
    let target = image.target.clone().ok_or_else(|| refuse(ManifestError::Empty))?;
    let (found, layer, title) = wasm_manifest(containerd, target, reference).await?;
    let entrypoint = entrypoint(reference, title.as_deref());
    if found.manifest.config.media_type != CONFIG_WASM {
        // An image configuration: it runs as it is, or was adapted before.
        return Ok(Adapted {
            reference: reference.to_owned(),
            manifest: found.descriptor.digest,
            entrypoint,
            changed: false,
        });
    }
    let manifest = write_hybrid(containerd, &found.descriptor, &layer, &entrypoint).await?;
    image.labels.insert(ADAPTED_FROM.to_owned(), found.descriptor.digest);
    image.target = Some(manifest.clone());
    containerd.update_image(image).await?;
    Ok(Adapted {
        reference: reference.to_owned(),
        manifest: manifest.digest,
        entrypoint,
        changed: true,
    })
}

/// The manifest with a wasm layer, that layer, and its title.
async fn wasm_manifest(
    containerd: &Containerd,
    target: Descriptor,
    reference: &str,
) -> Result<(Found, Descriptor, Option<String>), ImageError> {
    let refuse = |source| ImageError::Manifest { reference: reference.to_owned(), source };
    let mut media_types = Vec::new();
    for found in manifests(containerd, target).await.map_err(refuse)? {
        match choose(&found.manifest).map_err(refuse)? {
            LayerChoice::Wasm { layer, title } => return Ok((found, layer, title)),
            LayerChoice::NoWasm { media_types: others } => media_types.extend(others),
        }
    }
    let layers = if media_types.is_empty() { "none".to_owned() } else { media_types.join(", ") };
    Err(ImageError::NoWasm { reference: reference.to_owned(), layers })
}

async fn write_hybrid(
    containerd: &Containerd,
    original: &Descriptor,
    layer: &Descriptor,
    entrypoint: &str,
) -> Result<Descriptor, ImageError> {
    let config = encode("configuration", &config(entrypoint))?;
    let config_digest = containerd.write_blob(&config, HashMap::new()).await?;
    let manifest = encode("manifest", &manifest(&config_digest, config.len(), original, layer))?;
    let labels = [
        ("config", config_digest.to_string()),
        ("l.0", layer.digest.clone()),
        // Keeps the original, which the registry knows, as long as this one.
        ("m.0", original.digest.clone()),
    ];
    let labels = labels.map(|(name, digest)| (format!("{GC_REF}.{name}"), digest));
    let digest = containerd.write_blob(&manifest, HashMap::from(labels)).await?;
    Ok(Descriptor {
        media_type: MANIFEST.to_owned(),
        digest: digest.to_string(),
        size: i64::try_from(manifest.len()).unwrap_or(i64::MAX),
        annotations: HashMap::new(),
    })
}

/// No `diff_ids`: containerd counts the layers that are file system layers, of which there are
/// none.
fn config(entrypoint: &str) -> serde_json::Value {
    json!({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": { "Entrypoint": [entrypoint] },
        "rootfs": { "type": "layers", "diff_ids": [] },
    })
}

fn manifest(
    config: &Digest,
    config_bytes: usize,
    original: &Descriptor,
    layer: &Descriptor,
) -> serde_json::Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": IMAGE_CONFIG, "digest": config.to_string(), "size": config_bytes
        },
        "layers": [{
            "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size,
            "annotations": layer.annotations.iter().collect::<std::collections::BTreeMap<_, _>>()
        }],
        "annotations": { ADAPTED_FROM: original.digest },
    })
}

/// This machine's architecture as OCI calls it (image spec, config.md: GOARCH).
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

fn encode(what: &'static str, value: &serde_json::Value) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(value).map_err(|source| ImageError::Encode { what, source })
}

/// The path that containers of the image get as argument 0: the layer's title if it is a plain file
/// name, else the last part of the reference.
fn entrypoint(reference: &str, title: Option<&str>) -> String {
    let is_plain =
        |name: &&str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    if let Some(title) = title.filter(is_plain) {
        return format!("/{title}");
    }
    let without_digest = reference.split('@').next().unwrap_or(reference);
    let last = without_digest.rsplit('/').next().unwrap_or(without_digest);
    let name = last.split(':').next().filter(is_plain).unwrap_or("app");
    format!("/{name}.wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_names_the_entrypoint() {
        assert_eq!(entrypoint("r.example/a/b:1", Some("hello.wasm")), "/hello.wasm");
    }

    #[test]
    fn without_a_plain_title_the_reference_does() {
        for title in [None, Some(""), Some("../x.wasm"), Some("a/b.wasm"), Some(".hidden")] {
            assert_eq!(entrypoint("127.0.0.1:5000/a/b:1.2", title), "/b.wasm", "{title:?}");
        }
    }

    #[test]
    fn a_reference_by_digest_names_it_too() {
        assert_eq!(entrypoint("r.example/a@sha256:00", None), "/a.wasm");
        assert_eq!(entrypoint("r.example/a:1@sha256:00", None), "/a.wasm");
    }

    #[test]
    fn the_derived_manifest_names_its_configuration_and_the_same_layer() {
        let original = Descriptor { digest: "sha256:orig".to_owned(), ..Default::default() };
        let layer = Descriptor {
            media_type: "application/wasm".to_owned(),
            digest: "sha256:wasm".to_owned(),
            size: 9,
            ..Default::default()
        };

        let manifest = manifest(&Digest::of(b""), 7, &original, &layer);

        assert_eq!(manifest["config"]["digest"], Digest::of(b"").to_string());
        assert_eq!(manifest["layers"][0]["digest"], "sha256:wasm");
        assert_eq!(manifest["annotations"][ADAPTED_FROM], "sha256:orig");
    }

    #[test]
    fn the_derived_configuration_has_no_file_system_layers() {
        let config = config("/a.wasm");

        assert_eq!(config["config"]["Entrypoint"], json!(["/a.wasm"]));
        assert_eq!(config["rootfs"]["diff_ids"], json!([]));
        assert_eq!(config["os"], "linux");
    }
}
