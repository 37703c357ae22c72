//! `image prepare`: the wasm of a pulled image, to be compiled before its first container needs it.
//!
//! Rule: the layer is found as the shim finds it, so what was prepared is what will be looked for.

use containerd_client::types::Descriptor;

use super::{ImageError, entrypoint, wasm_manifest};
use crate::aot::Wasm;
use crate::artifact::ManifestError;
use crate::compile::WASM_BYTES_MAX;
use crate::containerd::Containerd;
use crate::digest::Digest;

/// The wasm of the image `reference` of containerd's `namespace`; `address` is containerd's socket.
/// Blocks. The image may be adapted or not.
///
/// # Errors
///
/// See [`ImageError`].
pub fn wasm(address: &str, namespace: &str, reference: &str) -> Result<Wasm, ImageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ImageError::Runtime)?.block_on(async {
        let containerd = Containerd::connect(address, namespace).await?;
        let refuse = |source| ImageError::Manifest { reference: reference.to_owned(), source };
        let image = containerd.image(reference).await?;
        let target = image.target.ok_or_else(|| refuse(ManifestError::Empty))?;
        let (_, layer, title) = wasm_manifest(&containerd, target, reference).await?;
        let name = entrypoint(reference, title.as_deref());
        read(&containerd, &layer, name.trim_start_matches('/')).await
    })
}

async fn read(containerd: &Containerd, layer: &Descriptor, name: &str) -> Result<Wasm, ImageError> {
    let digest: Digest = layer.digest.parse()?;
    Ok(match containerd.blob_file(&digest).await {
        Some(file) => Wasm::verified(name, file, &digest)?,
        None => Wasm::from_bytes(name, &containerd.blob(layer, WASM_BYTES_MAX).await?)?,
    })
}
