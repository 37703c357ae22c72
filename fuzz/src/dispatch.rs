//! Host calls, made to a host as a micro-VM makes them, and what must hold whatever they are.
//!
//! * Nothing panics, and an answer is no larger than the reply.
//! * Nothing out of reach changes, and nothing of it is in an answer: no content, no name, no inode.
//! * The process has as many descriptors more than before as the guest has handles, at most as many as
//!   the table holds, and none when the host is gone.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;

use abi::layout::CALL_DATA_BYTES;
use abi::{DirEntry, Errno, FileKind, Handle, Nr, OpenFlags, Request, Stat};
use rustix::pipe::pipe;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmm::host::{Answer, DirAccess, Host, Stdio};
use zerocopy::FromBytes as _;

use crate::requests::{Sequence, Streams};
use crate::scratch::{SENTINEL, Scratch};

/// Most calls of a run.
const CALLS_MAX: usize = 64;

/// Most handles of the guest: few, so that it uses them up.
const HANDLES_MAX: usize = 10;

/// Descriptors that a host leaves to its process (`vmm::host`).
const DESCRIPTORS_OF_THE_VMM: u64 = 64;

thread_local! {
    static SCRATCH: OnceCell<Scratch> = const { OnceCell::new() };
}

/// Makes the calls of `sequence`.
///
/// # Panics
///
/// If something does not hold.
pub fn run(sequence: &Sequence) {
    SCRATCH.with(|scratch| {
        let scratch = scratch.get_or_init(|| {
            let current = Some(DESCRIPTORS_OF_THE_VMM + HANDLES_MAX as u64);
            let limit = Rlimit { current, ..getrlimit(Resource::Nofile) };
            setrlimit(Resource::Nofile, limit).expect("limit the descriptors");
            Scratch::new()
        });
        scratch.refill();
        let before = descriptors();
        let (mut guest, others) = Guest::new(scratch, sequence.streams);
        let without_handles = descriptors() - guest.open.len();
        // So that the first call has something to be about.
        for (dir, path) in [(0, &b"file"[..]), (0, b"dir"), (1, b"file")] {
            let flags = if dir == 0 && path == b"file" {
                OpenFlags::READ.with(OpenFlags::WRITE)
            } else {
                OpenFlags::READ
            };
            let dir = guest.directories[dir];
            guest.call(scratch, Request::OpenAt { dir, flags, path }, CALL_DATA_BYTES);
        }
        for call in sequence.calls.iter().take(CALLS_MAX) {
            let (frame, area) = call.encode(&guest.open, &guest.directories);
            let Ok(request) = Request::decode(&frame, &area) else { continue };
            guest.call(scratch, request, call.reply.bytes());
        }
        assert!(guest.open.len() <= HANDLES_MAX, "{} handles", guest.open.len());
        assert_eq!(descriptors(), without_handles + guest.open.len(), "one for each handle");
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
}

impl Guest {
    /// A guest, and the other ends of its streams.
    fn new(scratch: &Scratch, streams: Streams) -> (Self, Vec<OwnedFd>) {
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
        (Self { host, open, directories }, others)
    }

    /// Makes one call, and looks at the answer.
    fn call(&mut self, scratch: &Scratch, request: Request<'_>, reply_bytes: usize) {
        let mut reply = vec![0xaa; reply_bytes];
        let answer = match self.host.call(request, &mut reply) {
            Ok(answer) => answer,
            Err(errno) => {
                assert_ne!(errno, Errno::Io, "an error without a word: {request:?}");
                assert!(reply.iter().all(|byte| *byte == 0xaa) || writes_early(request));
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
            assert!(!scratch.is_secret(stat.ino), "{request:?}: {stat:?}");
            self.note_opened(request, answer, stat);
        }
        match request {
            Request::Close { handle } => {
                self.open.retain(|open| *open != handle);
                self.directories.retain(|open| *open != handle);
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

/// Whether a call may have written to the reply before it was declined.
fn writes_early(request: Request<'_>) -> bool {
    let nr = request.encode(&mut vec![0; CALL_DATA_BYTES]).map(|frame| frame.nr);
    nr == Ok(Nr::ReadDir as u32) || nr == Ok(Nr::OpenAt as u32)
}

fn check_entries(scratch: &Scratch, mut data: &[u8]) {
    while let Some((entry, rest)) = DirEntry::split_first(data) {
        assert!(!matches!(entry.name, b"" | b"." | b".."), "{entry:?}");
        assert!(!entry.name.contains(&b'/') && !entry.name.contains(&0), "{entry:?}");
        assert!(!scratch.is_secret(entry.header.ino), "{entry:?}");
        data = rest;
    }
    assert_eq!(data, [], "whole entries");
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
