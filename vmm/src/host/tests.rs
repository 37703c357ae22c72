//! Standard streams, handles, poll, clock, and hostile requests; files are in `fs/tests.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Pipe};
use std::thread;
use std::time::{Duration, Instant};

use abi::boot::Preopen;
use abi::layout::CALL_DATA_BYTES;
use abi::{
    ClockSample, Errno, FOREVER, FileKind, Handle, OpenFlags, PollEntry, Request, Stat, TimesMask,
    poll_events,
};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::pipe;
use tempfile::TempDir;
use zerocopy::{FromBytes, IntoBytes};

use super::handles::Handles;
use super::{Answer, DirAccess, Error, Host, Stdio};
use crate::Kick;

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
        let (value, data) = self.ask(Request::Read { handle, offset, len })?;
        assert_eq!(value, data.len() as u64);
        Ok(data)
    }

    pub(super) fn write(
        &mut self,
        handle: Handle,
        offset: u64,
        data: impl AsRef<[u8]>,
    ) -> Result<u64, Errno> {
        self.call(Request::Write { handle, offset, data: data.as_ref() })
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

fn null() -> OwnedFd {
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

// Standard streams.

#[test]
fn standard_input_gives_again_then_data_then_the_end() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::Again));
    writer.write_all(b"data").expect("write");
    assert_eq!(guest.read(Handle::STDIN, u64::MAX), Ok(b"data".to_vec()));
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::Again));
    drop(writer);
    assert_eq!(guest.read(Handle::STDIN, 0), Ok(vec![]));
}

#[test]
fn a_read_gives_no_more_than_was_asked_for() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    writer.write_all(b"abcdef").expect("write");
    let request = Request::Read { handle: Handle::STDIN, offset: 0, len: 4 };
    assert_eq!(guest.ask(request), Ok((4, b"abcd".to_vec())));
}

#[test]
fn a_read_gives_no_more_than_the_reply_holds() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    writer.write_all(b"abcdef").expect("write");
    let request = Request::Read { handle: Handle::STDIN, offset: 0, len: u32::MAX };
    let mut reply = [0; 3];
    let answer = guest.host.call(request, &mut reply);
    assert_eq!(answer, Ok(Answer { value: 3, data_bytes: 3 }));
    assert_eq!(&reply, b"abc");
}

#[test]
fn standard_output_reaches_a_pipe() {
    let (mut guest, mut reader) = guest_writing_to_a_pipe();
    assert_eq!(guest.write(Handle::STDOUT, 7, b"hello"), Ok(5));
    drop(guest);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
}

#[test]
fn a_full_pipe_gives_again_until_it_is_read() {
    let (mut guest, mut reader) = guest_writing_to_a_pipe();
    let written = fill(&mut guest);
    assert!(written >= 65536, "{written}");
    let mut buffer = vec![0; 8192];
    reader.read_exact(&mut buffer).expect("read");
    assert_eq!(guest.write(Handle::STDOUT, 0, [b'x'; CALL_DATA_BYTES]), Ok(8192));
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::Again));
}

#[test]
fn a_full_pipe_that_does_not_block_gives_again() {
    let (_reader, writer) = pipe().expect("pipe");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("set O_NONBLOCK");
    let mut guest = Guest::with_stdio(null(), writer);
    assert_eq!(fill(&mut guest), 65536);
}

#[test]
fn a_full_socket_gives_again() {
    let (ours, _theirs) = UnixStream::pair().expect("socket pair");
    let mut guest = Guest::with_stdio(null(), ours.into());
    assert!(fill(&mut guest) > 0);
}

#[test]
fn a_pipe_without_a_reader_is_broken() {
    let (mut guest, reader) = guest_writing_to_a_pipe();
    drop(reader);
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::BrokenPipe));
}

#[test]
fn a_socket_without_a_reader_is_broken() {
    let (ours, theirs) = UnixStream::pair().expect("socket pair");
    let mut guest = Guest::with_stdio(null(), ours.into());
    drop(theirs);
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::BrokenPipe));
}

#[test]
fn the_flags_of_inherited_streams_stay_as_they_are() {
    let (mut guest, reader) = guest_writing_to_a_pipe();
    let flags = |guest: &Guest| {
        rustix::fs::fcntl_getfl(guest.host.handles.get(Handle::STDOUT).expect("open").fd())
    };
    let before = flags(&guest);
    fill(&mut guest);
    assert_eq!(flags(&guest), before);
    drop(reader);
}

