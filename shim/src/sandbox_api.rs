//! The Sandbox service (`containerd.runtime.sandbox.v1.Sandbox`), by which containerd leaves the making of a pod to the
//! shim (`sandboxer = "shim"`): one thin function per call.
//!
//! Rule: a pod is the task of its holder, made from what the CRI says instead of a bundle, under the name of the
//! pod; it is not announced as a task, because containerd knows of none. This module translates and decides
//! nothing.
//!
//! Source: containerd `api/runtime/sandbox/v1/sandbox.proto`, `core/sandbox/controller.go`; k8s.io/cri-api,
//! `PodSandboxState`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use containerd_shim::{ExitSignal, TtrpcResult};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::sandbox_api as api;
use containerd_shim_protos::sandbox_async::Sandbox as Service;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use serde_json::json;

use crate::bundle::{Namespace, POD_SANDBOX_CONFIG, Pod};
use crate::error::{Error, status};
use crate::events::timestamp;
use crate::sandbox::{CreateTask, Sandbox};
use crate::state::State;
use crate::task::{any, failed};

/// How long the server outlives the answer to a shutdown. Until containerd has read that it must not find the connection
/// closed as well: ttrpc's client takes either, and removing the pod then fails. A shutdown of tasks needs less
/// (`serve`): there containerd takes a closed connection for the answer, and waits for it.
const CLOSE_DELAY: Duration = Duration::from_millis(250);

/// The service.
#[derive(Clone)]
pub struct SandboxService {
    sandbox: Sandbox,
    namespace: String,
    exit: Arc<ExitSignal>,
}

impl std::fmt::Debug for SandboxService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxService").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

impl SandboxService {
    /// Serves the pod of `sandbox` in containerd's `namespace`; `exit` is signalled when the shim is to end.
    #[must_use]
    pub fn new(sandbox: Sandbox, namespace: String, exit: Arc<ExitSignal>) -> Self {
        Self { sandbox, namespace, exit }
    }
}

#[async_trait]
impl Service for SandboxService {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::CreateSandboxRequest,
    ) -> TtrpcResult<api::CreateSandboxResponse> {
        log::info!(sandbox = request.sandbox_id.as_str(); "create");
        let created = match create(request, &self.namespace) {
            Ok(task) => self.sandbox.create(task).await,
            Err(error) => Err(error),
        };
        created.map_err(|error| failed("create sandbox", &error))?;
        Ok(api::CreateSandboxResponse::new())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::StartSandboxRequest,
    ) -> TtrpcResult<api::StartSandboxResponse> {
        let failed = |error| failed("start sandbox", &error);
        let pod = self.sandbox.task(&request.sandbox_id).map_err(failed)?;
        let mut response = api::StartSandboxResponse::new();
        response.pid = self.sandbox.start(&request.sandbox_id).await.map_err(failed)?;
        response.created_at = MessageField::some(timestamp(pod.created_at()));
        Ok(response)
    }

    async fn platform(
        &self,
        _: &TtrpcContext,
        _: api::PlatformRequest,
    ) -> TtrpcResult<api::PlatformResponse> {
        let mut response = api::PlatformResponse::new();
        let platform = response.platform.mut_or_insert_default();
        // As the OCI image specification names them.
        platform.os = "linux".to_owned();
        platform.architecture = "amd64".to_owned();
        Ok(response)
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::StopSandboxRequest,
    ) -> TtrpcResult<api::StopSandboxResponse> {
        log::info!(sandbox = request.sandbox_id.as_str(); "stop");
        let stopped = self.sandbox.stop_pod(&request.sandbox_id).await;
        stopped.map_err(|error| failed("stop sandbox", &error))?;
        Ok(api::StopSandboxResponse::new())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::WaitSandboxRequest,
    ) -> TtrpcResult<api::WaitSandboxResponse> {
        let pod = self.sandbox.task(&request.sandbox_id).map_err(|error| status(&error))?;
        let exit = pod.wait().await;
        let mut response = api::WaitSandboxResponse::new();
        response.exit_status = exit.status;
        response.exited_at = MessageField::some(timestamp(exit.at));
        Ok(response)
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: api::SandboxStatusRequest,
    ) -> TtrpcResult<api::SandboxStatusResponse> {
        let pod = self.sandbox.task(&request.sandbox_id).map_err(|error| status(&error))?;
        let mut response = api::SandboxStatusResponse::new();
        response.sandbox_id = request.sandbox_id;
        response.pid = pod.pid();
        response.created_at = MessageField::some(timestamp(pod.created_at()));
        let process = match pod.state() {
            State::Stopped(exit) => {
                response.exited_at = MessageField::some(timestamp(exit.at));
                "stopped"
            }
            State::Created | State::Running | State::Paused => "running",
        };
        let state = if process == "running" { "SANDBOX_READY" } else { "SANDBOX_NOTREADY" };
        response.state = state.to_owned();
        if request.verbose {
            // What clients of containerd's own pods read.
            let info = json!({ "pid": pod.pid(), "processStatus": process });
            response.info.insert("info".to_owned(), info.to_string());
        }
        Ok(response)
    }

    async fn ping_sandbox(
        &self,
        _: &TtrpcContext,
        _: api::PingRequest,
    ) -> TtrpcResult<api::PingResponse> {
        Ok(api::PingResponse::new())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::ShutdownSandboxRequest,
    ) -> TtrpcResult<api::ShutdownSandboxResponse> {
        log::info!(sandbox = request.sandbox_id.as_str(); "shut down");
        let ended = self.sandbox.end_pod().await;
        ended.map_err(|error| failed("shut down sandbox", &error))?;
        let exit = Arc::clone(&self.exit);
        tokio::spawn(async move {
            tokio::time::sleep(CLOSE_DELAY).await;
            exit.signal();
        });
        Ok(api::ShutdownSandboxResponse::new())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: api::SandboxMetricsRequest,
    ) -> TtrpcResult<api::SandboxMetricsResponse> {
        let pod = self.sandbox.task(&request.sandbox_id).map_err(|error| status(&error))?;
        let counters = pod.metrics().map_err(|error| status(&error.into()))?;
        let mut response = api::SandboxMetricsResponse::new();
        let metrics = response.metrics.mut_or_insert_default();
        metrics.timestamp = MessageField::some(timestamp(SystemTime::now()));
        metrics.id = request.sandbox_id;
        metrics.data = MessageField::some(any(counters)?);
        Ok(response)
    }
}

