//! Signals of a process that is the first of its pid namespace.
//!
//! Rule: a signal that ends any other process ends this one too, with the status that a shell would give,
//! 128 and the signal. The kernel spares the first process of a pid namespace every signal that it has no
//! handler for (pid_namespaces(7)), but SIGKILL, SIGSTOP and its own faults.
#![expect(unsafe_code, reason = "signal handlers are set up by a system call")]
// UNSAFETY: there is no safe interface in our libraries for a handler that ends the process.

use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc::{self, c_int};

/// Whether SIGTERM and SIGINT are somebody else's.
static SERVED: AtomicBool = AtomicBool::new(false);

/// Signals that others deal with, or that a process without a handler survives.
const LEFT_OUT: [c_int; 15] = [
    libc::SIGKILL, // cannot be caught
    libc::SIGSTOP, // the same
    libc::SIGSEGV, // faults of this process' own: the kernel ends it
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGPIPE, // a guest is told instead (`vmm::host`)
    libc::SIGXFSZ,
    libc::SIGCHLD, // ignored by default (signal(7))
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGTSTP, // stop a job of a terminal: there is no shell that would continue it
    libc::SIGTTIN,
];

/// Has every signal that would end another process end this one, if it is the first of its namespace.
///
/// # Errors
///
/// What sigaction(2) says.
pub(super) fn end_by_default() -> io::Result<()> {
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        return Ok(());
    }
    for signal in (1..32).chain(libc::SIGRTMIN() + 1..=libc::SIGRTMAX()) {
        if !LEFT_OUT.contains(&signal) && signal != libc::SIGTTOU {
            end_by(signal)?;
        }
    }
    Ok(())
}

/// SIGTERM and SIGINT are dealt with by whoever has handlers for them now.
pub(super) fn leave_to_service() {
    SERVED.store(true, Ordering::SeqCst);
}

fn end_by(signal: c_int) -> io::Result<()> {
    // SAFETY: `sigaction` is a plain C struct for which all zero is a valid value: no flags, no mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = end as extern "C" fn(c_int) as usize;
    // SAFETY: both pointers are to a live local or null; the handler calls nothing but _exit(2), which is
    // safe at any moment.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn end(signal: c_int) {
    // A handler that is set up later calls this one first.
    if SERVED.load(Ordering::SeqCst) && (signal == libc::SIGTERM || signal == libc::SIGINT) {
        return;
    }
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(128 + signal) }
}
