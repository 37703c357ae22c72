//! Ending a run from another thread.
//!
//! A flag says that the run shall end, and a signal gets the vCPU thread out of the guest or out of a
//! system call. A signal that arrives just before KVM_RUN or the system call would be lost, so it is sent
//! again every millisecond until the run has left. The signal is `SIGRTMIN`.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::thread::Pid;

use crate::{Error, signal};

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
            signal::send(id, libc::SIGRTMIN());
            let wait = self.0.left.wait_timeout(thread, REPEAT_AFTER);
            thread = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes it that of another run, which what ended the last one does not end.
    pub(crate) fn renew(&mut self) {
        match Arc::get_mut(&mut self.0) {
            Some(state) => *state.stop.get_mut() = false,
            None => *self = Self::default(),
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
        *self.0.thread() = Some(accept_signal()?);
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
        // Who waits has said so before it looked for the thread.
        if self.0.stop.load(Ordering::SeqCst) {
            self.0.left.notify_all();
        }
    }
}

/// Installs the handler for the process and lets this thread receive the signal, each once. Returns the thread.
fn accept_signal() -> Result<Pid, Error> {
    static CAUGHT: AtomicBool = AtomicBool::new(false);
    thread_local!(static UNBLOCKED: Cell<Option<Pid>> = const { Cell::new(None) });
    if let Some(thread) = UNBLOCKED.get() {
        return Ok(thread);
    }
    let signal = libc::SIGRTMIN();
    let failed = |source| Error::Signal { signal, source };
    if !CAUGHT.load(Ordering::SeqCst) {
        signal::catch(signal).map_err(failed)?;
        CAUGHT.store(true, Ordering::SeqCst);
    }
    signal::unblock(signal).map_err(failed)?;
    let thread = rustix::thread::gettid();
    UNBLOCKED.set(Some(thread));
    Ok(thread)
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
    fn what_ended_a_run_does_not_end_the_next() {
        for is_held in [true, false] {
            let mut kick = Kick::default();
            let held = kick.clone();
            held.stop();
            let _held = is_held.then_some(held);
            kick.renew();
            assert!(!kick.is_stopped());
        }
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
