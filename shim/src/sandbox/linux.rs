//! A task that is a Linux container of a pod.

use super::{CreateTask, Steps};
use crate::bundle::Bundle;
use crate::cgroup::Hierarchies;
use crate::container::{Container, Held, OwnedCgroup};
use crate::error::Error;
use crate::launch::ProcessEnd;
use crate::leftovers::Leftovers;
use crate::linux::OciRuntime;
use crate::rootfs::Rootfs;
use crate::stdio::{HeldStdio, TaskStdio};

/// Has the node's OCI runtime make the container, whose root file system is mounted. It makes the control group
/// itself.
///
/// # Errors
///
/// Something cannot be made; then nothing of it is left.
pub(super) async fn launch(
    request: &CreateTask,
    bundle: &Bundle,
    namespace: &str,
    rootfs: Rootfs,
    (stdio, held): (TaskStdio, HeldStdio),
    mut steps: Steps,
) -> Result<(Container, ProcessEnd), Error> {
    if bundle.terminal {
        return Err(Error::Unsupported("a terminal of a Linux container"));
    }
    let runtime = OciRuntime::of_this_node(namespace)?;
    let cgroup = Hierarchies::of_this_host()?.cgroup(&bundle.cgroup_path, namespace);
    let cgroup = OwnedCgroup::new(cgroup);
    let left = Leftovers::of_linux(&bundle.cgroup_path, &request.id);
    left.write(&request.bundle)?;
    left.write_for_pod(&request.bundle, bundle.pod(), &request.id)?;
    let (linux, launched) = runtime.create(&request.id, &request.bundle, stdio).await?;
    // Its hooks are the OCI runtime's.
    let held = Held { stdio: held, cgroup, rootfs, linux: Some(linux), hooks: None };
    steps.end();
    let (id, dir, stdio) = (request.id.clone(), request.bundle.clone(), request.stdio.clone());
    Ok(Container::new(id, dir, stdio, launched, held, steps))
}
