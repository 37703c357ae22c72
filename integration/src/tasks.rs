//! The Task calls of containerd's API, for what `ctr` has no command for.

use anyhow::{Context as _, Result};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots::MountsRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Request, Response, Status};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::Node;

pub use containerd_client::tonic::Code;

/// Type of a process of the OCI specification, as containerd's clients name it.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// Type of its `linux.resources`.
const RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// A connection to a node's containerd.
#[derive(Debug)]
pub struct Tasks {
    runtime: Runtime,
    channel: Channel,
    namespace: String,
}

/// What an exec is to be.
#[derive(Clone, Debug)]
pub struct Exec<'a> {
    /// The container.
    pub id: &'a str,
    /// The exec.
    pub exec: &'a str,
    /// `process` of the OCI specification.
    pub process: Value,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Its standard input, output and error: FIFOs, URIs, or empty.
    pub stdio: [String; 3],
}

/// A message of `containerd.services.tasks.v1` for a task or one of its execs, with the code and the text of
/// what containerd answers instead.
type Answer<T> = Result<T, (Code, String)>;

/// Encoded counters and the name of their type.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Name of the type.
    pub kind: String,
    /// Protobuf.
    pub bytes: Vec<u8>,
}

impl<'a> Exec<'a> {
    /// `args` without streams, with nothing in the environment, from the root directory.
    #[must_use]
    pub fn of(id: &'a str, exec: &'a str, args: &[&str]) -> Self {
        let process = json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}});
        Self { id, exec, process, terminal: false, stdio: <[String; 3]>::default() }
    }
}

impl Tasks {
    /// Connects.
    ///
    /// # Errors
    ///
    /// There is no runtime, or containerd does not answer.
    pub fn connect(node: &Node) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("tokio")?;
        let channel = runtime.block_on(containerd_client::connect(node.socket()));
        let channel = channel.context("connect to containerd")?;
        Ok(Self { runtime, channel, namespace: node.namespace().to_owned() })
    }

    /// Create, without streams, of a container of containerd's default snapshotter, whose snapshot has its name.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn create(&self, id: &str) -> Answer<u32> {
        let key = id.to_owned();
        let request = MountsRequest { snapshotter: "overlayfs".to_owned(), key };
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        let rootfs = self.answer(snapshots.mounts(self.request(request)))?.mounts;
        let container_id = id.to_owned();
        let request = api::CreateTaskRequest { container_id, rootfs, ..Default::default() };
        self.answer(self.client().create(self.request(request))).map(|response| response.pid)
    }

    /// Start.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn start(&self, id: &str, exec: &str) -> Answer<u32> {
        let (container_id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = self.request(api::StartRequest { container_id, exec_id });
        self.answer(self.client().start(request)).map(|response| response.pid)
    }

    /// Exec.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn exec(&self, exec: Exec<'_>) -> Answer<()> {
        let [stdin, stdout, stderr] = exec.stdio;
        let mut message = api::ExecProcessRequest {
            container_id: exec.id.to_owned(),
            exec_id: exec.exec.to_owned(),
            terminal: exec.terminal,
            stdin,
            stdout,
            stderr,
            spec: None,
        };
        let spec = message.spec.get_or_insert_default();
        spec.type_url = PROCESS.to_owned();
        spec.value = exec.process.to_string().into();
        self.answer(self.client().exec(self.request(message))).map(drop)
    }

    /// Get: the status by name, the process id, and the exit status.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn get(&self, id: &str, exec: &str) -> Answer<(String, u32, u32)> {
        let (container_id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = self.request(api::GetRequest { container_id, exec_id });
        let process = self.answer(self.client().get(request))?.process.unwrap_or_default();
        let status = format!("{:?}", process.status()).to_uppercase();
        Ok((status, process.pid, process.exit_status))
    }

    /// Wait: the exit status.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn wait(&self, id: &str, exec: &str) -> Answer<u32> {
        let (container_id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = self.request(api::WaitRequest { container_id, exec_id });
        self.answer(self.client().wait(request)).map(|response| response.exit_status)
    }

    /// Kill.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn kill(&self, id: &str, exec: &str, signal: u32, all: bool) -> Answer<()> {
        let (container_id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = self.request(api::KillRequest { container_id, exec_id, signal, all });
        self.answer(self.client().kill(request)).map(drop)
    }

    /// Delete, of a task.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn delete(&self, id: &str) -> Answer<u32> {
        let request = self.request(api::DeleteTaskRequest { container_id: id.to_owned() });
        self.answer(self.client().delete(request)).map(|response| response.exit_status)
    }

    /// DeleteProcess: the exit status of an exec.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn delete_exec(&self, id: &str, exec: &str) -> Answer<u32> {
        let (container_id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = self.request(api::DeleteProcessRequest { container_id, exec_id });
        self.answer(self.client().delete_process(request)).map(|response| response.exit_status)
    }

    /// CloseIO, of standard input.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn close_stdin(&self, id: &str, exec: &str) -> Answer<()> {
        let (container_id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = self.request(api::CloseIoRequest { container_id, exec_id, stdin: true });
        self.answer(self.client().close_io(request)).map(drop)
    }

    /// ResizePty.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn resize(&self, id: &str, exec: &str, rows: u32, columns: u32) -> Answer<()> {
        let request = self.request(api::ResizePtyRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            width: columns,
            height: rows,
        });
        self.answer(self.client().resize_pty(request)).map(drop)
    }

    /// Pause.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn pause(&self, id: &str) -> Answer<()> {
        let request = self.request(api::PauseTaskRequest { container_id: id.to_owned() });
        self.answer(self.client().pause(request)).map(drop)
    }

    /// Resume.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn resume(&self, id: &str) -> Answer<()> {
        let request = self.request(api::ResumeTaskRequest { container_id: id.to_owned() });
        self.answer(self.client().resume(request)).map(drop)
    }

    /// Update with `linux.resources`.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn update(&self, id: &str, resources: &Value) -> Answer<()> {
        let container_id = id.to_owned();
        let mut message = api::UpdateTaskRequest { container_id, ..Default::default() };
        let given = message.resources.get_or_insert_default();
        given.type_url = RESOURCES.to_owned();
        given.value = resources.to_string().into();
        self.answer(self.client().update(self.request(message))).map(drop)
    }

    /// Checkpoint.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn checkpoint(&self, id: &str) -> Answer<()> {
        let request = self.request(api::CheckpointTaskRequest {
            container_id: id.to_owned(),
            ..Default::default()
        });
        self.answer(self.client().checkpoint(request)).map(drop)
    }

    /// ListPids.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn pids(&self, id: &str) -> Answer<Vec<u32>> {
        let request = self.request(api::ListPidsRequest { container_id: id.to_owned() });
        let response = self.answer(self.client().list_pids(request))?;
        Ok(response.processes.iter().map(|process| process.pid).collect())
    }

    /// Metrics of one task.
    ///
    /// # Errors
    ///
    /// What containerd answers.
    pub fn metrics(&self, id: &str) -> Answer<Metrics> {
        let request = self.request(api::MetricsRequest { filters: vec![format!("id=={id}")] });
        let response = self.answer(self.client().metrics(request))?;
        let data = response.metrics.into_iter().next().and_then(|metric| metric.data);
        let data = data.ok_or((Code::NotFound, "no metrics".to_owned()))?;
        Ok(Metrics { kind: data.type_url, bytes: data.value })
    }

    fn client(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Ok(namespace) = self.namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", namespace);
        }
        request
    }

    fn answer<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Answer<T> {
        match self.runtime.block_on(call) {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err((status.code(), status.message().to_owned())),
        }
    }
}
