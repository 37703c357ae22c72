//! containerd's services, as much of them as the shim and `hyperlight image` use: containers,
//! images, content, leases.
//!
//! Rule: the bytes of a blob that leave this module have the digest they were asked by, and are no
//! more than the bound they were asked with. Blobs are read from the content store's directory
//! where it is visible, else through the Content service. Where the directory is, a bundle tells
//! ([`content_dir`]), else containerd, once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1 as api;
use containerd_client::tonic::metadata::{Ascii, MetadataValue};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Status};
use containerd_client::types::Descriptor;

use tokio::sync::OnceCell;

use crate::digest::{Digest, DigestError};

pub use containerd_client::services::v1::Image;

/// How long one call may take. containerd answers from its metadata; only a hung daemon takes
/// longer.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Bytes per message of Content.Write; containerd's gRPC server accepts 16 MiB.
const WRITE_CHUNK_BYTES: usize = 1 << 20;

/// What failed between here and containerd.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The daemon's socket does not answer.
    #[error("connect to containerd at {address}")]
    Connect {
        /// The socket.
        address: String,
        /// Why.
        source: containerd_client::tonic::transport::Error,
    },
    /// The namespace is no metadata value.
    #[error("{namespace:?} is not the name of a containerd namespace")]
    Namespace {
        /// The name.
        namespace: String,
    },
    /// There is no such thing.
    #[error("no {what} {name} in containerd's namespace {namespace}")]
    NotFound {
        /// `image`, `container`, `blob`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// A call failed.
    #[error("{call}: {}", status.message())]
    Call {
        /// What was asked.
        call: String,
        /// containerd's answer.
        status: Box<Status>,
    },
    /// A blob exceeds its bound.
    #[error("blob {digest} is larger than {limit} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The bound in bytes.
        limit: u64,
    },
    /// A blob's bytes do not have the digest they were asked by.
    #[error(
        "blob {expected} is damaged: its bytes have the digest {found}; \
         remove the image and pull it again"
    )]
    Damaged {
        /// What was asked.
        expected: Digest,
        /// What was there.
        found: Digest,
    },
    /// A digest is malformed or of an unsupported algorithm.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// The directory of the content store, as the bundle in `bundle` tells it: beside the task's working
/// directory (`ROOT/io.containerd.runtime.v2.task/NAMESPACE/ID`), which containerd links as `work` into
/// each bundle. `None` if there is no such link, or no such directory.
#[must_use]
pub fn content_dir(bundle: &Path) -> Option<PathBuf> {
    let work = std::fs::read_link(bundle.join("work")).ok()?;
    let tasks = work.parent()?.parent()?;
    if !work.is_absolute() || tasks.file_name()? != "io.containerd.runtime.v2.task" {
        return None;
    }
    let dir = tasks.parent()?.join("io.containerd.content.v1.content");
    dir.is_dir().then_some(dir)
}

/// A connection, bound to one namespace.
#[derive(Debug)]
pub struct Containerd {
    channel: Channel,
    namespace: String,
    metadata: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
    content_dir: OnceCell<Option<PathBuf>>,
}

impl Containerd {
    /// Connects to the socket at `address` (a path, or `unix://` and a path).
    ///
    /// # Errors
    ///
    /// The daemon does not answer, or `namespace` cannot be a namespace.
    pub async fn connect(address: &str, namespace: &str) -> Result<Self, ContainerdError> {
        let bad_name = || ContainerdError::Namespace { namespace: namespace.to_owned() };
        let metadata = namespace.parse().map_err(|_| bad_name())?;
        let path = address.strip_prefix("unix://").unwrap_or(address);
        let channel = containerd_client::connect(path)
            .await
            .map_err(|source| ContainerdError::Connect { address: address.to_owned(), source })?;
        let content_dir = OnceCell::new();
        Ok(Self { channel, namespace: namespace.to_owned(), metadata, lease: None, content_dir })
    }

    /// The same, with the directory of the content store known.
    #[must_use]
    pub fn with_content_dir(self, dir: PathBuf) -> Self {
        Self { content_dir: OnceCell::new_with(Some(Some(dir))), ..self }
    }

