//! The wasm that people ship: every proposal of WebAssembly 3.0, and those that cannot run, by name.

use integration::require_kvm;
use integration::run::Run;

crate::behaviours! {
    longjmp_is_an_exception: longjmp [c_p1 c_p2];
    a_compiler_uses_vectors: vectors [rs_p1 rs_p2];
}

fn longjmp_is_an_exception(name: &str) {
    let text = Run::of(name).unwrap().compared().unwrap().output();
    assert_eq!(text, "at depth 0\nat depth 10\n");
}

fn a_compiler_uses_vectors(name: &str) {
    assert_eq!(Run::of(name).unwrap().compared().unwrap().output(), "1498500 3 9\n");
}

/// The module checks for itself what it computes.
fn works(name: &str) {
    require_kvm!();
    assert_eq!(Run::of(name).unwrap().compared().unwrap().output(), "ok\n");
}

#[test]
fn exceptions_work() {
    works("exceptions");
}

#[test]
fn tail_calls_work() {
    works("tail_calls");
}

#[test]
fn vectors_work() {
    works("simd");
}

#[test]
fn relaxed_vectors_work() {
    works("relaxed_simd");
}

#[test]
fn bulk_memory_works() {
    works("bulk_memory");
}

#[test]
fn several_memories_work() {
    works("multi_memory");
}

#[test]
fn memories_of_64_bits_work() {
    works("memory64");
}

#[test]
fn garbage_collection_works() {
    works("garbage_collection");
}

#[test]
fn references_to_functions_work() {
    works("function_references");
}

#[test]
fn finished_proposals_work() {
    works("finished_proposals");
}

#[test]
fn a_load_far_past_a_memory_of_64_bits_traps() {
    require_kvm!();
    let outcome = Run::of("load_past_memory64").unwrap().compared().unwrap().outcome;
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (134, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("out of bounds memory access"), "{outcome:?}");
}

/// Compiling is refused with one line that names the proposal.
fn refused(name: &str, proposal: &str) {
    let error = format!("{:#}", Run::of(name).unwrap().in_micro_vm().unwrap_err());
    assert_eq!(error.trim_end().lines().count(), 2, "{error}");
    assert!(error.contains("exit status: 126"), "{error}");
    assert!(error.contains(proposal), "no {proposal} in: {error}");
}

#[test]
fn threads_are_refused_by_name() {
    refused("threads", "threads");
}

#[test]
fn stack_switching_is_refused_by_name() {
    refused("stack_switching", "stack-switching");
}
