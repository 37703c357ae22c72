//! The wasm that a container runs, found in its image or in its root file system.
//!
//! Accepted: (a) a layer of a wasm media type, under the CNCF wasm configuration or an OCI image
//! configuration; (b) a file of the root file system, named by the first argument. A layer wins: an
//! image that has one is a wasm image, whatever its entrypoint is called.
//!
//! Rule: nothing of the image can make the shim read a file of the host, hang, or read without a
//! bound.
//!
//! Source: CNCF TAG Runtime, wasm OCI artifact layout; OCI image spec 1.1; runwasi's image formats.

mod command;
mod layers;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use containerd_client::types::Descriptor;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use tokio::sync::watch;

use crate::aot::{Wasm, WasmError};
use crate::bundle::Bundle;
use crate::compile::WASM_BYTES_MAX;
use crate::containerd::{Containerd, ContainerdError};
use crate::digest::{Digest, DigestError};

pub use command::{NOT_THERE, command};
pub use layers::{
    CONFIG_WASM, Found, LayerChoice, MANIFEST_BYTES_MAX, ManifestError, WASM_LAYER, choose,
    manifests,
};

/// The first bytes of every wasm binary (WebAssembly core specification, 5.5.16).
const WASM_MAGIC: &[u8; 4] = b"\0asm";

/// No wasm could be had.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// containerd could not be asked.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// A manifest is malformed or unsuitable.
    #[error("image {image}")]
    Manifest {
        /// The image.
        image: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// A digest is malformed.
    #[error("image {image}")]
    Digest {
        /// The image.
        image: String,
        /// What is wrong.
        source: DigestError,
    },
    /// There is no wasm anywhere.
    #[error(
        "image {image} has no wasm layer (layers: {layers}) and {argument:?} is {file}; \
         this runtime runs wasm only"
    )]
    NoWasm {
        /// The image.
        image: String,
        /// Media types of its layers.
        layers: String,
        /// The first argument.
        argument: String,
        /// What was found instead of a wasm file.
        file: &'static str,
    },
    /// An exec names no wasm file.
    #[error(
        "{argument:?} is {file}: a wasm container has no shell and no programs of Linux, \
         only the wasm files in its root file system and mounts can be run"
    )]
    NoCommand {
        /// The first argument.
        argument: String,
        /// What was found instead of a wasm file.
        file: &'static str,
    },
    /// There is no root file system.
    #[error("open the root file system {}", path.display())]
    Root {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("read {} in the root file system", path.display())]
    ReadFile {
        /// The path, as the container sees it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes cannot be used.
    #[error(transparent)]
    Wasm(#[from] WasmError),
}

/// Finds the wasm of container `id`: in its image, or in its root file system once `is_mounted` says
/// that it is there.
///
/// # Errors
///
/// See [`ArtifactError`].
pub async fn find(
    containerd: &Containerd,
    id: &str,
    bundle: &Bundle,
    mut is_mounted: watch::Receiver<bool>,
) -> Result<Wasm, ArtifactError> {
    let image = match containerd.image_of_container(id).await? {
        name if name.is_empty() => bundle.image_name.clone().unwrap_or_default(),
        name => name,
    };
    let mut media_types = Vec::new();
    if !image.is_empty() {
        match in_image(containerd, &image).await? {
            LayerChoice::Wasm { layer, title } => {
                let name = title.unwrap_or_else(|| file_name(bundle.program()));
                return from_blob(containerd, &image, layer, name).await;
            }
            LayerChoice::NoWasm { media_types: found } => media_types = found,
        }
    }
    let argument = bundle.program();
    // Without a root file system there is nothing in it; whoever mounts it says why there is none.
    let _ = is_mounted.wait_for(|mounted| *mounted).await;
    match wasm_in_rootfs(&bundle.rootfs, &bundle.cwd.join(argument))? {
        Ok(file) => Ok(Wasm::from_file(file_name(argument), file)?),
        Err(file) => Err(ArtifactError::NoWasm {
            image: if image.is_empty() { "(none)".to_owned() } else { image },
            layers: match media_types.is_empty() {
                true => "none".to_owned(),
                false => media_types.join(", "),
            },
            argument: argument.to_owned(),
            file,
        }),
    }
}

async fn in_image(containerd: &Containerd, image: &str) -> Result<LayerChoice, ArtifactError> {
    let refuse = |source| ArtifactError::Manifest { image: image.to_owned(), source };
    let target =
        containerd.image(image).await?.target.ok_or_else(|| refuse(ManifestError::Empty))?;
    let mut found = Vec::new();
    for manifest in manifests(containerd, target).await.map_err(refuse)? {
        match choose(&manifest.manifest).map_err(refuse)? {
            wasm @ LayerChoice::Wasm { .. } => return Ok(wasm),
            LayerChoice::NoWasm { media_types } => found.extend(media_types),
        }
    }
    Ok(LayerChoice::NoWasm { media_types: found })
}

async fn from_blob(
    containerd: &Containerd,
    image: &str,
    layer: Descriptor,
    name: String,
) -> Result<Wasm, ArtifactError> {
    let digest: Digest = layer
        .digest
        .parse()
        .map_err(|source| ArtifactError::Digest { image: image.to_owned(), source })?;
    Ok(match containerd.blob_file(&digest).await {
        Some(file) => Wasm::verified(name, file, &digest)?,
        None => Wasm::from_bytes(name, &containerd.blob(&layer, WASM_BYTES_MAX).await?)?,
    })
}

fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or(path).to_owned()
}

/// The wasm file at `path` as the container sees it, or what there is instead.
///
/// The kernel resolves the path as if `root` were the root directory (openat2(2),
/// `RESOLVE_IN_ROOT`), so that a symbolic link of the image cannot name a file of the host.
fn wasm_in_rootfs(root: &Path, path: &Path) -> Result<Result<File, &'static str>, ArtifactError> {
    let read = |source| ArtifactError::ReadFile { path: path.to_owned(), source };
    let directory = openat2(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::empty(),
    )
    .map_err(|errno| ArtifactError::Root { path: root.to_owned(), source: errno.into() })?;
    // NONBLOCK: a FIFO in the image must not hang the shim.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat2(&directory, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            return Ok(Err(NOT_THERE));
        }
        Err(errno) => return Err(read(errno.into())),
    };
    wasm_in(file).map_err(read)
}

/// A wasm file, or what it is instead.
fn wasm_in(file: File) -> io::Result<Result<File, &'static str>> {
    if !file.metadata()?.is_file() {
        return Ok(Err("not a file"));
    }
    let mut magic = [0; WASM_MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == *WASM_MAGIC => Ok(Ok(file)),
        Ok(()) => Ok(Err("not a wasm binary")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err("not a wasm binary")),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