    /// The image reference of a container; empty if it was made without an image.
    ///
    /// # Errors
    ///
    /// There is no such container, or the call fails.
    pub async fn image_of_container(&self, id: &str) -> Result<String, ContainerdError> {
        let request = self.request(api::GetContainerRequest { id: id.to_owned() });
        let reply = api::containers_client::ContainersClient::new(self.channel.clone())
            .get(request)
            .await
            .map_err(|status| self.refused("container", id, status))?;
        Ok(reply.into_inner().container.map(|container| container.image).unwrap_or_default())
    }

    /// An image record.
    ///
    /// # Errors
    ///
    /// There is no such image, or the call fails.
    pub async fn image(&self, name: &str) -> Result<Image, ContainerdError> {
        let request = self.request(api::GetImageRequest { name: name.to_owned() });
        let reply = self
            .images()
            .get(request)
            .await
            .map_err(|status| self.refused("image", name, status))?;
        reply.into_inner().image.ok_or_else(|| self.not_found("image", name))
    }

    /// Replaces the record of the image that `image` names.
    ///
    /// # Errors
    ///
    /// The call fails.
    pub async fn update_image(&self, image: Image) -> Result<(), ContainerdError> {
        let name = image.name.clone();
        let update = api::UpdateImageRequest { image: Some(image), ..Default::default() };
        self.images()
            .update(self.request(update))
            .await
            .map_err(|status| self.refused("image", &name, status))?;
        Ok(())
    }

