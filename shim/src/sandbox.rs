//! The tasks of one shim: those of a pod, or the single one of a container outside pods.
//!
//! Rule: for each task the events created, started, exited, deleted are published in this order (those of its execs
//! in between), and what may happen to a task at all is decided by its container's state. Creating and deleting run to
//! their end even if containerd stops waiting, so that nothing is left half-way; who deletes a task meanwhile waits for
//! that. With the last task goes the shim's address: nobody has to ask for more, and a shim that is killed from then on
//! leaves nothing. The runtime has one thread: what happens between two awaits happens at once.

mod abandoned;
mod deletion;
mod exec;
mod hooks;
mod linux;
mod place;
mod pod;
mod program;
mod steps;
mod update;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::address;
use crate::aot::AotCache;
use crate::artifact::ArtifactError;
use crate::bundle::{BundleError, Namespace, Pod, Role};
use crate::container::{Container, Held};
use crate::counts::Totals;
use crate::error::Error;
use crate::events::Events;
use crate::hooks::Hooks;
use crate::launch::{Idle, ProcessEnd, Program, Work};
use crate::rootfs::MountSource;
use crate::stdio::{self, Owner, StdioPaths};

use self::program::Given;
use self::steps::{timed, timed_async};

pub use self::exec::AddExec;
pub use self::steps::Steps;

/// Where things are, for every task of the shim.
#[derive(Clone, Debug)]
pub struct Environment {
    /// containerd's gRPC socket.
    pub containerd: String,
    /// containerd's namespace.
    pub namespace: String,
    /// The socket at which this shim is asked.
    pub socket: PathBuf,
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
    /// The pod that it is the holder of, if containerd has left that pod to the shim.
    pub pod: Option<Box<Pod>>,
}

/// The signal that ends what runs.
const SIGKILL: u32 = 9;

/// The tasks.
#[derive(Clone, Debug)]
pub struct Sandbox {
    environment: Arc<Environment>,
    events: Events,
    tasks: Arc<Mutex<HashMap<String, Entry>>>,
    spare: Arc<Mutex<Option<Idle>>>,
    totals: Arc<Mutex<Totals>>,
    /// The bundle of the pod, if its files are in it.
    pod_files: Arc<OnceLock<PathBuf>>,
    ends: Arc<Notify>,
    is_closed: Arc<AtomicBool>,
}

/// Closed when a creation or deletion has come to an end, whatever it is. Nothing is sent.
type IsOver = watch::Receiver<()>;

#[derive(Debug)]
enum Entry {
    Creating(IsOver),
    Ready(Arc<Container>),
    Deleting(Arc<Container>, IsOver),
}

impl Sandbox {
    /// A sandbox without tasks.
    #[must_use]
    pub fn new(environment: Environment, events: Events) -> Self {
        Self {
            environment: Arc::new(environment),
            events,
            tasks: Arc::default(),
            spare: Arc::default(),
            totals: Arc::default(),
            pod_files: Arc::default(),
            ends: Arc::default(),
            is_closed: Arc::default(),
        }
    }

    /// Starts the VMM process of the first task before it is asked for: containerd starts a shim
    /// because it has one. Trouble is that task's to report. If this shim is killed before that, the process removes
    /// its address.
    pub fn start_ahead(&self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vmm = self.environment.vmm.clone();
        vmm.args.push(self.environment.socket.display().to_string());
        *spare = vmm.spawn_in(&Namespace::New).ok();
    }

