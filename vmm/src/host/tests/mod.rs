//! What the tests of the host side share: a guest that makes calls, and a directory tree around it.
//! The calls on files and directories are tested in `fs/tests`.

mod clock;
mod handles;
mod hostile;
mod poll;
mod streams;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use abi::layout::CALL_DATA_BYTES;
use abi::{APPEND, Errno, Handle, OpenFlags, PollEntry, Request, Stat};
use rustix::pipe::pipe;
use tempfile::TempDir;
use zerocopy::{FromBytes as _, IntoBytes as _};

pub(super) use self::hostile::Random;
use super::{DirAccess, Host, Stdio};

/// A host with one writable and one read-only preopen, and something outside of both.
///
/// ```text
/// sentinel            outside
/// outside/file        outside
/// inside/             writable, handle 3
/// readonly/file       read-only, handle 4
/// readonly/dir/file
/// readonly/link -> file
/// ```
pub(super) struct Guest {
    pub(super) host: Host,
    pub(super) root: TempDir,
}

pub(super) const INSIDE: Handle = Handle(3);
pub(super) const READ_ONLY: Handle = Handle(4);
const OUTSIDE_TEXT: &str = "nobody from inside reads or writes this";

impl Guest {
    pub(super) fn new() -> Self {
        Self::with_stdio(null(), null())
    }

    pub(super) fn with_stdio(stdin: OwnedFd, stdout: OwnedFd) -> Self {
        let root = TempDir::new().expect("temporary directory");
        for dir in ["inside", "outside", "readonly/dir"] {
            fs::create_dir_all(root.path().join(dir)).expect("create directory");
        }
        for file in ["sentinel", "outside/file"] {
            fs::write(root.path().join(file), OUTSIDE_TEXT).expect("write");
        }
        for file in ["readonly/file", "readonly/dir/file"] {
            fs::write(root.path().join(file), "content").expect("write");
        }
        std::os::unix::fs::symlink("file", root.path().join("readonly/link")).expect("symlink");

        let mut host = Host::new(Stdio { stdin, stdout, stderr: null() }).expect("host");
        let open = |name| fs::File::open(root.path().join(name)).expect("open directory").into();
        let inside = host.preopen(open("inside"), "/data", DirAccess::ReadWrite);
        assert_eq!(inside.expect("preopen"), INSIDE);
        let read_only = host.preopen(open("readonly"), "/etc", DirAccess::ReadOnly);
        assert_eq!(read_only.expect("preopen"), READ_ONLY);
        Self { host, root }
    }

