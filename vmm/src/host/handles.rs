//! The capability table: what each handle of the guest stands for, and what it may do.
//!
//! Rule: nothing reaches what a handle stands for but through a lookup here that names the right it needs. A handle
//! that is not open, of the wrong kind, or without that right is [`Errno::BadHandle`]; a change to
//! something from a read-only preopen is [`Errno::ReadOnly`]. Rights only shrink: what is opened
//! beneath a directory has at most the access of that directory's preopen.
//!
//! Numbers are given lowest-first and the table is bounded, by [`HANDLES_MAX`] and by what the process
//! may have open, so that a guest cannot use up the descriptors that the VMM needs itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use abi::{Errno, Family, Handle, SocketKind};
use rustix::process::{Resource, getrlimit};

use super::http::Exchange;
use super::net::{Lookup, Socket};

/// Most handles that one guest has open at once: four times the customary limit of open files of a
/// process (1024), and at most a few hundred KiB of table.
pub(super) const HANDLES_MAX: usize = 4096;

/// Descriptors of the process' limit that guests cannot have: KVM, the log, control pipes, one
/// temporary descriptor per path that is being resolved, and those of whoever looks names up: one for each
/// lookup that is not answered, and some dozens to ask name servers.
const DESCRIPTORS_OF_THE_VMM: usize = 192;

/// What a preopened directory may be used for, and everything opened beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirAccess {
    /// Reading, listing, describing. Every change is [`Errno::ReadOnly`].
    ReadOnly,
    /// Everything that the host's permissions allow.
    ReadWrite,
}

/// How an object is used.
#[derive(Debug)]
pub(super) enum Role {
    /// The base of paths; can be listed.
    Directory,
    /// Has a size and is read and written at any offset: a regular file or block device.
    File,
    /// Is read and written where it stands.
    Stream {
        /// It can be without data or room: anything but a file that serves as standard stream.
        may_wait: bool,
    },
    /// A bare name (`O_PATH`): can be described and have its times set.
    Name,
    /// A socket. One of kind stream is read and written as a stream is.
    Socket {
        /// Which addresses it has.
        family: Family,
        /// What it carries.
        kind: SocketKind,
    },
    /// A name that is looked up; its addresses are read as a stream is.
    Lookup(Lookup),
}

/// An open object and its rights.
#[derive(Debug)]
pub(super) struct Object {
    /// A standard stream's is that of other guests too.
    pub(super) fd: Arc<OwnedFd>,
    pub(super) role: Role,
    pub(super) read: bool,
    pub(super) write: bool,
    /// Access of the preopen it was opened beneath; `None` for a standard stream, which lies in none.
    pub(super) volume: Option<DirAccess>,
}

impl Object {
    /// Its descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// # Errors
    ///
    /// Why the object, or a name in it, must not be changed.
    pub(super) fn check_changeable(&self) -> Result<(), Errno> {
        match self.volume {
            Some(DirAccess::ReadWrite) => Ok(()),
            Some(DirAccess::ReadOnly) => Err(Errno::ReadOnly),
            None => Err(Errno::NotPermitted),
        }
    }
}

/// What a handle stands for.
#[derive(Debug)]
pub(super) enum Entry {
    /// Something behind a descriptor.
    Object(Object),
    /// An HTTP exchange.
    Exchange(Exchange),
}

