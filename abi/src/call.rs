//! Host calls: the frame, the numbers, the requests.
//!
//! Rule: the whole guest-to-host surface is [`Request`], matched exhaustively on both sides. What a
//! guest wrote is an allegation until [`Request::decode`] has turned it into a value; having one proves
//! that every number is in range, every enum known, and every path non-empty, free of NUL and no longer
//! than [`layout::PATH_BYTES_MAX`]. It proves nothing about handles: those are the host table's to check.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout;

/// One host call, at the start of the call window: one cache line, fixed layout.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(64))]
pub struct Frame {
    /// IN. Call number, a [`Nr`].
    pub nr: u32,
    /// IN. Bytes of the data area that belong to this call.
    pub data_len: u32,
    /// IN. Meaning and order documented on each [`Request`] variant.
    pub args: [u64; 6],
    /// OUT. `>= 0`: the result; `< 0`: a negated [`crate::Errno`].
    pub ret: i64,
}

const _: () = assert!(size_of::<Frame>() == 64, "guest ABI changed: bump ABI_VERSION");
const _: () =
    assert!(core::mem::offset_of!(Frame, args) == 8, "guest ABI changed: bump ABI_VERSION");
const _: () =
    assert!(core::mem::offset_of!(Frame, ret) == 56, "guest ABI changed: bump ABI_VERSION");

/// A capability that the host granted to this guest. Meaningless outside its micro-VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(pub u32);

impl Handle {
    /// Standard input, open from the start.
    pub const STDIN: Self = Self(0);
    /// Standard output, open from the start.
    pub const STDOUT: Self = Self(1);
    /// Standard error, open from the start.
    pub const STDERR: Self = Self(2);
}

/// The guest broke the contract. Never answered: the host ends the micro-VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The call number is not a [`Nr`].
    UnknownCall(u32),
    /// `data_len` exceeds the data area.
    DataOverrun(u32),
    /// An argument has no meaning for this call.
    BadArgument(Nr),
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownCall(nr) => write!(f, "unknown host call {nr:#x}"),
            Self::DataOverrun(len) => {
                write!(
                    f,
                    "host call with {len} bytes of data, window holds {}",
                    layout::CALL_DATA_BYTES
                )
            }
            Self::BadArgument(nr) => write!(f, "malformed argument of host call {nr:?}"),
        }
    }
}