/// The task of the holder of the pod that `request` describes: by the CRI's message or, where a client has none, by a
/// `config.json` in the bundle.
fn create(request: api::CreateSandboxRequest, namespace: &str) -> Result<CreateTask, Error> {
    let (id, bundle) = (request.sandbox_id, PathBuf::from(request.bundle_path));
    let network = request.netns_path.as_str();
    let pod = match request.options.into_option() {
        Some(options) if options.type_url == POD_SANDBOX_CONFIG => {
            Pod::of_cri(&options.value, network, namespace, &id)?
        }
        Some(options) if !options.type_url.is_empty() => {
            let (part, expected) = ("options", POD_SANDBOX_CONFIG);
            return Err(Error::RequestType { part, kind: options.type_url, expected });
        }
        Some(_) | None => {
            let mut pod = Pod::read(&bundle, namespace, &id)?;
            if !network.is_empty() {
                pod.namespaces.network = Some(Namespace::Join(PathBuf::from(network)));
            }
            pod
        }
    };
    Ok(CreateTask { id, bundle, pod: Some(Box::new(pod)), ..CreateTask::default() })
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::well_known_types::any::Any;

    use super::*;

    fn request(options: Option<Any>, bundle: &std::path::Path) -> api::CreateSandboxRequest {
        let mut request = api::CreateSandboxRequest::new();
        request.sandbox_id = "pod".to_owned();
        request.bundle_path = bundle.display().to_string();
        request.netns_path = "/run/netns/pod".to_owned();
        request.options = options.into();
        request
    }

    fn message(kind: &str) -> Any {
        let mut any = Any::new();
        any.type_url = kind.to_owned();
        any
    }

    #[test]
    fn a_message_of_the_cri_describes_a_pod_with_files() {
        let bundle = tempfile::tempdir().unwrap();
        let request = request(Some(message("runtime.v1.PodSandboxConfig")), bundle.path());

        let pod = create(request, "k8s.io").unwrap().pod.unwrap();

        assert_eq!(pod.namespaces.network, Some(Namespace::Join("/run/netns/pod".into())));
        assert!(pod.files.is_some());
    }

    #[test]
    fn a_client_without_the_cri_describes_a_pod_by_its_bundle() {
        let bundle = tempfile::tempdir().unwrap();
        let spec = json!({ "ociVersion": "1.2.0", "linux": { "namespaces": [{ "type": "uts" }] } });
        std::fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();

        let pod = create(request(None, bundle.path()), "k8s.io").unwrap().pod.unwrap();

        assert_eq!(pod.namespaces.uts, Some(Namespace::New));
        assert_eq!(pod.namespaces.network, Some(Namespace::Join("/run/netns/pod".into())));
        assert_eq!(pod.files, None);
    }

    #[test]
    fn another_message_and_a_missing_bundle_are_refused() {
        let bundle = tempfile::tempdir().unwrap();

        let other = create(request(Some(message("runtime.v1.Other")), bundle.path()), "k8s.io");
        assert!(matches!(other, Err(Error::RequestType { part: "options", .. })));
        assert!(matches!(create(request(None, bundle.path()), "k8s.io"), Err(Error::Bundle(_))));
    }
}
