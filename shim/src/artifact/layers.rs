//! Manifests: which of an image's layers is the wasm.
//!
//! Rule: exactly one distinct wasm layer is an answer, none is an answer too, several are refused
//! rather than guessed. Everything read is bounded: it was pulled from wherever the image came
//! from.

use std::collections::HashMap;

use containerd_client::types::Descriptor;
use serde::Deserialize;

use crate::containerd::{Containerd, ContainerdError};

/// Layer of a component or module in the CNCF layout.
pub const WASM_LAYER: &str = "application/wasm";
/// Configuration of the CNCF layout.
pub const CONFIG_WASM: &str = "application/vnd.wasm.config.v0+json";

/// Layer types that are wasm.
const WASM_LAYERS: [&str; 4] = [
    WASM_LAYER,
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.w3c.wasm.module.v1+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];

/// Media types of an index (OCI, Docker).
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Largest manifest, index or configuration that is read, in bytes: what registries accept at most
/// (OCI distribution spec, "at least 4 megabytes").
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Most manifests that are looked at for one image: indexes list one per platform.
const MANIFESTS_MAX: usize = 64;

/// Annotation with a layer's file name (OCI image spec, annotations.md).
const TITLE: &str = "org.opencontainers.image.title";

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The image record has no target.
    #[error("its record in containerd names no content")]
    Empty,
    /// containerd could not give a blob.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// Not the JSON of a manifest.
    #[error("manifest {digest} is malformed")]
    Json {
        /// The manifest.
        digest: String,
        /// Why.
        source: serde_json::Error,
    },
    /// More than one wasm layer.
    #[error("has {count} different wasm layers where one is supported: {layers}")]
    SeveralWasm {
        /// How many.
        count: usize,
        /// Their digests.
        layers: String,
    },
}

/// A content descriptor (OCI image spec, descriptor.md).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: i64,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Option<HashMap<String, String>>,
}

impl Content {
    /// The annotated file name.
    #[must_use]
    pub fn title(&self) -> Option<&String> {
        self.annotations.as_ref()?.get(TITLE)
    }
}

impl From<Content> for Descriptor {
    fn from(content: Content) -> Self {
        Self {
            media_type: content.media_type,
            digest: content.digest,
            size: content.size,
            annotations: content.annotations.unwrap_or_default(),
        }
    }
}

/// An image manifest, as much of it as is needed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Content,
    /// The layers.
    #[serde(default)]
    pub layers: Vec<Content>,
    /// Annotations.
    #[serde(default)]
    pub annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Content>,
}

/// A manifest and where it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// What it says.
    pub manifest: Manifest,
}

/// Which layer to run.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerChoice {
    /// This one.
    Wasm {
        /// The layer.
        layer: Descriptor,
        /// Its annotated file name.
        title: Option<String>,
    },
    /// None is wasm.
    NoWasm {
        /// What there is.
        media_types: Vec<String>,
    },
}

/// The manifests under `target`, which is one or an index of them. Those of an index that were not
/// pulled are left out.
///
/// # Errors
///
/// A blob is missing, damaged or malformed.
pub async fn manifests(
    containerd: &Containerd,
    target: Descriptor,
) -> Result<Vec<Found>, ManifestError> {
    let mut found = Vec::new();
    let mut pending = vec![target];
    let mut looked_at = 0;
    while let Some(descriptor) = pending.pop() {
        looked_at += 1;
        let bytes = match containerd.blob(&descriptor, MANIFEST_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(ContainerdError::NotFound { .. }) if looked_at > 1 => continue,
            Err(error) => return Err(error.into()),
        };
        let malformed = |source| ManifestError::Json { digest: descriptor.digest.clone(), source };
        if INDEXES.contains(&descriptor.media_type.as_str()) {
            let index: Index = serde_json::from_slice(&bytes).map_err(malformed)?;
            let room = MANIFESTS_MAX.saturating_sub(looked_at + pending.len());
            // The last is looked at first: reversed, the index's own order stands.
            let listed = index.manifests.into_iter().take(room).map(Descriptor::from);
            pending.extend(listed.collect::<Vec<_>>().into_iter().rev());
        } else {
            let manifest = serde_json::from_slice(&bytes).map_err(malformed)?;
            found.push(Found { descriptor, manifest });
        }
    }
    Ok(found)
}

