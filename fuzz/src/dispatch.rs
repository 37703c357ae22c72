//! Host calls, made to a host as a micro-VM makes them, and what must hold whatever they are.
//!
//! * Nothing panics, and an answer is no larger than the reply.
//! * No socket has a peer outside of this machine.
//! * Nothing out of reach changes, and nothing of it is in an answer: no content, no name, no inode.
//! * The process has as many descriptors more than before as the guest has handles but for exchanges of HTTP,
//!   at most as many as the table holds, and none when the host is gone.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use abi::http::{ErrorCode, IncomingRequest, RequestHead};
use abi::layout::CALL_DATA_BYTES;
use abi::{DirEntry, Errno, Family, FileKind, Handle, OpenFlags, Request, SocketAddress, Stat};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use rustix::pipe::pipe;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmm::host::http::{BodyReader, BodyWriter, Incoming, Outgoing, ResponseReader};
use vmm::host::{Answer, DirAccess, Host, LookupError, LookupRequest, Network, Policy, Stdio};
use zerocopy::FromBytes as _;

use crate::requests::{Sequence, Streams};
use crate::scratch::{SENTINEL, Scratch};

/// Most calls of a run.
const CALLS_MAX: usize = 64;

/// Most handles of the guest: few, so that it uses them up.
const HANDLES_MAX: usize = 12;

/// Descriptors that a host leaves to its process (`vmm::host`).
const DESCRIPTORS_OF_THE_VMM: u64 = 192;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// What runs share.
struct World {
    scratch: Scratch,
    /// A data area: zeros, between calls.
    area: Vec<u8>,
    reply: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let current = Some(DESCRIPTORS_OF_THE_VMM + HANDLES_MAX as u64);
        let limit = Rlimit { current, ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limit).expect("limit the descriptors");
        let window = || vec![0; CALL_DATA_BYTES];
        Self { scratch: Scratch::new(), area: window(), reply: window() }
    }
}

/// Makes the calls of `sequence`.
///
/// # Panics
///
/// If something does not hold.
pub fn run(sequence: &Sequence) {
    WORLD.with_borrow_mut(|world| {
        let World { scratch, area, reply } = world.get_or_insert_with(World::new);
        scratch.refill();
        let before = descriptors();
        let (mut guest, others) = Guest::new(scratch, sequence.streams);
        let without_handles = descriptors() - guest.descriptors();
        guest.open_some(scratch, reply);
        for call in sequence.calls.iter().take(CALLS_MAX) {
            let (frame, payload) = call.encode(&guest.open, &guest.directories, area);
            if let Ok(request) = Request::decode(&frame, area) {
                guest.call(scratch, request, &mut reply[..call.reply.bytes()]);
            }
            area[..payload].fill(0);
        }
        assert!(guest.open.len() <= HANDLES_MAX, "{} handles", guest.open.len());
        assert_eq!(descriptors(), without_handles + guest.descriptors(), "one for each handle");
        drop((guest, others));
        assert_eq!(descriptors(), before, "none when the host is gone");
        scratch.check();
    });
}

/// A host, and what its guest knows.
struct Guest {
    host: Host,
    open: Vec<Handle>,
    directories: Vec<Handle>,
    exchanges: Vec<Handle>,
}

/// The other ends of what a guest has.
struct Others {
    _streams: Vec<OwnedFd>,
    _request: (Option<BodyWriter>, Option<ResponseReader>),
    _asked: Arc<Mutex<Asked>>,
}

/// The ends of requests that a guest has made.
#[derive(Default)]
struct Asked {
    unanswered: Vec<Outgoing>,
    answered: Vec<BodyReader>,
}

impl Guest {
    /// A guest, and the other ends of its streams and exchanges.
    fn new(scratch: &Scratch, streams: Streams) -> (Self, Others) {
        let (stdio, others) = stdio(streams);
        let mut host = Host::new(stdio).expect("make a host");
        let mut open = vec![Handle::STDIN, Handle::STDOUT, Handle::STDERR];
        let mut directories = Vec::new();
        let granted = [("inside", DirAccess::ReadWrite), ("readonly", DirAccess::ReadOnly)];
        for (name, access) in granted {
            let dir = host.preopen(scratch.open(name).into(), name, access).expect("preopen");
            open.push(dir);
            directories.push(dir);
        }
        host.grant_network(loopback());
        let asked = Arc::new(Mutex::new(Asked::default()));
        let client = Arc::clone(&asked);
        host.grant_http(Arc::new(move |outgoing| fetch(streams, outgoing, &client)));
        let (incoming, request) = incoming(streams);
        let admitted = host.admit(incoming).expect("admit");
        let exchange = IncomingRequest::decode(&admitted).expect("a request").exchange;
        open.push(exchange);
        let others = Others { _streams: others, _request: request, _asked: asked };
        (Self { host, open, directories, exchanges: vec![exchange] }, others)
    }

