//! The Task service (`containerd.task.v3.Task`): one thin function per call.
//!
//! Rule: this module translates between protobuf and the sandbox and decides nothing. What is not
//! implemented says so with UNIMPLEMENTED and a sentence (but for Create: see [`crate::error`]).
//!
//! Source: containerd `api/runtime/task/v3/shim.proto` and `core/runtime/v2/README.md`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim::util::convert_to_any;
use containerd_shim::{ExitSignal, TtrpcResult};
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;

use crate::cgroup::Metrics;
use crate::error::{Error, status};
use crate::events::timestamp;
use crate::rootfs::MountSource;
use crate::sandbox::{CreateTask, Sandbox};
use crate::state::State;
use crate::stdio::StdioPaths;

/// The service.
#[derive(Clone)]
pub struct TaskService {
    sandbox: Sandbox,
    exit: Arc<ExitSignal>,
}

impl std::fmt::Debug for TaskService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskService").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

impl TaskService {
    /// Serves the tasks of `sandbox`; `exit` is signalled when the shim is to end.
    #[must_use]
    pub fn new(sandbox: Sandbox, exit: Arc<ExitSignal>) -> Self {
        Self { sandbox, exit }
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> TtrpcResult<api::CreateTaskResponse> {
        log::info!(task = request.id.as_str(); "create");
        let task = create_task(request).map_err(|error| failed("create", &error))?;
        let created = self.sandbox.create(task).await.map_err(|error| failed("create", &error))?;
        let mut response = api::CreateTaskResponse::new();
        response.pid = created.pid();
        Ok(response)
    }

    async fn start(
        &self,
        _: &TtrpcContext,
        request: api::StartRequest,
    ) -> TtrpcResult<api::StartResponse> {
        no_exec(&request.exec_id)?;
        let pid = self.sandbox.start(&request.id).map_err(|error| failed("start", &error))?;
        let mut response = api::StartResponse::new();
        response.pid = pid;
        Ok(response)
    }

    async fn state(
        &self,
        _: &TtrpcContext,
        request: api::StateRequest,
    ) -> TtrpcResult<api::StateResponse> {
        no_exec(&request.exec_id)?;
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let mut response = api::StateResponse::new();
        response.id = request.id;
        response.bundle = task.bundle().display().to_string();
        response.pid = task.pid();
        response.stdin.clone_from(&task.stdio().stdin);
        response.stdout.clone_from(&task.stdio().stdout);
        response.stderr.clone_from(&task.stdio().stderr);
        response.status = match task.state() {
            State::Created => api::Status::CREATED,
            State::Running => api::Status::RUNNING,
            State::Stopped(exit) => {
                response.exit_status = exit.status;
                response.exited_at = MessageField::some(timestamp(exit.at));
                api::Status::STOPPED
            }
        }
        .into();
        Ok(response)
    }

    async fn wait(
        &self,
        _: &TtrpcContext,
        request: api::WaitRequest,
    ) -> TtrpcResult<api::WaitResponse> {
        no_exec(&request.exec_id)?;
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let exit = task.wait().await;
        let mut response = api::WaitResponse::new();
        response.exit_status = exit.status;
        response.exited_at = MessageField::some(timestamp(exit.at));
        Ok(response)
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> TtrpcResult<api::Empty> {
        no_exec(&request.exec_id)?;
        log::info!(task = request.id.as_str(), signal = request.signal; "kill");
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        task.kill(request.signal, request.all).map_err(|error| status(&error.into()))?;
        Ok(api::Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> TtrpcResult<api::DeleteResponse> {
        no_exec(&request.exec_id)?;
        log::info!(task = request.id.as_str(); "delete");
        let deleted = self.sandbox.delete(&request.id).await;
        let (task, exit) = deleted.map_err(|error| failed("delete", &error))?;
        let mut response = api::DeleteResponse::new();
        response.pid = task.pid();
        response.exit_status = exit.status;
        response.exited_at = MessageField::some(timestamp(exit.at));
        Ok(response)
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: api::ConnectRequest,
    ) -> TtrpcResult<api::ConnectResponse> {
        let mut response = api::ConnectResponse::new();
        response.shim_pid = std::process::id();
        response.version = env!("CARGO_PKG_VERSION").to_owned();
        // containerd connects to a shim before it knows whether the task exists.
        if let Ok(task) = self.sandbox.task(&request.id) {
            response.task_pid = task.pid();
        }
        Ok(response)
    }

    async fn pids(
        &self,
        _: &TtrpcContext,
        request: api::PidsRequest,
    ) -> TtrpcResult<api::PidsResponse> {
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let mut process = api::ProcessInfo::new();
        process.pid = task.pid();
        // Never empty, also after the end: a containerd that restarts takes a shim without
        // processes for a leaked one and deletes the task together with its exit status.
        let mut response = api::PidsResponse::new();
        response.processes = vec![process];
        Ok(response)
    }

    async fn stats(
        &self,
        _: &TtrpcContext,
        request: api::StatsRequest,
    ) -> TtrpcResult<api::StatsResponse> {
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let metrics = task.metrics().map_err(|error| status(&error.into()))?;
        let mut response = api::StatsResponse::new();
        response.stats = MessageField::some(any(metrics)?);
        Ok(response)
    }

    async fn close_io(
        &self,
        _: &TtrpcContext,
        request: api::CloseIORequest,
    ) -> TtrpcResult<api::Empty> {
        no_exec(&request.exec_id)?;
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        if request.stdin {
            task.close_stdin();
        }
        Ok(api::Empty::new())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> TtrpcResult<api::Empty> {
        if self.sandbox.is_empty() {
            self.exit.signal();
        }
        Ok(api::Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, _: api::ExecProcessRequest) -> TtrpcResult<api::Empty> {
        unsupported("running another process in a task (exec)")
    }

    async fn pause(&self, _: &TtrpcContext, _: api::PauseRequest) -> TtrpcResult<api::Empty> {
        unsupported("pausing a task")
    }

    async fn resume(&self, _: &TtrpcContext, _: api::ResumeRequest) -> TtrpcResult<api::Empty> {
        unsupported("resuming a task")
    }

    async fn update(&self, _: &TtrpcContext, _: api::UpdateTaskRequest) -> TtrpcResult<api::Empty> {
        unsupported("changing the limits of a task (update)")
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        _: api::CheckpointTaskRequest,
    ) -> TtrpcResult<api::Empty> {
        unsupported("checkpointing a task")
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        _: api::ResizePtyRequest,
    ) -> TtrpcResult<api::Empty> {
        unsupported("a terminal")
    }
}

fn create_task(request: api::CreateTaskRequest) -> Result<CreateTask, Error> {
    if request.terminal {
        return Err(crate::bundle::BundleError::Terminal.into());
    }
    if !request.checkpoint.is_empty() {
        return Err(Error::Checkpoint);
    }
    let mount = |mount: api::Mount| MountSource {
        kind: mount.type_,
        source: mount.source,
        options: mount.options,
    };
    Ok(CreateTask {
        id: request.id,
        bundle: PathBuf::from(request.bundle),
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        stdio: StdioPaths { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr },
    })
}

fn no_exec(exec_id: &str) -> TtrpcResult<()> {
    match exec_id.is_empty() {
        true => Ok(()),
        false => unsupported("running another process in a task (exec)"),
    }
}

fn unsupported<T>(what: &'static str) -> TtrpcResult<T> {
    Err(status(&Error::Unsupported(what)))
}

/// Logs and translates the failure of a call that changes something.
fn failed(call: &'static str, error: &Error) -> ttrpc::Error {
    log::warn!(call; "{}", crate::error::line(error));
    status(error)
}

fn any(metrics: Metrics) -> TtrpcResult<Any> {
    let encoded = match metrics {
        Metrics::V1(metrics) => convert_to_any(metrics),
        Metrics::V2(metrics) => convert_to_any(metrics),
    };
    encoded.map_err(ttrpc::Error::from)
}
