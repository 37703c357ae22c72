//! What a program sees of its surroundings, whatever version of WASI it speaks.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use abi::Handle;
use abi::boot::{BootInfo, boot_flags};

use crate::ahead::ReadAhead;
use crate::call::Calls;
use crate::clock::Clock;
use crate::descriptor::Descriptor;
use crate::handle::OwnedHandle;
use crate::output::Outputs;
use crate::random::Random;

/// Everything that the boot information grants, and nothing else.
pub struct Process {
    calls: Calls,
    pub(crate) args: Vec<String>,
    /// Each `KEY=VALUE`.
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) preopens: Vec<(Descriptor, String)>,
    terminals: u32,
    pub(crate) stdin: Arc<OwnedHandle>,
    pub(crate) stdout: Arc<OwnedHandle>,
    pub(crate) stderr: Arc<OwnedHandle>,
    pub(crate) outputs: Outputs,
    pub(crate) ahead: ReadAhead,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
}

/// The program asked to end with this status. Travels as the error of the call that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited(pub i32);

impl fmt::Display for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exited with status {}", self.0)
    }
}

impl core::error::Error for Exited {}

impl Process {
    /// A process that uses `calls`.
    ///
    /// Arguments and variables that are not UTF-8 arrive with U+FFFD in place of what is not: WASI knows
    /// only Unicode strings.
    pub(crate) fn new(calls: Calls, boot: &BootInfo<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            args: boot.args.iter().map(|arg| text(arg)).collect(),
            env: boot.env.iter().map(|entry| text(entry)).collect(),
            cwd: (!boot.cwd.is_empty()).then(|| text(boot.cwd)),
            preopens: boot
                .preopens
                .iter()
                .map(|preopen| (Descriptor::preopened(&calls, preopen), text(preopen.guest_path)))
                .collect(),
            terminals: boot.header.flags,
            stdin: OwnedHandle::shared(&calls, Handle::STDIN),
            stdout: OwnedHandle::shared(&calls, Handle::STDOUT),
            stderr: OwnedHandle::shared(&calls, Handle::STDERR),
            outputs: Outputs::default(),
            ahead: ReadAhead::default(),
            clock: Clock::new(calls.clone(), boot.header.tsc_khz),
            random: Random::new(boot.header.seed),
            calls,
        }
    }

    /// The way to the host.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Whether a standard stream is a terminal.
    pub(crate) fn is_terminal(&self, handle: Handle) -> bool {
        let flag = match handle {
            Handle::STDIN => boot_flags::STDIN_IS_TERMINAL,
            Handle::STDOUT => boot_flags::STDOUT_IS_TERMINAL,
            Handle::STDERR => boot_flags::STDERR_IS_TERMINAL,
            _ => 0,
        };
        self.terminals & flag != 0
    }

    /// Delivers all output that is pending, waiting for readers if need be.
    pub(crate) fn flush(&mut self) {
        self.outputs.drain_all();
    }

    /// Writes a message about the program to its standard error, after what the program wrote.
    pub(crate) fn tell(&mut self, text: &str) {
        self.flush();
        // If nobody reads standard error, there is nobody left to tell.
        let _ = self.stderr.write_all(0, text.as_bytes(), true);
    }

    /// Writes a result to the program's standard output.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), abi::Errno> {
        self.outputs.write_through(&self.stdout, text.as_bytes())
    }
}