#[test]
fn standard_output_that_is_a_file_is_written_at_its_own_position() {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(b"before ").expect("write");
    let mut guest = Guest::with_stdio(null(), file.try_clone().expect("duplicate").into());
    assert_eq!(guest.write(Handle::STDOUT, 0, b"one "), Ok(4));
    assert_eq!(guest.write(Handle::STDOUT, 0, b"two "), Ok(4));
    file.write_all(b"after").expect("write");
    assert_eq!(content(&file), "before one two after");
}

#[test]
fn standard_output_that_is_a_file_opened_to_append_is_appended_to() {
    let dir = TempDir::new().expect("temporary directory");
    let path = dir.path().join("log");
    fs::write(&path, "before ").expect("write");
    let append = || fs::File::options().append(true).open(&path).expect("open");
    let mut guest = Guest::with_stdio(null(), append().into());
    assert_eq!(guest.write(Handle::STDOUT, 0, b"one "), Ok(4));
    append().write_all(b"other ").expect("write");
    assert_eq!(guest.write(Handle::STDOUT, 0, b"two"), Ok(3));
    assert_eq!(fs::read_to_string(&path).expect("read"), "before one other two");
}

#[test]
fn standard_output_that_is_a_file_takes_a_large_write_whole() {
    let file = tempfile::tempfile().expect("temporary file");
    let mut guest = Guest::with_stdio(null(), file.try_clone().expect("duplicate").into());
    let written = guest.write(Handle::STDOUT, 0, [b'x'; CALL_DATA_BYTES]);
    assert_eq!(written, Ok(CALL_DATA_BYTES as u64));
    assert_eq!(content(&file).len(), CALL_DATA_BYTES);
}

#[test]
fn standard_input_that_is_a_file_is_read_from_its_own_position() {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(b"abcdef").expect("write");
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(2)).expect("seek");
    let mut guest = Guest::with_stdio(file.try_clone().expect("duplicate").into(), null());
    let request = Request::Read { handle: Handle::STDIN, offset: 0, len: 2 };
    assert_eq!(guest.ask(request), Ok((2, b"cd".to_vec())));
    assert_eq!(guest.ask(request), Ok((2, b"ef".to_vec())));
    assert_eq!(guest.ask(request), Ok((0, vec![])));
}

#[test]
fn a_directory_as_standard_input_reads_as_a_directory() {
    let dir = TempDir::new().expect("temporary directory");
    let stdin = fs::File::open(dir.path()).expect("open").into();
    let mut guest = Guest::with_stdio(stdin, null());
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::IsDirectory));
    let open = guest.open(Handle::STDIN, ".", OpenFlags::READ);
    assert_eq!(open, Err(Errno::BadHandle));
}

#[test]
fn standard_streams_go_one_way() {
    let mut guest = Guest::new();
    assert_eq!(guest.write(Handle::STDIN, 0, b"x"), Err(Errno::BadHandle));
    assert_eq!(guest.read(Handle::STDOUT, 0), Err(Errno::BadHandle));
    assert_eq!(guest.read(Handle::STDERR, 0), Err(Errno::BadHandle));
    assert_eq!(guest.write(Handle::STDERR, 0, b"x"), Ok(1));
}

#[test]
fn a_file_that_serves_as_a_standard_stream_keeps_its_size_and_times() {
    let file = tempfile::tempfile().expect("temporary file");
    let mut guest = Guest::with_stdio(null(), file.into());
    guest.write(Handle::STDOUT, 0, b"log").expect("write");
    let size = Request::SetSize { handle: Handle::STDOUT, size: 0 };
    assert_eq!(guest.call(size), Err(Errno::Invalid));
    let times = Request::SetTimes {
        handle: Handle::STDOUT,
        mask: TimesMask::MTIME,
        atime_ns: 0,
        mtime_ns: 0,
    };
    assert_eq!(guest.call(times), Err(Errno::NotPermitted));
    assert_eq!(guest.stat(Handle::STDOUT).expect("stat").size, 3);
}

#[test]
fn a_stream_has_no_medium_to_sync() {
    let (mut guest, _reader) = guest_writing_to_a_pipe();
    let request = Request::Sync { handle: Handle::STDOUT, data_only: false };
    assert_eq!(guest.call(request), Err(Errno::Invalid));
}

