//! Keeping the processes of a cgroup from running, and letting them go on.
//!
//! v1 has a hierarchy for it (`freezer.state`), v2 a file of its core (`cgroup.freeze`). Freezing ends when
//! the kernel says that every thread stands still, or is taken back. A frozen process of v1 does not
//! even die of SIGKILL before it is thawed; one of v2 does.
//!
//! Sources: Linux `Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst`, `cgroup-v2.rst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Cgroup, CgroupError, Version};

/// How long processes may take to stand still: each gets to it at its next return from the kernel, so
/// one in an uninterruptible call takes as long as that.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

/// Pause between two looks.
const FREEZE_POLL: Duration = Duration::from_millis(1);

impl Cgroup {
    /// Keeps every process inside from running, children that they start included. Blocks until they
    /// stand still.
    ///
    /// # Errors
    ///
    /// There is no freezer, or the processes do not stand still in time; then they go on.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let file = self.freezer()?;
        let deadline = Instant::now() + FREEZE_LIMIT;
        loop {
            // v1: also to have those looked at again that came or moved while it was freezing.
            self.set_frozen(&file, true)?;
            if self.is_frozen(&file)? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.set_frozen(&file, false)?;
                return Err(CgroupError::NotFrozen {
                    dir: file.parent().unwrap_or(&file).to_owned(),
                    seconds: FREEZE_LIMIT.as_secs(),
                });
            }
            std::thread::sleep(FREEZE_POLL);
        }
    }

    /// Lets the processes go on; does nothing if they may.
    ///
    /// # Errors
    ///
    /// There is no freezer, or the kernel refuses.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(&self.freezer()?, false)
    }

    fn freezer(&self) -> Result<PathBuf, CgroupError> {
        match self.version {
            Version::V1 => self.controller_dir("freezer").map(|dir| dir.join("freezer.state")),
            Version::V2 => self.nodes.first().map(|node| node.dir.join("cgroup.freeze")),
        }
        .ok_or(CgroupError::NoFreezer)
    }

    fn set_frozen(&self, file: &Path, frozen: bool) -> Result<(), CgroupError> {
        let value = match (self.version, frozen) {
            (Version::V1, true) => "FROZEN",
            (Version::V1, false) => "THAWED",
            (Version::V2, true) => "1",
            (Version::V2, false) => "0",
        };
        fs::write(file, value).map_err(|source| CgroupError::Limit {
            file: file.to_owned(),
            value: value.to_owned(),
            source,
        })
    }

    fn is_frozen(&self, file: &Path) -> Result<bool, CgroupError> {
        let read = |file: &Path| {
            fs::read_to_string(file)
                .map_err(|source: io::Error| CgroupError::Read { file: file.to_owned(), source })
        };
        Ok(match self.version {
            Version::V1 => read(file)?.trim() == "FROZEN",
            Version::V2 => {
                read(&file.with_file_name("cgroup.events"))?.lines().any(|it| it == "frozen 1")
            }
        })
    }
}
