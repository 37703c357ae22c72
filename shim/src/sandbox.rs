//! The tasks of one shim: those of a pod, or the single one of a container outside pods.
//!
//! Rule: for each task the events created, started, exited, deleted are published in this order,
//! and what may happen to a task at all is decided by its container's state. Creating and deleting
//! run to their end even if containerd stops waiting, so that nothing is left half-way. The runtime
//! has one thread: what happens between two awaits happens at once.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::process::Child;
use tokio::sync::oneshot;

use crate::aot::{AotCache, CompiledProgram, Wasm};
use crate::artifact;
use crate::bundle::Bundle;
use crate::cgroup::Hierarchies;
use crate::compile::{CompileError, Entry as ProgramEntry};
use crate::container::{Container, Held, OwnedCgroup};
use crate::containerd::Containerd;
use crate::error::Error;
use crate::events::Events;
use crate::launch::{Launch, PROGRAM_PATH, Program};
use crate::leftovers::Leftovers;
use crate::rootfs::{MountSource, Rootfs};
use crate::state::Exit;
use crate::stdio::{self, StdioPaths};

/// Where things are, for every task of the shim.
#[derive(Clone, Debug)]
pub struct Environment {
    /// containerd's gRPC socket.
    pub containerd: String,
    /// containerd's namespace.
    pub namespace: String,
    /// Compiled programs of this node.
    pub cache: AotCache,
    /// What runs a micro-VM.
    pub vmm: Program,
}

/// A request to create a task.
#[derive(Clone, Debug, Default)]
pub struct CreateTask {
    /// Name of the container.
    pub id: String,
    /// Its bundle directory.
    pub bundle: PathBuf,
    /// The mounts of its root file system.
    pub rootfs: Vec<MountSource>,
    /// Its FIFOs.
    pub stdio: StdioPaths,
}

/// The tasks.
#[derive(Clone, Debug)]
pub struct Sandbox {
    environment: Arc<Environment>,
    events: Events,
    tasks: Arc<Mutex<HashMap<String, Entry>>>,
}

#[derive(Debug)]
enum Entry {
    Creating,
    Ready(Arc<Container>),
    Deleting(Arc<Container>),
}

impl Sandbox {
    /// A sandbox without tasks.
    #[must_use]
    pub fn new(environment: Environment, events: Events) -> Self {
        Self { environment: Arc::new(environment), events, tasks: Arc::default() }
    }

    /// Creates a task, up to the micro-VM that waits for its start.
    ///
    /// # Errors
    ///
    /// See [`Error`]; then nothing is left of it.
    pub async fn create(&self, request: CreateTask) -> Result<Arc<Container>, Error> {
        let id = request.id.clone();
        match self.lock().entry(id.clone()) {
            std::collections::hash_map::Entry::Occupied(_) => return Err(Error::Exists(id)),
            std::collections::hash_map::Entry::Vacant(vacant) => vacant.insert(Entry::Creating),
        };
        let sandbox = self.clone();
        let (send, receive) = oneshot::channel();
        tokio::spawn(async move {
            let id = request.id.clone();
            let created = sandbox.prepare_and_launch(&request).await;
            let answer = match created {
                Ok((container, child)) => Ok(sandbox.adopt(Arc::new(container), child, &request)),
                Err(error) => {
                    sandbox.lock().remove(&id);
                    Err(error)
                }
            };
            // containerd may wait no longer; it deletes the task then.
            let _ = send.send(answer);
        });
        receive.await.unwrap_or(Err(Error::CutOff(id)))
    }

    /// Starts a task.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it cannot be started.
    pub fn start(&self, id: &str) -> Result<u32, Error> {
        let container = self.task(id)?;
        container.start()?;
        self.events.started(&container);
        Ok(container.pid())
    }

    /// Deletes a task that has ended.
    ///
    /// # Errors
    ///
    /// There is none of that name, it has not ended, or something of it cannot be removed; then it
    /// stays and may be deleted again.
    pub async fn delete(&self, id: &str) -> Result<(Arc<Container>, Exit), Error> {
        let container = self.begin_delete(id)?;
        let sandbox = self.clone();
        let (send, receive) = oneshot::channel();
        tokio::spawn(async move {
            let released = Arc::clone(&container);
            let outcome = tokio::task::spawn_blocking(move || released.release()).await;
            let id = container.id().to_owned();
            let answer = match outcome {
                Ok(Ok(exit)) => {
                    sandbox.lock().remove(&id);
                    sandbox.events.deleted(&container, exit);
                    Ok((container, exit))
                }
                failed => {
                    sandbox.lock().insert(id.clone(), Entry::Ready(container));
                    Err(match failed {
                        Ok(Err(error)) => Error::Container(error),
                        Ok(Ok(_)) | Err(_) => Error::CutOff(id),
                    })
                }
            };
            // containerd may wait no longer.
            let _ = send.send(answer);
        });
        receive.await.unwrap_or(Err(Error::CutOff(id.to_owned())))
    }

    /// The task of that name.
    ///
    /// # Errors
    ///
    /// There is none, or it is being created.
    pub fn task(&self, id: &str) -> Result<Arc<Container>, Error> {
        match self.lock().get(id) {
            Some(Entry::Ready(container) | Entry::Deleting(container)) => Ok(Arc::clone(container)),
            Some(Entry::Creating) => Err(Error::Busy(id.to_owned())),
            None => Err(Error::NoTask(id.to_owned())),
        }
    }

