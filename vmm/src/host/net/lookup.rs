//! Looking names up: by somebody else, while the guest goes on.
//!
//! Rule: every lookup ends. The answer is set once; then, or when whoever had to answer has given up, the
//! bell is dropped: the write end of a pipe, whose read end is the guest's handle and polls as readable from
//! then on. Nobody waits for an answer that the guest has closed, and the number of lookups that are not
//! answered is bounded.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use abi::{Errno, SocketAddress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use zerocopy::IntoBytes as _;

use super::super::Answer;
use super::super::errno::refusal;
use super::super::handles::{Object, Role};
use super::{Granted, address};

/// Most lookups of a guest that are not answered. Each has a descriptor beside the guest's handle.
const PENDING_MAX: usize = 32;

/// Most addresses of a name that the guest is told: more than a DNS message over UDP has room for.
const ADDRESSES_MAX: usize = 256;

/// Looks names up, without waiting: it hands the request to somebody else.
pub type LookUp = Arc<dyn Fn(LookupRequest) + Send + Sync>;

type Outcome = Arc<OnceLock<Result<Vec<IpAddr>, LookupError>>>;

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It does not exist, or has no address.
    #[error("no such name, or no address of it")]
    NotFound,
    /// Nobody who might know has answered.
    #[error("no name server answers")]
    TimedOut,
    /// Whoever should know has failed, for now.
    #[error("the name server fails")]
    ServerFailed,
    /// The name cannot be looked up: whoever should know refuses, or cannot be understood.
    #[error("the name cannot be looked up")]
    Failed,
}

/// A name that a guest looks up. If it is dropped, the lookup has failed.
pub struct LookupRequest {
    name: String,
    outcome: Outcome,
    _bell: OwnedFd,
    _pending: Arc<()>,
}

impl LookupRequest {
    /// The name, as the guest wrote it: 1 to [`abi::NAME_BYTES_MAX`] bytes, no white space and no control
    /// characters, and no address.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the guest still waits for the answer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.outcome) > 1
    }

    /// Tells the guest, of many addresses the first ones.
    pub fn answer(self, outcome: Result<Vec<IpAddr>, LookupError>) {
        // Set for the first time, because the request is used up with it.
        drop(self.outcome.set(outcome));
    }
}

impl fmt::Debug for LookupRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A lookup in the table.
#[derive(Debug)]
pub(in crate::host) struct Lookup {
    name: String,
    outcome: Outcome,
    /// Addresses that the guest was told.
    told: AtomicUsize,
}

impl Granted {
    /// Begins a lookup.
    ///
    /// # Errors
    ///
    /// [`Errno::Invalid`] for what cannot be a name, [`Errno::NameTryAgain`] while too many are not answered.
    pub(in crate::host) fn resolve(&self, name: &[u8]) -> Result<Object, Errno> {
        let name = str::from_utf8(name).map_err(|_| Errno::Invalid)?;
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if name.is_empty() || name.contains(odd) {
            return Err(Errno::Invalid);
        }
        // Holders: the host itself, and each request.
        if Arc::strong_count(&self.pending) > PENDING_MAX {
            return Err(Errno::NameTryAgain);
        }
        let (fd, bell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(refusal)?;
        let outcome = Outcome::default();
        let request = LookupRequest {
            name: name.to_owned(),
            outcome: Arc::clone(&outcome),
            _bell: bell,
            _pending: Arc::clone(&self.pending),
        };
        match name.parse() {
            Ok(ip) => request.answer(Ok(vec![ip])),
            Err(_) => (self.network.look_up)(request),
        }
        let lookup = Lookup { name: name.to_owned(), outcome, told: AtomicUsize::new(0) };
        let role = Role::Lookup(lookup);
        Ok(Object { fd: fd.into(), role, read: true, write: false, volume: None })
    }

    /// Tells the next addresses of a lookup: as many as fit `len` and `reply`; none at the end.
    ///
    /// # Errors
    ///
    /// Why the lookup failed; [`Errno::Again`] while it has not ended; [`Errno::TooBig`] if no address fits.
    pub(in crate::host) fn read(
        &mut self,
        lookup: &Lookup,
        fd: BorrowedFd<'_>,
        len: u32,
        wait: bool,
        reply: &mut [u8],
    ) -> Result<Answer, Errno> {
        let addresses = match lookup.outcome(fd, wait)? {
            Ok(addresses) => &addresses[..addresses.len().min(ADDRESSES_MAX)],
            Err(LookupError::NotFound) => return Err(Errno::NameNotFound),
            Err(LookupError::TimedOut | LookupError::ServerFailed) => {
                return Err(Errno::NameTryAgain);
            }
            Err(LookupError::Failed) => return Err(Errno::NameFailure),
        };
        let len = usize::try_from(len).map_or(reply.len(), |len| len.min(reply.len()));
        let (mut filled, mut told) = (0, lookup.told.load(Ordering::Relaxed));
        while let Some(ip) = addresses.get(told) {
            let Some(slot) = reply[..len].get_mut(filled..filled + size_of::<SocketAddress>())
            else {
                break;
            };
            slot.copy_from_slice(address::of_ip(*ip).as_bytes());
            for port in self.network.policy.ports_of(&lookup.name) {
                self.named.insert((*ip, port));
            }
            filled += slot.len();
            told += 1;
        }
        lookup.told.store(told, Ordering::Relaxed);
        if filled == 0 && told < addresses.len() {
            Err(Errno::TooBig)
        } else {
            Ok(Answer::data(filled))
        }
    }
}

impl Lookup {
    fn outcome(
        &self,
        fd: BorrowedFd<'_>,
        wait: bool,
    ) -> Result<Result<&[IpAddr], LookupError>, Errno> {
        let timeout = if wait { None } else { Some(Timespec::default()) };
        let bell = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], timeout.as_ref());
        if bell.map_err(refusal)? == 0 {
            return Err(Errno::Again);
        }
        Ok(match self.outcome.get() {
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => Err(*error),
            None => Err(LookupError::Failed),
        })
    }
}
