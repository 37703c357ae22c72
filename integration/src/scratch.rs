//! Directories that live as long as a test.

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::process;

/// An empty directory, removed with all that came into it when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A directory of its own below the system's for temporary files.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn new() -> Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// A directory that costs no writing to a disk, where the system has a place for such.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn in_memory() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory) } else { Self::new() }
    }

    fn below(parent: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("scratch-{}-{count}", std::process::id()));
            match fs::create_dir(&path) {
                // Of a process that had the same id, and was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("create {}", path.display()));
                }
                Ok(()) => return Ok(Self(path)),
            }
        }
    }

    /// A copy of what is in `directory`, symbolic links as such.
    ///
    /// # Errors
    ///
    /// Something cannot be copied.
    pub fn copy_of(directory: &Path) -> Result<Self> {
        let scratch = Self::new()?;
        let mut cp = std::process::Command::new("cp");
        cp.args(["-rP", "--"]).arg(directory.join(".")).arg(&scratch.0);
        process::run(&mut cp)?.success()?;
        Ok(scratch)
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test may have taken it away on purpose.
        drop(fs::remove_dir_all(&self.0));
    }
}
