//! What the VMM process of a task lives in: its root file system and its control group.
//!
//! Rule: made on a thread of its own, beside the search for the program, which looks into the root
//! file system only once it is told that it is mounted. What has been made is given back when it is
//! dropped; with a process in it that must be after the end of the process.

use std::io;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::CreateTask;
use super::steps::timed;
use crate::bundle::Bundle;
use crate::cgroup::Hierarchies;
use crate::container::OwnedCgroup;
use crate::error::Error;
use crate::launch::{Idle, adjust_oom_score};
use crate::leftovers::Leftovers;
use crate::rootfs::{Rootfs, RootfsError};

/// What was made.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) rootfs: Rootfs,
    pub(super) cgroup: OwnedCgroup,
    /// Whether the process has been told to go there.
    pub(super) told: Result<(), Error>,
    /// What mounting took.
    pub(super) rootfs_took: Duration,
    /// What the control group took.
    pub(super) cgroup_took: Duration,
}

/// Makes the place for `idle`, and has it go there; whether it could is told by its answer to
/// [`Idle::run`]. `mounted` becomes true with the root file system, and is dropped if there is none.
///
/// # Errors
///
/// Something cannot be made; then nothing of it is left.
pub(super) async fn make(
    request: &CreateTask,
    bundle: &Bundle,
    namespace: &str,
    idle: &mut Idle,
    mounted: watch::Sender<bool>,
) -> Result<Place, Error> {
    let lost =
        |source| Error::Rootfs(RootfsError::MountPoint { path: bundle.rootfs.clone(), source });
    let (send, receive) = oneshot::channel();
    let (request, namespace, pid) = (request.clone(), namespace.to_owned(), idle.pid());
    let of_thread = bundle.clone();
    // Mounting may change the working directory of its thread.
    std::thread::Builder::new()
        .name("place".to_owned())
        .spawn(move || {
            // If nobody waits any more, dropping what was made gives it back.
            let _ = send.send(make_here(&request, &of_thread, &namespace, pid, &mounted));
        })
        .map_err(lost)?;
    let made = receive.await.map_err(|_| lost(io::Error::other("the thread ended")))?;
    let mut place = made?;
    // The process copies the mounts it finds: the root file system has to be among them. It joins the
    // control group first, which it does not see any more afterwards.
    let joined = idle.join(place.cgroup.join_files()).await;
    let confined = idle.confine(bundle.confinement.clone()).await;
    place.told = joined.and(confined).map_err(Error::from);
    Ok(place)
}

fn make_here(
    request: &CreateTask,
    bundle: &Bundle,
    namespace: &str,
    pid: u32,
    mounted: &watch::Sender<bool>,
) -> Result<Place, Error> {
    let (mut rootfs_took, mut cgroup_took) = (Duration::ZERO, Duration::ZERO);
    let rootfs = timed(&mut rootfs_took, || Rootfs::mount(bundle.rootfs.clone(), &request.rootfs))?;
    // If nobody listens, nobody needs to know.
    let _ = mounted.send(true);
    let cgroup = timed(&mut cgroup_took, || {
        let cgroup = Hierarchies::of_this_host()?.cgroup(&bundle.cgroup_path, namespace);
        let left = Leftovers::of(&bundle.cgroup_path).with_hooks(bundle.hooks.as_ref());
        let task = (request.id.as_str(), bundle.pod());
        left.make_cgroup(cgroup, bundle.resources.as_ref(), &request.bundle, task)
    })?;
    adjust_oom_score(pid, bundle.oom_score_adj);
    Ok(Place { rootfs, cgroup, told: Ok(()), rootfs_took, cgroup_took })
}
