//! Host calls: the requests, and by [`Frame`] and [`Nr`] how they cross.
//!
//! Rule: the whole guest-to-host surface is [`Request`], matched exhaustively on both sides. What a
//! guest wrote is an allegation until [`Request::decode`] has turned it into a value; having one proves
//! that every number is in range, every enum known, and every path non-empty, free of NUL and no longer
//! than [`layout::PATH_BYTES_MAX`]. It proves nothing about handles: those are the host table's to check.

mod codec;
mod frame;
mod number;
#[cfg(test)]
mod tests;
mod values;

pub use frame::{Frame, Handle, Violation};
pub use number::Nr;
pub(crate) use values::wire_enum;
pub use values::{AbortKind, Access, Advice, LogLevel, OpenFlags, Readiness, TimesMask};

#[expect(unused_imports, reason = "for the documentation")]
use crate::layout;
#[expect(unused_imports, reason = "for the documentation")]
use crate::socket::DatagramHeader;
use crate::socket::{Direction, Family, SocketAddress, SocketKind, SocketOption};

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
