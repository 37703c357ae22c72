//! The first task of a pod: the holder of its namespaces.
//!
//! Rule: it is a task like any other, with a control group that containerd names, but has no root file system,
//! whatever its image, and runs from its creation on.

use tokio::runtime::Handle;

use super::{CreateTask, Steps};
use crate::bundle::Pod;
use crate::cgroup::Hierarchies;
use crate::container::{Container, Held};
use crate::error::Error;
use crate::holder::{self, Holder};
use crate::hooks::Hooks;
use crate::launch::{Cost, Launched, ProcessEnd, Starter, adjust_oom_score};
use crate::leftovers::Leftovers;
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
    let rootfs = Rootfs::mount(request.bundle.join("rootfs"), &[])?;
    let hooks = pod.hooks.clone();
    hooks.as_ref().map_or(Ok(()), Hooks::check)?;
    let made = tokio::task::spawn_blocking(move || {
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
        Ok::<_, Error>((cgroup, holder))
    });
    let (cgroup, holder) = made.await.unwrap_or(Err(Error::CutOff(request.id.clone())))?;
    let Holder { pid, pidfd, child } = holder;
    let (start, end) = (Starter::of_running(), ProcessEnd::OfChild(Box::new(child)));
    let process = Launched { pid, pidfd, start, end, cost: Cost::default() };
    let held = Held { stdio, cgroup, rootfs, linux: None, hooks };
    steps.end();
    let (id, dir, stdio) = (request.id.clone(), request.bundle.clone(), request.stdio.clone());
    Ok(Container::new(id, dir, stdio, process, held, steps))
}
