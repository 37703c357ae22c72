//! The Task service (`containerd.task.v3.Task`): one thin function per call.
//!
//! Rule: this module translates between protobuf and the sandbox and decides nothing. What is not
//! implemented says so with UNIMPLEMENTED and a sentence (but for Create: see [`crate::error`]).
//!
//! Source: containerd `api/runtime/task/v3/shim.proto` and `core/runtime/v2/README.md`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim::{ExitSignal, TtrpcResult};
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedOutputStream, MessageField};
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;

use crate::cgroup::Metrics;
use crate::error::{Error, status};
use crate::events::{packed, timestamp};
use crate::rootfs::MountSource;
use crate::sandbox::{AddExec, CreateTask, Sandbox};
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
        let started = match request.exec_id.as_str() {
            "" => self.sandbox.start(&request.id).await,
            exec => {
                log::info!(task = request.id.as_str(), exec; "start");
                self.sandbox.start_exec(&request.id, exec).await
            }
        };
        let pid = started.map_err(|error| failed("start", &error))?;
        let mut response = api::StartResponse::new();
        response.pid = pid;
        Ok(response)
    }

    async fn state(
        &self,
        _: &TtrpcContext,
        request: api::StateRequest,
    ) -> TtrpcResult<api::StateResponse> {
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let process = task.process(&request.exec_id).map_err(|error| status(&error.into()))?;
        let mut response = api::StateResponse::new();
        response.id = request.id;
        response.exec_id = request.exec_id;
        response.bundle = task.bundle().display().to_string();
        response.pid = process.pid();
        response.stdin.clone_from(&process.stdio().stdin);
        response.stdout.clone_from(&process.stdio().stdout);
        response.stderr.clone_from(&process.stdio().stderr);
        response.terminal = process.stdio().terminal;
        response.status = match process.state() {
            State::Created => api::Status::CREATED,
            State::Running => api::Status::RUNNING,
            State::Paused => api::Status::PAUSED,
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
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let process = task.process(&request.exec_id).map_err(|error| status(&error.into()))?;
        drop(task);
        let exit = process.wait().await;
        let mut response = api::WaitResponse::new();
        response.exit_status = exit.status;
        response.exited_at = MessageField::some(timestamp(exit.at));
        Ok(response)
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> TtrpcResult<api::Empty> {
        let (task, exec) = (request.id.as_str(), request.exec_id.as_str());
        log::info!(task, exec, signal = request.signal, all = request.all; "kill");
        let task = self.sandbox.task(task).map_err(|error| status(&error))?;
        let killed = task.kill(exec, request.signal, request.all);
        killed.map_err(|error| status(&error.into()))?;
        Ok(api::Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> TtrpcResult<api::DeleteResponse> {
        let exec = request.exec_id.as_str();
        log::info!(task = request.id.as_str(), exec; "delete");
        let deleted = match exec {
            "" => self.sandbox.delete(&request.id).await.map(|(task, exit)| (task.pid(), exit)),
            exec => {
                let deleted = self.sandbox.delete_exec(&request.id, exec).await;
                deleted.map(|(exec, exit)| (exec.process.pid(), exit))
            }
        };
        let (pid, exit) = deleted.map_err(|error| failed("delete", &error))?;
        let mut response = api::DeleteResponse::new();
        response.pid = pid;
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
        // Never empty, also after the end: a containerd that restarts takes a shim without
        // processes for a leaked one and deletes the task together with its exit status.
        let mut response = api::PidsResponse::new();
        response.processes = task.pids().into_iter().map(process_info).collect();
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
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let process = task.process(&request.exec_id).map_err(|error| status(&error.into()))?;
        if request.stdin {
            process.close_stdin();
        }
        Ok(api::Empty::new())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> TtrpcResult<api::Empty> {
        if self.sandbox.is_empty() {
            self.sandbox.close();
            self.exit.signal();
        }
        Ok(api::Empty::new())
    }

    async fn exec(
        &self,
        _: &TtrpcContext,
        request: api::ExecProcessRequest,
    ) -> TtrpcResult<api::Empty> {
        log::info!(task = request.id.as_str(), exec = request.exec_id.as_str(); "exec");
        let added = add_exec(&request)
            .and_then(|exec| self.sandbox.add_exec(&request.id, exec))
            .map(|()| api::Empty::new());
        added.map_err(|error| failed("exec", &error))
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> TtrpcResult<api::Empty> {
        log::info!(task = request.id.as_str(); "pause");
        self.sandbox.pause(&request.id).await.map_err(|error| failed("pause", &error))?;
        Ok(api::Empty::new())
    }

    async fn resume(
        &self,
        _: &TtrpcContext,
        request: api::ResumeRequest,
    ) -> TtrpcResult<api::Empty> {
        log::info!(task = request.id.as_str(); "resume");
        self.sandbox.resume(&request.id).await.map_err(|error| failed("resume", &error))?;
        Ok(api::Empty::new())
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: api::UpdateTaskRequest,
    ) -> TtrpcResult<api::Empty> {
        log::info!(task = request.id.as_str(); "update");
        let resources =
            json("resources", LINUX_RESOURCES, request.resources.as_ref().unwrap_or_default());
        let updated = match resources {
            Ok(resources) => self.sandbox.update(&request.id, resources).await,
            Err(error) => Err(error),
        };
        updated.map_err(|error| failed("update", &error))?;
        Ok(api::Empty::new())
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
        request: api::ResizePtyRequest,
    ) -> TtrpcResult<api::Empty> {
        let task = self.sandbox.task(&request.id).map_err(|error| status(&error))?;
        let resized = task
            .process(&request.exec_id)
            .and_then(|process| process.resize(request.height, request.width));
        resized.map_err(|error| status(&error.into()))?;
        Ok(api::Empty::new())
    }
}

fn create_task(request: api::CreateTaskRequest) -> Result<CreateTask, Error> {
    if !request.checkpoint.is_empty() {
        return Err(Error::Checkpoint);
    }
    let mount = |mount: api::Mount| MountSource {
        kind: mount.type_,
        source: mount.source,
        options: mount.options,
    };
    Ok(CreateTask {
        pod: None,
        id: request.id,
        bundle: PathBuf::from(request.bundle),
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        stdio: StdioPaths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        },
    })
}

fn add_exec(request: &api::ExecProcessRequest) -> Result<AddExec, Error> {
    let spec = json("process", PROCESS, request.spec.as_ref().unwrap_or_default())?;
    let spec = serde_json::from_value(spec)
        .map_err(|source| Error::Request { part: "process", source })?;
    Ok(AddExec {
        id: request.exec_id.clone(),
        spec,
        stdio: StdioPaths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        },
    })
}

/// The end of the type of a process of the OCI specification, whose version goes before it.
const PROCESS: &str = "/Process";
/// The end of the type of its `linux.resources`.
const LINUX_RESOURCES: &str = "/LinuxResources";

/// The JSON in `any`, which containerd's typeurl has put there.
fn json(part: &'static str, kind: &str, any: &Any) -> Result<serde_json::Value, Error> {
    if !any.type_url.ends_with(kind) {
        let expected = "those of the OCI specification for Linux";
        return Err(Error::RequestType { part, kind: any.type_url.clone(), expected });
    }
    serde_json::from_slice(&any.value).map_err(|source| Error::Request { part, source })
}

/// A process and, of an exec, its name in the type that clients of containerd know from runc.
fn process_info((pid, exec): (u32, Option<String>)) -> api::ProcessInfo {
    let mut process = api::ProcessInfo::new();
    process.pid = pid;
    process.info = exec
        .map(|exec| {
            let mut details = Any::new();
            details.type_url = "containerd.runc.v1.ProcessDetails".to_owned();
            // Its only field, `string exec_id = 1`; writing to memory does not fail.
            let mut output = CodedOutputStream::vec(&mut details.value);
            let _ = output.write_string(1, &exec).and_then(|()| output.flush());
            drop(output);
            details
        })
        .into();
    process
}

fn unsupported<T>(what: &'static str) -> TtrpcResult<T> {
    Err(status(&Error::Unsupported(what)))
}

/// Logs and translates the failure of a call that changes something.
pub(crate) fn failed(call: &'static str, error: &Error) -> ttrpc::Error {
    log::warn!(call; "{}", crate::error::line(error));
    status(error)
}

/// Counters with their type.
pub(crate) fn any(metrics: Metrics) -> TtrpcResult<Any> {
    let encoded = match metrics {
        Metrics::V1(metrics) => packed("io.containerd.cgroups.v1", &*metrics),
        Metrics::V2(metrics) => packed("io.containerd.cgroups.v2", &*metrics),
    };
    encoded.map_err(|error| ttrpc::Error::Others(error.to_string()))
}