/// Chooses the wasm layer of a manifest.
///
/// # Errors
///
/// There are several.
pub fn choose(manifest: &Manifest) -> Result<LayerChoice, ManifestError> {
    let mut wasm: Vec<&Content> = Vec::new();
    for layer in &manifest.layers {
        let is_wasm = WASM_LAYERS.contains(&layer.media_type.as_str());
        if is_wasm && wasm.iter().all(|known| known.digest != layer.digest) {
            wasm.push(layer);
        }
    }
    match wasm[..] {
        [] => Ok(LayerChoice::NoWasm {
            media_types: manifest.layers.iter().map(|layer| layer.media_type.clone()).collect(),
        }),
        [layer] => {
            Ok(LayerChoice::Wasm { layer: layer.clone().into(), title: layer.title().cloned() })
        }
        _ => Err(ManifestError::SeveralWasm {
            count: wasm.len(),
            layers: wasm.iter().map(|layer| layer.digest.as_str()).collect::<Vec<_>>().join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(config: &str, layers: &[(&str, &str)]) -> Manifest {
        let layers: Vec<_> = layers
            .iter()
            .map(|(kind, digest)| {
                json!({"mediaType": kind, "digest": digest, "size": 1,
                       "annotations": {"org.opencontainers.image.title": format!("{digest}.wasm")}})
            })
            .collect();
        let config = json!({"mediaType": config, "digest": "c", "size": 1});
        serde_json::from_value(json!({"schemaVersion": 2, "config": config, "layers": layers}))
            .unwrap()
    }

    fn chosen(config: &str, layers: &[(&str, &str)]) -> String {
        match choose(&manifest(config, layers)).unwrap() {
            LayerChoice::Wasm { layer, .. } => layer.digest,
            LayerChoice::NoWasm { media_types } => format!("none of {}", media_types.join(",")),
        }
    }

    const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    #[test]
    fn the_layer_of_a_cncf_artifact_is_chosen() {
        assert_eq!(chosen(CONFIG_WASM, &[(WASM_LAYER, "w")]), "w");
    }

    #[test]
    fn the_layer_of_a_hybrid_image_is_chosen() {
        assert_eq!(chosen(OCI_CONFIG, &[(WASM_LAYER, "w")]), "w");
    }

    #[test]
    fn each_wasm_layer_type_of_runwasi_is_chosen_among_others() {
        for kind in &WASM_LAYERS[1..] {
            assert_eq!(chosen(OCI_CONFIG, &[(TAR, "t"), (kind, "w")]), "w", "{kind}");
        }
    }

    #[test]
    fn an_ordinary_image_has_no_wasm_layer() {
        assert_eq!(chosen(OCI_CONFIG, &[(TAR, "t")]), format!("none of {TAR}"));
    }

    #[test]
    fn an_image_without_layers_has_no_wasm_layer() {
        assert_eq!(chosen(OCI_CONFIG, &[]), "none of ");
    }

    #[test]
    fn the_same_layer_twice_is_one() {
        assert_eq!(chosen(CONFIG_WASM, &[(WASM_LAYER, "w"), (WASM_LAYER, "w")]), "w");
    }

    #[test]
    fn two_wasm_layers_are_refused() {
        let error =
            choose(&manifest(CONFIG_WASM, &[(WASM_LAYER, "a"), (WASM_LAYER, "b")])).unwrap_err();

        assert_eq!(error.to_string(), "has 2 different wasm layers where one is supported: a, b");
    }

    #[test]
    fn the_title_is_the_name() {
        let choice = choose(&manifest(CONFIG_WASM, &[(WASM_LAYER, "w")])).unwrap();

        assert!(
            matches!(choice, LayerChoice::Wasm { title: Some(title), .. } if title == "w.wasm")
        );
    }
}