    /// Creates a task, up to the micro-VM that waits for its start.
    ///
    /// # Errors
    ///
    /// See [`Error`]; then nothing is left of it.
    pub async fn create(&self, request: CreateTask) -> Result<Arc<Container>, Error> {
        let id = request.id.clone();
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Ending(id));
        }
        let (creating, is_over) = watch::channel(());
        match self.lock().entry(id.clone()) {
            std::collections::hash_map::Entry::Occupied(_) => return Err(Error::Exists(id)),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry::Creating(is_over))
            }
        };
        let sandbox = self.clone();
        let (send, receive) = oneshot::channel();
        tokio::spawn(async move {
            let id = request.id.clone();
            let created = sandbox.prepare_and_launch(&request).await;
            let answer = match created {
                Ok((container, end)) => Ok(sandbox.adopt(Arc::new(container), end, &request)),
                Err(error) => {
                    sandbox.remove(&id);
                    sandbox.ends.notify_one();
                    Err(error)
                }
            };
            // containerd may wait no longer; it deletes the task then.
            let _ = send.send(answer);
            drop(creating);
        });
        receive.await.unwrap_or(Err(Error::CutOff(id)))
    }

    /// Starts a task.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it cannot be started.
    pub async fn start(&self, id: &str) -> Result<u32, Error> {
        let container = self.task(id)?;
        let _starting = container.starting().lock().await;
        if let Some(linux) = container.linux() {
            container.may_start()?;
            linux.start().await?;
        }
        container.start()?;
        self.poststart(&container).await?;
        container.steps().log(id);
        self.events.started(&container);
        Ok(container.pid())
    }

    /// Keeps a task from running, with its execs.
    ///
    /// # Errors
    ///
    /// There is none of that name, it does not run, or it cannot be kept from running.
    pub async fn pause(&self, id: &str) -> Result<(), Error> {
        let (container, events) = (self.task(id)?, self.events.clone());
        self.apart(id, move || {
            container.pause()?;
            events.paused(&container);
            Ok(())
        })
        .await
    }

    /// Lets a task go on that was paused.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it is not paused.
    pub async fn resume(&self, id: &str) -> Result<(), Error> {
        let (container, events) = (self.task(id)?, self.events.clone());
        self.apart(id, move || {
            container.resume()?;
            events.resumed(&container);
            Ok(())
        })
        .await
    }

    /// Runs what blocks, to its end even if nobody waits any more.
    async fn apart<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_panicked| Err(Error::CutOff(id.to_owned())))
    }

    /// The task of that name.
    ///
    /// # Errors
    ///
    /// There is none, or it is being created.
    pub fn task(&self, id: &str) -> Result<Arc<Container>, Error> {
        match self.lock().get(id) {
            Some(Entry::Ready(container) | Entry::Deleting(container, _)) => {
                Ok(Arc::clone(container))
            }
            Some(Entry::Creating(_)) => Err(Error::Busy(id.to_owned())),
            None => Err(Error::NoTask(id.to_owned())),
        }
    }

    /// Whether no task is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Removes the address, unless that was done: a shim that is started for the same group from here on has its own.
    /// No task is created any more: the sums are told to the log, which containerd may close after the last answer.
    pub fn close(&self) {
        if !self.is_closed.swap(true, Ordering::Relaxed) {
            self.totals().log();
            address::remove(&self.environment.socket);
        }
    }

    /// Takes a task off the list.
    fn remove(&self, id: &str) {
        let mut tasks = self.lock();
        tasks.remove(id);
        if tasks.is_empty() {
            self.close();
        }
    }

    /// The sums of what was counted.
    pub(crate) fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events of the tasks.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    async fn prepare_and_launch(
        &self,
        request: &CreateTask,
    ) -> Result<(Container, ProcessEnd), Error> {
        let mut steps = Steps::begin();
        let namespace = &self.environment.namespace;
        let opened = async {
            let role = match &request.pod {
                Some(pod) => Role::Pod(pod.clone()),
                None => {
                    self.add_pod_files(&request.bundle)?;
                    Role::read(&request.bundle, namespace, &request.id)?
                }
            };
            let (in_pod, window) = match &role {
                Role::Container(bundle) if bundle.terminal && !request.stdio.terminal => {
                    return Err(BundleError::Terminal.into());
                }
                Role::Container(bundle) => (bundle.in_pod, bundle.window),
                Role::Pod(_) => (true, None),
            };
            let owner = Owner { namespace, id: &request.id, in_pod };
            Ok::<_, Error>((role, stdio::open(&request.stdio, owner, window).await?))
        };
        let (role, (task_stdio, held_stdio)) = timed_async(&mut steps.bundle, opened).await?;
        let bundle = match role {
            Role::Container(bundle) => bundle,
            Role::Pod(pod) => {
                let held = pod::hold(request, *pod, namespace, held_stdio, steps).await?;
                self.note_pod_files(request);
                return Ok(held);
            }
        };
        let mut idle =
            timed(&mut steps.spawn, || self.idle(bundle.confinement.namespaces.pid.as_ref()))?;
        let (mounted, is_mounted) = watch::channel(false);
        let (placed, found) = tokio::join!(
            place::make(request, &bundle, namespace, &mut idle, mounted),
            self.program(&request.id, &bundle, is_mounted, &mut steps.find, &mut steps.program),
        );
        if let (Ok(_), Err(Error::Artifact(ArtifactError::NoWasm { .. })), true) =
            (&placed, &found, bundle.in_pod)
        {
            idle.end().await;
            let rootfs = placed?.rootfs;
            return linux::launch(
                request,
                &bundle,
                namespace,
                rootfs,
                (task_stdio, held_stdio),
                steps,
            )
            .await;
        }
        // The place is given back after the process has ended, which is in it.
        let (place, ready) = match placed {
            Ok(mut place) => {
                (steps.rootfs, steps.cgroup) = (place.rootfs_took, place.cgroup_took);
                let told = std::mem::replace(&mut place.told, Ok(()));
                (Ok(place), told.and(found))
            }
            Err(error) => (Err(error), found),
        };
        let work = ready.and_then(|(program, given, name)| {
            self.totals().add_task(given.origins(&program));
            bundle.hooks.as_ref().map_or(Ok(()), Hooks::check)?;
            let workload = bundle.workload(program.bytes, &name, program.entry_points.handler)?;
            let Given { image, snapshot, .. } = given;
            Ok(Work { workload, program: program.file, snapshot, image, stdio: task_stdio })
        });
        let (place, work) = match (place, work) {
            (Ok(place), Ok(work)) => (place, work),
            (place, work) => {
                idle.end().await;
                return Err(place
                    .err()
                    .or(work.err())
                    .unwrap_or(Error::CutOff(request.id.clone())));
            }
        };
        let hooks = bundle.hooks.as_ref();
        let (idle, place) = match hooks {
            Some(hooks) => hooks::create(idle, place, hooks).await?,
            None => (idle, place),
        };
        let vmm = match timed_async(&mut steps.ready, idle.run(work)).await {
            Ok(vmm) => vmm,
            Err(error) => {
                drop(place);
                hooks::given_up(hooks).await;
                return Err(error.into());
            }
        };
        let (cgroup, rootfs) = (place.cgroup, place.rootfs);
        let hooks = bundle.hooks.clone();
        let held = Held { stdio: held_stdio, cgroup, rootfs, linux: None, hooks };
        steps.vmm = vmm.cost;
        steps.end();
        let (id, dir, stdio) = (request.id.clone(), request.bundle.clone(), request.stdio.clone());
        Ok(Container::new(id, dir, stdio, vmm, held, steps))
    }

    /// A VMM process without work: the one that was started ahead, or a new one; or one in the existing
    /// namespace `pid`.
    fn idle(&self, pid: Option<&Namespace>) -> Result<Idle, Error> {
        let vmm = &self.environment.vmm;
        if let Some(pid @ Namespace::Join(_)) = pid {
            return Ok(vmm.spawn_in(pid)?);
        }
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let alive = spare.and_then(|mut idle| idle.is_alive().then_some(idle));
        Ok(alive.map_or_else(|| vmm.spawn_in(&Namespace::New), Ok)?)
    }

    /// Makes a task of a launched container: it is listed, watched, and announced.
    fn adopt(
        &self,
        container: Arc<Container>,
        end: ProcessEnd,
        request: &CreateTask,
    ) -> Arc<Container> {
        self.lock().insert(request.id.clone(), Entry::Ready(Arc::clone(&container)));
        self.events.created(&container, &request.rootfs);
        tokio::spawn(watch(self.clone(), Arc::clone(&container), end));
        container
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a container's process and announces it.
async fn watch(sandbox: Sandbox, container: Arc<Container>, mut end: ProcessEnd) {
    let events = &sandbox.events;
    let status = end.wait().await;
    let _not_starting = container.starting().lock().await;
    // Execs do not outlive it, nor are they announced after it.
    container.end_execs().await;
    if container.ran_out_of_memory() {
        events.ran_out_of_memory(&container);
    }
    // Announced before it can be seen: a Delete that follows at once comes after it.
    container.ended(status, |exit| {
        sandbox.totals().add_end(container.id(), "", exit.status, end.counts());
        events.exited(&container, exit);
    });
    sandbox.ends.notify_one();
}

#[cfg(test)]
mod tests;
