//! The host side of the guest contract: what a micro-VM's requests do.
//!
//! Rule: [`Host::call`] is total. Whatever a guest asks has an answer or an [`Errno`]; nothing panics,
//! nothing is followed out of a preopened directory, no call waits for another party unless it asks to
//! ([`Request::Poll`], and a read or write with `wait`), and no more is written than the reply holds.
//! The host keeps no state for a guest but the capability table, with the exchanges in it, and whom its
//! network's policy has come to allow: positions, buffers and paths are the guest's own.
//!
//! Everything is denied by default: a guest has its three standard streams, the clocks, the directories
//! that were preopened for it and what it opens beneath them, and a network or HTTP only if granted.
//!
//! Knows nothing of KVM. Works on Linux 5.8 or newer (openat2(2), utimensat(2) with `AT_EMPTY_PATH`).

mod answer;
mod bell;
mod clock;
mod errno;
mod error;
mod fs;
mod handles;
pub mod http;
mod net;
mod poll;
mod stdio;
#[cfg(test)]
mod tests;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use abi::boot::Preopen;
use abi::http::HEAD_BYTES_MAX;
use abi::{Errno, Handle, Request, SocketKind, layout};
use rustix::fs::{FileType, fstat};

pub use self::answer::Answer;
use self::bell::Bell;
use self::errno::refusal;
pub use self::error::Error;
pub use self::handles::DirAccess;
use self::handles::{Handles, Object, Role};
use self::http::{Exchange, Fetch, Incoming, Outgoing};
pub use self::net::{
    Destination, DestinationError, LookUp, LookupError, LookupRequest, Network, Policy,
};
pub use self::stdio::{Stdio, Streams};

/// Everything one guest was granted, and the calls that use it.
///
/// * [`Handle::STDIN`] can be read, [`Handle::STDOUT`] and [`Handle::STDERR`] can be written.
/// * No directory is open unless [`preopen`](Self::preopen)ed.
/// * There is no HTTP but what is [admitted](Self::admit) or [granted](Self::grant_http).
/// * There are no sockets and no names unless [`grant_network`](Self::grant_network)ed.
/// * At most 4096 handles are open, fewer where the process' limit of open files is lower.
#[derive(Debug)]
pub struct Host {
    handles: Handles,
    preopens: Vec<(Handle, DirAccess, Vec<u8>)>,
    terminal_flags: u32,
    client: Option<Client>,
    /// Rung for the guest by its exchanges; made with the first of them.
    bell: Option<Arc<Bell>>,
    network: Option<net::Granted>,
}

