//! The WebAssembly proposals that guests do not have, and what to tell who needs one.
//!
//! Rule: what the standard has finished and the engine can do is on (WebAssembly 3.0); a proposal that
//! is off is named here, so that whoever built the file learns which switch of their toolchain to turn.
//!
//! Source: WebAssembly/proposals, phases 1 to 3, for those that may still change; threads are finished,
//! but a guest has one vCPU and one stack.

use wasmtime::wasmparser::{BinaryReaderError, Validator, WasmFeatures};

use super::outline::Kind;

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

/// Threads.
pub(super) const THREADS: Proposal = Proposal {
    flag: WasmFeatures::THREADS,
    name: "threads (shared memory)",
    advice: "build without -pthread, and not for wasm32-wasip1-threads",
};

/// What is off.
pub(super) const OFF: &[Proposal] = &[
    THREADS,
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

/// The names of the proposals beyond WebAssembly 1.0.
const STANDARD: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::SATURATING_FLOAT_TO_INT, "nontrapping-float-to-int-conversions"),
    (WasmFeatures::SIGN_EXTENSION, "sign-extension-ops"),
    (WasmFeatures::MULTI_VALUE, "multi-value"),
    (WasmFeatures::BULK_MEMORY, "bulk-memory-operations"),
    (WasmFeatures::BULK_MEMORY_OPT, "bulk-memory-operations"),
    (WasmFeatures::REFERENCE_TYPES, "reference-types"),
    (WasmFeatures::CALL_INDIRECT_OVERLONG, "reference-types"),
    (WasmFeatures::SIMD, "simd"),
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (WasmFeatures::EXTENDED_CONST, "extended-const"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::EXCEPTIONS, "exception-handling"),
];

/// The proposals beyond WebAssembly 1.0 that a file uses: those without which it is not valid. Of a file
/// that is not valid with all of them either, those up to the first mistake.
pub(super) fn used(wasm: &[u8], kind: Kind) -> Vec<String> {
    let mut features = WasmFeatures::WASM1;
    features.set(WasmFeatures::COMPONENT_MODEL, kind == Kind::Component);
    let mut names: Vec<String> = Vec::new();
    // Each round names a proposal, or is the last.
    while let Some(error) = Validator::new_with_features(features).validate_all(wasm).err() {
        let Some((flag, name)) = missing(wasm, features, &error) else { break };
        features |= flag;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names
}

/// The proposal whose absence is this error: named by the error, or found by trying which one moves it.
fn missing(
    wasm: &[u8],
    features: WasmFeatures,
    error: &BinaryReaderError,
) -> Option<(WasmFeatures, &'static str)> {
    let known = STANDARD.iter().copied().chain(OFF.iter().map(|it| (it.flag, it.name)));
    let mut absent = known.filter(|(flag, _)| !features.contains(*flag));
    if let Some(flag) = error.missing_wasm_feature() {
        return absent.find(|(absent, _)| flag.contains(*absent));
    }
    absent.find(|(flag, _)| {
        let again = Validator::new_with_features(features | *flag).validate_all(wasm);
        again.err().is_none_or(|other| other.offset() > error.offset())
    })
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

    fn used_by(text: &str) -> Vec<String> {
        used(&wat::parse_str(text).unwrap(), Kind::Module)
    }

    #[test]
    fn what_a_file_uses_beyond_webassembly_1_0_is_named() {
        assert_eq!(used_by("(module (func (export \"f\")))"), [""; 0]);
        let cases = [
            ("(func (param i32) (result i32) (i32.extend8_s (local.get 0)))", "sign-extension-ops"),
            ("(func (result i32 i32) i32.const 1 i32.const 2)", "multi-value"),
            ("(func (param f32) (result i32) (i32.trunc_sat_f32_s (local.get 0)))", STANDARD[0].1),
            ("(memory 1) (memory 1)", "multi-memory"),
            ("(memory i64 1)", "memory64"),
            ("(func $f return_call $f)", "tail-call"),
            ("(memory 1 1 shared)", "threads (shared memory)"),
            ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", "extended-const"),
            ("(func (param v128))", "simd"),
            ("(table 1 externref)", "reference-types"),
        ];
        for (body, name) in cases {
            assert_eq!(used_by(&format!("(module {body})")), [name], "{body}");
        }
        assert!(used_by("(module (tag))").contains(&"exception-handling".to_owned()));
        assert!(used_by("(module (type (struct)))").contains(&"gc".to_owned()));
    }

    #[test]
    fn an_invalid_file_is_no_endless_search() {
        let invalid = wat::parse_str("(module (func (param v128) i32.const 1))").unwrap();
        assert_eq!(used(&invalid, Kind::Module), ["simd"]);
    }
}