#[test]
fn a_standard_stream_describes_what_it_is() {
    let (mut guest, _reader) = guest_writing_to_a_pipe();
    let kind =
        |guest: &mut Guest, handle| FileKind::from_wire(guest.stat(handle).expect("stat").kind);
    assert_eq!(kind(&mut guest, Handle::STDIN), FileKind::CharacterDevice);
    assert_eq!(kind(&mut guest, Handle::STDOUT), FileKind::Fifo);
}

#[test]
fn a_terminal_is_told_from_other_streams() {
    let (_emulator, terminal) = terminal();
    let guest = Guest::with_stdio(null(), terminal);
    assert_eq!(guest.host.terminal_flags(), abi::boot::boot_flags::STDOUT_IS_TERMINAL);
}

#[test]
fn a_terminal_gives_again_then_a_line() {
    let (mut emulator, terminal) = terminal();
    let mut guest = Guest::with_stdio(terminal, null());
    assert_eq!(guest.read(Handle::STDIN, 0), Err(Errno::Again));
    emulator.type_line("line\n");
    let ready = guest.poll(&[(Handle::STDIN, poll_events::READ)], FOREVER);
    assert_eq!(ready, Ok(vec![poll_events::READ]));
    assert_eq!(guest.read(Handle::STDIN, 0), Ok(b"line\n".to_vec()));
}

#[test]
fn the_streams_of_this_process_can_be_inherited() {
    let mut host = Host::new(Stdio::inherit().expect("inherit")).expect("host");
    let request = Request::Write { handle: Handle::STDERR, offset: 0, data: b"" };
    assert_eq!(host.call(request, &mut []), Ok(Answer::DONE));
}

/// A terminal: what types on it, and the side of the program. It hangs up when the first is dropped.
fn terminal() -> (Emulator, OwnedFd) {
    let mut script = Command::new("script")
        .args(["--quiet", "--command", "tty; exec sleep 60", "/dev/null"])
        .stdin(Pipe::piped())
        .stdout(Pipe::piped())
        .spawn()
        .expect("start script(1) of util-linux");
    let mut name = String::new();
    BufReader::new(script.stdout.as_mut().expect("piped")).read_line(&mut name).expect("read");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let program = rustix::fs::open(name.trim(), flags, rustix::fs::Mode::empty());
    (Emulator(script), program.expect("open the terminal"))
}

struct Emulator(Child);

impl Emulator {
    fn type_line(&mut self, line: &str) {
        let keyboard = self.0.stdin.as_mut().expect("piped");
        keyboard.write_all(line.as_bytes()).expect("type");
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

fn content(file: &fs::File) -> String {
    let mut text = vec![0; 1 << 20];
    let len = rustix::io::pread(file, &mut text, 0).expect("read");
    String::from_utf8(text[..len].to_vec()).expect("UTF-8")
}

// Handles.

#[test]
fn a_standard_stream_can_be_closed_and_its_number_is_given_again() {
    let (mut guest, mut reader) = guest_writing_to_a_pipe();
    assert_eq!(guest.call(Request::Close { handle: Handle::STDOUT }), Ok(0));
    assert_eq!(guest.write(Handle::STDOUT, 0, b"x"), Err(Errno::BadHandle));
    assert_eq!(reader.read(&mut [0]).expect("read"), 0);
    assert_eq!(guest.create("file"), Handle::STDOUT);
}

#[test]
fn closing_twice_is_a_bad_handle() {
    let mut guest = Guest::new();
    let handle = guest.create("file");
    assert_eq!(guest.call(Request::Close { handle }), Ok(0));
    assert_eq!(guest.call(Request::Close { handle }), Err(Errno::BadHandle));
}

#[test]
fn a_closed_preopen_is_no_longer_listed() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(Request::Close { handle: INSIDE }), Ok(0));
    assert_eq!(guest.stat_at(INSIDE, ".", true), Err(Errno::BadHandle));
    let read_only = Preopen { handle: READ_ONLY, writable: false, guest_path: b"/etc" };
    assert_eq!(guest.host.preopens().collect::<Vec<_>>(), [read_only]);
}

#[test]
fn preopens_are_listed_with_their_paths_and_access() {
    let guest = Guest::new();
    let inside = Preopen { handle: INSIDE, writable: true, guest_path: b"/data" };
    let read_only = Preopen { handle: READ_ONLY, writable: false, guest_path: b"/etc" };
    assert_eq!(guest.host.preopens().collect::<Vec<_>>(), [inside, read_only]);
}

