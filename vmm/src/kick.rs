//! Ending a run from another thread.
//!
//! A flag says that the run shall end, and a signal gets the vCPU thread out of the guest or out of a
//! system call. A signal that arrives just before KVM_RUN or the system call would be lost, so it is sent
//! again every millisecond until the run has left. The signal is `SIGRTMIN`; its handler does
//! nothing and has no `SA_RESTART`, so a blocked call returns `EINTR`.
#![expect(unsafe_code, reason = "signals are set up and sent by system calls")]
// UNSAFETY: there is no safe interface in our libraries for a signal handler and for a signal to a thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::thread::Pid;

use crate::Error;

/// How long one signal may take before the next is sent.
const REPEAT_AFTER: Duration = Duration::from_millis(1);

/// Ends one micro-VM's run. Clones end the same one.
#[derive(Clone, Debug, Default)]
pub struct Kick(Arc<State>);

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    /// The thread that runs the vCPU, while it does.
    thread: Mutex<Option<Pid>>,
    left: Condvar,
}

impl Kick {
    /// Makes the run end with [`Fault::Stopped`](crate::Fault::Stopped), also if it has not begun, and
    /// returns when it has left. A run that has ended stays as it ended.
    ///
    /// The host call that is being answered comes to its end first; one that blocks is interrupted.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
        let mut thread = self.0.thread();
        while let Some(id) = *thread {
            if id == rustix::thread::gettid() {
                return;
            }
            // The lock is held: the run cannot leave, so the thread is still the one that was entered.
            send(id);
            let wait = self.0.left.wait_timeout(thread, REPEAT_AFTER);
            thread = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the run shall end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }

    /// This thread runs the vCPU until the value is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Signal`].
    pub(crate) fn enter(&self) -> Result<Entered<'_>, Error> {
        accept_signal()?;
        *self.0.thread() = Some(rustix::thread::gettid());
        Ok(Entered(&self.0))
    }
}

impl State {
    fn thread(&self) -> MutexGuard<'_, Option<Pid>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Kick::enter`].
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a State);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        *self.0.thread() = None;
        self.0.left.notify_all();
    }
}

/// Sends the signal to a thread of this process.
fn send(thread: Pid) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: `tgkill` takes three numbers. The signal has a handler: `enter` has installed it before the
    // thread's number was to be had. A failure means that the thread is gone, and with it the run.
    let _ = unsafe { libc::tgkill(process, thread.as_raw_nonzero().get(), libc::SIGRTMIN()) };
}

/// Installs the handler for the process and lets this thread receive the signal.
fn accept_signal() -> Result<(), Error> {
    extern "C" fn do_nothing(_: libc::c_int) {}
    let signal = libc::SIGRTMIN();
    // SAFETY: `sigaction` and `sigset_t` are plain C structs for which all zero is a valid value; the
    // handler touches nothing, so it is safe at any moment; every pointer is to a live local or null.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
        if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(Error::Signal { signal, source: io::Error::last_os_error() });
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        match libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(()),
            code => Err(Error::Signal { signal, source: io::Error::from_raw_os_error(code) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn stopping_what_never_ran_returns_at_once() {
        let kick = Kick::default();
        kick.stop();
        assert!(kick.is_stopped());
    }

    #[test]
    fn stopping_from_the_run_itself_returns() {
        let kick = Kick::default();
        let _entered = kick.enter().unwrap();
        kick.stop();
        assert!(kick.is_stopped());
    }

    #[test]
    fn a_blocking_system_call_is_interrupted() {
        let kick = Kick::default();
        let (sender, receiver) = mpsc::channel();
        let blocked = kick.clone();
        let run = thread::spawn(move || {
            let _entered = blocked.enter().unwrap();
            sender.send(()).unwrap();
            rustix::event::poll(&mut [], None)
        });
        receiver.recv().unwrap();
        kick.stop();
        assert_eq!(run.join().unwrap(), Err(rustix::io::Errno::INTR));
    }
}
