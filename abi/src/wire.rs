//! What answers carry in the data area: plain structs, written by the host, read by the guest.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Answer of [`crate::Request::Clock`]: both clocks at one moment.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ClockSample {
    /// Nanoseconds since the Unix epoch; 0 for a host whose clock is before it.
    pub realtime_ns: u64,
    /// Nanoseconds of a clock that never goes back.
    pub monotonic_ns: u64,
}

/// What a [`PollEntry`] can wait for.
pub mod poll_events {
    /// Reading would make progress: bytes, end of file or an error.
    pub const READ: u32 = 1;
    /// Writing would make progress: room, or an error.
    pub const WRITE: u32 = 2;
}

/// One entry of [`crate::Request::Poll`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PollEntry {
    /// IN. The handle.
    pub handle: u32,
    /// IN. [`poll_events`] to wait for.
    pub events: u32,
    /// OUT. [`poll_events`] that are ready; a handle that is not open is ready for all it was asked for,
    /// so that the call that follows tells.
    pub ready: u32,
    /// Zero.
    pub reserved: u32,
}

/// What an open object or a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FileKind {
    /// None of the others, or not known.
    Unknown = 0,
    /// Block device.
    BlockDevice = 1,
    /// Character device, a terminal among them.
    CharacterDevice = 2,
    /// Directory.
    Directory = 3,
    /// Pipe or FIFO.
    Fifo = 4,
    /// Symbolic link.
    SymbolicLink = 5,
    /// Regular file.
    RegularFile = 6,
    /// Socket.
    Socket = 7,
}

impl FileKind {
    /// The kind of this number; a number that is none is [`FileKind::Unknown`].
    #[must_use]
    pub const fn from_wire(value: u32) -> Self {
        match value {
            1 => Self::BlockDevice,
            2 => Self::CharacterDevice,
            3 => Self::Directory,
            4 => Self::Fifo,
            5 => Self::SymbolicLink,
            6 => Self::RegularFile,
            7 => Self::Socket,
            _ => Self::Unknown,
        }
    }
}

/// Answer of [`crate::Request::Stat`] and [`crate::Request::StatAt`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Stat {
    /// Device number; with `ino` it tells objects apart.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Hard links.
    pub links: u64,
    /// Bytes.
    pub size: u64,
    /// Last access, nanoseconds since the epoch.
    pub atime_ns: u64,
    /// Last modification of the content, nanoseconds since the epoch.
    pub mtime_ns: u64,
    /// Last change of content or metadata, nanoseconds since the epoch.
    pub ctime_ns: u64,
    /// A [`FileKind`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// Head of one entry in the answer of [`crate::Request::ReadDir`]; the name follows, padded to 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct DirEntryHeader {
    /// Cookie of the entry after this one.
    pub next: u64,
    /// Inode number.
    pub ino: u64,
    /// A [`FileKind`].
    pub kind: u32,
    /// Bytes of the name.
    pub name_len: u32,
}

/// One directory entry, borrowed from the data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Cookie, inode and kind.
    pub header: DirEntryHeader,
    /// The name: any bytes but `/` and NUL.
    pub name: &'a [u8],
}

impl<'a> DirEntry<'a> {
    /// Bytes that an entry with a name of `name_len` bytes takes.
    #[must_use]
    pub const fn wire_bytes(name_len: usize) -> usize {
        size_of::<DirEntryHeader>() + name_len.next_multiple_of(8)
    }

    /// Appends this entry at `area[at..]`. Returns where the next one goes, or `None` if it does not fit.
    #[must_use]
    pub fn write(&self, area: &mut [u8], at: usize) -> Option<usize> {
        let end = at.checked_add(Self::wire_bytes(self.name.len()))?;
        let entry = area.get_mut(at..end)?;
        let (head, name) = entry.split_at_mut(size_of::<DirEntryHeader>());
        head.copy_from_slice(self.header.as_bytes());
        name.fill(0);
        name.get_mut(..self.name.len())?.copy_from_slice(self.name);
        Some(end)
    }

    /// Splits the first entry off `bytes`. `None` at the end, and where the bytes are no whole entry.
    #[must_use]
    pub fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = DirEntryHeader::read_from_prefix(bytes).ok()?;
        let name_len = usize::try_from(header.name_len).ok()?;
        let name = rest.get(..name_len)?;
        let rest = rest.get(name_len.checked_next_multiple_of(8)?..)?;
        Some((Self { header, name }, rest))
    }
}

const _: () = assert!(size_of::<ClockSample>() == 16, "guest ABI changed: bump ABI_VERSION");
const _: () = assert!(size_of::<PollEntry>() == 16, "guest ABI changed: bump ABI_VERSION");
const _: () = assert!(size_of::<Stat>() == 64, "guest ABI changed: bump ABI_VERSION");
const _: () = assert!(size_of::<DirEntryHeader>() == 24, "guest ABI changed: bump ABI_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order() {
        let mut area = [0xff; 128];
        let mut at = 0;
        for (ino, name) in [(1, &b"a"[..]), (2, b"12345678"), (3, b"\xff\xfe")] {
            let header = DirEntryHeader {
                next: ino + 1,
                ino,
                kind: 6,
                name_len: u32::try_from(name.len()).unwrap(),
            };
            at = DirEntry { header, name }.write(&mut area, at).expect("fits");
        }
        let mut rest = &area[..at];
        for (ino, name) in [(1, &b"a"[..]), (2, b"12345678"), (3, b"\xff\xfe")] {
            let (entry, tail) = DirEntry::split_first(rest).expect("an entry");
            assert_eq!((entry.header.ino, entry.name), (ino, name));
            rest = tail;
        }
        assert_eq!(DirEntry::split_first(rest), None);
    }

    #[test]
    fn an_entry_that_does_not_fit_is_not_begun() {
        let header = DirEntryHeader { name_len: 9, ..DirEntryHeader::default() };
        let mut area = [7; 39];
        assert_eq!(DirEntry { header, name: b"123456789" }.write(&mut area, 0), None);
        assert_eq!(area, [7; 39]);
    }

    #[test]
    fn a_name_longer_than_the_answer_is_no_entry() {
        let header = DirEntryHeader { name_len: u32::MAX, ..DirEntryHeader::default() };
        assert_eq!(DirEntry::split_first(header.as_bytes()), None);
    }
}