#[test]
fn only_a_directory_can_be_preopened() {
    let mut guest = Guest::new();
    let file = fs::File::open(guest.root.path().join("sentinel")).expect("open").into();
    let error = guest.host.preopen(file, "/data", DirAccess::ReadOnly).expect_err("refused");
    assert!(matches!(error, Error::NotADirectory { .. }), "{error:?}");
}

#[test]
fn guest_paths_are_checked() {
    let mut guest = Guest::new();
    let too_long = vec![b'a'; abi::layout::PATH_BYTES_MAX + 1];
    for path in [&b""[..], b"/a\0b", &too_long] {
        let dir = fs::File::open(guest.root.path()).expect("open").into();
        let error = guest.host.preopen(dir, path, DirAccess::ReadOnly).expect_err("refused");
        assert!(matches!(error, Error::GuestPath { .. }), "{error:?}");
    }
}

#[test]
fn a_guest_that_uses_up_its_handles_recovers_by_closing_one() {
    let mut guest = Guest::new();
    guest.host.handles = Handles::with_limit(16);
    let dir = fs::File::open(guest.root.path().join("inside")).expect("open").into();
    let dir = guest.host.preopen(dir, "/data", DirAccess::ReadWrite).expect("preopen");
    let create = OpenFlags::READ.with(OpenFlags::CREATE);
    for number in 1..16 {
        assert_eq!(guest.open(dir, format!("file{number}"), create), Ok(Handle(number)));
    }
    assert_eq!(guest.open(dir, "one-more", create), Err(Errno::TooManyHandles));
    assert!(!guest.inside("one-more").exists(), "created without a handle");
    assert_eq!(guest.call(Request::Close { handle: Handle(7) }), Ok(0));
    assert_eq!(guest.open(dir, "one-more", create), Ok(Handle(7)));
}

#[test]
fn more_preopens_than_handles_are_refused() {
    let mut guest = Guest::new();
    guest.host.handles = Handles::with_limit(1);
    let mut preopen = || {
        let dir = fs::File::open(guest.root.path()).expect("open").into();
        guest.host.preopen(dir, "/data", DirAccess::ReadOnly)
    };
    preopen().expect("the first");
    assert!(matches!(preopen(), Err(Error::TooManyHandles { limit: 1 })));
}

#[test]
fn the_calls_of_the_micro_vm_are_not_the_hosts() {
    let mut guest = Guest::new();
    let requests = [
        Request::Exit { status: 0 },
        Request::Abort { kind: abi::AbortKind::Panic, message: b"" },
        Request::Log { level: abi::LogLevel::Info, message: b"" },
        Request::Map { gva: 0, len: 4096, access: abi::Access::Read },
    ];
    for request in requests {
        assert_eq!(guest.call(request), Err(Errno::NotSupported), "{request:?}");
    }
}

// Poll.

const READ: u32 = poll_events::READ;
const WRITE: u32 = poll_events::WRITE;

#[test]
fn a_poll_ends_when_its_time_is_over() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let begin = Instant::now();
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], 30_000_000), Ok(vec![0]));
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_poll_of_nothing_sleeps() {
    let mut guest = Guest::new();
    let begin = Instant::now();
    assert_eq!(guest.poll(&[], 30_000_000), Ok(vec![]));
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_poll_of_no_events_is_never_ready() {
    let (mut guest, writer) = guest_reading_from_a_pipe();
    drop(writer);
    assert_eq!(guest.poll(&[(Handle::STDIN, 0)], 1_000_000), Ok(vec![0]));
}

#[test]
fn a_poll_ends_when_data_arrive() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        writer.write_all(b"x").expect("write");
        writer
    });
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], FOREVER), Ok(vec![READ]));
    thread.join().expect("writer");
}

#[test]
fn a_poll_ends_when_the_writer_is_gone() {
    let (mut guest, writer) = guest_reading_from_a_pipe();
    drop(writer);
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], FOREVER), Ok(vec![READ]));
    assert_eq!(guest.read(Handle::STDIN, 0), Ok(vec![]));
}

