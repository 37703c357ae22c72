//! The host calls that a run makes, for tests that count them.

use std::sync::{Arc, Mutex, PoisonError};

use abi::{Handle, Nr, Request};

/// A host call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub nr: Nr,
    /// The handles that it uses: those of all entries for a poll.
    pub handles: Vec<Handle>,
    /// How much it asks for: the bytes of a read, the timeout of a poll in nanoseconds.
    pub amount: Option<u64>,
}

impl Call {
    pub(crate) fn of(nr: Nr, request: &Request<'_>) -> Self {
        let handles = match *request {
            Request::Exit { .. }
            | Request::Socket { .. }
            | Request::Resolve { .. }
            | Request::Fetch { .. }
            | Request::Abort { .. }
            | Request::Log { .. }
            | Request::Map { .. }
            | Request::Program
            | Request::Ready { .. }
            | Request::BootInfo { .. }
            | Request::Clock => Vec::new(),
            Request::Poll { entries, .. } => entries
                .chunks_exact(size_of::<abi::PollEntry>())
                .filter_map(|entry| entry.first_chunk().copied().map(u32::from_le_bytes))
                .map(Handle)
                .collect(),
            Request::Read { handle, .. }
            | Request::Write { handle, .. }
            | Request::Close { handle }
            | Request::Sync { handle, .. }
            | Request::Stat { handle }
            | Request::SetSize { handle, .. }
            | Request::SetTimes { handle, .. }
            | Request::ReadDir { handle, .. }
            | Request::Allocate { handle, .. }
            | Request::Advise { handle, .. }
            | Request::Bind { handle, .. }
            | Request::Listen { handle, .. }
            | Request::Accept { handle, .. }
            | Request::Connect { handle, .. }
            | Request::Send { handle, .. }
            | Request::Receive { handle, .. }
            | Request::Shutdown { handle, .. }
            | Request::Address { handle, .. }
            | Request::GetOption { handle, .. }
            | Request::SetOption { handle, .. } => vec![handle],
            Request::Respond { exchange, .. }
            | Request::Finish { exchange, .. }
            | Request::Head { exchange, .. }
            | Request::Trailers { exchange, .. }
            | Request::Fail { exchange, .. } => vec![exchange],
            Request::OpenAt { dir, .. }
            | Request::StatAt { dir, .. }
            | Request::SetTimesAt { dir, .. }
            | Request::MkdirAt { dir, .. }
            | Request::UnlinkAt { dir, .. }
            | Request::SymlinkAt { dir, .. }
            | Request::ReadLinkAt { dir, .. } => vec![dir],
            Request::RenameAt { from_dir, to_dir, .. }
            | Request::LinkAt { from_dir, to_dir, .. } => {
                vec![from_dir, to_dir]
            }
        };
        let amount = match *request {
            Request::Poll { timeout_ns, .. } => Some(timeout_ns),
            Request::Read { len, .. } => Some(len.into()),
            _ => None,
        };
        Self { nr, handles, amount }
    }
}

/// The host calls of a run in their order. A clone is the same log.
#[derive(Clone, Debug, Default)]
pub struct CallLog(Arc<Mutex<Vec<Call>>>);

impl CallLog {
    pub(crate) fn push(&self, call: Call) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// The calls since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
