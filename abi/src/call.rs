//! Host calls: the frame, the numbers, the requests.
//!
//! Rule: the whole guest-to-host surface is [`Request`], matched exhaustively on both sides. What a
//! guest wrote is an allegation until [`Request::decode`] has turned it into a value; having one proves
//! that every number is in range, every enum known, and every path non-empty, free of NUL and no longer
//! than [`layout::PATH_BYTES_MAX`]. It proves nothing about handles: those are the host table's to check.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout;
#[expect(unused_imports, reason = "for the documentation")]
use crate::socket::DatagramHeader;
use crate::socket::{Direction, Family, SocketAddress, SocketKind, SocketOption};

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
    /// See [`Request::Program`].
    Program = 0x04,
    /// See [`Request::Ready`].
    Ready = 0x05,
    /// See [`Request::BootInfo`].
    BootInfo = 0x06,
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
    /// See [`Request::Allocate`].
    Allocate = 0x28,
    /// See [`Request::Advise`].
    Advise = 0x29,
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
    /// See [`Request::Socket`].
    Socket = 0x40,
    /// See [`Request::Bind`].
    Bind = 0x41,
    /// See [`Request::Listen`].
    Listen = 0x42,
    /// See [`Request::Accept`].
    Accept = 0x43,
    /// See [`Request::Connect`].
    Connect = 0x44,
    /// See [`Request::Send`].
    Send = 0x45,
    /// See [`Request::Receive`].
    Receive = 0x46,
    /// See [`Request::Shutdown`].
    Shutdown = 0x47,
    /// See [`Request::Address`].
    Address = 0x48,
    /// See [`Request::GetOption`].
    GetOption = 0x49,
    /// See [`Request::SetOption`].
    SetOption = 0x4a,
    /// See [`Request::Resolve`].
    Resolve = 0x4b,
    /// See [`Request::Respond`].
    Respond = 0x50,
    /// See [`Request::Fetch`].
    Fetch = 0x51,
    /// See [`Request::Finish`].
    Finish = 0x52,
    /// See [`Request::Head`].
    Head = 0x53,
    /// See [`Request::Trailers`].
    Trailers = 0x54,
    /// See [`Request::Fail`].
    Fail = 0x55,
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

pub(crate) use wire_enum;

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

wire_enum! {
    /// How far the guest is when it makes [`Request::Ready`].
    Readiness {
        /// The program is loaded and its imports are linked.
        Linked = 0,
        /// It is instantiated too: its start functions have run and made no host call.
        Instantiated = 1,
    }
}

