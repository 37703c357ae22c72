//! What the node's owner has chosen for all containers, where neither a pod nor a command line says.
//!
//! Rule: the file is beside the directory of this program, where `hyperlight node install` puts both, and is read
//! once in a process. One that is not there, or cannot be read, changes nothing; the latter is told in the log.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::http::Isolation;

/// The file's name.
pub const FILE: &str = "settings.json";

/// The choices; what is `None` is as if there were no file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// Most bytes of the cache of compiled programs, unless the environment says.
    pub cache_bytes: Option<u64>,
    /// Most memory of one compilation, in bytes of address space.
    pub aot_memory_bytes: Option<NonZero<u64>>,
    /// Most CPU time of one compilation, in seconds.
    pub aot_cpu_seconds: Option<NonZero<u64>>,
    /// How many compile at once.
    pub aot_parallel: Option<NonZero<usize>>,
    /// What a request leaves to the next, unless the pod's annotation says.
    pub http_isolation: Option<Isolation>,
}

impl Settings {
    /// Those of the node.
    #[must_use]
    pub fn of_node() -> &'static Self {
        static OF_NODE: OnceLock<Settings> = OnceLock::new();
        OF_NODE.get_or_init(|| file().map(|file| Self::read(&file)).unwrap_or_default())
    }

    fn read(file: &Path) -> Self {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    log::warn!("read {}: {error}: it is not regarded", file.display());
                }
                return Self::default();
            }
        };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            log::warn!("parse {}: {error}: it is not regarded", file.display());
            Self::default()
        })
    }
}

/// The file of this program. The link leads to its directory also when the program was replaced since.
fn file() -> Option<PathBuf> {
    let program = std::fs::read_link("/proc/self/exe").ok()?;
    Some(program.parent()?.parent()?.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, text).unwrap();
        Settings::read(&file)
    }

    #[test]
    fn what_was_written_is_read() {
        let settings = Settings {
            cache_bytes: Some(1 << 30),
            aot_memory_bytes: NonZero::new(1 << 31),
            aot_cpu_seconds: NonZero::new(60),
            aot_parallel: NonZero::new(1),
            http_isolation: Some(Isolation::Instance),
        };
        assert_eq!(read(&serde_json::to_string(&settings).unwrap()), settings);
    }

    #[test]
    fn a_file_that_is_damaged_or_not_there_changes_nothing() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"cache_bytes": "much"}"#,
            r#"{"aot_parallel": 0, "cache_bytes": 5}"#,
        ] {
            assert_eq!(read(text), Settings::default(), "{text}");
        }
        assert_eq!(Settings::read("/nonexistent/settings.json".as_ref()), Settings::default());
    }

    #[test]
    fn what_a_newer_version_has_written_beside_is_left_out() {
        let settings = read(r#"{"cache_bytes": 5, "more": true}"#);
        assert_eq!(settings, Settings { cache_bytes: Some(5), ..Settings::default() });
    }
}
