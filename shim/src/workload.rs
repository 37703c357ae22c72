//! What one micro-VM runs: a program, and everything that it is given.
//!
//! Rule: parsed, not validated. A [`Workload`] holds only values that a micro-VM can be started with, so
//! whoever has one (from the command line, from a bundle, from the JSON that a VMM process reads) need not
//! look again. Nothing is granted that is not listed: no directory, no variable, no network.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::http::Serving;
use crate::net::NetworkGrant;

/// Memory of a micro-VM that is not told otherwise, in bytes.
///
/// It is a limit: what a program does not touch is not taken from the host. Interpreters with their
/// libraries start in less than 64 MiB.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;

/// What one micro-VM runs. Its standard streams are those of the process that runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What messages call the program: the file's name.
    pub program_name: Text,
    /// Where the program should think it is; nobody said if `None`.
    pub cwd: Option<Text>,
    /// What to call instead of the command's entry point, see [`abi::boot::BootInfo::invoke`].
    pub invoke: Option<Text>,
    /// Arguments, argument 0 first.
    pub args: Vec<Text>,
    /// Environment.
    pub env: Vec<EnvEntry>,
    /// Directories that are open at start.
    pub preopens: Vec<Preopen>,
    /// The limit of the micro-VM's memory.
    pub memory: MemoryBytes,
    /// Its network; none, with no sockets and no names, if `None`.
    pub network: Option<NetworkGrant>,
    /// How it is served, if it handles requests instead of running to its end.
    pub serving: Option<Serving>,
}

/// A directory that is open at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preopen {
    /// The directory, as the VMM process sees it.
    pub host_path: PathBuf,
    /// The path under which the program sees it.
    pub guest_path: Text,
    /// Whether the program may change nothing in it.
    pub read_only: bool,
}

/// What is no part of a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// Text with a NUL, which no argument, variable or path can have.
    #[error("{0:?} has a NUL byte")]
    Nul(String),
    /// An environment entry without a name or without a value.
    #[error("environment entry {0:?} is not of the form NAME=VALUE")]
    EnvEntry(String),
    /// A size that no micro-VM has.
    #[error(
        "a micro-VM has from {} to {} of memory, not {}",
        size(vmm::MEMORY_BYTES_MIN), size(abi::layout::RAM_BYTES_MAX), size(*bytes)
    )]
    Memory {
        /// What was asked for.
        bytes: u64,
    },
}

/// UTF-8 without NUL: what WASI takes for an argument or a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = WorkloadError;

    fn try_from(text: String) -> Result<Self, WorkloadError> {
        if text.contains('\0') { Err(WorkloadError::Nul(text)) } else { Ok(Self(text)) }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// An environment entry `NAME=VALUE`. The value may be empty, the name not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvEntry(Text);

impl EnvEntry {
    /// `NAME=VALUE`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for EnvEntry {
    type Error = WorkloadError;

    fn try_from(entry: String) -> Result<Self, WorkloadError> {
        match entry.find('=') {
            None | Some(0) => Err(WorkloadError::EnvEntry(entry)),
            Some(_) => Ok(Self(entry.try_into()?)),
        }
    }
}

impl From<EnvEntry> for String {
    fn from(entry: EnvEntry) -> Self {
        entry.0.into()
    }
}

/// A micro-VM's memory in bytes: whole pages, from [`vmm::MEMORY_BYTES_MIN`] to
/// [`abi::layout::RAM_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct MemoryBytes(u64);

impl MemoryBytes {
    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for MemoryBytes {
    type Error = WorkloadError;

    /// Rounds down to whole pages: a limit is not exceeded.
    fn try_from(bytes: u64) -> Result<Self, WorkloadError> {
        let whole = bytes - bytes % abi::layout::PAGE;
        match vmm::Config::new(whole) {
            Ok(config) => Ok(Self(config.memory_bytes())),
            Err(_) => Err(WorkloadError::Memory { bytes }),
        }
    }
}

impl From<MemoryBytes> for u64 {
    fn from(memory: MemoryBytes) -> Self {
        memory.0
    }
}

/// A number of bytes for people: `256.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> serde_json::Value {
        serde_json::json!({
            "program_name": "app.wasm",
            "cwd": "/srv",
            "invoke": "add(1, 2)",
            "args": ["app.wasm", ""],
            "env": ["K=V=W", "EMPTY="],
            "preopens": [{"host_path": "/srv", "guest_path": "/data", "read_only": true}],
            "memory": 268_435_456,
            "network": {"allow": ["10.0.0.0/8:443", "*.example.com", "[fd00::]/8"], "root": "/"},
            "serving": {
                "addr": "[::]:8080", "isolation": "request", "max_concurrency": 64,
                "request_timeout": null, "drain": {"secs": 25, "nanos": 0},
            },
        })
    }

    fn parse(json: serde_json::Value) -> Result<Workload, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn a_workload_survives_its_json() {
        let workload = parse(json()).unwrap();
        assert_eq!(serde_json::to_value(&workload).unwrap(), json());
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused() {
        for pointer in ["", "/network"] {
            let mut json = json();
            json.pointer_mut(pointer).unwrap()["privileged"] = true.into();
            assert!(parse(json).unwrap_err().to_string().contains("privileged"), "{pointer}");
        }
    }

    #[test]
    fn a_destination_that_is_none_is_refused_with_the_reason() {
        let mut json = json();
        json["network"]["allow"][1] = "example.com:http".into();
        let error = parse(json).unwrap_err().to_string();
        assert!(error.contains("port \"http\""), "{error}");
    }

    #[test]
    fn a_nul_is_refused_wherever_it_is() {
        let places =
            ["/args/0", "/env/0", "/preopens/0/guest_path", "/program_name", "/cwd", "/invoke"];
        for pointer in places {
            let mut json = json();
            *json.pointer_mut(pointer).unwrap() = "a=b\0".into();
            assert!(parse(json).unwrap_err().to_string().contains("NUL"), "{pointer}");
        }
    }

    #[test]
    fn an_environment_entry_needs_a_name_and_an_equals_sign() {
        for entry in ["", "NAME", "=VALUE", "="] {
            assert!(EnvEntry::try_from(entry.to_owned()).is_err(), "{entry}");
        }
    }

    #[test]
    fn memory_is_rounded_down_to_pages() {
        assert_eq!(MemoryBytes::try_from((64 << 20) + 4095).unwrap().get(), 64 << 20);
    }

    #[test]
    fn memory_out_of_range_names_the_range() {
        for bytes in [0, vmm::MEMORY_BYTES_MIN - 1, abi::layout::RAM_BYTES_MAX + 4096, u64::MAX] {
            let error = MemoryBytes::try_from(bytes).unwrap_err().to_string();
            assert!(error.contains("from 1.0 MiB to 256.0 GiB"), "{error}");
        }
    }
}