wire_enum! {
    /// How a program means to use a part of a file ([`Request::Advise`], posix_fadvise(2)).
    Advice {
        /// In no particular way.
        Normal = 0,
        /// From lower offsets to higher ones.
        Sequential = 1,
        /// In no order.
        Random = 2,
        /// Soon.
        WillNeed = 3,
        /// Not soon.
        DontNeed = 4,
        /// Once.
        NoReuse = 5,
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
    /// Ends the call with `status`, and with it an incoming exchange that is still open: unanswered, or
    /// cut off, unless its response is finished. args: status.
    ///
    /// Answered only where the host has another call for the same instance, and then as [`Ready`](Self::Ready)
    /// is; or with 0: the next call is the last one again, with the same boot information but its seed.
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
    /// Asks for the bytes of the compiled program at [`layout::PROGRAM`]. Returns them.
    Program,
    /// Says that the program is loaded. The host may keep the micro-VM's state as it is in this call, and
    /// go on from it any number of times. args: readiness.
    ///
    /// Returns the bytes of the boot information ([`crate::boot::BootInfo`]), the first of which are in the
    /// data area ([`BootInfo`](Self::BootInfo) gets the others). Or returns 0, to
    /// [`Readiness::Linked`] only: then the guest tries to instantiate the program and calls again, with
    /// [`Readiness::Linked`] if that was not possible without a host call.
    ///
    /// Between the first of these calls and its last answer no other call is made but
    /// [`Map`](Self::Map) and [`Abort`](Self::Abort).
    Ready {
        /// How far.
        readiness: Readiness,
    },
    /// Asks for the boot information from `offset` on. Returns the bytes filled into the data area; 0 at
    /// the end. args: offset.
    BootInfo {
        /// Byte offset.
        offset: u64,
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
    /// A stream that has nothing to read answers [`crate::Errno::Again`], or waits.
    /// args: handle, offset, len, wait (0 or 1).
    Read {
        /// Needs the read right.
        handle: Handle,
        /// Byte offset in the file; ignored for streams.
        offset: u64,
        /// Bytes wanted, at most [`layout::CALL_DATA_BYTES`].
        len: u32,
        /// Answer when a stream has something to read, or ends.
        wait: bool,
    },
    /// Writes `data` at `offset`. Returns the bytes written, which may be fewer; where they went to the
    /// end of a file, the data area of the answer says where they end, a `u64`. A stream that has no
    /// room answers [`crate::Errno::Again`], or waits. args: handle, offset, wait (0 or 1).
    Write {
        /// Needs the write right.
        handle: Handle,
        /// Byte offset in the file, or [`crate::APPEND`]; ignored for streams.
        offset: u64,
        /// Answer when a stream has taken something.
        wait: bool,
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
    /// Reserves room on the medium for `[offset, offset + len)` of a file, which grows to hold it
    /// (posix_fallocate(3)). args: handle, offset, len.
    Allocate {
        /// Needs the write right.
        handle: Handle,
        /// Byte offset.
        offset: u64,
        /// Bytes, not 0.
        len: u64,
    },
    /// Tells how a part of a file will be used, for the host's page cache. args: handle, offset, len, advice.
    Advise {
        /// A file.
        handle: Handle,
        /// Byte offset.
        offset: u64,
        /// Bytes; 0 for all up to the end.
        len: u64,
        /// How.
        advice: Advice,
    },
    /// Opens `path`, resolved beneath `dir` and never outside it. Returns the new handle, described in a
    /// [`crate::Stat`]. args: dir, flags; data: path.
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
    /// Makes a socket in the network of the task. Returns its handle. args: family, kind.
    ///
    /// [`crate::Errno::Access`] where no network was granted.
    Socket {
        /// Which addresses it has.
        family: Family,
        /// What it carries.
        kind: SocketKind,
    },
    /// Gives a socket its own address. args: handle; data: a [`SocketAddress`].
    Bind {
        /// A socket.
        handle: Handle,
        /// Of the socket's family; port 0 for any that is free.
        address: SocketAddress,
    },
    /// Has a stream socket take connections. args: handle, backlog.
    Listen {
        /// A socket of kind [`SocketKind::Stream`].
        handle: Handle,
        /// Connections that may wait to be accepted.
        backlog: u32,
    },
    /// Takes a connection. Returns the handle of its socket; its peer's [`SocketAddress`] is in the data
    /// area. args: handle.
    Accept {
        /// A socket that listens.
        handle: Handle,
    },
    /// Connects a socket. Returns 1 if it goes on: the socket polls as writable at the end, and
    /// [`SocketOption::Error`] tells how it went. args: handle; data: a [`SocketAddress`].
    Connect {
        /// A socket.
        handle: Handle,
        /// The peer; of no family, to end the connection of a datagram socket.
        address: SocketAddress,
    },
    /// Sends datagrams. Returns how many were sent, 1 at least. args: handle; data: datagrams, each after
    /// its [`DatagramHeader`].
    Send {
        /// A socket of kind [`SocketKind::Datagram`].
        handle: Handle,
        /// The datagrams, whole.
        datagrams: &'a [u8],
    },
    /// Receives datagrams into the data area, each after its [`DatagramHeader`]. Returns the bytes filled.
    /// args: handle, count.
    Receive {
        /// A socket of kind [`SocketKind::Datagram`].
        handle: Handle,
        /// Most datagrams, not 0; fewer are received than fit if need be.
        count: u32,
    },
    /// Ends a connection, or one direction of it. args: handle, direction.
    Shutdown {
        /// A socket.
        handle: Handle,
        /// What ends.
        direction: Direction,
    },
    /// Tells a [`SocketAddress`] of a socket. args: handle, peer (0 or 1).
    Address {
        /// A socket.
        handle: Handle,
        /// That of the peer, not its own.
        peer: bool,
    },
    /// Tells an option of a socket. Returns it. args: handle, option.
    GetOption {
        /// A socket.
        handle: Handle,
        /// Which.
        option: SocketOption,
    },
    /// Sets an option of a socket. args: handle, option, value.
    SetOption {
        /// A socket.
        handle: Handle,
        /// Which.
        option: SocketOption,
        /// In the option's unit; what is out of range is [`crate::Errno::Invalid`].
        value: u64,
    },
    /// Looks a name up in the task's resolver. Returns a handle that is read, polled and closed as a stream is: it
    /// gives a [`SocketAddress`] with port 0 for each address, and then ends; a lookup that failed
    /// refuses to be read ([`crate::Errno::NameNotFound`], [`crate::Errno::NameTryAgain`],
    /// [`crate::Errno::NameFailure`]). data: the name, UTF-8, at most [`crate::NAME_BYTES_MAX`] bytes.
    ///
    /// An address in text is an address of itself.
    Resolve {
        /// A host name.
        name: &'a [u8],
    },
    /// Answers an incoming exchange. args: exchange, bytes of the head, finished (0 or 1); data: a
    /// [`crate::http::ResponseHead`], then the beginning of the body.
    Respond {
        /// An incoming exchange that has not been answered.
        exchange: Handle,
        /// That was the whole body, and there are no trailers.
        finished: bool,
        /// The head, encoded.
        head: &'a [u8],
        /// The beginning of the body.
        body: &'a [u8],
    },
    /// Begins an outgoing exchange. Returns its handle; whatever is wrong with it is told by
    /// [`Head`](Self::Head). args: bytes of the head, finished (0 or 1), connect_ns, first_byte_ns, between_bytes_ns;
    /// data: a [`crate::http::RequestHead`], then the beginning of the body.
    Fetch {
        /// That was the whole body, and there are no trailers.
        finished: bool,
        /// Longest wait for the connection in nanoseconds; [`crate::FOREVER`] for the host's own limit.
        connect_ns: u64,
        /// Longest wait for the first byte of the response; as above.
        first_byte_ns: u64,
        /// Longest wait between two pieces of the response's body; as above.
        between_bytes_ns: u64,
        /// The head, encoded.
        head: &'a [u8],
        /// The beginning of the body.
        body: &'a [u8],
    },
    /// Ends the body that the guest writes. args: exchange; data: trailers
    /// ([`crate::http::encode_trailers`]).
    ///
    /// A body whose exchange is closed instead is cut off, and the other side sees that.
    Finish {
        /// An exchange whose body is not finished.
        exchange: Handle,
        /// The trailers, encoded.
        trailers: &'a [u8],
    },
    /// Tells the response of an outgoing exchange: a [`crate::http::ResponseHead`] (returns 0), or a
    /// [`crate::http::HttpError`] (returns 1), at the start of the data area.
    /// Before there is one the answer is [`crate::Errno::Again`]; the exchange polls as readable from then on.
    /// args: exchange.
    Head {
        /// An outgoing exchange.
        exchange: Handle,
    },
    /// Tells how the body ended that the guest reads: trailers (returns 0) or a [`crate::http::HttpError`]
    /// (returns 1), as [`Head`](Self::Head) does. [`crate::Errno::Again`] before it has ended, or while some
    /// of it was not read. args: exchange.
    Trailers {
        /// An exchange.
        exchange: Handle,
    },
    /// Answers an incoming exchange with an error instead of a response. args: exchange; data: a
    /// [`crate::http::HttpError`].
    Fail {
        /// An incoming exchange that has not been answered.
        exchange: Handle,
        /// The error, encoded.
        error: &'a [u8],
    },
}

mod codec;
#[cfg(test)]
mod tests;
