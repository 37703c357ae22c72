//! Directory streams: entries read from the host a window at a time.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{DirEntry, Errno, Request};

use crate::handle::OwnedHandle;

/// A position in a directory, with the entries that were read ahead.
#[derive(Debug)]
pub struct DirectoryStream {
    handle: Arc<OwnedHandle>,
    /// Of the next entry.
    cookie: u64,
    entries: Vec<u8>,
    consumed: usize,
}

impl DirectoryStream {
    /// A directory from `cookie` on; 0 is the start.
    pub(crate) fn from(handle: Arc<OwnedHandle>, cookie: u64) -> Self {
        Self { handle, cookie, entries: Vec::new(), consumed: 0 }
    }

    /// Where the stream stands: what [`from`](Self::from) takes to go on there.
    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The next entry, which stays the next one until [`advance`](Self::advance). `None` at the end.
    pub(crate) fn peek(&mut self) -> Result<Option<DirEntry<'_>>, Errno> {
        if self.consumed == self.entries.len() {
            let request = Request::ReadDir { handle: self.handle.get(), cookie: self.cookie };
            self.entries = self.handle.calls().call_for_bytes(&request, <[u8]>::to_vec)?;
            self.consumed = 0;
        }
        let unread = self.entries.get(self.consumed..).unwrap_or_default();
        Ok(DirEntry::split_first(unread).map(|(entry, _)| entry))
    }

    /// Goes past the entry that [`peek`](Self::peek) gave.
    pub(crate) fn advance(&mut self) {
        let unread = self.entries.get(self.consumed..).unwrap_or_default();
        if let Some((entry, rest)) = DirEntry::split_first(unread) {
            self.cookie = entry.header.next;
            self.consumed = self.entries.len() - rest.len();
        }
    }
}
