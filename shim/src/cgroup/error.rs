//! What can fail on the cgroup file system: each with the file or directory, and what to do where something helps.

use std::io;
use std::path::PathBuf;

/// What failed on the cgroup file system.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mount table could not be read.
    #[error("read the cgroup mounts from /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    /// Neither cgroup v1 nor v2 is mounted.
    #[error("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// Someone else's processes are in the cgroup.
    #[error(
        "cgroup {} holds {count} process(es) already: give the container a cgroup of its own",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// How many processes.
        count: usize,
    },
    /// The directory could not be made.
    #[error("create cgroup {}", dir.display())]
    Create {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not move in.
    #[error("join the cgroup of {}", file.display())]
    Join {
        /// The file it is joined by.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A limit could not be set.
    #[error("set {} to {value}", file.display())]
    Limit {
        /// The cgroup file.
        file: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// A limit needs a controller that is not mounted or not enabled.
    #[error("{file} = {value} needs the cgroup controller {controller:?}, which is not available")]
    NoController {
        /// The controller.
        controller: &'static str,
        /// The cgroup file.
        file: String,
        /// The value.
        value: String,
    },
    /// Processes cannot be kept from running.
    #[error(
        "no cgroup freezer is available: mount the cgroup v1 controller \"freezer\", or cgroup2"
    )]
    NoFreezer,
    /// The processes did not stand still.
    #[error("the processes of cgroup {} did not stand still within {seconds} s", dir.display())]
    NotFrozen {
        /// The directory.
        dir: PathBuf,
        /// How long it was waited.
        seconds: u64,
    },
    /// A counter could not be read.
    #[error("read {}", file.display())]
    Read {
        /// The cgroup file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Killed processes did not leave.
    #[error(
        "{count} process(es) did not leave cgroup {} within {seconds} s of SIGKILL",
        dir.display()
    )]
    StillInUse {
        /// The directory.
        dir: PathBuf,
        /// How many processes.
        count: usize,
        /// How long it was waited.
        seconds: u64,
    },
    /// The directory could not be removed.
    #[error("remove cgroup {}", dir.display())]
    Remove {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}
