//! Why a file is not compiled: what is wrong with it and what to do about it.
//!
//! A refusal crosses from the compiling child to its parent as JSON. Each reads well behind the file's
//! name and a colon, and is one line: text that comes from the file is escaped.

use serde::{Deserialize, Serialize};
use wasmtime::wasmparser::BinaryReaderError;

use super::inspect::{WASI_PATCH_MAX, provided_packages};
use super::proposal::{self, Proposal};

/// Why a file is not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No bytes.
    #[error("the file is empty; a WebAssembly component is needed")]
    Empty,
    /// The wasm text format.
    #[error("WebAssembly text, not binary: convert it with `wasm-tools parse`")]
    Text,
    /// Something else than wasm.
    #[error(
        "not WebAssembly: it starts with the bytes {first_bytes}, WebAssembly with 00 61 73 6d"
    )]
    NotWasm {
        /// The first bytes, in hexadecimal.
        first_bytes: String,
    },
    /// Wasm of a version or kind that nobody has defined, or that is cut off within its header.
    #[error("WebAssembly of an unknown version: the header goes on with the bytes {bytes}")]
    UnknownVersion {
        /// The bytes behind the magic number, in hexadecimal.
        bytes: String,
    },
    /// A core module that is a command.
    #[error(
        "a core WebAssembly module; only components run here: \
         build for wasm32-wasip2, or make one with `wasm-tools component new`"
    )]
    CoreCommand,
    /// A core module that could not run as a command either.
    #[error(
        "a core WebAssembly module, and one without a `_start` function; only components that \
         are commands run here: build for wasm32-wasip2, or make one with `wasm-tools component new`"
    )]
    CoreLibrary,
    /// The file breaks the rules of WebAssembly.
    #[error("invalid WebAssembly: {reason} (at byte {offset:#x})")]
    Invalid {
        /// Wasmtime's reason.
        reason: String,
        /// Where in the file.
        offset: u64,
    },
    /// Nothing to run.
    #[error("exports no wasi:cli/run@0.2, so it is not a command; it exports {}", list(exports))]
    NoRun {
        /// What the component exports.
        exports: Vec<String>,
    },
    /// It needs something that guests do not have.
    #[error(
        "imports `{name}`, which is not provided here; provided is WASI 0.2.0 to \
         0.2.{WASI_PATCH_MAX}: {}",
        provided_packages()
    )]
    UnknownImport {
        /// The import.
        name: String,
    },
    /// It needs a proposal that is off.
    #[error(
        "uses the WebAssembly proposal {name}, which guests do not have: {advice} (at byte {offset:#x})"
    )]
    Proposal {
        /// The proposal.
        name: String,
        /// What to do.
        advice: String,
        /// Where in the file.
        offset: u64,
    },
    /// Wasmtime does not compile it for another reason.
    #[error("cannot be compiled: {reason}")]
    Uncompilable {
        /// Wasmtime's reason.
        reason: String,
    },
    /// The bytes are not those whose digest was asked for.
    #[error("the file changed while it was read, or is damaged: sha256 is {found}, not {expected}")]
    OtherContent {
        /// Digest of the bytes, in hexadecimal.
        found: String,
        /// Digest that was expected, in hexadecimal.
        expected: String,
    },
}

impl Refusal {
    /// What Wasmtime says about the file's bytes.
    pub(super) fn invalid(error: &BinaryReaderError) -> Self {
        let offset = error.offset().try_into().unwrap_or(u64::MAX);
        match error.missing_wasm_feature().and_then(proposal::find) {
            Some(Proposal { name, advice, .. }) => {
                Self::Proposal { name: (*name).to_owned(), advice: (*advice).to_owned(), offset }
            }
            None => {
                Self::Invalid { reason: one_line(&format_args!("{}", error.message())), offset }
            }
        }
    }

    /// What Wasmtime says for any other reason.
    pub(super) fn uncompilable(error: &wasmtime::Error) -> Self {
        Self::Uncompilable { reason: one_line(&format_args!("{error:#}")) }
    }
}

/// Longest text taken over from elsewhere, in characters.
const TEXT_CHARS_MAX: usize = 400;

/// `text` without line ends and control characters, and of a length that a person reads.
pub(super) fn one_line(text: &dyn std::fmt::Display) -> String {
    let text = text.to_string();
    let mut line = String::new();
    for c in text.trim().chars().take(TEXT_CHARS_MAX) {
        match c {
            '\n' => line.push_str("; "),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    }
}
