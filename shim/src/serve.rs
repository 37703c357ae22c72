//! The shim as a program: the actions containerd runs it with, and the server that outlives them.
//!
//! `start` finds the group of the container (the pod, by annotation), starts the server of that
//! group unless it runs, and prints its address. The server answers on a socket until its last task
//! is deleted. `delete` removes what a dead server left. The actions' protocol with containerd is
//! the crate's; the server loop is here, because services beside Task belong in it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use containerd_shim::asynchronous::publisher::RemotePublisher;
use containerd_shim::asynchronous::{ExitSignal, Shim, spawn};
use containerd_shim::{Config, DeleteResponse, Flags, StartOpts};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::sandbox_async::{Sandbox as SandboxApi, create_sandbox};
use containerd_shim_protos::shim_async::{Task, create_task};
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::r#async::Server;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::address;
use crate::aot::{AotCache, CACHE_DIR};
use crate::bundle;
use crate::compile::Compiler;
use crate::counts;
use crate::events::{Events, timestamp};
use crate::launch::Program;
use crate::leftovers;
use crate::microvm;
use crate::sandbox::{Environment, Sandbox};
use crate::sandbox_api::SandboxService;
use crate::server_log::{self, LogError};
use crate::snapshots;
use crate::stdio::logger;
use crate::task::TaskService;

/// The runtime's name in containerd.
pub const RUNTIME: &str = "io.containerd.hyperlight.v1";

/// Exit status of a task whose shim died: as if killed by signal 9.
const KILLED: u32 = 137;

/// How long the answer to the last call may take to leave.
const LAST_ANSWER: Duration = Duration::from_millis(5);

