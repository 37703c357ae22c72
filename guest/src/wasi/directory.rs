//! Directory streams: entries read from the host a window at a time.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{DirEntry, Errno, FileKind, Request};
use wasmtime::Result;
use wasmtime::component::Resource;

use super::Wasi;
use super::bindings::wasi::filesystem::types::{DirectoryEntry, HostDirectoryEntryStream};
use super::filesystem::{FsFailure, descriptor_type};
use super::handle::OwnedHandle;
use crate::doorbell;

/// A position in a directory, with the entries that were read ahead.
#[derive(Debug)]
pub struct DirectoryEntryStream {
    handle: Arc<OwnedHandle>,
    cookie: u64,
    entries: Vec<u8>,
    consumed: usize,
}

impl DirectoryEntryStream {
    /// The start of a directory.
    pub(super) fn new(handle: Arc<OwnedHandle>) -> Self {
        Self { handle, cookie: 0, entries: Vec::new(), consumed: 0 }
    }

    fn next(&mut self) -> Result<Option<DirectoryEntry>, Errno> {
        if self.consumed == self.entries.len() {
            let request = Request::ReadDir { handle: self.handle.get(), cookie: self.cookie };
            self.entries = doorbell::call_with(&request, |len, data| {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(data.len());
                data.get(..len).unwrap_or_default().to_vec()
            })?;
            self.consumed = 0;
        }
        let unread = self.entries.get(self.consumed..).unwrap_or_default();
        let Some((entry, rest)) = DirEntry::split_first(unread) else { return Ok(None) };
        self.consumed = self.entries.len() - rest.len();
        self.cookie = entry.header.next;
        // A name that is no Unicode string cannot be told; the entries after it can.
        let name = String::from_utf8(entry.name.to_vec()).map_err(|_| Errno::IllegalBytes)?;
        Ok(Some(DirectoryEntry {
            type_: descriptor_type(FileKind::from_wire(entry.header.kind)),
            name,
        }))
    }
}

impl HostDirectoryEntryStream for Wasi {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> Result<Option<DirectoryEntry>, FsFailure> {
        Ok(self.table.get_mut(&stream)?.next()?)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