    /// Whether no task is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The events of the tasks.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    fn begin_delete(&self, id: &str) -> Result<Arc<Container>, Error> {
        let mut tasks = self.lock();
        let entry = tasks.get_mut(id).ok_or_else(|| Error::NoTask(id.to_owned()))?;
        let container = match entry {
            Entry::Ready(container) => Arc::clone(container),
            Entry::Creating | Entry::Deleting(_) => return Err(Error::Busy(id.to_owned())),
        };
        container.may_delete()?;
        *entry = Entry::Deleting(Arc::clone(&container));
        Ok(container)
    }

    async fn prepare_and_launch(&self, request: &CreateTask) -> Result<(Container, Child), Error> {
        let environment = &self.environment;
        let bundle = Bundle::read(&request.bundle, &environment.namespace, &request.id)?;
        let (task_stdio, held_stdio) = stdio::open(&request.stdio)?;
        let rootfs = mount_rootfs(bundle.rootfs.clone(), request.rootfs.clone()).await?;
        let (program, name) = self.program(&request.id, &bundle).await?;
        let workload = bundle.workload(PathBuf::from(PROGRAM_PATH), program.bytes, &name)?;
        let cgroup =
            Hierarchies::of_this_host()?.cgroup(&bundle.cgroup_path, &environment.namespace);
        cgroup.create(bundle.resources.as_ref())?;
        let owned = OwnedCgroup::new(cgroup.clone());
        Leftovers::of(&bundle.cgroup_path).write(&request.bundle)?;
        let held = Held { stdio: held_stdio, cgroup: owned, rootfs };
        let launch = Launch {
            program: environment.vmm.clone(),
            work: serde_json::to_vec(&workload).map_err(Error::Encode)?,
            compiled: program.file,
            stdio: task_stdio,
            namespaces: bundle.namespaces,
            rootfs: bundle.rootfs,
            binds: bundle.binds,
            cgroup,
            oom_score_adj: bundle.oom_score_adj,
        };
        let (id, dir, stdio) = (request.id.clone(), request.bundle.clone(), request.stdio.clone());
        Ok(Container::create(id, dir, stdio, launch, held).await?)
    }

    /// The compiled program of a container, from the node's cache or compiled, and what it is
    /// called.
    async fn program(&self, id: &str, bundle: &Bundle) -> Result<(CompiledProgram, String), Error> {
        let environment = &self.environment;
        let containerd =
            Containerd::connect(&environment.containerd, &environment.namespace).await?;
        let wasm = artifact::find(&containerd, id, bundle).await?;
        drop(containerd);
        let cache = environment.cache.clone();
        let name = wasm.name().to_owned();
        let compiled = tokio::task::spawn_blocking(move || compile(&cache, &wasm))
            .await
            .map_err(|_panicked| Error::CutOff(id.to_owned()))?;
        match compiled {
            Ok(program) => Ok((program, name)),
            Err(source) => Err(Error::Compile { name, source }),
        }
    }

    /// Makes a task of a launched container: it is listed, watched, and announced.
    fn adopt(
        &self,
        container: Arc<Container>,
        child: Child,
        request: &CreateTask,
    ) -> Arc<Container> {
        self.lock().insert(request.id.clone(), Entry::Ready(Arc::clone(&container)));
        self.events.created(&container, &request.rootfs);
        tokio::spawn(watch(Arc::clone(&container), child, self.events.clone()));
        container
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a container's process and announces it.
async fn watch(container: Arc<Container>, mut child: Child, events: Events) {
    let status = child.wait().await;
    if container.ran_out_of_memory() {
        events.ran_out_of_memory(&container);
    }
    // Announced before it can be seen: a Delete that follows at once comes after it.
    container.ended(status, |exit| events.exited(&container, exit));
}

/// Mounts on a thread of its own, as [`Rootfs::mount`] wants it.
async fn mount_rootfs(path: PathBuf, mounts: Vec<MountSource>) -> Result<Rootfs, Error> {
    let (send, receive) = oneshot::channel();
    let target = path.clone();
    let spawned = std::thread::Builder::new().name("mount".to_owned()).spawn(move || {
        // If nobody waits any more, dropping the value unmounts.
        let _ = send.send(Rootfs::mount(path, &mounts));
    });
    let lost = |source| crate::rootfs::RootfsError::MountPoint { path: target.clone(), source };
    spawned.map_err(lost)?;
    let mounted = receive.await.map_err(|_| lost(io::Error::other("the mounting thread ended")))?;
    Ok(mounted?)
}

fn compile(cache: &AotCache, wasm: &Wasm) -> Result<CompiledProgram, CompileError> {
    use crate::aot::Origin;
    let name = wasm.name();
    let waiting = || log::info!(program = name; "compiling");
    let program = cache.program(wasm, ProgramEntry::Command, &waiting)?;
    match &program.origin {
        Origin::Cached { path } => log::debug!(program = name; "cached at {}", path.display()),
        Origin::Compiled { path, cost } => {
            log::info!(program = name; "compiled in {cost} to {}", path.display());
        }
        Origin::Uncached { cause, cost } => log::warn!(
            program = name;
            "compiled in {cost}, not cached: {}", crate::error::line(cause)
        ),
    }
    Ok(program)
}

#[cfg(test)]
mod tests;
