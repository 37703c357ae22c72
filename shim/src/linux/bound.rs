//! Has a program that this process calls end with it.
//!
//! Rule: an OCI runtime works on mounts and directories that others take away once its shim is gone; so it must be
//! gone too.
#![expect(unsafe_code, reason = "a program is to be ended by the kernel when its caller is")]
// UNSAFETY: what a child does for itself before it becomes another program has no safe interface in std or tokio.

use std::io;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::Command;

/// Has what `command` starts be killed when the thread that starts it ends (`PR_SET_PDEATHSIG`, prctl(2)). So that must
/// be one that waits for it: the runtime's single one, or one that blocks meanwhile.
pub(super) fn end_with_caller(command: &mut Command) {
    let caller = getpid();
    let bind = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended just before.
        if getppid() == Some(caller) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: between fork and exec this makes two system calls. It allocates nothing, takes no lock and touches no
    // memory but its own copy of a number.
    unsafe { command.pre_exec(bind) };
}
