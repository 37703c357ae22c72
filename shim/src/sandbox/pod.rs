//! The first task of a pod: the holder of its namespaces.
//!
//! Rule: it is a task like any other, with a control group that containerd names, but has no root file system,
//! whatever its image, and runs from its creation on. Where containerd leaves the pod to the shim, its files are
//! made with it.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::{CreateTask, Entry, SIGKILL, Sandbox, Steps};
use crate::bundle::Pod;
use crate::cgroup::Hierarchies;
use crate::container::{Container, Held};
use crate::error::Error;
use crate::holder::{self, Holder};
use crate::hooks::Hooks;
use crate::launch::{Cost, Launched, ProcessEnd, Starter, adjust_oom_score};
use crate::leftovers::Leftovers;
use crate::pod_files;
use crate::rootfs::Rootfs;
use crate::stdio::HeldStdio;

/// Makes the task.
///
/// # Errors
///
/// Something cannot be made; then nothing of it is left.
pub(super) async fn hold(
    request: &CreateTask,
    pod: Pod,
    namespace: &str,
    stdio: HeldStdio,
    mut steps: Steps,
) -> Result<(Container, ProcessEnd), Error> {
    let (runtime, namespace, dir, id) =
        (Handle::current(), namespace.to_owned(), request.bundle.clone(), request.id.clone());
    let hooks = pod.hooks.clone();
    hooks.as_ref().map_or(Ok(()), Hooks::check)?;
    let made = tokio::task::spawn_blocking(move || {
        // Of file systems it holds the memory that its containers share, at most.
        let memory = match &pod.files {
            Some(files) => files.make(&dir)?,
            None => Rootfs::mount(dir.join("rootfs"), &[])?,
        };
        let cgroup = Hierarchies::of_this_host()?.cgroup(&pod.cgroup_path, &namespace);
        let left = Leftovers::of(&pod.cgroup_path).with_hooks(pod.hooks.as_ref());
        let cgroup = left.make_cgroup(cgroup, pod.resources.as_ref(), &dir, (&id, None))?;
        let holder = holder::start(&pod, cgroup.cgroup(), &runtime)?;
        adjust_oom_score(holder.pid, pod.oom_score_adj);
        if let Some(hooks) = &pod.hooks
            && let Err(error) = hooks.create(holder.pid)
        {
            drop((holder, cgroup));
            hooks.given_up();
            return Err(error.into());
        }
        Ok::<_, Error>((cgroup, holder, memory))
    });
    let (cgroup, holder, rootfs) = made.await.unwrap_or(Err(Error::CutOff(request.id.clone())))?;
    let Holder { pid, pidfd, child } = holder;
    let (start, end) = (Starter::of_running(), ProcessEnd::OfChild(Box::new(child)));
    let process = Launched { pid, pidfd, start, end, cost: Cost::default() };
    let held = Held { stdio, cgroup, rootfs, linux: None, hooks };
    steps.end();
    let (id, dir, stdio) = (request.id.clone(), request.bundle.clone(), request.stdio.clone());
    let (container, end) = Container::new(id, dir, stdio, process, held, steps);
    Ok((if request.pod.is_some() { container.unannounced() } else { container }, end))
}

impl Sandbox {
    /// Notes where the files of a pod are that was made from `request`, if they are the shim's.
    pub(super) fn note_pod_files(&self, request: &CreateTask) {
        if request.pod.as_ref().is_some_and(|pod| pod.files.is_some()) {
            // A shim has one pod, once.
            let _ = self.pod_files.set(request.bundle.clone());
        }
    }

    /// Gives the container in `bundle` the files of its pod, if they are the shim's.
    ///
    /// # Errors
    ///
    /// Its `config.json` cannot be read or written.
    pub(super) fn add_pod_files(&self, bundle: &Path) -> Result<(), Error> {
        self.pod_files.get().map_or(Ok(()), |pod| pod_files::add_to(bundle, pod))
    }

    /// Ends the holder of pod `id`, and whatever else runs in the pod. Waits for the end.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it cannot be ended.
    pub async fn stop_pod(&self, id: &str) -> Result<(), Error> {
        let pod = self.task(id)?;
        self.kill_all().await?;
        pod.wait().await;
        Ok(())
    }

    /// Ends what is there. Waits for the end.
    async fn kill_all(&self) -> Result<(), Error> {
        for container in self.containers() {
            container.kill("", SIGKILL, true)?;
            container.wait().await;
        }
        Ok(())
    }

    /// Ends the pod and removes everything in it, also what is being created: a containerd that waits no longer for a
    /// pod asks for that at once, and never more. May be repeated. No task is created any more.
    ///
    /// # Errors
    ///
    /// Something cannot be removed.
    pub async fn end_pod(&self) -> Result<(), Error> {
        self.kill_all().await?;
        let names: Vec<_> = self.lock().keys().cloned().collect();
        for name in names {
            match self.delete(&name).await {
                Ok(_) | Err(Error::NoTask(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.close();
        Ok(())
    }

    /// Those that are made.
    fn containers(&self) -> Vec<Arc<Container>> {
        let of = |entry: &Entry| match entry {
            Entry::Ready(container) | Entry::Deleting(container, _) => Some(Arc::clone(container)),
            Entry::Creating(_) => None,
        };
        self.lock().values().filter_map(of).collect()
    }
}