/// What ends the server before it serves.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("the -socket flag is missing: this program is started by containerd")]
    NoSocket,
    #[error("the environment has no TTRPC_ADDRESS: this program is started by containerd")]
    NoPublisher,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("create {}", path.display())]
    SocketDir { path: PathBuf, source: io::Error },
    #[error("remove the stale socket {}", path.display())]
    Stale { path: PathBuf, source: io::Error },
    #[error("serve on {address}")]
    Bind { address: String, source: ttrpc::Error },
    #[error("the shim ended before it could be asked at {address}; see containerd's log")]
    Died { address: String, source: io::Error },
    #[error("watch for signals")]
    Signals(#[source] io::Error),
    #[error("tell the start action that the server is ready")]
    Ready(#[source] io::Error),
}

/// Runs what `arguments` (without argument 0) ask for: an action, the server, or one of the
/// child processes of the server.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    if let [subcommand, arguments @ ..] = arguments
        && subcommand == microvm::SUBCOMMAND
    {
        return microvm::child_main(arguments.first().map(Path::new));
    }
    if let [subcommand] = arguments
        && subcommand == snapshots::SUBCOMMAND
    {
        return snapshots::maker_main();
    }
    if let [subcommand, arguments @ ..] = arguments
        && subcommand == logger::SUBCOMMAND
    {
        return logger::child_main(arguments);
    }
    // One thread: a shim waits, nearly always.
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => {
            eprintln!("start the tokio runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[OsString]) -> ExitCode {
    let flags = match containerd_shim::parse(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            eprintln!("{}", crate::error::line(&error));
            return ExitCode::FAILURE;
        }
    };
    if flags.version {
        println!("containerd-shim-hyperlight-v1 {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if flags.info || !flags.action.is_empty() {
        // The tasks are the server's children, not the actions'.
        let config = Config { no_reaper: true, no_sub_reaper: true, ..Config::default() };
        containerd_shim::asynchronous::run::<Actions>(RUNTIME, Some(config)).await;
        return ExitCode::SUCCESS;
    }
    match serve(&flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The start action copies standard output, which is its pipe, to containerd.
            println!("{}", crate::error::line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The actions.
#[derive(Debug)]
struct Actions {
    namespace: String,
    id: String,
    address: String,
    bundle: PathBuf,
}

/// The service of the crate's own server loop, which is not used.
#[derive(Debug)]
struct NoTasks;

impl Task for NoTasks {}

#[async_trait]
impl Shim for Actions {
    type T = NoTasks;

    async fn new(_runtime: &str, flags: &Flags, _config: &mut Config) -> Self {
        let bundle = match flags.bundle.is_empty() {
            // containerd runs the actions in the bundle directory.
            true => std::env::current_dir().unwrap_or_default(),
            false => PathBuf::from(&flags.bundle),
        };
        Self {
            namespace: flags.namespace.clone(),
            id: flags.id.clone(),
            address: flags.address.clone(),
            bundle,
        }
    }

    async fn start_shim(&mut self, options: StartOpts) -> containerd_shim::Result<String> {
        let group = bundle::group(&self.bundle, &self.id).map_err(other)?;
        let address = spawn(options, &group, Vec::new()).await?;
        match UnixStream::connect(address::path(&address)) {
            Ok(_) => Ok(address),
            Err(error) => {
                // What it could say is on standard error.
                address::remove(address::path(&address));
                Err(other(ServeError::Died { address, source: error }))
            }
        }
    }

    async fn delete_shim(&mut self) -> containerd_shim::Result<DeleteResponse> {
        let removed = leftovers::remove(&self.bundle, &self.namespace, &self.id);
        // After that: a server that was killed may still be about to close its socket when containerd, whose
        // connection it has closed, runs this. containerd does so for a pod as a whole, not for each of its tasks.
        let others = match bundle::group(&self.bundle, &self.id) {
            Ok(group) if !self.is_served(&group) => {
                leftovers::remove_tasks_of_pod(&self.bundle, &self.namespace)
            }
            Ok(_) | Err(_) => Ok(()),
        };
        removed.and(others).map_err(other)?;
        let mut response = DeleteResponse::new();
        response.exit_status = KILLED;
        response.exited_at = MessageField::some(timestamp(SystemTime::now()));
        Ok(response)
    }

    async fn wait(&mut self) {}

    async fn create_task_service(&self, _: RemotePublisher) -> NoTasks {
        NoTasks
    }
}

impl Actions {
    /// Whether a shim answers for the tasks of `group`.
    fn is_served(&self, group: &str) -> bool {
        let address = containerd_shim::socket_address(&self.address, &self.namespace, group);
        address::is_served(address::path(&address))
    }
}

/// containerd shows what an action writes to standard error, which the crate fills with the error.
fn other(error: impl std::error::Error) -> containerd_shim::Error {
    containerd_shim::Error::Other(crate::error::line(&error))
}

async fn serve(flags: &Flags) -> Result<(), ServeError> {
    if flags.socket.is_empty() {
        return Err(ServeError::NoSocket);
    }
    let publisher = std::env::var("TTRPC_ADDRESS").map_err(|_| ServeError::NoPublisher)?;
    server_log::begin(flags.debug).await?;
    let exit = Arc::new(ExitSignal::default());
    let environment = Environment {
        containerd: flags.address.clone(),
        namespace: flags.namespace.clone(),
        socket: address::path(&flags.socket).to_owned(),
        cache: AotCache::new(CACHE_DIR, Compiler::beside_this_executable()),
        vmm: Program::vmm(),
    };
    let events = Events::to_containerd(publisher, flags.namespace.clone());
    let sandbox = Sandbox::new(environment, events.clone());
    let service = TaskService::new(sandbox.clone(), Arc::clone(&exit));
    let service: Arc<dyn Task + Send + Sync> = Arc::new(service);
    let pods = SandboxService::new(sandbox.clone(), flags.namespace.clone(), Arc::clone(&exit));
    let pods: Arc<dyn SandboxApi + Send + Sync> = Arc::new(pods);
    let Some(server) = bind(&flags.socket)? else {
        // Another server of the group is faster: its address is the answer.
        return ready();
    };
    let mut server =
        server.register_service(create_task(service)).register_service(create_sandbox(pods));
    let bound = |source| ServeError::Bind { address: flags.socket.clone(), source };
    server.start().await.map_err(bound)?;
    outlive_signals()?;
    // Before anybody may leave the address to it.
    sandbox.start_ahead();
    ready()?;
    tokio::select! {
        () = exit.wait() => {}
        () = abandoned(&sandbox) => {
            log::warn!("nobody knows of this shim any more: it ends");
            if let Err(error) = sandbox.end_pod().await {
                log::warn!("{}", crate::error::line(&error));
            }
            sandbox.close();
        }
    }
    tokio::time::sleep(LAST_ANSWER).await;
    events.flush().await;
    let totals = *sandbox.totals();
    totals.add_to_node(Path::new(counts::node::DIR));
    if let Err(error) = server.shutdown().await {
        log::warn!("shut the server down: {error}");
    }
    Ok(())
}

/// Waits until nothing runs and nobody can ask for anything any more.
async fn abandoned(sandbox: &Sandbox) {
    while !sandbox.is_abandoned().await {
        sandbox.an_end().await;
    }
}

/// Binds the socket; `None` if a server listens on it.
fn bind(address: &str) -> Result<Option<Server>, ServeError> {
    let path = address::path(address);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)
            .map_err(|source| ServeError::SocketDir { path: dir.to_owned(), source })?;
    }
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Ok(None);
        }
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ServeError::Stale { path: path.to_owned(), source }),
        }
    }
    let bound = |source| ServeError::Bind { address: address.to_owned(), source };
    Server::new().bind(address).map(Some).map_err(bound)
}

/// The tasks decide when the server ends: containerd's Shutdown does it, not a signal to the
/// process group.
fn outlive_signals() -> Result<(), ServeError> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut signals = signal(kind).map_err(ServeError::Signals)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                log::info!("signal {} ignored: tasks are served", kind.as_raw_value());
            }
        });
    }
    Ok(())
}

/// Closes the pipe to the start action, which waits for that: the address answers.
fn ready() -> Result<(), ServeError> {
    io::stdout().flush().map_err(ServeError::Ready)?;
    rustix::stdio::dup2_stdout(io::stderr()).map_err(|errno| ServeError::Ready(errno.into()))
}