#[test]
fn a_poll_ends_when_the_reader_is_gone() {
    let (mut guest, reader) = guest_writing_to_a_pipe();
    fill(&mut guest);
    assert_eq!(guest.poll(&[(Handle::STDOUT, WRITE)], 0), Ok(vec![0]));
    drop(reader);
    assert_eq!(guest.poll(&[(Handle::STDOUT, WRITE)], FOREVER), Ok(vec![WRITE]));
}

#[test]
fn a_poll_without_end_is_interrupted_by_a_kick() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let kick = Kick::default();
    let entered = kick.enter().expect("signal handler");
    let stop = thread::spawn({
        let kick = kick.clone();
        move || kick.stop()
    });
    assert_eq!(guest.poll(&[(Handle::STDIN, READ)], FOREVER), Err(Errno::Interrupted));
    drop(entered);
    stop.join().expect("kick");
}

#[test]
fn a_poll_tells_the_ready_entries_from_the_others() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let file = guest.create("file");
    let entries = [
        (Handle::STDIN, READ),
        (file, READ | WRITE),
        (Handle::STDOUT, WRITE),
        (file, WRITE),
        (Handle::STDIN, READ),
    ];
    let ready = vec![0, READ | WRITE, WRITE, WRITE, 0];
    assert_eq!(guest.poll(&entries, FOREVER), Ok(ready));
}

#[test]
fn what_a_call_would_refuse_is_ready() {
    let (mut guest, _writer) = guest_reading_from_a_pipe();
    let unknown = Handle(4711);
    assert_eq!(guest.poll(&[(unknown, READ | WRITE)], FOREVER), Ok(vec![READ | WRITE]));
    assert_eq!(guest.poll(&[(unknown, WRITE)], FOREVER), Ok(vec![WRITE]));
    assert_eq!(guest.poll(&[(Handle::STDIN, READ | WRITE)], FOREVER), Ok(vec![WRITE]));
    assert_eq!(guest.poll(&[(INSIDE, READ)], FOREVER), Ok(vec![READ]));
}

#[test]
fn as_many_entries_as_fit_are_polled() {
    let (mut guest, mut writer) = guest_reading_from_a_pipe();
    let entries = [(Handle::STDIN, READ); abi::layout::POLL_ENTRIES_MAX];
    assert_eq!(guest.poll(&entries, 0), Ok(vec![0; entries.len()]));
    writer.write_all(b"x").expect("write");
    assert_eq!(guest.poll(&entries, FOREVER), Ok(vec![READ; entries.len()]));
}

#[test]
fn malformed_polls_are_refused() {
    let mut guest = Guest::new();
    let mut poll = |entries: &[u8], reply: &mut [u8]| {
        guest.host.call(Request::Poll { timeout_ns: 0, entries }, reply)
    };
    let unknown_event = PollEntry { events: 4, ..PollEntry::default() };
    assert_eq!(poll(unknown_event.as_bytes(), &mut [0; 16]), Err(Errno::Invalid));
    assert_eq!(poll(&[0; 17], &mut [0; 32]), Err(Errno::Invalid));
    assert_eq!(poll(&[0; 16], &mut [0; 15]), Err(Errno::TooBig));
    let too_many = vec![0; CALL_DATA_BYTES + 16];
    assert_eq!(poll(&too_many, &mut too_many.clone()), Err(Errno::TooBig));
}

// Clock.

#[test]
fn the_clocks_are_those_of_the_host() {
    let mut guest = Guest::new();
    let mut sample = || {
        let (_, data) = guest.ask(Request::Clock).expect("clock");
        ClockSample::read_from_bytes(&data).expect("a whole sample")
    };
    let since_epoch = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos()
    };
    let before = since_epoch(std::time::SystemTime::now());
    let (first, second) = (sample(), sample());
    let after = since_epoch(std::time::SystemTime::now());
    assert!((before..=after).contains(&u128::from(first.realtime_ns)));
    assert!(first.monotonic_ns > 0 && first.monotonic_ns <= second.monotonic_ns);
}

#[test]
fn a_sample_that_does_not_fit_is_refused() {
    let mut guest = Guest::new();
    assert_eq!(guest.host.call(Request::Clock, &mut [0; 15]), Err(Errno::TooBig));
}

// Hostile requests.