    /// A whole blob, its digest checked.
    ///
    /// # Errors
    ///
    /// It is not there, larger than `limit` bytes, damaged, or cannot be read.
    pub async fn blob(
        &self,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, ContainerdError> {
        let digest: Digest = descriptor.digest.parse()?;
        let mut bytes = Vec::new();
        let on_disk = self
            .blob_file(&digest)
            .await
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok());
        if on_disk.is_none() {
            bytes = self.blob_by_call(&digest, limit).await?;
        }
        if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
            return Err(ContainerdError::TooLarge { digest, limit });
        }
        let found = Digest::of(&bytes);
        match found == digest {
            true => Ok(bytes),
            false => Err(ContainerdError::Damaged { expected: digest, found }),
        }
    }

    /// The blob's file in the content store, if it can be opened from here. containerd checked its
    /// digest when it stored it; it is not checked here.
    pub async fn blob_file(&self, digest: &Digest) -> Option<File> {
        let dir = self.content_dir.get_or_init(|| self.ask_content_dir()).await.as_ref()?;
        let path = dir.join("blobs/sha256").join(digest.hex());
        File::open(&path)
            .inspect_err(|error| log::info!("open {}: {error}; asking containerd", path.display()))
            .ok()
    }

    async fn ask_content_dir(&self) -> Option<PathBuf> {
        let filters = vec!["type==io.containerd.content.v1,id==content".to_owned()];
        let reply = api::introspection_client::IntrospectionClient::new(self.channel.clone())
            .plugins(self.request(api::PluginsRequest { filters }))
            .await
            .ok()?;
        let mut plugins = reply.into_inner().plugins.into_iter();
        plugins.find_map(|mut plugin| plugin.exports.remove("root")).map(PathBuf::from)
    }

    async fn blob_by_call(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContainerdError> {
        let name = digest.to_string();
        let refused = |status| self.refused("blob", &name, status);
        let read = api::ReadContentRequest { digest: name.clone(), offset: 0, size: 0 };
        let mut stream =
            self.content().read(self.request(read)).await.map_err(refused)?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await.map_err(refused)? {
            bytes.extend_from_slice(&part.data);
            if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
                return Err(ContainerdError::TooLarge { digest: digest.clone(), limit });
            }
        }
        Ok(bytes)
    }

    /// Writes a blob with `labels`; one that is there already gets them too.
    ///
    /// # Errors
    ///
    /// The call fails.
    pub async fn write_blob(
        &self,
        bytes: &[u8],
        labels: HashMap<String, String>,
    ) -> Result<Digest, ContainerdError> {
        let digest = Digest::of(bytes);
        let total = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let part = |action, offset: usize, data: &[u8]| api::WriteContentRequest {
            action,
            r#ref: format!("hyperlight-{}", digest.hex()),
            total,
            expected: digest.to_string(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            data: data.to_vec(),
            labels: labels.clone(),
        };
        let (write, commit) = (api::WriteAction::Write.into(), api::WriteAction::Commit.into());
        let chunks = bytes.chunks(WRITE_CHUNK_BYTES).enumerate();
        let mut parts: Vec<_> =
            chunks.map(|(i, data)| part(write, i * WRITE_CHUNK_BYTES, data)).collect();
        parts.push(part(commit, bytes.len(), &[]));
        let outcome = self.write_parts(parts).await;
        match outcome {
            Ok(()) => {}
            Err(status) if status.code() == Code::AlreadyExists => {
                let info = api::Info { digest: digest.to_string(), labels, ..Default::default() };
                let update = api::UpdateRequest { info: Some(info), ..Default::default() };
                self.content()
                    .update(self.request(update))
                    .await
                    .map_err(|status| self.refused("blob", &digest.to_string(), status))?;
            }
            Err(status) => return Err(self.refused("blob", &digest.to_string(), status)),
        }
        Ok(digest)
    }

    async fn write_parts(&self, parts: Vec<api::WriteContentRequest>) -> Result<(), Status> {
        let request = self.request(parts).map(tokio_stream::iter);
        let mut replies = self.content().write(request).await?.into_inner();
        while replies.message().await?.is_some() {}
        Ok(())
    }

    /// Keeps what is written through this connection from being collected until
    /// [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// The call fails.
    pub async fn lease(&mut self) -> Result<(), ContainerdError> {
        let call = |status| ContainerdError::Call {
            call: "create a lease".to_owned(),
            status: Box::new(status),
        };
        // A lease that is not released by its owner ends by itself.
        let expire = std::time::SystemTime::now() + Duration::from_secs(3600);
        let labels = HashMap::from([(
            "containerd.io/gc.expire".to_owned(),
            humantime::format_rfc3339_seconds(expire).to_string(),
        )]);
        let create =
            api::CreateRequest { id: format!("hyperlight-{}", std::process::id()), labels };
        let reply = self.leases().create(self.request(create)).await.map_err(call)?;
        let id = reply.into_inner().lease.map(|lease| lease.id).unwrap_or_default();
        self.lease = id.parse().ok();
        Ok(())
    }

    /// Ends the lease.
    ///
    /// # Errors
    ///
    /// The call fails.
    pub async fn release(&mut self) -> Result<(), ContainerdError> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        let id = lease.to_str().unwrap_or_default().to_owned();
        let delete = api::DeleteRequest { id, sync: false };
        self.leases().delete(self.request(delete)).await.map_err(|status| {
            ContainerdError::Call { call: "delete the lease".to_owned(), status: Box::new(status) }
        })?;
        Ok(())
    }

    fn images(&self) -> api::images_client::ImagesClient<Channel> {
        api::images_client::ImagesClient::new(self.channel.clone())
    }

    fn content(&self) -> api::content_client::ContentClient<Channel> {
        api::content_client::ContentClient::new(self.channel.clone())
    }

    fn leases(&self) -> api::leases_client::LeasesClient<Channel> {
        api::leases_client::LeasesClient::new(self.channel.clone())
    }

    /// The connection, for calls that only one module makes.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A message with the namespace, the lease and the time limit of each call.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(CALL_LIMIT);
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", self.metadata.clone());
        if let Some(lease) = &self.lease {
            metadata.insert("containerd-lease", lease.clone());
        }
        request
    }

    fn refused(&self, what: &'static str, name: &str, status: Status) -> ContainerdError {
        match status.code() {
            Code::NotFound => self.not_found(what, name),
            _other => {
                ContainerdError::Call { call: format!("{what} {name}"), status: Box::new(status) }
            }
        }
    }

    fn not_found(&self, what: &'static str, name: &str) -> ContainerdError {
        ContainerdError::NotFound { what, name: name.to_owned(), namespace: self.namespace.clone() }
    }
}

#[cfg(test)]
mod tests;