/// Defines [`Nr`] and its decoding from one list, so that the two cannot differ.
macro_rules! call_numbers {
    ($($(#[$doc:meta])* $name:ident = $nr:literal,)*) => {
        /// Call numbers. Append only; never renumber.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Nr { $($(#[$doc])* $name = $nr,)* }

        impl Nr {
            /// Every call, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        impl TryFrom<u32> for Nr {
            type Error = Violation;

            fn try_from(nr: u32) -> Result<Self, Violation> {
                match nr {
                    $($nr => Ok(Self::$name),)*
                    _ => Err(Violation::UnknownCall(nr)),
                }
            }
        }
    };
}

call_numbers! {
    /// See [`Request::Exit`].
    Exit = 0x00,
    /// See [`Request::Abort`].
    Abort = 0x01,
    /// See [`Request::Log`].
    Log = 0x02,
    /// See [`Request::Map`].
    Map = 0x03,
    /// See [`Request::Clock`].
    Clock = 0x10,
    /// See [`Request::Poll`].
    Poll = 0x11,
    /// See [`Request::Read`].
    Read = 0x20,
    /// See [`Request::Write`].
    Write = 0x21,
    /// See [`Request::Close`].
    Close = 0x22,
    /// See [`Request::Sync`].
    Sync = 0x23,
    /// See [`Request::Stat`].
    Stat = 0x24,
    /// See [`Request::SetSize`].
    SetSize = 0x25,
    /// See [`Request::SetTimes`].
    SetTimes = 0x26,
    /// See [`Request::ReadDir`].
    ReadDir = 0x27,
    /// See [`Request::OpenAt`].
    OpenAt = 0x30,
    /// See [`Request::StatAt`].
    StatAt = 0x31,
    /// See [`Request::SetTimesAt`].
    SetTimesAt = 0x32,
    /// See [`Request::MkdirAt`].
    MkdirAt = 0x33,
    /// See [`Request::UnlinkAt`].
    UnlinkAt = 0x34,
    /// See [`Request::RenameAt`].
    RenameAt = 0x35,
    /// See [`Request::LinkAt`].
    LinkAt = 0x36,
    /// See [`Request::SymlinkAt`].
    SymlinkAt = 0x37,
    /// See [`Request::ReadLinkAt`].
    ReadLinkAt = 0x38,
}

/// Defines a small enum that crosses as an integer.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl $name {
            /// The value of this number, if it has one.
            #[must_use]
            pub const fn from_wire(value: u64) -> Option<Self> {
                match value {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

wire_enum! {
    /// Why the guest gave up. The message of [`Request::Abort`] says the rest.
    AbortKind {
        /// The guest runtime failed an assertion of its own: a bug of ours.
        Panic = 0,
        /// The micro-VM's memory does not suffice to start or to go on.
        OutOfMemory = 1,
        /// The program cannot run here: an import that is not provided, no `wasi:cli/run`, another build.
        BadProgram = 2,
        /// A CPU exception that is no trap of wasm: a bug of ours, or an escaped program.
        Exception = 3,
    }
}

wire_enum! {
    /// Severity of [`Request::Log`].
    LogLevel {
        /// Something is wrong and was not handled.
        Error = 1,
        /// Something is unusual.
        Warn = 2,
        /// What a curious operator wants to know.
        Info = 3,
        /// What a developer wants to know.
        Debug = 4,
    }
}

wire_enum! {
    /// What [`Request::Map`] makes of a range. There is no executable access: code is mapped by the host.
    Access {
        /// Not present; what was mapped is given back and its content is lost.
        None = 0,
        /// Readable.
        Read = 1,
        /// Readable and writable.
        ReadWrite = 3,
    }
}

/// Defines a set of flags with unknown bits refused.
macro_rules! wire_flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $flag:ident = $bit:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$fdoc])* pub const $flag: Self = Self($bit);)*
            const KNOWN: u32 = 0 $(| $bit)*;

            /// Whether every flag of `other` is set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The flags of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// `self` if `condition`, else no flag.
            #[must_use]
            pub const fn when(self, condition: bool) -> Self {
                if condition { self } else { Self(0) }
            }

            /// The flags of this number, if all of its bits are known.
            #[must_use]
            pub fn from_wire(value: u64) -> Option<Self> {
                u32::try_from(value).ok().filter(|bits| bits & !Self::KNOWN == 0).map(Self)
            }
        }
    };
}

wire_flags! {
    /// How [`Request::OpenAt`] opens. Without [`READ`](Self::READ) and [`WRITE`](Self::WRITE) the handle
    /// serves for `Stat` and `SetTimes` only; a directory is listed with [`READ`](Self::READ).
    OpenFlags {
        /// For reading.
        READ = 1,
        /// For writing.
        WRITE = 2,
        /// Create a regular file if the name does not exist.
        CREATE = 4,
        /// With [`CREATE`](Self::CREATE): fail if the name exists.
        EXCLUSIVE = 8,
        /// Set the size to 0.
        TRUNCATE = 16,
        /// Fail unless it is a directory.
        DIRECTORY = 32,
        /// If the last component is a symbolic link, open what it points to.
        FOLLOW = 64,
        /// Each write is on the medium, with its metadata, when it returns (`O_SYNC`).
        SYNC = 128,
        /// Each write is on the medium, with the metadata needed to read it, when it returns (`O_DSYNC`).
        DATA_SYNC = 256,
    }
}

wire_flags! {
    /// Which times [`Request::SetTimes`] sets, and from where.
    TimesMask {
        /// Set the access time to the given value.
        ATIME = 1,
        /// Set the access time to the host's present time.
        ATIME_NOW = 2,
        /// Set the modification time to the given value.
        MTIME = 4,
        /// Set the modification time to the host's present time.
        MTIME_NOW = 8,
    }
}

