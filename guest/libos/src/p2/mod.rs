//! WASI 0.2 for components: the generated traits, implemented over the objects of the library OS.

pub(crate) mod bindings;
pub(crate) mod cli;
mod clocks;
pub(crate) mod filesystem;
mod random;
mod sockets;
pub(crate) mod streams;
mod wait;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, ResourceTable};

use crate::process::Process;

/// Most resources (descriptors, streams, pollables, directory streams, errors) a component holds at once.
///
/// A resource takes some 100 bytes of the guest's heap; the limit gives a component that leaks them an
/// error instead of a micro-VM without memory. It is below the 100 000 handles at which Wasmtime traps.
const RESOURCES_MAX: usize = 1 << 16;

/// What a component sees of WASI: the data of its store.
pub struct Wasi {
    pub(crate) process: Process,
    table: ResourceTable,
}

impl Wasi {
    pub(crate) fn new(process: Process) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self { process, table }
    }
}

/// Adds every interface of WASI 0.2 that the library OS has.
pub(crate) fn add_to_linker(linker: &mut Linker<Wasi>) -> Result<()> {
    let mut options = bindings::LinkOptions::default();
    options.clocks_timezone(true);
    bindings::Command::add_to_linker::<_, HasSelf<_>>(linker, &options, |wasi| wasi)?;
    sockets::add_to_linker(linker)
}