/// SplitMix64: the same sequence for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let len = choices.len() as u64;
        choices[usize::try_from(self.next() % len).expect("small")]
    }

    fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn number(&mut self) -> u64 {
        let any = self.next();
        self.pick(&[0, 1, 100, any % 512, any, i64::MAX.cast_unsigned(), 1 << 63, u64::MAX])
    }

    /// Mostly the writable preopen, or something that was opened; sometimes nothing.
    fn handle(&mut self) -> Handle {
        let any = u32::try_from(self.next() % 64).expect("small");
        self.pick(&[INSIDE, INSIDE, INSIDE, READ_ONLY, Handle(any), Handle(any)])
    }

    fn mask(&mut self) -> TimesMask {
        TimesMask(u32::try_from(self.next() % 16).expect("small"))
    }

    /// A request that decoding could have given, of the calls of the host.
    fn request<'a>(&mut self, path: &'a [u8], other: &'a [u8]) -> Request<'a> {
        let (handle, dir, to_dir) = (self.handle(), self.handle(), self.handle());
        let (follow, mask) = (self.flag(), self.mask());
        let (atime_ns, mtime_ns, offset) = (self.number(), self.number(), self.number());
        let open = u32::try_from(self.next() & self.next() & 0x1ff).expect("nine bits");
        let entries = &[0; 32][..];
        self.pick(&[
            Request::Clock,
            Request::Poll { timeout_ns: 0, entries },
            Request::Read { handle, offset, len: 64 << 10 },
            Request::Write { handle, offset, data: other },
            // The preopens stay, so that the rest goes on to mean something.
            Request::Close { handle: Handle(5 + handle.0 * 16) },
            Request::Sync { handle, data_only: follow },
            Request::Stat { handle },
            Request::SetSize { handle, size: offset },
            Request::SetTimes { handle, mask, atime_ns, mtime_ns },
            Request::ReadDir { handle, cookie: offset },
            Request::Allocate { handle, offset, len: atime_ns % (1 << 20) },
            Request::Advise { handle, offset, len: mtime_ns, advice: abi::Advice::WillNeed },
            Request::OpenAt { dir, flags: OpenFlags(open), path },
            Request::StatAt { dir, follow, path },
            Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path },
            Request::MkdirAt { dir, path },
            Request::UnlinkAt { dir, directory: follow, path },
            Request::RenameAt { from_dir: dir, to_dir, from: path, to: other },
            Request::LinkAt { from_dir: dir, to_dir, follow, from: path, to: other },
            Request::SymlinkAt { dir, target: other, path },
            Request::ReadLinkAt { dir, path },
        ])
    }

    fn path(&mut self) -> Vec<u8> {
        const COMPONENTS: &[&[u8]] =
            &[b"a", b"b", b"c", b"out", b"abs", b"..", b".", b"", b"\xff", b"sentinel", b"file"];
        let mut path = self.pick(COMPONENTS).to_vec();
        for _ in 0..self.pick(&[0, 0, 0, 1, 2, 3]) {
            path.push(b'/');
            path.extend_from_slice(self.pick(COMPONENTS));
        }
        path
    }
}

#[test]
fn random_requests_never_panic_and_never_leave_the_preopens() {
    let mut guest = Guest::new();
    let mut random = Random(1);
    let mut granted = BTreeSet::new();
    for round in 0..100_000 {
        if round % 500 == 0 {
            plant_ways_out(&guest);
        }
        let (path, other) = (random.path(), random.path());
        let request = random.request(&path, &other);
        let mut reply = vec![0; usize::try_from(random.next() % 512).expect("small")];
        if let Ok(answer) = guest.host.call(request, &mut reply) {
            let data = &reply[..answer.data_bytes];
            let leaks = data.windows(6).any(|bytes| bytes == &OUTSIDE_TEXT.as_bytes()[..6]);
            assert!(!leaks, "{request:?}");
            let frame = request.encode(&mut [0; 512]).expect("short");
            granted.insert(frame.nr);
        }
    }
    let of_the_host = abi::Nr::ALL.iter().map(|nr| *nr as u32).filter(|nr| *nr >= 0x10);
    assert_eq!(granted, of_the_host.collect(), "calls that were granted at least once");
    guest.assert_nothing_outside_changed();
}

/// Symbolic links that lead out, which random requests remove now and then.
fn plant_ways_out(guest: &Guest) {
    let outside = guest.root.path().join("outside");
    for (name, target) in [("abs", outside.as_path()), ("out", Path::new("../outside"))] {
        match std::os::unix::fs::symlink(target, guest.inside(name)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => panic!("{name}: {error}"),
            _ => {}
        }
    }
}
