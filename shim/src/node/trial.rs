//! A micro-VM on trial: whether the installed shim really runs one here, started by this node's containerd.
//!
//! Rule: nothing of it is left in containerd, however it ends. It needs no configuration of containerd, which is
//! told the path of the shim.

use std::collections::HashMap;
use std::path::Path;

use containerd_client::services::v1 as api;
use containerd_client::tonic::Status;
use containerd_client::types::Descriptor;
use serde_json::json;

use crate::artifact::{CONFIG_WASM, WASM_LAYER};
use crate::containerd::{Containerd, ContainerdError};
use crate::serve::RUNTIME;

/// containerd's namespace for it, which is there only meanwhile.
pub(super) const NAMESPACE: &str = "hyperlight-trial";
/// Its container and its image.
const NAME: &str = "trial";
/// The status that the program below ends with.
const STATUS: u32 = 42;

/// A core module of WASI preview 1 that calls `proc_exit(42)`; its text is in the tests.
const PROGRAM: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x08\x02\x60\x01\x7f\0\x60\0\0\
    \x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\0\0\
    \x03\x02\x01\x01\
    \x05\x03\x01\0\x01\
    \x07\x13\x02\x06memory\x02\0\x06_start\0\x01\
    \x0a\x08\x01\x06\0\x41\x2a\x10\0\x0b";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Type of a container's specification, as containerd's clients name it.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Why no micro-VM ran.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// containerd does not answer, or not as it should.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// A step was refused.
    #[error("{step}: {}", status.message())]
    Step {
        /// What was asked.
        step: &'static str,
        /// containerd's answer, which has the shim's in it.
        status: Box<Status>,
    },
    /// The program ended, but not as it should.
    #[error("the program ended with status {0}, not with {STATUS}: see containerd's log")]
    Status(u32),
}

fn refused(step: &'static str) -> impl FnOnce(Status) -> TrialError {
    move |status| TrialError::Step { step, status: Box::new(status) }
}

/// Runs a program in a micro-VM by the containerd at `socket` and the shim at `shim`.
///
/// # Errors
///
/// See [`TrialError`].
pub(super) async fn run(socket: &Path, shim: &Path) -> Result<(), TrialError> {
    let mut containerd = Containerd::connect(&socket.to_string_lossy(), NAMESPACE).await?;
    // What a run that was killed has left is in the way.
    remove(&mut containerd).await;
    containerd.lease().await?;
    let ended = run_leased(&containerd, shim).await;
    remove(&mut containerd).await;
    match ended? {
        STATUS => Ok(()),
        other => Err(TrialError::Status(other)),
    }
}

async fn run_leased(containerd: &Containerd, shim: &Path) -> Result<u32, TrialError> {
    image(containerd).await?;
    container(containerd).await?;
    let mut tasks = api::tasks_client::TasksClient::new(containerd.channel());
    let create = api::CreateTaskRequest {
        container_id: NAME.to_owned(),
        runtime_path: shim.display().to_string(),
        ..Default::default()
    };
    tasks.create(containerd.request(create)).await.map_err(refused("create the trial's task"))?;
    let start = api::StartRequest { container_id: NAME.to_owned(), ..Default::default() };
    tasks.start(containerd.request(start)).await.map_err(refused("start the trial's task"))?;
    let wait = api::WaitRequest { container_id: NAME.to_owned(), ..Default::default() };
    let ended = tasks.wait(containerd.request(wait)).await;
    Ok(ended.map_err(refused("wait for the trial's task"))?.into_inner().exit_status)
}

/// The program as `wkg` would push it.
async fn image(containerd: &Containerd) -> Result<(), TrialError> {
    let none = HashMap::new;
    let layer = containerd.write_blob(PROGRAM, none()).await?.to_string();
    let config = containerd.write_blob(b"{}", none()).await?.to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG_WASM, "digest": config, "size": 2 },
        "layers": [{ "mediaType": WASM_LAYER, "digest": layer, "size": PROGRAM.len() }],
    });
    let manifest = manifest.to_string();
    let digest = containerd.write_blob(manifest.as_bytes(), none()).await?;
    let target = Descriptor {
        media_type: MANIFEST.to_owned(),
        digest: digest.to_string(),
        size: i64::try_from(manifest.len()).unwrap_or(i64::MAX),
        ..Default::default()
    };
    let image = api::Image { name: NAME.to_owned(), target: Some(target), ..Default::default() };
    let create = api::CreateImageRequest { image: Some(image), ..Default::default() };
    let mut images = api::images_client::ImagesClient::new(containerd.channel());
    let created = images.create(containerd.request(create)).await;
    created.map(drop).map_err(refused("create the trial's image"))
}

/// A container with namespaces of its own, no rights, and no network.
async fn container(containerd: &Containerd) -> Result<(), TrialError> {
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": { "args": ["/trial.wasm"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "root": { "path": "rootfs" },
        "linux": { "namespaces": [
            { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
            { "type": "mount" }, { "type": "network" },
        ]},
        "annotations": { "io.hyperlight.network": "none" },
    });
    let runtime = api::container::Runtime { name: RUNTIME.to_owned(), options: None };
    let mut container = api::Container {
        id: NAME.to_owned(),
        image: NAME.to_owned(),
        runtime: Some(runtime),
        ..Default::default()
    };
    let any = container.spec.get_or_insert_default();
    any.type_url = SPEC.to_owned();
    any.value = spec.to_string().into();
    let create = api::CreateContainerRequest { container: Some(container) };
    let mut containers = api::containers_client::ContainersClient::new(containerd.channel());
    let created = containers.create(containerd.request(create)).await;
    created.map(drop).map_err(refused("create the trial's container"))
}

/// Removes what there is, and the namespace with it. What is not there is none of its business.
async fn remove(containerd: &mut Containerd) {
    let id = || NAME.to_owned();
    let mut tasks = api::tasks_client::TasksClient::new(containerd.channel());
    let kill = api::KillRequest { container_id: id(), signal: 9, all: true, ..Default::default() };
    if tasks.kill(containerd.request(kill)).await.is_ok() {
        let wait = api::WaitRequest { container_id: id(), ..Default::default() };
        drop(tasks.wait(containerd.request(wait)).await);
    }
    let delete = api::DeleteTaskRequest { container_id: id() };
    drop(tasks.delete(containerd.request(delete)).await);
    let mut containers = api::containers_client::ContainersClient::new(containerd.channel());
    let delete = api::DeleteContainerRequest { id: id() };
    drop(containers.delete(containerd.request(delete)).await);
    drop(containerd.release().await);
    // Last, for then containerd collects the blobs, which nothing refers to any more, before it answers.
    let mut images = api::images_client::ImagesClient::new(containerd.channel());
    let delete = api::DeleteImageRequest { name: id(), sync: true, ..Default::default() };
    drop(images.delete(containerd.request(delete)).await);
    let mut namespaces = api::namespaces_client::NamespacesClient::new(containerd.channel());
    let delete = api::DeleteNamespaceRequest { name: NAMESPACE.to_owned() };
    drop(namespaces.delete(containerd.request(delete)).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_what_its_text_says() {
        let text = r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call 0 (i32.const 42))))"#;
        assert_eq!(wat::parse_str(text).unwrap(), PROGRAM);
    }
}
