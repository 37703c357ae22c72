//! WASI 0.2 for components: the generated traits, implemented over the objects of the library OS.

pub(crate) mod bindings;
pub(crate) mod cli;
mod clocks;
pub(crate) mod filesystem;
pub(crate) mod http;
mod random;
pub(crate) mod sockets;
pub(crate) mod streams;
mod wait;

use alloc::sync::Arc;

use abi::Errno;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use self::filesystem::FsFailure;
use crate::handle::OwnedHandle;
use crate::process::Granted;

/// Most files, directories, sockets and streams that a component holds at once.
///
/// Each takes some 100 bytes of the guest's heap; the limit gives a component that leaks them an error
/// instead of a micro-VM without memory. It leaves room below the 100 000 handles at which Wasmtime
/// traps, so that a component that was refused can still say so.
const OPEN_MAX: usize = 1 << 16;

/// What a component sees of WASI: the data of its store.
pub struct Wasi {
    pub(crate) process: Granted,
    /// The incoming exchange of the call.
    pub(crate) exchange: Option<Arc<OwnedHandle>>,
    table: ResourceTable,
    /// Files, directories, sockets and streams in the table.
    open: usize,
}

impl Wasi {
    pub(crate) fn new(process: Granted) -> Self {
        Self { process, exchange: None, table: ResourceTable::new(), open: 0 }
    }

    /// Gives the component a file, directory, socket, stream or message.
    pub(crate) fn hand_out<T: Send + 'static>(&mut self, object: T) -> Result<Resource<T>> {
        self.open += 1;
        Ok(self.table.push(object)?)
    }

    /// As [`hand_out`](Self::hand_out), unless the component holds as many as it may.
    fn admit<T: Send + 'static>(&mut self, object: T) -> Result<Resource<T>, FsFailure> {
        if !self.has_room_for(1) {
            return Err(Errno::NoMemory.into());
        }
        self.hand_out(object).map_err(FsFailure::Trap)
    }

    /// Whether the component may hold `more` than it does.
    fn has_room_for(&self, more: usize) -> bool {
        self.open.saturating_add(more) <= OPEN_MAX
    }

    /// Gives the component a part of what it holds, which has to go before the whole.
    fn hand_out_child<T: Send + 'static, U: 'static>(
        &mut self,
        object: T,
        parent: &Resource<U>,
    ) -> Result<Resource<T>> {
        let child = self.table.push_child(object, parent)?;
        self.open += 1;
        Ok(child)
    }

    /// Takes back what was handed out, to use it.
    fn take<T: Send + 'static>(&mut self, resource: Resource<T>) -> Result<T> {
        let object = self.table.delete(resource)?;
        self.open = self.open.saturating_sub(1);
        Ok(object)
    }

    /// Takes back what was handed out.
    fn take_back<T: Send + 'static>(&mut self, resource: Resource<T>) -> Result<()> {
        self.take(resource).map(drop)
    }
}

/// Adds every interface of WASI 0.2 that the library OS has.
pub(crate) fn add_to_linker(linker: &mut Linker<Wasi>) -> Result<()> {
    let mut options = bindings::LinkOptions::default();
    options.clocks_timezone(true);
    options.network_error_code(true);
    options.informational_outbound_responses(true);
    bindings::Command::add_to_linker::<_, HasSelf<_>>(linker, &options, |wasi| wasi)
}
