//! How a run ended, and what it cost.
//!
//! Everything a guest can do to itself is an [`Exit`]. Text that comes from a guest is bounded and free
//! of control characters before it is stored here, so it can go to a log or a terminal as it is.

use std::fmt;
use std::time::Duration;

use abi::layout::ExceptionRecord;
use abi::{AbortKind, Nr, Violation};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The program ended with this status.
    Status(i32),
    /// The micro-VM was ended.
    Fault(Fault),
}

/// Why a micro-VM was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The guest made a malformed host call.
    Violation(Violation),
    /// The guest gave up ([`abi::Request::Abort`]).
    Abort {
        /// Why.
        kind: AbortKind,
        /// One line from the guest, at most [`MESSAGE_BYTES_MAX`] bytes of it.
        message: String,
    },
    /// An exception that the guest has no handler for, or that came while it handled another.
    Exception(ExceptionRecord),
    /// The vCPU could not even deliver an exception.
    TripleFault,
    /// The vCPU left the guest in a way that no guest of ours has a reason for.
    UnexpectedExit {
        /// `exit_reason` of KVM_RUN (KVM API, 5).
        reason: u32,
        /// The exit's own number: port, guest-physical address, suberror.
        detail: u64,
        /// Where the guest was.
        rip: u64,
    },
    /// [`Kick::stop`](crate::Kick::stop) was called.
    Stopped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => write!(f, "guest broke the contract: {violation}"),
            Self::Abort { kind, message } => match kind {
                AbortKind::Panic => write!(f, "guest runtime failed: {message}"),
                AbortKind::OutOfMemory => write!(f, "out of memory: {message}"),
                AbortKind::BadProgram => write!(f, "program cannot run: {message}"),
                AbortKind::Exception => write!(f, "exception in the guest: {message}"),
            },
            Self::Exception(record) => write!(
                f,
                "unhandled exception {} ({}), error code {:#x}, at {:#x}, address {:#x}, stack {:#x}",
                record.vector,
                exception_name(record.vector),
                record.error_code,
                record.rip,
                record.fault_address,
                record.rsp
            ),
            Self::TripleFault => f.write_str("triple fault"),
            Self::UnexpectedExit { reason, detail, rip } => {
                write!(f, "unexpected VM exit {reason}, detail {detail:#x}, at {rip:#x}")
            }
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Name of an exception vector (SDM vol. 3, table 6-1).
const fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "NMI",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range",
        6 => "invalid opcode",
        7 => "no FPU",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD error",
        20 => "virtualization",
        21 => "control protection",
        _ => "reserved",
    }
}

/// What one run cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStats {
    /// VM exits by the doorbell: one per host call.
    pub doorbell_exits: u64,
    /// VM exits by a signal.
    pub interrupted_exits: u64,
    /// Page-table roots that were loaded because [`abi::Request::Map`] changed present pages.
    pub root_changes: u64,
    /// Changes of the memory slots, made to use page-table frames again.
    pub slot_changes: u64,
    /// From the call of [`MicroVm::boot`](crate::MicroVm::boot), or of whatever made the micro-VM that was run, to
    /// its return. Nothing for [`Idle::again`](crate::Idle::again).
    pub boot: Duration,
    /// From the call of [`MicroVm::run`](crate::MicroVm::run) to its return.
    pub run: Duration,
    /// Part of `run` in which host calls were answered.
    pub answering: Duration,
    /// By number, up to the highest that was made, without the one that ended the run: most calls of a function
    /// make no other.
    calls: Vec<u64>,
    ended_by: Option<Nr>,
}

impl Default for RunStats {
    /// Those of a run that never was.
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl RunStats {
    pub(crate) const fn new(boot: Duration) -> Self {
        Self {
            doorbell_exits: 0,
            interrupted_exits: 0,
            root_changes: 0,
            slot_changes: 0,
            boot,
            run: Duration::ZERO,
            answering: Duration::ZERO,
            calls: Vec::new(),
            ended_by: None,
        }
    }

    pub(crate) fn count_call(&mut self, nr: Nr) {
        if matches!(nr, Nr::Exit | Nr::Abort) {
            self.ended_by = Some(nr);
            return;
        }
        let number = nr as usize;
        if self.calls.len() <= number {
            self.calls.resize(number + 1, 0);
        }
        if let Some(count) = self.calls.get_mut(number) {
            *count += 1;
        }
    }

    /// Host calls that were made at least once, with how often.
    pub fn calls(&self) -> impl Iterator<Item = (Nr, u64)> + '_ {
        let count = |nr: &Nr| {
            let ended = u64::from(self.ended_by == Some(*nr));
            ended + self.calls.get(*nr as usize).copied().unwrap_or(0)
        };
        Nr::ALL.iter().map(move |nr| (*nr, count(nr))).filter(|(_, count)| *count > 0)
    }
}

/// Longest text of a guest that is kept in one piece: a line with room for a long symbol name.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// Makes one printable line of at most [`MESSAGE_BYTES_MAX`] guest bytes: invalid UTF-8 becomes U+FFFD,
/// control characters (terminal escapes and line ends among them) become spaces.
pub(crate) fn printable_line(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MESSAGE_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_text_is_one_printable_line() {
        assert_eq!(printable_line(b"a\nb\x1b[2Jc\xffd\n"), "a b [2Jc\u{fffd}d");
    }

    #[test]
    fn guest_text_is_bounded() {
        assert_eq!(printable_line(&[b'x'; 3 * MESSAGE_BYTES_MAX]).len(), MESSAGE_BYTES_MAX);
    }

    #[test]
    fn calls_are_counted_by_number() {
        let mut stats = RunStats::new(Duration::ZERO);
        stats.count_call(Nr::Write);
        stats.count_call(Nr::ReadLinkAt);
        stats.count_call(Nr::Write);
        stats.count_call(Nr::Exit);
        let counted = [(Nr::Exit, 1), (Nr::Write, 2), (Nr::ReadLinkAt, 1)];
        assert_eq!(stats.calls().collect::<Vec<_>>(), counted);
    }

    #[test]
    fn every_fault_is_one_line() {
        let faults = [
            Fault::Violation(Violation::UnknownCall(9)),
            Fault::Abort { kind: AbortKind::Panic, message: printable_line(b"a\nb") },
            Fault::Exception(ExceptionRecord::default()),
            Fault::TripleFault,
            Fault::UnexpectedExit { reason: 6, detail: 1, rip: 2 },
            Fault::Stopped,
        ];
        for fault in faults {
            assert_eq!(fault.to_string().lines().count(), 1, "{fault}");
        }
    }
}
