//! Programs, compiled with the settings of the guest.

use std::path::Path;
use std::sync::OnceLock;

use wasmtime::component::Component;
use wasmtime::{Collector, Config, Engine, Module, OptLevel, Result};

/// A compiled component or core module, in the engine of this process.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) compiled: libos::Program,
    /// What messages call it.
    pub(crate) name: String,
}

impl Program {
    /// Compiles `wasm`, binary. Messages call it `name`.
    ///
    /// # Errors
    ///
    /// It is neither a component nor a core module.
    pub fn compile(name: &str, wasm: &[u8]) -> Result<Self> {
        let engine = engine()?;
        // A component is of layer 1 (Component Model, Binary.md).
        let compiled = match wasm.get(6) {
            Some(1) => libos::Program::Component(Component::from_binary(engine, wasm)?),
            _ => libos::Program::Module(Module::from_binary(engine, wasm)?),
        };
        Ok(Self { compiled, name: name.to_owned() })
    }

    /// Compiles a file, by whose name messages call it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or as [`compile`](Self::compile).
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::compile(&name, &std::fs::read(path)?)
    }
}

/// The engine: the settings that the guest has, and its compiler beside it.
pub(crate) fn engine() -> Result<&'static Engine> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    if let Some(engine) = ENGINE.get() {
        return Ok(engine);
    }
    let mut config = Config::new();
    config
        .signals_based_traps(true)
        .memory_reservation(abi::engine::MEMORY_RESERVATION_BYTES)
        .memory_guard_size(abi::engine::MEMORY_GUARD_BYTES)
        .memory_reservation_for_growth(abi::engine::MEMORY_GROWTH_RESERVATION_BYTES)
        .memory_init_cow(false)
        .wasm_gc(true)
        .wasm_function_references(true)
        .wasm_exceptions(true)
        .collector(Collector::Copying)
        .max_wasm_stack(abi::engine::WASM_STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed);
    let engine = Engine::new(&config)?;
    Ok(ENGINE.get_or_init(|| engine))
}
