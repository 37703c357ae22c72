//! The WebAssembly proposals that guests do not have, and what to tell who needs one.
//!
//! Rule: what the standard has finished and the engine can do is on (WebAssembly 3.0); a proposal that
//! is off is named here, so that whoever built the file learns which switch of their toolchain to turn.
//!
//! Source: WebAssembly/proposals, phases 1 to 3, for those that may still change; threads are finished,
//! but a guest has one vCPU and one stack.

use wasmtime::wasmparser::WasmFeatures;

/// A proposal that guests do not have.
#[derive(Debug)]
pub(super) struct Proposal {
    /// The flag that allows it.
    pub(super) flag: WasmFeatures,
    /// Its name, as the standard's repository has it, and what it brings.
    pub(super) name: &'static str,
    /// What to do.
    pub(super) advice: &'static str,
}

const WITHOUT_ASYNC: &str = "build for WASI 0.2";
const WITHOUT: &str = "build without it";

/// What is off.
pub(super) const OFF: &[Proposal] = &[
    Proposal {
        flag: WasmFeatures::THREADS,
        name: "threads (shared memory, atomics)",
        advice: "build without -pthread, and not for wasm32-wasip1-threads",
    },
    Proposal {
        flag: WasmFeatures::SHARED_EVERYTHING_THREADS,
        name: "shared-everything-threads",
        advice: "build without threads",
    },
    Proposal {
        flag: WasmFeatures::LEGACY_EXCEPTIONS,
        name: "legacy exception-handling (try, catch)",
        advice: "build for the finished one, with -mllvm -wasm-use-legacy-eh=false, \
                 or convert with `wasm-opt --translate-to-exnref`",
    },
    Proposal { flag: WasmFeatures::STACK_SWITCHING, name: "stack-switching", advice: WITHOUT },
    Proposal { flag: WasmFeatures::WIDE_ARITHMETIC, name: "wide-arithmetic", advice: WITHOUT },
    Proposal { flag: WasmFeatures::CUSTOM_PAGE_SIZES, name: "custom-page-sizes", advice: WITHOUT },
    Proposal { flag: WasmFeatures::MEMORY_CONTROL, name: "memory-control", advice: WITHOUT },
    Proposal {
        flag: WasmFeatures::CUSTOM_DESCRIPTORS,
        name: "custom-descriptors",
        advice: WITHOUT,
    },
    Proposal {
        flag: WasmFeatures::COMPACT_IMPORTS,
        name: "compact-import-section",
        advice: WITHOUT,
    },
    Proposal {
        flag: WasmFeatures::CM_ASYNC,
        name: "component-model async (WASI 0.3)",
        advice: WITHOUT_ASYNC,
    },
    Proposal {
        flag: WasmFeatures::CM_ASYNC_STACKFUL,
        name: "component-model async, stackful",
        advice: WITHOUT_ASYNC,
    },
    Proposal {
        flag: WasmFeatures::CM_MORE_ASYNC_BUILTINS,
        name: "component-model async, more built-ins",
        advice: WITHOUT_ASYNC,
    },
    Proposal {
        flag: WasmFeatures::CM_THREADING,
        name: "component-model threading",
        advice: WITHOUT_ASYNC,
    },
    Proposal {
        flag: WasmFeatures::CM_ERROR_CONTEXT,
        name: "component-model error-context",
        advice: WITHOUT_ASYNC,
    },
    Proposal { flag: WasmFeatures::CM_VALUES, name: "component-model values", advice: WITHOUT },
    Proposal {
        flag: WasmFeatures::CM_NESTED_NAMES,
        name: "component-model nested names",
        advice: WITHOUT,
    },
    Proposal {
        flag: WasmFeatures::CM_FIXED_LENGTH_LISTS,
        name: "component-model fixed-length lists",
        advice: WITHOUT,
    },
    Proposal { flag: WasmFeatures::CM_GC, name: "component-model GC", advice: WITHOUT },
    Proposal { flag: WasmFeatures::CM_MAP, name: "component-model maps", advice: WITHOUT },
    Proposal { flag: WasmFeatures::CM64, name: "component-model memory64", advice: WITHOUT },
    Proposal {
        flag: WasmFeatures::CM_IMPLEMENTS,
        name: "component-model implements",
        advice: WITHOUT,
    },
    Proposal {
        flag: WasmFeatures::CM_CANON_NAMES,
        name: "component-model canonical names",
        advice: WITHOUT,
    },
];

/// What is on: WebAssembly 3.0 without threads, and components.
pub(super) fn on() -> WasmFeatures {
    let standard = WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL;
    standard - WasmFeatures::THREADS
}

/// The first proposal among `flags` that is off.
pub(super) fn find(flags: WasmFeatures) -> Option<&'static Proposal> {
    OFF.iter().find(|proposal| flags.contains(proposal.flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proposal_that_the_parser_knows_is_either_on_or_named() {
        let off = OFF.iter().fold(WasmFeatures::empty(), |all, proposal| all | proposal.flag);
        assert_eq!(on() & off, WasmFeatures::empty());
        assert_eq!(on() | off, WasmFeatures::all());
    }
}
