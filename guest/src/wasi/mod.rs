//! The WASI library OS: WASI 0.2 over the host calls of [`abi`].
//!
//! The objects (streams, pollables, descriptors) are plain Rust over capability handles; the
//! implementations of the generated traits only translate. What needs no host stays here: arguments,
//! environment, clocks between samples, random numbers, file positions, directory positions, pending
//! output.
//!
//! Invariant: what a write reported as done is with the host, or in [`stream::Output`]'s pending bytes,
//! which are delivered before the task ends.

pub(crate) mod bindings;
pub(crate) mod cli;
mod clocks;
pub(crate) mod directory;
pub(crate) mod filesystem;
mod handle;
pub(crate) mod poll;
mod random;
mod sockets;
pub(crate) mod stream;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Handle;
use abi::boot::{BootInfo, boot_flags};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, ResourceTable};

use crate::clock::Clock;
use filesystem::Descriptor;
use handle::OwnedHandle;
use stream::Output;

/// Most resources (descriptors, streams, pollables, directory streams, errors) a program holds at once.
///
/// A resource takes some 100 bytes of the guest's heap; the limit turns a program that leaks them into a
/// trap with a message instead of a micro-VM without memory.
const RESOURCES_MAX: usize = 1 << 18;

/// What a program sees of WASI: the data of its store.
pub struct Wasi {
    table: ResourceTable,
    args: Vec<String>,
    env: Vec<(String, String)>,
    preopens: Vec<(Descriptor, String)>,
    terminals: u32,
    stdin: Arc<OwnedHandle>,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    clock: Clock,
    random: random::Random,
}

impl Wasi {
    /// Everything that the boot information grants, and nothing else.
    ///
    /// Arguments and variables that are not UTF-8 arrive with U+FFFD in place of what is not: WASI knows
    /// only Unicode strings.
    pub(crate) fn new(boot: &BootInfo<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            table,
            args: boot.args.iter().map(|arg| text(arg)).collect(),
            env: boot
                .env
                .iter()
                .map(|entry| text(entry))
                .map(|entry| match entry.split_once('=') {
                    Some((key, value)) => (key.into(), value.into()),
                    None => (entry, String::new()),
                })
                .collect(),
            preopens: boot
                .preopens
                .iter()
                .map(|preopen| (Descriptor::preopened(preopen.handle), text(preopen.guest_path)))
                .collect(),
            terminals: boot.header.flags,
            stdin: OwnedHandle::shared(Handle::STDIN),
            stdout: Output::new(Handle::STDOUT),
            stderr: Output::new(Handle::STDERR),
            clock: Clock::new(boot.header.tsc_khz),
            random: random::Random::new(boot.header.seed),
        }
    }

    /// Delivers all output that is pending, waiting for readers if need be.
    pub(crate) fn flush(&self) {
        for output in [&self.stdout, &self.stderr] {
            // A reader that is gone takes nothing more; there is nobody left to tell.
            let _ = output.drain();
        }
    }

    /// Writes a message about the program to its standard error.
    pub(crate) fn tell(&self, text: &str) {
        // If nobody reads standard error, there is nobody left to tell.
        let _ = self.stderr.write(text.as_bytes());
        let _ = self.stderr.drain();
    }

    fn is_terminal(&self, handle: Handle) -> bool {
        let flag = match handle {
            Handle::STDIN => boot_flags::STDIN_IS_TERMINAL,
            Handle::STDOUT => boot_flags::STDOUT_IS_TERMINAL,
            Handle::STDERR => boot_flags::STDERR_IS_TERMINAL,
            _ => 0,
        };
        self.terminals & flag != 0
    }
}

/// Adds every interface that the guest provides.
pub(crate) fn add_to_linker(linker: &mut Linker<Wasi>) -> Result<()> {
    bindings::Command::add_to_linker::<_, HasSelf<_>>(linker, |wasi| wasi)?;
    sockets::add_to_linker(linker)
}
