//! What runs with this runtime, in all of containerd's namespaces.

use std::collections::HashSet;
use std::path::Path;

use containerd_client::services::v1 as api;
use containerd_client::tonic::Status;
use containerd_client::types::v1::Status as TaskStatus;

use super::{SHIM, trial};
use crate::containerd::{Containerd, ContainerdError};
use crate::serve::RUNTIME;

fn refused(call: &'static str) -> impl FnOnce(Status) -> ContainerdError {
    move |status| ContainerdError::Call { call: call.to_owned(), status: Box::new(status) }
}

/// Whether a runtime is this one, by its name or the path of its program.
fn is_ours(runtime: &str) -> bool {
    runtime == RUNTIME || Path::new(runtime).file_name().is_some_and(|name| name == SHIM)
}

/// A container of this runtime with a task.
#[derive(Clone, Debug)]
struct Found {
    namespace: String,
    container: api::Container,
    /// Whether the task runs, and has not just ended.
    is_running: bool,
}

impl Found {
    /// The pod's label `name`, as kubelet sets it.
    fn label(&self, name: &str) -> Option<&str> {
        let label = self.container.labels.get(&format!("io.kubernetes.pod.{name}"));
        label.map(String::as_str)
    }

    /// For people: the pod by name, others by the container's id.
    fn name(&self) -> String {
        match (self.label("namespace"), self.label("name")) {
            (Some(namespace), Some(pod)) => format!("pod {namespace}/{pod}"),
            _ => format!("container {}", self.container.id),
        }
    }

    /// Whether it is no program, but holds a pod's namespaces, as containerd's CRI labels it.
    fn holds_pod(&self) -> bool {
        self.container.labels.get("io.cri-containerd.kind").is_some_and(|kind| kind == "sandbox")
    }
}

/// How much runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Running {
    /// Pods, and containers without a pod.
    pub(super) sandboxes: u64,
    /// Tasks, without those that hold pods.
    pub(super) tasks: u64,
}

impl Running {
    /// Of what was found, without what the installer runs on trial.
    fn of(found: &[Found]) -> Self {
        let mut pods = HashSet::new();
        let mut running = Self::default();
        for it in found.iter().filter(|it| it.is_running && it.namespace != trial::NAMESPACE) {
            let is_first = it.label("uid").is_none_or(|uid| pods.insert(uid));
            running.sandboxes += u64::from(is_first);
            running.tasks += u64::from(!it.holds_pod());
        }
        running
    }
}

/// How much runs.
pub(super) async fn count(socket: &Path) -> Result<Running, ContainerdError> {
    Ok(Running::of(&find(socket).await?))
}

/// The tasks: pods by name, each once, and others by their containers' ids.
pub(super) async fn tasks(socket: &Path) -> Result<Vec<String>, ContainerdError> {
    let mut names: Vec<_> = find(socket).await?.iter().map(Found::name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

async fn find(socket: &Path) -> Result<Vec<Found>, ContainerdError> {
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
        for container in containers.into_inner().containers {
            let is_ours = container.runtime.as_ref().is_some_and(|it| is_ours(&it.name));
            if let Some(task) = tasks.iter().find(|task| is_ours && task.id == container.id) {
                let is_running = task.status() == TaskStatus::Running;
                let namespace = namespace.name.clone();
                found.push(Found { namespace, container, is_running });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(namespace: &str, id: &str, labels: &[(&str, &str)]) -> Found {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let container =
            api::Container { id: id.to_owned(), labels: labels.collect(), ..Default::default() };
        Found { namespace: namespace.to_owned(), container, is_running: true }
    }

    #[test]
    fn a_pod_is_one_sandbox_and_its_holder_no_task() {
        let uid = ("io.kubernetes.pod.uid", "1-2-3");
        let mut all = vec![
            found("k8s.io", "pause", &[uid, ("io.cri-containerd.kind", "sandbox")]),
            found("k8s.io", "a", &[uid, ("io.cri-containerd.kind", "container")]),
            found("k8s.io", "b", &[uid, ("io.cri-containerd.kind", "container")]),
            found("default", "by-hand", &[]),
            found("default", "another", &[]),
        ];
        assert_eq!(Running::of(&all), Running { sandboxes: 3, tasks: 4 });
        for ended in &mut all[2..4] {
            ended.is_running = false;
        }
        assert_eq!(Running::of(&all), Running { sandboxes: 2, tasks: 2 });
    }

    #[test]
    fn what_runs_on_trial_does_not_count() {
        let trial = found(trial::NAMESPACE, "trial", &[]);
        assert_eq!(Running::of(&[trial]), Running::default());
    }

    #[test]
    fn people_are_told_of_pods_by_name_and_of_others_by_id() {
        let pod = [("io.kubernetes.pod.namespace", "shop"), ("io.kubernetes.pod.name", "web-0")];
        assert_eq!(found("k8s.io", "0123", &pod).name(), "pod shop/web-0");
        assert_eq!(found("default", "by-hand", &[]).name(), "container by-hand");
    }
}
