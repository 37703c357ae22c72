//! The compiler: a wasm component or core module in, the program that a guest runs out.
//!
//! Rule: this is the only place on the host that knows Wasmtime and its settings. They agree with
//! [`abi::engine`] and with what the guest's engine is built with; Wasmtime refuses a program where
//! they do not, so a difference is an error at start and no danger.
//!
//! The input is hostile. [`Compiler`] therefore runs [`compile`] in a child process with limits on
//! memory and time, and a compiler that crashes there is an error message here.

mod admission;
mod child;
mod compiler;
mod cpu;
mod entry;
mod inspection;
mod outline;
mod proposal;
mod refusal;
mod signature;
mod turn;
mod wasi;

use wasmtime::wasmparser::{BinaryReaderError, Validator, WasmFeatures};
use wasmtime::{Collector, Config, Engine, OptLevel, WasmBacktraceDetails};

use self::outline::Outline;

pub use child::{Job, JobLimits, child_main, taken_over_main};
pub use compiler::{CompileCost, CompileError, CompiledFile, Compiler};
pub use cpu::Withheld;
pub use entry::{Entry, EntryPoints};
pub use inspection::{Function, Inspection, Item, ItemKind};
pub use outline::{Kind, Limits, MemoryNeeds};
pub use refusal::Refusal;
pub(crate) use refusal::one_line;

/// Largest file that is accepted, in bytes: what the compiler can be expected to manage with the
/// [limits](Job) of its process.
pub const WASM_BYTES_MAX: u64 = 128 << 20;

/// What a process and its compiler have to have in common: the release, and the guest image, whose engine loads
/// what is compiled.
pub const BUILD: &str =
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("HYPERLIGHT_GUEST_IMAGE_SHA256"));

/// The settings, for a CPU without what is `withheld`.
fn config(withheld: Withheld) -> Config {
    let mut config = Config::new();
    config
        .signals_based_traps(true)
        .memory_reservation(abi::engine::MEMORY_RESERVATION_BYTES)
        .memory_guard_size(abi::engine::MEMORY_GUARD_BYTES)
        .memory_reservation_for_growth(abi::engine::MEMORY_GROWTH_RESERVATION_BYTES)
        .guard_before_linear_memory(true)
        // The guest fills memories by copying: it has no file to map.
        .memory_init_cow(false)
        // Backtraces name wasm functions by the address map; nothing unwinds natively.
        .generate_address_map(true)
        .native_unwind_info(false)
        // Not from the environment, which is what the default does.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // The copying collector is the one that needs no more of a system than memory.
        .gc_support(true)
        .collector(Collector::Copying)
        .concurrency_support(false)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(proposal::on(), true)
        .cranelift_opt_level(OptLevel::Speed);
    withheld.apply(&mut config);
    config
}

/// A compiled program.
#[derive(Debug)]
pub struct Compiled {
    /// What the guest's engine loads.
    pub program: Vec<u8>,
    /// Where it can begin.
    pub entry_points: EntryPoints,
}

/// Compiles a component or a core module for this machine's CPU without what is `withheld`.
///
/// # Errors
///
/// The [`Refusal`] that says what is wrong with `wasm`.
pub fn compile(wasm: &[u8], entry: Entry, withheld: Withheld) -> Result<Compiled, Refusal> {
    admission::check_header(wasm)?;
    let outline = Outline::of(wasm)?;
    admission::admit(&outline)?;
    let entry_points = admission::entry_points(&outline);
    if let Some(refusal) = admission::refuse_entry(&outline, entry) {
        return Err(refusal);
    }
    let engine = Engine::new(&config(withheld)).map_err(|error| Refusal::uncompilable(&error))?;
    let program = match outline.kind {
        Kind::Component => engine.precompile_component(wasm),
        Kind::Module => engine.precompile_module(wasm),
    };
    let program = program.map_err(|error| from_compiler(wasm, &error))?;
    Ok(Compiled { program, entry_points })
}

/// Why Wasmtime does not compile `wasm`. Of an error in a function its compiler tells only a sentence:
/// the validator, asked again, tells the proposal and the place.
fn from_compiler(wasm: &[u8], error: &wasmtime::Error) -> Refusal {
    if let Some(invalid) = error.chain().find_map(|it| it.downcast_ref::<BinaryReaderError>()) {
        return Refusal::invalid(invalid);
    }
    match Validator::new_with_features(proposal::on()).validate_all(wasm) {
        Err(invalid) => Refusal::invalid(&invalid),
        Ok(_) => Refusal::uncompilable(error),
    }
}

/// Everything that the compiler's output depends on beside its input: Wasmtime's version, the settings,
/// the features of this CPU but those `withheld`. It is the compilation of nothing, into which Wasmtime
/// writes all of these.
///
/// # Errors
///
/// The [`Refusal`] of a CPU for which Wasmtime has no compiler.
fn settings(withheld: Withheld) -> Result<Vec<u8>, Refusal> {
    const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    let mut config = config(withheld);
    // No threads for this.
    config.parallel_compilation(false);
    let engine = Engine::new(&config).map_err(|error| Refusal::uncompilable(&error))?;
    engine.precompile_component(EMPTY_COMPONENT).map_err(|error| Refusal::uncompilable(&error))
}

#[cfg(test)]
mod tests;
