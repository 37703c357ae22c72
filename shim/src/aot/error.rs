//! Why the cache could not be used.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::geteuid;

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// There is no directory, and none could be made.
    #[error("create the cache directory {}", path.display())]
    CreateDir {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be opened.
    #[error("open the cache directory {}", path.display())]
    OpenDir {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could put programs into the directory.
    #[error(
        "the cache directory {} must belong to user {} and be writable by nobody else; it belongs \
         to user {owner} and has mode {mode:o}",
        path.display(), geteuid().as_raw()
    )]
    Untrusted {
        /// Its path.
        path: PathBuf,
        /// Its owner's user number.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// The lock of a key cannot be taken.
    #[error("lock {name} in the cache directory")]
    Lock {
        /// Name of the lock file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the lock for longer than its work may take.
    #[error("another process has held {name} in the cache directory for {} s", waited.as_secs())]
    Busy {
        /// Name of the lock file.
        name: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// An entry could not be written: the disk is full, or read-only.
    #[error("write {name} to the cache directory")]
    Write {
        /// Name of the file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The directory's entries cannot be listed.
    #[error("list the cache directory {}", path.display())]
    List {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
