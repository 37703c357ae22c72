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
use crate::http::sending::Bodies;
use crate::output::Outputs;
use crate::poll::linger;
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
    /// Bodies of the messages of HTTP that the program sends.
    pub(crate) bodies: Bodies,
    pub(crate) ahead: ReadAhead,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
}

/// The process of a program, from the moment on at which its boot information says whose it is.
///
/// Invariant: an instance may exist before, and what it is then may be kept and used for anybody. So
/// whatever comes of a grant, of the seed or of a clock is reached by way of the process alone, and a
/// call that wants it earlier fails with [`NotGranted`].
#[derive(Default)]
pub struct Granted(Option<Process>);

impl Granted {
    /// Gives what the boot information says: a process that uses `calls`, or another call for the one
    /// that is there.
    pub(crate) fn grant(&mut self, boot: &BootInfo<'_>, calls: &Calls) {
        match &mut self.0 {
            Some(process) => process.renew(boot),
            None => self.0 = Some(Process::new(calls.clone(), boot)),
        }
    }

    /// The process.
    ///
    /// # Errors
    ///
    /// There is no boot information yet.
    pub(crate) fn get(&mut self) -> Result<&mut Process, NotGranted> {
        self.0.as_mut().ok_or(NotGranted)
    }
}

/// A program called WASI for something that only the boot information grants, before there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotGranted;

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WASI was called before there was boot information")
    }
}

impl core::error::Error for NotGranted {}

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
    fn new(calls: Calls, boot: &BootInfo<'_>) -> Self {
        Self {
            args: boot.args.iter().map(|arg| text(arg)).collect(),
            env: boot.env.iter().map(|entry| text(entry)).collect(),
            cwd: cwd(boot),
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
            bodies: Bodies::default(),
            ahead: ReadAhead::default(),
            clock: Clock::new(calls.clone(), boot.header.tsc_khz),
            random: Random::new(boot.header.seed),
            calls,
        }
    }

    /// Takes the boot information of another call for the same process.
    ///
    /// Handles stay what they are, those of directories too: the instance has asked for them, and will
    /// not ask again. Everything else is that of the new call. Time may have stood still in between, and
    /// the data area holds something else.
    fn renew(&mut self, boot: &BootInfo<'_>) {
        renew(&mut self.args, &boot.args);
        renew(&mut self.env, &boot.env);
        self.cwd = cwd(boot);
        self.terminals = boot.header.flags;
        self.ahead = ReadAhead::default();
        self.clock.restart(boot.header.tsc_khz);
        // Without another seed the generators go on.
        if boot.header.seed != [0; 32] {
            self.random = Random::new(boot.header.seed);
        }
    }

    /// The way to the host.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Whether something that the program has written waits for room.
    pub(crate) fn is_sending(&self) -> bool {
        !self.outputs.is_empty() || self.bodies.pending().next().is_some()
    }

    /// Whether something waits for room that is no output of `handle`.
    pub(crate) fn is_sending_elsewhere(&self, handle: Handle) -> bool {
        self.outputs.is_pending_elsewhere(handle) || self.bodies.pending().next().is_some()
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

    /// Delivers all output that is pending, waiting for readers if need be; not for ever for the peers of
    /// connections, who may be anybody.
    pub(crate) fn flush(&mut self) {
        linger(self);
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

/// Text of the boot information, with U+FFFD in place of what is not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cwd(boot: &BootInfo<'_>) -> Option<String> {
    (!boot.cwd.is_empty()).then(|| text(boot.cwd))
}

/// Makes `texts` those of `bytes`. From call to call they are mostly the same.
fn renew(texts: &mut Vec<String>, bytes: &[&[u8]]) {
    if !texts.iter().map(String::as_bytes).eq(bytes.iter().copied()) {
        *texts = bytes.iter().map(|bytes| text(bytes)).collect();
    }
}