impl From<Object> for Entry {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Exchange> for Entry {
    fn from(exchange: Exchange) -> Self {
        Self::Exchange(exchange)
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Handles {
    slots: Vec<Option<Entry>>,
    limit: usize,
}

impl Handles {
    /// An empty table, bounded by what this process may have open.
    pub(super) fn new() -> Self {
        Self::with_limit(limit_under(getrlimit(Resource::Nofile).current))
    }

    /// An empty table of at most `limit` handles.
    pub(super) fn with_limit(limit: usize) -> Self {
        Self { slots: Vec::new(), limit }
    }

    /// Most handles that can be open.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// # Errors
    ///
    /// [`Errno::TooManyHandles`] if [`insert`](Self::insert) would fail. Asked before an object is
    /// opened, because opening can create it.
    pub(super) fn check_room(&self) -> Result<(), Errno> {
        self.free_slot().map(drop)
    }

    /// Gives `entry` the lowest free number.
    ///
    /// # Errors
    ///
    /// [`Errno::TooManyHandles`]; what was to be inserted is closed.
    pub(super) fn insert(&mut self, entry: impl Into<Entry>) -> Result<Handle, Errno> {
        let slot = self.free_slot()?;
        let number = u32::try_from(slot).map_err(|_| Errno::TooManyHandles)?;
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(entry.into());
        Ok(Handle(number))
    }

    /// Closes an object.
    ///
    /// # Errors
    ///
    /// [`Errno::BadHandle`] if it is not open.
    pub(super) fn close(&mut self, handle: Handle) -> Result<(), Errno> {
        let slot = usize::try_from(handle.0).ok().and_then(|slot| self.slots.get_mut(slot));
        // What close(2) could report has no address: the guest gave the object up.
        slot.and_then(Option::take).map(drop).ok_or(Errno::BadHandle)
    }

    /// Any open object.
    pub(super) fn get(&self, handle: Handle) -> Result<&Object, Errno> {
        match self.entry(handle) {
            Some(Entry::Object(object)) => Ok(object),
            Some(Entry::Exchange(_)) | None => Err(Errno::BadHandle),
        }
    }

    /// An open exchange.
    pub(super) fn exchange(&self, handle: Handle) -> Option<&Exchange> {
        match self.entry(handle) {
            Some(Entry::Exchange(exchange)) => Some(exchange),
            Some(Entry::Object(_)) | None => None,
        }
    }

    /// Closes the exchanges that `is_over` names.
    pub(super) fn close_exchanges(&mut self, is_over: impl Fn(&Exchange) -> bool) {
        for slot in &mut self.slots {
            if matches!(slot, Some(Entry::Exchange(exchange)) if is_over(exchange)) {
                *slot = None;
            }
        }
    }

    /// What has data, with the read right.
    pub(super) fn readable(&self, handle: Handle) -> Result<&Object, Errno> {
        let object = self.get(handle)?;
        let has_data = match object.role {
            Role::File | Role::Stream { .. } | Role::Lookup(_) => true,
            Role::Socket { kind, .. } => kind == SocketKind::Stream,
            Role::Directory | Role::Name => false,
        };
        if has_data && object.read { Ok(object) } else { Err(Errno::BadHandle) }
    }

    /// What takes data, with the write right.
    pub(super) fn writable(&self, handle: Handle) -> Result<&Object, Errno> {
        let object = self.get(handle)?;
        let takes_data = match object.role {
            Role::File | Role::Stream { .. } => true,
            Role::Socket { kind, .. } => kind == SocketKind::Stream,
            Role::Directory | Role::Name | Role::Lookup(_) => false,
        };
        if takes_data && object.write { Ok(object) } else { Err(Errno::BadHandle) }
    }

    /// A socket.
    pub(super) fn socket(&self, handle: Handle) -> Result<Socket<'_>, Errno> {
        let object = self.get(handle)?;
        match object.role {
            Role::Socket { family, kind } => Ok(Socket { handle, fd: object.fd(), family, kind }),
            _ => Err(Errno::BadHandle),
        }
    }

    /// A socket of this kind.
    pub(super) fn socket_of(&self, kind: SocketKind, handle: Handle) -> Result<Socket<'_>, Errno> {
        let socket = self.socket(handle)?;
        if socket.kind == kind { Ok(socket) } else { Err(Errno::BadHandle) }
    }

    /// A directory, opened for reading.
    pub(super) fn directory(&self, handle: Handle) -> Result<&Object, Errno> {
        let object = self.get(handle)?;
        if matches!(object.role, Role::Directory) { Ok(object) } else { Err(Errno::BadHandle) }
    }

    /// A directory with the right to change it.
    pub(super) fn changeable_directory(&self, handle: Handle) -> Result<&Object, Errno> {
        let object = self.directory(handle)?;
        object.check_changeable()?;
        Ok(object)
    }

    fn entry(&self, handle: Handle) -> Option<&Entry> {
        let slot = usize::try_from(handle.0).ok().and_then(|slot| self.slots.get(slot));
        slot.and_then(Option::as_ref)
    }

    fn free_slot(&self) -> Result<usize, Errno> {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot < self.limit { Ok(slot) } else { Err(Errno::TooManyHandles) }
    }
}

/// Most handles in a process that may have `descriptors` open (`None`: any number).
fn limit_under(descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    descriptors.saturating_sub(DESCRIPTORS_OF_THE_VMM).min(HANDLES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> Object {
        Object {
            fd: Arc::new(std::fs::File::open("/dev/null").expect("open /dev/null").into()),
            role: Role::Stream { may_wait: true },
            read: true,
            write: false,
            volume: None,
        }
    }

    #[test]
    fn numbers_are_given_lowest_first() {
        let mut handles = Handles::with_limit(8);
        for number in 0..4 {
            assert_eq!(handles.insert(null()), Ok(Handle(number)));
        }
        handles.close(Handle(2)).expect("close");
        handles.close(Handle(1)).expect("close");
        assert_eq!(handles.insert(null()), Ok(Handle(1)));
        assert_eq!(handles.insert(null()), Ok(Handle(2)));
        assert_eq!(handles.insert(null()), Ok(Handle(4)));
    }

    #[test]
    fn a_full_table_takes_another_object_once_one_is_closed() {
        let mut handles = Handles::with_limit(2);
        handles.insert(null()).expect("insert");
        handles.insert(null()).expect("insert");
        assert_eq!(handles.check_room(), Err(Errno::TooManyHandles));
        assert_eq!(handles.insert(null()), Err(Errno::TooManyHandles));
        handles.close(Handle(0)).expect("close");
        assert_eq!(handles.insert(null()), Ok(Handle(0)));
    }

    #[test]
    fn a_handle_that_was_never_given_is_bad() {
        let mut handles = Handles::with_limit(2);
        for number in [0, 1, u32::MAX] {
            assert_eq!(handles.get(Handle(number)).err(), Some(Errno::BadHandle));
            assert_eq!(handles.close(Handle(number)), Err(Errno::BadHandle));
        }
    }

    #[test]
    fn the_table_leaves_descriptors_to_the_vmm() {
        assert_eq!(limit_under(Some(1024)), 1024 - DESCRIPTORS_OF_THE_VMM);
        assert_eq!(limit_under(Some(10)), 0);
        assert_eq!(limit_under(Some(1 << 20)), HANDLES_MAX);
        assert_eq!(limit_under(None), HANDLES_MAX);
    }
}
