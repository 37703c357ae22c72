//! What runs with this runtime, in all of containerd's namespaces.

use std::path::Path;

use containerd_client::services::v1 as api;
use containerd_client::tonic::Status;

use super::SHIM;
use crate::containerd::{Containerd, ContainerdError};
use crate::serve::RUNTIME;

fn refused(call: &'static str) -> impl FnOnce(Status) -> ContainerdError {
    move |status| ContainerdError::Call { call: call.to_owned(), status: Box::new(status) }
}

/// Whether a runtime is this one, by its name or the path of its program.
fn is_ours(runtime: &str) -> bool {
    runtime == RUNTIME || Path::new(runtime).file_name().is_some_and(|name| name == SHIM)
}

/// The tasks: pods by name, each once, and others by their containers' ids.
pub(super) async fn tasks(socket: &Path) -> Result<Vec<String>, ContainerdError> {
    let address = socket.to_string_lossy();
    let containerd = Containerd::connect(&address, "default").await?;
    let mut namespaces = api::namespaces_client::NamespacesClient::new(containerd.channel());
    let list = containerd.request(api::ListNamespacesRequest::default());
    let namespaces = namespaces.list(list).await.map_err(refused("list namespaces"))?;
    let mut found = Vec::new();
    for namespace in namespaces.into_inner().namespaces {
        let containerd = Containerd::connect(&address, &namespace.name).await?;
        let mut tasks = api::tasks_client::TasksClient::new(containerd.channel());
        let list = containerd.request(api::ListTasksRequest::default());
        let tasks = tasks.list(list).await.map_err(refused("list tasks"))?.into_inner().tasks;
        let mut containers = api::containers_client::ContainersClient::new(containerd.channel());
        let list = containerd.request(api::ListContainersRequest::default());
        let containers = containers.list(list).await.map_err(refused("list containers"))?;
        let runs = |it: &api::Container| {
            it.runtime.as_ref().is_some_and(|runtime| is_ours(&runtime.name))
                && tasks.iter().any(|task| task.id == it.id)
        };
        found.extend(containers.into_inner().containers.iter().filter(|it| runs(it)).map(|it| {
            // As kubelet labels them.
            let label = |name: &str| it.labels.get(&format!("io.kubernetes.pod.{name}"));
            match (label("namespace"), label("name")) {
                (Some(namespace), Some(pod)) => format!("pod {namespace}/{pod}"),
                _ => format!("container {}", it.id),
            }
        }));
    }
    found.sort();
    found.dedup();
    Ok(found)
}