    /// How many descriptors its handles are.
    fn descriptors(&self) -> usize {
        self.open.len() - self.exchanges.len()
    }

    /// Opens a file for reading and writing, a directory, and a file that is read-only, and makes a request,
    /// so that the first call of a sequence has something to be about.
    fn open_some(&mut self, scratch: &Scratch, reply: &mut [u8]) {
        let (inside, read_only) = (self.directories[0], self.directories[1]);
        let (read, write) = (OpenFlags::READ, OpenFlags::WRITE);
        for (dir, path, flags) in [
            (inside, &b"file"[..], read.with(write)),
            (inside, b"dir", read),
            (read_only, b"file", read),
        ] {
            self.call(scratch, Request::OpenAt { dir, flags, path }, reply);
        }
        let (method, path_with_query): (&[u8], &[u8]) = (b"GET", b"/");
        let (scheme, authority): (&[u8], &[u8]) = (b"http", b"a.test");
        let head = RequestHead { method, scheme, authority, path_with_query, headers: Vec::new() };
        let (head, wait) = (head.encode(), abi::FOREVER);
        let (connect_ns, first_byte_ns, between_bytes_ns) = (wait, wait, wait);
        let body = b"";
        let fetch = Request::Fetch {
            finished: false,
            connect_ns,
            first_byte_ns,
            between_bytes_ns,
            head: &head,
            body,
        };
        self.call(scratch, fetch, reply);
    }

    /// Makes one call, and looks at the answer.
    fn call(&mut self, scratch: &Scratch, request: Request<'_>, reply: &mut [u8]) {
        let answer = match self.host.call(request, reply) {
            Ok(answer) => answer,
            Err(errno) => {
                assert_ne!(errno, Errno::Io, "an error without a word: {request:?}");
                return;
            }
        };
        let data = reply.get(..answer.data_bytes).expect("no more than the reply holds");
        let revealed = data.windows(SENTINEL.len()).any(|bytes| bytes == SENTINEL);
        // What a link says is content of the volume: the ways out say it from the start.
        assert!(!revealed || matches!(request, Request::ReadLinkAt { .. }), "{request:?}");
        if let Ok(stat) = Stat::read_from_bytes(data)
            && matches!(
                request,
                Request::OpenAt { .. } | Request::Stat { .. } | Request::StatAt { .. }
            )
        {
            assert!(!scratch.is_secret(&stat), "{request:?}: {stat:?}");
            self.note_opened(request, answer, stat);
        }
        match request {
            Request::Socket { .. }
            | Request::Accept { .. }
            | Request::Resolve { .. }
            | Request::Fetch { .. } => {
                let handle = Handle(u32::try_from(answer.value).expect("a handle"));
                assert!(!self.open.contains(&handle), "{handle:?} is given twice");
                self.open.push(handle);
                if matches!(request, Request::Fetch { .. }) {
                    self.exchanges.push(handle);
                }
            }
            Request::Address { peer: true, .. } => check_peer(data),
            Request::Close { handle } => {
                self.open.retain(|open| *open != handle);
                self.directories.retain(|open| *open != handle);
                self.exchanges.retain(|open| *open != handle);
            }
            Request::ReadDir { .. } => check_entries(scratch, data),
            Request::Read { len, .. } => assert!(answer.value <= len.into(), "{request:?}"),
            Request::Write { data, .. } => {
                assert!(answer.value <= data.len() as u64, "{request:?}");
            }
            _ => {}
        }
    }

