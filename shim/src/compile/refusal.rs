//! Why a file is not compiled: what is wrong with it and what to do about it.
//!
//! A refusal crosses from the compiling child to its parent as JSON. Each reads well behind the file's
//! name and a colon, and is one line: text that comes from the file is escaped.

use serde::{Deserialize, Serialize};
use wasmtime::wasmparser::BinaryReaderError;

use super::child::INSPECTION_BYTES_MAX;
use super::inspection::NAMES_MAX;
use super::proposal::{self, Proposal};
use super::wasi::{P0_MODULE, P1_MODULE, advice};

/// Why a file is not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No bytes.
    #[error("the file is empty; a WebAssembly component or module is needed")]
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
    /// The file breaks the rules of WebAssembly.
    #[error("invalid WebAssembly: {reason} (at byte {offset:#x})")]
    Invalid {
        /// Wasmtime's reason.
        reason: String,
        /// Where in the file.
        offset: u64,
    },
    /// A component without an entry point.
    #[error(
        "exports no wasi:cli/run@0.2, so it is not a command; it exports {}{}",
        list(exports),
        if *is_handler { "; `hyperlight serve` serves it" } else { how_to_call(exports) }
    )]
    NoRun {
        /// What the component exports.
        exports: Vec<String>,
        /// It handles HTTP requests.
        is_handler: bool,
    },
    /// Something that does not handle HTTP requests.
    #[error(
        "exports no wasi:http/incoming-handler@0.2, so it handles no requests{}",
        if *is_command { "; it is a command: `hyperlight run` runs it".to_owned() }
        else { format!("; it exports {}{}", list(exports), how_to_call(exports)) }
    )]
    NoHandler {
        /// What the component exports.
        exports: Vec<String>,
        /// It is a command.
        is_command: bool,
    },
    /// A core module without an entry point.
    #[error(
        "exports no `_start`, so it is not a command; it exports the functions {}{}",
        list(functions),
        how_to_call(functions)
    )]
    NoStart {
        /// The functions that the module exports.
        functions: Vec<String>,
    },
    /// A core module with an entry point that cannot be called.
    #[error("exports `_start` as {found}, so it is not a command: its type must be (func)")]
    StartSignature {
        /// Its type.
        found: String,
    },
    /// It needs something that guests do not have.
    #[error("imports `{name}`, which is not provided here: {}", advice(name))]
    UnknownImport {
        /// The import.
        name: String,
    },
    /// It needs something that is not WASI.
    #[error(
        "imports the {kind} `{name}`, which is not provided here: a core module may import the \
         functions of {P1_MODULE} and nothing else; build it for wasm32-wasip1, not for a browser \
         or another host"
    )]
    UnknownCoreImport {
        /// Module and name.
        name: String,
        /// What it should be.
        kind: String,
    },
    /// It uses a WASI function as it is not.
    #[error("imports `{P1_MODULE}.{name}` as {found}; in WASI it is {expected}")]
    Signature {
        /// The function.
        name: String,
        /// Its type in the file.
        found: String,
        /// Its type in WASI.
        expected: String,
    },
    /// It needs the snapshot of WASI before preview 1.
    #[error(
        "imports `{P0_MODULE}.{name}`, a function of the WASI of 2019 (preview 0), which is not \
         provided here: build it with a current toolchain for wasm32-wasip1"
    )]
    Preview0 {
        /// The function.
        name: String,
    },
    /// It needs a proposal that is off.
    #[error("uses the WebAssembly proposal {name}, which guests do not have: {advice}")]
    Proposal {
        /// The proposal.
        name: String,
        /// What to do.
        advice: String,
    },
    /// Its imports and exports are too many, or too long, to be listed.
    #[error(
        "cannot be listed: it has more than {NAMES_MAX} imports and exports, or {} MiB of them",
        INSPECTION_BYTES_MAX >> 20
    )]
    TooManyNames,
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
        match error.missing_wasm_feature().and_then(proposal::find) {
            Some(proposal) => Self::proposal(proposal),
            None => Self::Invalid {
                reason: one_line(&error.message()),
                offset: error.offset().try_into().unwrap_or(u64::MAX),
            },
        }
    }

    /// The file uses a proposal that is off.
    pub(super) fn proposal(proposal: &Proposal) -> Self {
        Self::Proposal { name: proposal.name.to_owned(), advice: proposal.advice.to_owned() }
    }

    /// What Wasmtime says for any other reason.
    pub(super) fn uncompilable(error: &wasmtime::Error) -> Self {
        Self::Uncompilable { reason: one_line(&format_args!("{error:#}")) }
    }
}

/// Longest text taken over from elsewhere, in characters.
const TEXT_CHARS_MAX: usize = 400;

/// `text` without line ends and control characters, and of a length that a person reads.
pub(crate) fn one_line(text: &dyn std::fmt::Display) -> String {
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

/// What to do with what is exported.
const fn how_to_call(names: &[String]) -> &'static str {
    if names.is_empty() { "" } else { ": call a function with `hyperlight run --invoke`" }
}
