//! The limit of file sizes, alone in its process: the limit is the process's.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use abi::{Errno, Handle, OpenFlags, Request};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmm::host::{DirAccess, Host, Stdio};

const LIMIT: u64 = 10_000;

#[test]
fn a_file_that_would_get_too_large_is_an_errno_and_not_the_end_of_the_process() {
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    let root = tempfile::tempdir().unwrap();
    let stdout = File::create(root.path().join("stdout")).unwrap();
    let stdio = Stdio { stdin: null(), stdout: stdout.into(), stderr: null() };
    let mut host = Host::new(stdio).unwrap();
    let dir = File::open(root.path()).unwrap().into();
    let dir = host.preopen(dir, "/data", DirAccess::ReadWrite).unwrap();
    let before = getrlimit(Resource::Fsize);
    let limit = Rlimit { current: Some(LIMIT), maximum: before.maximum };
    setrlimit(Resource::Fsize, limit).unwrap();

    let mut call =
        |request: Request<'_>| host.call(request, &mut [0; 64]).map(|answer| answer.value);
    let flags = OpenFlags::WRITE.with(OpenFlags::CREATE);
    let handle = call(Request::OpenAt { dir, flags, path: b"file" }).unwrap();
    let handle = Handle(u32::try_from(handle).unwrap());
    let too_large = Err(Errno::FileTooLarge);

    // What fits is written, and told.
    let write = |offset| Request::Write { handle, offset, wait: false, data: b"12345678" };
    assert_eq!(call(write(LIMIT - 3)), Ok(3));
    assert_eq!(call(write(LIMIT)), too_large);
    assert_eq!(call(write(abi::APPEND)), too_large);
    assert_eq!(call(Request::SetSize { handle, size: LIMIT + 1 }), too_large);
    assert_eq!(call(Request::Allocate { handle, offset: 0, len: LIMIT + 1 }), too_large);
    let content = fs::read(root.path().join("file")).unwrap();
    assert_eq!(content.len() as u64, LIMIT);
    assert_eq!(content[content.len() - 3..], *b"123");

    let data = &[b'x'; 16_384];
    let stdout = Request::Write { handle: Handle::STDOUT, offset: 0, wait: false, data };
    assert_eq!(call(stdout), Ok(LIMIT));
    assert_eq!(call(stdout), too_large);
    assert_eq!(fs::metadata(root.path().join("stdout")).unwrap().len(), LIMIT);
    // The test runner may write to a file itself.
    setrlimit(Resource::Fsize, before).unwrap();
}