    fn note_opened(&mut self, request: Request<'_>, answer: Answer, stat: Stat) {
        let Request::OpenAt { flags, .. } = request else { return };
        let handle = Handle(u32::try_from(answer.value).expect("a handle"));
        assert!(!self.open.contains(&handle), "{handle:?} is given twice");
        self.open.push(handle);
        let read = flags.contains(OpenFlags::READ);
        if read && FileKind::from_wire(stat.kind) == FileKind::Directory {
            self.directories.push(handle);
        }
    }
}

/// The network of the guest: this machine alone, and names that have an address here, or none.
fn loopback() -> Network {
    let allowed = ["127.0.0.0/8", "[::1]"].map(|text| text.parse().expect("destination"));
    let look_up = |request: LookupRequest| match request.name().len() % 3 {
        0 => request.answer(Ok(vec![[127, 0, 0, 1].into()])),
        1 => request.answer(Err(LookupError::NotFound)),
        _ => drop(request),
    };
    Network::new(Arc::new(Policy::only(allowed.into())), Arc::new(look_up))
}

fn check_peer(data: &[u8]) {
    let peer = SocketAddress::read_from_bytes(data).expect("a whole address");
    let ip = match peer.family().expect("a family") {
        Family::V4 => IpAddr::from([peer.ip[0], peer.ip[1], peer.ip[2], peer.ip[3]]),
        Family::V6 => IpAddr::from(peer.ip),
    };
    assert!(ip.is_loopback(), "{ip}");
}

fn check_entries(scratch: &Scratch, mut data: &[u8]) {
    while let Some((entry, rest)) = DirEntry::split_first(data) {
        assert!(!matches!(entry.name, b"" | b"." | b".."), "{entry:?}");
        assert!(!entry.name.contains(&b'/') && !entry.name.contains(&0), "{entry:?}");
        assert!(!scratch.is_secret_entry(entry.header.ino), "{entry:?}");
        data = rest;
    }
    assert_eq!(data, [], "whole entries");
}

/// A request, and the ends of its server that stay open.
fn incoming(streams: Streams) -> (Incoming, (Option<BodyWriter>, Option<ResponseReader>)) {
    let head = http::Request::get("http://a.test/").body(()).expect("a request");
    let (incoming, body, response) = Incoming::new(head);
    let ends = match streams {
        Streams::Null => {
            body.finish(HeaderMap::new());
            (None, Some(response))
        }
        Streams::Idle => (Some(body), Some(response)),
        Streams::Gone => (None, None),
        Streams::Full => {
            finish(body, b"some input");
            (None, Some(response))
        }
    };
    (incoming, ends)
}

/// Answers a request of the guest's, or not.
fn fetch(streams: Streams, outgoing: Outgoing, asked: &Mutex<Asked>) {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    match streams {
        Streams::Null => outgoing.response.fail(ErrorCode::ConnectionRefused.into()),
        Streams::Idle => asked.unanswered.push(outgoing),
        Streams::Gone => {}
        Streams::Full => {
            let Outgoing { body, response, .. } = outgoing;
            finish(response.respond(Response::new(())), b"some output");
            asked.answered.push(body);
        }
    }
}

/// Writes a whole body, with a trailer.
fn finish(mut body: BodyWriter, bytes: &[u8]) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(body.poll_write(&mut context, bytes).is_ready(), "there is room");
    let trailers = [(HeaderName::from_static("x-any"), HeaderValue::from_static("thing"))];
    body.finish(trailers.into_iter().collect());
}

/// The standard streams, and the other ends that stay open.
fn stdio(streams: Streams) -> (Stdio, Vec<OwnedFd>) {
    let null = || File::options().read(true).write(true).open("/dev/null").expect("open");
    let stderr = null().into();
    let (stdin, input) = pipe().expect("pipe");
    let (output, stdout) = pipe().expect("pipe");
    match streams {
        Streams::Null => {
            (Stdio { stdin: null().into(), stdout: null().into(), stderr }, Vec::new())
        }
        Streams::Idle => (Stdio { stdin, stdout, stderr }, vec![input, output]),
        Streams::Gone => (Stdio { stdin, stdout, stderr }, Vec::new()),
        Streams::Full => {
            File::from(input).write_all(b"some input").expect("write");
            let stdout = tempfile::tempfile().expect("temporary file").into();
            (Stdio { stdin, stdout, stderr }, Vec::new())
        }
    }
}

fn descriptors() -> usize {
    // One is the listing's own, each time.
    fs::read_dir("/proc/self/fd").expect("list").count()
}