/// Everything a guest can ask of the host. Both sides match on this exhaustively.
///
/// "args" lists the frame's arguments in order; "data" is the data area. Times are nanoseconds since
/// the Unix epoch. Paths are bytes, relative to a directory handle and resolved beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Ends the task with `status`. Does not return. args: status.
    Exit {
        /// Process exit status, reported to containerd.
        status: i32,
    },
    /// Ends the micro-VM because the guest cannot go on. Does not return. args: kind; data: UTF-8 text.
    Abort {
        /// Why.
        kind: AbortKind,
        /// One line for the person who started the task.
        message: &'a [u8],
    },
    /// Writes a line to the host's log. args: level; data: UTF-8 text.
    Log {
        /// Severity.
        level: LogLevel,
        /// The line, without a line end.
        message: &'a [u8],
    },
    /// Changes the access to `[gva, gva + len)`, which lies in [`layout::MAP_AREA`]. Pages that were not
    /// present arrive zeroed; present ones keep their content. args: gva, len, access.
    ///
    /// In the contract because page tables are out of the guest's reach.
    Map {
        /// First guest-virtual address, page-aligned.
        gva: u64,
        /// Bytes, a multiple of the page size, not 0.
        len: u64,
        /// Access from then on.
        access: Access,
    },
    /// Samples the clocks into a [`crate::ClockSample`].
    ///
    /// The guest advances the sample by the TSC and calls again only now and then.
    Clock,
    /// Waits until an entry is ready or `timeout_ns` has passed. args: timeout_ns; data: an array of
    /// [`crate::PollEntry`], at most [`layout::POLL_ENTRIES_MAX`], returned with `ready` filled in.
    /// Returns the number of ready entries.
    Poll {
        /// Longest wait in nanoseconds; [`crate::FOREVER`] has no end.
        timeout_ns: u64,
        /// The entries, whole.
        entries: &'a [u8],
    },
    /// Reads up to `len` bytes at `offset` into the data area. Returns the bytes read; 0 at the end.
    /// A stream that has nothing to read answers [`crate::Errno::Again`]. args: handle, offset, len.
    Read {
        /// Needs the read right.
        handle: Handle,
        /// Byte offset in the file; ignored for streams.
        offset: u64,
        /// Bytes wanted, at most [`layout::CALL_DATA_BYTES`].
        len: u32,
    },
    /// Writes `data` at `offset`. Returns the bytes written, which may be fewer. args: handle, offset.
    Write {
        /// Needs the write right.
        handle: Handle,
        /// Byte offset in the file, or [`crate::APPEND`]; ignored for streams.
        offset: u64,
        /// Bytes to write.
        data: &'a [u8],
    },
    /// Gives the capability up. Closing twice is [`crate::Errno::BadHandle`]. args: handle.
    Close {
        /// Any handle.
        handle: Handle,
    },
    /// Returns when what was written is on the medium. args: handle, data_only (0 or 1).
    Sync {
        /// A file or directory.
        handle: Handle,
        /// Leave out metadata that is not needed to read the data (`fdatasync`).
        data_only: bool,
    },
    /// Describes an open object in a [`crate::Stat`]. args: handle.
    Stat {
        /// Any handle.
        handle: Handle,
    },
    /// Sets a file's size. args: handle, size.
    SetSize {
        /// Needs the write right.
        handle: Handle,
        /// Bytes, at most `i64::MAX`; a longer file reads zeros in the new part.
        size: u64,
    },
    /// Sets an open object's times. args: handle, mask, atime_ns, mtime_ns.
    SetTimes {
        /// Needs the right to change the object.
        handle: Handle,
        /// Which.
        mask: TimesMask,
        /// Access time.
        atime_ns: u64,
        /// Modification time.
        mtime_ns: u64,
    },
    /// Lists a directory from `cookie` on into the data area: as many whole entries as fit
    /// ([`crate::DirEntry`]), without `.` and `..`. Returns the bytes filled; 0 at the end.
    /// args: handle, cookie.
    ReadDir {
        /// A directory, with the read right.
        handle: Handle,
        /// 0 for the start, else [`crate::DirEntryHeader::next`] of the last entry seen.
        cookie: u64,
    },
    /// Opens `path`, resolved beneath `dir` and never outside it. Returns the new handle.
    /// args: dir, flags; data: path.
    OpenAt {
        /// A directory.
        dir: Handle,
        /// How.
        flags: OpenFlags,
        /// Relative path.
        path: &'a [u8],
    },
    /// Describes what `path` names in a [`crate::Stat`]. args: dir, follow (0 or 1); data: path.
    StatAt {
        /// A directory.
        dir: Handle,
        /// If the last component is a symbolic link, describe what it points to.
        follow: bool,
        /// Relative path.
        path: &'a [u8],
    },
    /// Sets the times of what `path` names. args: dir, follow (0 or 1), mask, atime_ns, mtime_ns; data: path.
    SetTimesAt {
        /// A directory, with the right to change it.
        dir: Handle,
        /// If the last component is a symbolic link, change what it points to.
        follow: bool,
        /// Which.
        mask: TimesMask,
        /// Access time.
        atime_ns: u64,
        /// Modification time.
        mtime_ns: u64,
        /// Relative path.
        path: &'a [u8],
    },
    /// Makes a directory. args: dir; data: path.
    MkdirAt {
        /// A directory, with the right to change it.
        dir: Handle,
        /// Relative path.
        path: &'a [u8],
    },
    /// Removes a name. args: dir, directory (0 or 1); data: path.
    UnlinkAt {
        /// A directory, with the right to change it.
        dir: Handle,
        /// Remove an empty directory, and nothing else; otherwise remove anything but a directory.
        directory: bool,
        /// Relative path.
        path: &'a [u8],
    },
    /// Renames. args: from_dir, to_dir, bytes of the first path; data: both paths, one after the other.
    RenameAt {
        /// A directory, with the right to change it.
        from_dir: Handle,
        /// A directory, with the right to change it.
        to_dir: Handle,
        /// Relative to `from_dir`.
        from: &'a [u8],
        /// Relative to `to_dir`.
        to: &'a [u8],
    },
    /// Makes a hard link. args: from_dir, to_dir, bytes of the first path, follow (0 or 1); data: both paths.
    LinkAt {
        /// A directory.
        from_dir: Handle,
        /// A directory, with the right to change it.
        to_dir: Handle,
        /// If the last component of `from` is a symbolic link, link what it points to.
        follow: bool,
        /// The existing name, relative to `from_dir`.
        from: &'a [u8],
        /// The new name, relative to `to_dir`.
        to: &'a [u8],
    },
    /// Makes a symbolic link. args: dir, bytes of the target; data: target, then path.
    ///
    /// A target that is absolute is [`crate::Errno::NotPermitted`]: it names a place outside.
    SymlinkAt {
        /// A directory, with the right to change it.
        dir: Handle,
        /// What the link says.
        target: &'a [u8],
        /// Relative path of the link.
        path: &'a [u8],
    },
    /// Reads a symbolic link into the data area. Returns its length. args: dir; data: path.
    ReadLinkAt {
        /// A directory.
        dir: Handle,
        /// Relative path.
        path: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// Parses a frame that the guest wrote. `area` is the whole data area, already copied out.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that ends the micro-VM.
    pub fn decode(frame: &Frame, area: &'a [u8]) -> Result<Self, Violation> {
        let nr = Nr::try_from(frame.nr)?;
        let bad = Violation::BadArgument(nr);
        let data = usize::try_from(frame.data_len)
            .ok()
            .and_then(|len| area.get(..len))
            .ok_or(Violation::DataOverrun(frame.data_len))?;
        let arg32 = |i: usize| u32::try_from(frame.args[i]).map_err(|_| bad);
        let flag = |i: usize| match frame.args[i] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(bad),
        };
        let handle = |i: usize| arg32(i).map(Handle);
        let path = |bytes: &'a [u8]| {
            if path_is_valid(bytes) { Ok(bytes) } else { Err(bad) }
        };
        let mask = |i: usize| TimesMask::from_wire(frame.args[i]).ok_or(bad);
        let both_paths = |i: usize| {
            let first = arg32(i)? as usize;
            let (a, b) = data.split_at_checked(first).ok_or(bad)?;
            Ok((path(a)?, path(b)?))
        };
        Ok(match nr {
            Nr::Exit => Self::Exit { status: arg32(0)?.cast_signed() },
            Nr::Abort => {
                Self::Abort { kind: AbortKind::from_wire(frame.args[0]).ok_or(bad)?, message: data }
            }
            Nr::Log => {
                Self::Log { level: LogLevel::from_wire(frame.args[0]).ok_or(bad)?, message: data }
            }
            Nr::Map => {
                let (gva, len) = (frame.args[0], frame.args[1]);
                if !layout::map_range_is_valid(gva, len) {
                    return Err(bad);
                }
                Self::Map { gva, len, access: Access::from_wire(frame.args[2]).ok_or(bad)? }
            }
            Nr::Clock => Self::Clock,
            Nr::Poll => {
                let entry = size_of::<crate::PollEntry>();
                if data.len() % entry != 0 || data.len() / entry > layout::POLL_ENTRIES_MAX {
                    return Err(bad);
                }
                Self::Poll { timeout_ns: frame.args[0], entries: data }
            }
            Nr::Read => {
                let len = arg32(2)?;
                if len as usize > layout::CALL_DATA_BYTES {
                    return Err(bad);
                }
                Self::Read { handle: handle(0)?, offset: frame.args[1], len }
            }
            Nr::Write => Self::Write { handle: handle(0)?, offset: frame.args[1], data },
            Nr::Close => Self::Close { handle: handle(0)? },
            Nr::Sync => Self::Sync { handle: handle(0)?, data_only: flag(1)? },
            Nr::Stat => Self::Stat { handle: handle(0)? },
            Nr::SetSize => Self::SetSize { handle: handle(0)?, size: frame.args[1] },
            Nr::SetTimes => Self::SetTimes {
                handle: handle(0)?,
                mask: mask(1)?,
                atime_ns: frame.args[2],
                mtime_ns: frame.args[3],
            },
            Nr::ReadDir => Self::ReadDir { handle: handle(0)?, cookie: frame.args[1] },
            Nr::OpenAt => Self::OpenAt {
                dir: handle(0)?,
                flags: OpenFlags::from_wire(frame.args[1]).ok_or(bad)?,
                path: path(data)?,
            },
            Nr::StatAt => Self::StatAt { dir: handle(0)?, follow: flag(1)?, path: path(data)? },
            Nr::SetTimesAt => Self::SetTimesAt {
                dir: handle(0)?,
                follow: flag(1)?,
                mask: mask(2)?,
                atime_ns: frame.args[3],
                mtime_ns: frame.args[4],
                path: path(data)?,
            },
            Nr::MkdirAt => Self::MkdirAt { dir: handle(0)?, path: path(data)? },
            Nr::UnlinkAt => {
                Self::UnlinkAt { dir: handle(0)?, directory: flag(1)?, path: path(data)? }
            }
            Nr::RenameAt => {
                let (from, to) = both_paths(2)?;
                Self::RenameAt { from_dir: handle(0)?, to_dir: handle(1)?, from, to }
            }
            Nr::LinkAt => {
                let (from, to) = both_paths(2)?;
                Self::LinkAt {
                    from_dir: handle(0)?,
                    to_dir: handle(1)?,
                    follow: flag(3)?,
                    from,
                    to,
                }
            }
            Nr::SymlinkAt => {
                let (target, path) = both_paths(1)?;
                Self::SymlinkAt { dir: handle(0)?, target, path }
            }
            Nr::ReadLinkAt => Self::ReadLinkAt { dir: handle(0)?, path: path(data)? },
        })
    }

    /// Writes this request as a frame, with its payload at the start of `area`.
    ///
    /// # Errors
    ///
    /// [`crate::Errno::TooBig`] if the payload does not fit into `area`.
    pub fn encode(&self, area: &mut [u8]) -> Result<Frame, crate::Errno> {
        let wire = |handle: Handle| u64::from(handle.0);
        let (nr, args, first, second): (Nr, [u64; 6], &[u8], &[u8]) = match *self {
            Self::Exit { status } => {
                (Nr::Exit, [u64::from(status.cast_unsigned()), 0, 0, 0, 0, 0], &[], &[])
            }
            Self::Abort { kind, message } => {
                (Nr::Abort, [kind as u64, 0, 0, 0, 0, 0], message, &[])
            }
            Self::Log { level, message } => (Nr::Log, [level as u64, 0, 0, 0, 0, 0], message, &[]),
            Self::Map { gva, len, access } => {
                (Nr::Map, [gva, len, access as u64, 0, 0, 0], &[], &[])
            }
            Self::Clock => (Nr::Clock, [0; 6], &[], &[]),
            Self::Poll { timeout_ns, entries } => {
                (Nr::Poll, [timeout_ns, 0, 0, 0, 0, 0], entries, &[])
            }
            Self::Read { handle, offset, len } => {
                (Nr::Read, [wire(handle), offset, u64::from(len), 0, 0, 0], &[], &[])
            }
            Self::Write { handle, offset, data } => {
                (Nr::Write, [wire(handle), offset, 0, 0, 0, 0], data, &[])
            }
            Self::Close { handle } => (Nr::Close, [wire(handle), 0, 0, 0, 0, 0], &[], &[]),
            Self::Sync { handle, data_only } => {
                (Nr::Sync, [wire(handle), u64::from(data_only), 0, 0, 0, 0], &[], &[])
            }
            Self::Stat { handle } => (Nr::Stat, [wire(handle), 0, 0, 0, 0, 0], &[], &[]),
            Self::SetSize { handle, size } => {
                (Nr::SetSize, [wire(handle), size, 0, 0, 0, 0], &[], &[])
            }
            Self::SetTimes { handle, mask, atime_ns, mtime_ns } => (
                Nr::SetTimes,
                [wire(handle), u64::from(mask.0), atime_ns, mtime_ns, 0, 0],
                &[],
                &[],
            ),
            Self::ReadDir { handle, cookie } => {
                (Nr::ReadDir, [wire(handle), cookie, 0, 0, 0, 0], &[], &[])
            }
            Self::OpenAt { dir, flags, path } => {
                (Nr::OpenAt, [wire(dir), u64::from(flags.0), 0, 0, 0, 0], path, &[])
            }
            Self::StatAt { dir, follow, path } => {
                (Nr::StatAt, [wire(dir), u64::from(follow), 0, 0, 0, 0], path, &[])
            }
            Self::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path } => (
                Nr::SetTimesAt,
                [wire(dir), u64::from(follow), u64::from(mask.0), atime_ns, mtime_ns, 0],
                path,
                &[],
            ),
            Self::MkdirAt { dir, path } => (Nr::MkdirAt, [wire(dir), 0, 0, 0, 0, 0], path, &[]),
            Self::UnlinkAt { dir, directory, path } => {
                (Nr::UnlinkAt, [wire(dir), u64::from(directory), 0, 0, 0, 0], path, &[])
            }
            Self::RenameAt { from_dir, to_dir, from, to } => {
                (Nr::RenameAt, [wire(from_dir), wire(to_dir), from.len() as u64, 0, 0, 0], from, to)
            }
            Self::LinkAt { from_dir, to_dir, follow, from, to } => {
                let args =
                    [wire(from_dir), wire(to_dir), from.len() as u64, u64::from(follow), 0, 0];
                (Nr::LinkAt, args, from, to)
            }
            Self::SymlinkAt { dir, target, path } => {
                (Nr::SymlinkAt, [wire(dir), target.len() as u64, 0, 0, 0, 0], target, path)
            }
            Self::ReadLinkAt { dir, path } => {
                (Nr::ReadLinkAt, [wire(dir), 0, 0, 0, 0, 0], path, &[])
            }
        };
        let len = first.len() + second.len();
        let target = area.get_mut(..len).ok_or(crate::Errno::TooBig)?;
        let (a, b) = target.split_at_mut(first.len());
        a.copy_from_slice(first);
        b.copy_from_slice(second);
        let data_len = u32::try_from(len).map_err(|_| crate::Errno::TooBig)?;
        Ok(Frame { nr: nr as u32, data_len, args, ret: 0 })
    }
}

/// Whether `path` may be decoded: not empty, free of NUL, not too long.
fn path_is_valid(path: &[u8]) -> bool {
    !path.is_empty() && path.len() <= layout::PATH_BYTES_MAX && !path.contains(&0)
}

#[cfg(test)]
mod tests;
