//! Signals of this process: caught by a handler that does nothing, and sent to one thread.
//!
//! Rule: a signal is caught only to get a thread out of a system call or to stay alive; nothing happens
//! in a handler. Handlers have no `SA_RESTART`, so a blocked call returns `EINTR`. A handler, unlike an
//! ignored signal, does not outlive an exec(2): child processes start with the default.
#![expect(unsafe_code, reason = "signals are set up and sent by system calls")]
// UNSAFETY: there is no safe interface in our libraries for a signal handler and for a signal to a thread.

use std::io;
use std::mem;
use std::ptr;

use rustix::thread::Pid;

/// Installs the handler for `signal`, whatever is there.
///
/// # Errors
///
/// What sigaction(2) says.
pub(crate) fn catch(signal: libc::c_int) -> io::Result<()> {
    extern "C" fn do_nothing(_: libc::c_int) {}
    // SAFETY: `sigaction` is a plain C struct for which all zero is a valid value: no flags, no mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: both pointers are to a live local or null; the handler touches nothing, so it is safe at
    // any moment.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Installs the handler for `signal` if that would end the process, and leaves what else the process has
/// chosen.
///
/// # Errors
///
/// What sigaction(2) says.
pub(crate) fn catch_unless_handled(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: as in `catch`.
    let mut present: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: both pointers are to a live local or null; without a new action nothing changes.
    if unsafe { libc::sigaction(signal, ptr::null(), &raw mut present) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if present.sa_sigaction == libc::SIG_DFL { catch(signal) } else { Ok(()) }
}

/// Lets this thread receive `signal`.
///
/// # Errors
///
/// What pthread_sigmask(3) says.
pub(crate) fn unblock(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: `sigset_t` is a plain C struct; `sigemptyset` gives it its value, every pointer is to it or null.
    let code = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut())
    };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Sends `signal`, which has a handler, to a thread of this process. A thread that is gone gets nothing.
pub(crate) fn send(thread: Pid, signal: libc::c_int) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: `tgkill` takes three numbers.
    let _ = unsafe { libc::tgkill(process, thread.as_raw_nonzero().get(), signal) };
}