/// Who makes the requests of a guest.
#[derive(Clone)]
struct Client(Arc<dyn Fn(Outgoing) + Send + Sync>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Host {
    /// A host that grants `stdio` and nothing else. What [`Streams::new`] changes in the process is changed.
    ///
    /// # Errors
    ///
    /// As those, and [`Error::TooManyHandles`] if the process may hardly open a file.
    pub fn new(stdio: Stdio) -> Result<Self, Error> {
        Self::with_streams(&Streams::new(stdio)?)
    }

    /// A host that grants `streams` and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyHandles`] if the process may hardly open a file.
    pub fn with_streams(streams: &Streams) -> Result<Self, Error> {
        let mut host = Self {
            handles: Handles::new(),
            preopens: Vec::new(),
            terminal_flags: streams.terminal_flags(),
            client: None,
            bell: None,
            network: None,
        };
        for object in streams.objects() {
            host.grant(object)?;
        }
        Ok(host)
    }

    /// Lets the guest see `dir` at `guest_path`, which is bytes of any encoding.
    ///
    /// The guest can list the directory itself only if `dir` is open for reading (not `O_PATH`).
    /// The access is that of this preopen, not of the files: where one preopened directory lies within
    /// another, the guest has the access of the one through which it goes.
    ///
    /// # Errors
    ///
    /// [`Error::GuestPath`], [`Error::NotADirectory`], [`Error::TooManyHandles`].
    pub fn preopen(
        &mut self,
        dir: OwnedFd,
        guest_path: impl Into<Vec<u8>>,
        access: DirAccess,
    ) -> Result<Handle, Error> {
        let guest_path = guest_path.into();
        let text = || String::from_utf8_lossy(&guest_path).into_owned();
        let lengths = 1..=layout::PATH_BYTES_MAX;
        if !lengths.contains(&guest_path.len()) || guest_path.contains(&0) {
            return Err(Error::GuestPath { guest_path: text() });
        }
        let stat = fstat(&dir).map_err(|source| Error::InspectDirectory {
            guest_path: text(),
            source: source.into(),
        })?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Error::NotADirectory { guest_path: text() });
        }
        let volume = Some(access);
        let handle = self.grant(Object {
            fd: dir.into(),
            role: Role::Directory,
            read: true,
            write: false,
            volume,
        })?;
        self.preopens.push((handle, access, guest_path));
        Ok(handle)
    }

    /// The preopened directories that are open, in the order they were added.
    pub fn preopens(&self) -> impl Iterator<Item = Preopen<'_>> {
        self.preopens.iter().map(|(handle, access, guest_path)| Preopen {
            handle: *handle,
            writable: *access == DirAccess::ReadWrite,
            guest_path,
        })
    }

    /// Gives the guest a request to answer, with what has come of its body. Returns the
    /// [`IncomingRequest`](abi::http::IncomingRequest) for [`BootParams::request`](crate::BootParams::request).
    ///
    /// A request that cannot be given is unanswered, as is one that the guest does not answer.
    ///
    /// # Errors
    ///
    /// [`Error::HeadSize`], [`Error::Bell`], [`Error::TooManyHandles`].
    pub fn admit(&mut self, incoming: Incoming) -> Result<Vec<u8>, Error> {
        let bell = self.bell().map_err(|source| Error::Bell(source.into()))?;
        let (exchange, request) = Exchange::incoming(incoming, bell);
        let bytes = http::head_bytes(&request);
        if bytes > HEAD_BYTES_MAX {
            return Err(Error::HeadSize { bytes });
        }
        let limit = self.handles.limit();
        let handle = self.handles.insert(exchange).map_err(|_| Error::TooManyHandles { limit })?;
        let exchange = self.handles.exchange(handle);
        Ok(exchange.map(|exchange| exchange.announce(handle, &request)).unwrap_or_default())
    }

    /// Gives up what is left of requests that the guest was to answer: they end unanswered, or broken off.
    ///
    /// For the end of a run, whose micro-VM is called again.
    pub fn end_incoming(&mut self) {
        self.handles.close_exchanges(Exchange::is_incoming);
    }

    /// Lets the guest make requests: `client` is given each, on the thread of the guest, and must not wait.
    pub fn grant_http(&mut self, client: Arc<dyn Fn(Outgoing) + Send + Sync>) {
        self.client = Some(Client(client));
    }

    /// Lets the guest make sockets in the network of the calling thread, and look names up.
    pub fn grant_network(&mut self, network: Network) {
        self.network = Some(net::Granted::new(network));
    }

    /// Which standard streams are terminals: [`boot_flags`](abi::boot::boot_flags).
    #[must_use]
    pub fn terminal_flags(&self) -> u32 {
        self.terminal_flags
    }

    /// Does what `request` asks. The first [`Answer::data_bytes`] of `reply` are the answer's data; the
    /// rest of it is unspecified. In production `reply` has [`layout::CALL_DATA_BYTES`].
    ///
    /// [`Request::Poll`] waits, as do a read and a write that say so; a signal whose handler was installed
    /// without `SA_RESTART` ends the wait. Whoever stops a guest so repeats the signal until the thread
    /// has stopped, because the wait may begin just after one.
    ///
    /// # Errors
    ///
    /// Why the host declines; the guest is told. [`Errno::NotSupported`] for [`Request::Exit`],
    /// [`Request::Abort`], [`Request::Log`], [`Request::Map`], [`Request::Program`], [`Request::Ready`] and
    /// [`Request::BootInfo`]: those are handled by the micro-VM, whose start, end, log and memory they are
    /// about. [`Errno::Interrupted`] if a signal came: the caller
    /// sees to its stop flag and gives the guest the refusal.
    pub fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Answer, Errno> {
        let handles = &self.handles;
        match request {
            Request::Exit { .. }
            | Request::Abort { .. }
            | Request::Log { .. }
            | Request::Map { .. }
            | Request::Program
            | Request::Ready { .. }
            | Request::BootInfo { .. } => Err(Errno::NotSupported),
            Request::Clock => clock::sample(reply),
            Request::Poll { timeout_ns, entries } => {
                poll::wait(handles, self.bell.as_deref(), timeout_ns, entries, reply)
            }
            Request::Read { handle, offset, len, wait } => match handles.exchange(handle) {
                Some(exchange) => exchange.read(len, wait, reply),
                None => {
                    let object = handles.readable(handle)?;
                    match (&object.role, &mut self.network) {
                        (Role::Lookup(lookup), Some(network)) => {
                            network.read(lookup, object.fd(), len, wait, reply)
                        }
                        _ => fs::read(object, offset, len, wait, reply),
                    }
                }
            },
            Request::Write { handle, offset, wait, data } => match handles.exchange(handle) {
                Some(exchange) => exchange.write(wait, data),
                None => fs::write(handles.writable(handle)?, offset, wait, data, reply),
            },
            Request::Close { handle } => self.close(handle),
            Request::Sync { handle, data_only } => fs::sync(handles.get(handle)?, data_only),
            Request::Stat { handle } => fs::stat(handles.get(handle)?, reply),
            Request::SetSize { handle, size } => fs::set_size(handles.get(handle)?, size),
            Request::SetTimes { handle, mask, atime_ns, mtime_ns } => {
                fs::set_times(handles.get(handle)?, mask, atime_ns, mtime_ns)
            }
            Request::ReadDir { handle, cookie } => {
                fs::list(handles.directory(handle)?, cookie, reply)
            }
            Request::Allocate { handle, offset, len } => {
                fs::allocate(handles.writable(handle)?, offset, len)
            }
            Request::Advise { handle, offset, len, advice } => {
                fs::advise(handles.get(handle)?, offset, len, advice)
            }
            Request::OpenAt { dir, flags, path } => self.open_at(dir, flags, path, reply),
            Request::StatAt { dir, follow, path } => {
                fs::stat_at(handles.directory(dir)?, follow, path, reply)
            }
            Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path } => {
                let dir = handles.changeable_directory(dir)?;
                fs::set_times_at(dir, follow, mask, atime_ns, mtime_ns, path)
            }
            Request::MkdirAt { dir, path } => {
                fs::mkdir_at(handles.changeable_directory(dir)?, path)
            }
            Request::UnlinkAt { dir, directory, path } => {
                fs::unlink_at(handles.changeable_directory(dir)?, directory, path)
            }
            Request::RenameAt { from_dir, to_dir, from, to } => fs::rename_at(
                handles.changeable_directory(from_dir)?,
                handles.changeable_directory(to_dir)?,
                from,
                to,
            ),
            Request::LinkAt { from_dir, to_dir, follow, from, to } => fs::link_at(
                handles.directory(from_dir)?,
                handles.changeable_directory(to_dir)?,
                follow,
                from,
                to,
            ),
            Request::SymlinkAt { dir, target, path } => {
                fs::symlink_at(handles.changeable_directory(dir)?, target, path)
            }
            Request::ReadLinkAt { dir, path } => {
                fs::read_link_at(handles.directory(dir)?, path, reply)
            }
            Request::Socket { family, kind } => self.socket(family, kind),
            Request::Bind { handle, address } => net::bind(&handles.socket(handle)?, &address),
            Request::Listen { handle, backlog } => {
                net::listen(&handles.socket_of(SocketKind::Stream, handle)?, backlog)
            }
            Request::Accept { handle } => self.accept(handle, reply),
            Request::Connect { handle, address } => {
                let socket = handles.socket(handle)?;
                self.network.as_ref().ok_or(Errno::BadHandle)?.connect(&socket, &address)
            }
            Request::Send { handle, datagrams } => {
                let socket = handles.socket_of(SocketKind::Datagram, handle)?;
                self.network.as_ref().ok_or(Errno::BadHandle)?.send(&socket, datagrams)
            }
            Request::Receive { handle, count } => {
                let socket = handles.socket_of(SocketKind::Datagram, handle)?;
                let network = self.network.as_mut().ok_or(Errno::BadHandle)?;
                network.receive(&socket, count, reply)
            }
            Request::Shutdown { handle, direction } => {
                net::shutdown(&handles.socket(handle)?, direction)
            }
            Request::Address { handle, peer } => {
                net::address(&handles.socket(handle)?, peer, reply)
            }
            Request::GetOption { handle, option } => net::option(&handles.socket(handle)?, option),
            Request::SetOption { handle, option, value } => {
                net::set_option(&handles.socket(handle)?, option, value)
            }
            Request::Resolve { name } => self.resolve(name),
            Request::Respond { exchange, finished, head, body } => {
                self.exchange(exchange)?.respond(finished, head, body)
            }
            Request::Fetch {
                finished,
                connect_ns,
                first_byte_ns,
                between_bytes_ns,
                head,
                body,
            } => {
                let timeouts = [connect_ns, first_byte_ns, between_bytes_ns];
                self.fetch(Fetch { finished, timeouts, head, body })
            }
            Request::Finish { exchange, trailers } => self.exchange(exchange)?.finish(trailers),
            Request::Head { exchange } => self.exchange(exchange)?.head(reply),
            Request::Trailers { exchange } => self.exchange(exchange)?.trailers(reply),
            Request::Fail { exchange, error } => self.exchange(exchange)?.fail(error),
        }
    }

    fn exchange(&self, handle: Handle) -> Result<&Exchange, Errno> {
        self.handles.exchange(handle).ok_or(Errno::BadHandle)
    }

    fn fetch(&mut self, fetch: Fetch<'_>) -> Result<Answer, Errno> {
        let client = self.client.clone().ok_or(Errno::Access)?;
        self.handles.check_room()?;
        let (exchange, outgoing) = Exchange::outgoing(fetch, self.bell().map_err(refusal)?)?;
        let handle = self.handles.insert(exchange)?;
        if let Some(outgoing) = outgoing {
            (client.0)(outgoing);
        }
        Ok(Answer { value: handle.0.into(), data_bytes: 0 })
    }

    fn bell(&mut self) -> Result<Arc<Bell>, rustix::io::Errno> {
        match &self.bell {
            Some(bell) => Ok(bell.clone()),
            None => Ok(self.bell.insert(Arc::new(Bell::new()?)).clone()),
        }
    }

    fn grant(&mut self, object: Object) -> Result<Handle, Error> {
        let limit = self.handles.limit();
        self.handles.insert(object).map_err(|_| Error::TooManyHandles { limit })
    }

    fn close(&mut self, handle: Handle) -> Result<Answer, Errno> {
        self.handles.close(handle)?;
        self.preopens.retain(|(preopen, ..)| *preopen != handle);
        if let Some(network) = &mut self.network {
            network.forget(handle);
        }
        Ok(Answer::DONE)
    }

    fn open_at(
        &mut self,
        dir: Handle,
        flags: abi::OpenFlags,
        path: &[u8],
        reply: &mut [u8],
    ) -> Result<Answer, Errno> {
        let dir = self.handles.directory(dir)?;
        self.handles.check_room()?;
        let object = fs::open_at(dir, flags, path)?;
        let described = fs::stat(&object, reply)?;
        let handle = self.handles.insert(object)?;
        Ok(Answer { value: handle.0.into(), ..described })
    }
}