    /// Where the guest's `path` beneath [`INSIDE`] is on the host.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        self.root.path().join("inside").join(path)
    }

    /// Makes a call and returns its value and data.
    pub(super) fn ask(&mut self, request: Request<'_>) -> Result<(u64, Vec<u8>), Errno> {
        let mut reply = vec![0; CALL_DATA_BYTES];
        let answer = self.host.call(request, &mut reply)?;
        reply.truncate(answer.data_bytes);
        Ok((answer.value, reply))
    }

    /// Makes a call that has no data in its answer.
    pub(super) fn call(&mut self, request: Request<'_>) -> Result<u64, Errno> {
        let (value, data) = self.ask(request)?;
        assert_eq!(data, [], "{request:?}");
        Ok(value)
    }

    pub(super) fn open(
        &mut self,
        dir: Handle,
        path: impl AsRef<[u8]>,
        flags: OpenFlags,
    ) -> Result<Handle, Errno> {
        self.open_described(dir, path, flags).map(|(handle, _)| handle)
    }

    /// Opens and returns what the answer says of the object, too.
    pub(super) fn open_described(
        &mut self,
        dir: Handle,
        path: impl AsRef<[u8]>,
        flags: OpenFlags,
    ) -> Result<(Handle, Stat), Errno> {
        let (value, data) = self.ask(Request::OpenAt { dir, flags, path: path.as_ref() })?;
        let handle = Handle(u32::try_from(value).expect("a handle"));
        Ok((handle, Stat::read_from_bytes(&data).expect("a whole Stat")))
    }

    pub(super) fn create(&mut self, path: impl AsRef<[u8]>) -> Handle {
        let flags = OpenFlags::READ.with(OpenFlags::WRITE).with(OpenFlags::CREATE);
        self.open(INSIDE, path, flags).expect("create")
    }

    pub(super) fn read(&mut self, handle: Handle, offset: u64) -> Result<Vec<u8>, Errno> {
        let len = u32::try_from(CALL_DATA_BYTES).expect("small");
        let (value, data) = self.ask(Request::Read { handle, offset, len, wait: false })?;
        assert_eq!(value, data.len() as u64);
        Ok(data)
    }

    pub(super) fn write(
        &mut self,
        handle: Handle,
        offset: u64,
        data: impl AsRef<[u8]>,
    ) -> Result<u64, Errno> {
        self.call(Request::Write { handle, offset, wait: false, data: data.as_ref() })
    }

    /// Writes at the end of a file. Returns the bytes written and where they end.
    pub(super) fn append(
        &mut self,
        handle: Handle,
        data: impl AsRef<[u8]>,
    ) -> Result<(u64, u64), Errno> {
        let request = Request::Write { handle, offset: APPEND, wait: false, data: data.as_ref() };
        let (value, end) = self.ask(request)?;
        Ok((value, u64::from_le_bytes(end.try_into().expect("a whole number"))))
    }

    pub(super) fn stat(&mut self, handle: Handle) -> Result<Stat, Errno> {
        let (_, data) = self.ask(Request::Stat { handle })?;
        Ok(Stat::read_from_bytes(&data).expect("a whole Stat"))
    }

    pub(super) fn stat_at(
        &mut self,
        dir: Handle,
        path: impl AsRef<[u8]>,
        follow: bool,
    ) -> Result<Stat, Errno> {
        let (_, data) = self.ask(Request::StatAt { dir, follow, path: path.as_ref() })?;
        Ok(Stat::read_from_bytes(&data).expect("a whole Stat"))
    }

    pub(super) fn poll(
        &mut self,
        entries: &[(Handle, u32)],
        timeout_ns: u64,
    ) -> Result<Vec<u32>, Errno> {
        let entries: Vec<_> = entries
            .iter()
            .map(|(handle, events)| PollEntry {
                handle: handle.0,
                events: *events,
                ..PollEntry::default()
            })
            .collect();
        let request = Request::Poll { timeout_ns, entries: entries.as_bytes() };
        let (value, data) = self.ask(request)?;
        let ready: Vec<_> = <[PollEntry]>::ref_from_bytes(&data)
            .expect("whole entries")
            .iter()
            .map(|entry| entry.ready)
            .collect();
        assert_eq!(value, ready.iter().filter(|ready| **ready != 0).count() as u64);
        Ok(ready)
    }

    pub(super) fn assert_nothing_outside_changed(&self) {
        for file in ["sentinel", "outside/file"] {
            let text = fs::read_to_string(self.root.path().join(file)).expect("still there");
            assert_eq!(text, OUTSIDE_TEXT, "{file}");
        }
        for file in ["readonly/file", "readonly/dir/file"] {
            let text = fs::read_to_string(self.root.path().join(file)).expect("still there");
            assert_eq!(text, "content", "{file}");
        }
        assert_eq!(names(self.root.path()), ["inside", "outside", "readonly", "sentinel"]);
        assert_eq!(names(&self.root.path().join("outside")), ["file"]);
        assert_eq!(names(&self.root.path().join("readonly")), ["dir", "file", "link"]);
        assert_eq!(names(&self.root.path().join("readonly/dir")), ["file"]);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

pub(super) fn null() -> OwnedFd {
    fs::File::options().read(true).write(true).open("/dev/null").expect("open /dev/null").into()
}

/// A guest whose standard output is a pipe that blocks, and the end that reads it.
fn guest_writing_to_a_pipe() -> (Guest, fs::File) {
    let (reader, writer) = pipe().expect("pipe");
    (Guest::with_stdio(null(), writer), reader.into())
}

/// A guest whose standard input is a pipe that blocks, and the end that writes it.
fn guest_reading_from_a_pipe() -> (Guest, fs::File) {
    let (reader, writer) = pipe().expect("pipe");
    (Guest::with_stdio(reader, null()), writer.into())
}

/// Fills standard output until there is no room.
fn fill(guest: &mut Guest) -> u64 {
    let mut written = 0;
    loop {
        match guest.write(Handle::STDOUT, 0, [b'x'; CALL_DATA_BYTES]) {
            Ok(len) => written += len,
            Err(errno) => {
                assert_eq!(errno, Errno::Again);
                return written;
            }
        }
    }
}
