//! What the host's side of a host call takes beside the system call that it is for, without the VM exit.
//!
//! Floors are the same operation of this process on the same file or pipe. Files are in the page cache.
#![expect(clippy::unwrap_used, reason = "a measurement that fails ends by a panic")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use abi::layout::CALL_DATA_BYTES;
use abi::{DirEntry, Handle, OpenFlags, Request};
use anyhow::Result;
use integration::bench::{Report, Row, Samples, us};
use integration::scratch::Scratch;
use vmm::host::{DirAccess, Host, Stdio};

/// What programs read and write at a time.
const CHUNK: usize = 64 << 10;

/// Entries of the large directory.
const ENTRIES: usize = 20_000;

/// Rounds, unless they take longer than [`LIMIT`].
const ROUNDS: usize = 2000;

/// Time for all rounds of one operation.
const LIMIT: Duration = Duration::from_secs(3);

/// Measures the section.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let root = Scratch::new()?;
    let mut host = host(null(), null());
    let dir = host.preopen(File::open(&*root)?.into(), "/", DirAccess::ReadWrite).unwrap();
    file(report, &root, &mut host, dir)?;
    pipes(report)?;
    list(report, &root, &mut host, dir)
}

fn file(report: &mut Report, root: &Path, host: &mut Host, dir: Handle) -> Result<()> {
    let (mut reply, mut reply_2) = (vec![0; CALL_DATA_BYTES], vec![0; CALL_DATA_BYTES]);
    let (data, mut buffer) = (vec![b'x'; CHUNK], vec![0; CHUNK]);
    let flags = OpenFlags::READ.with(OpenFlags::WRITE).with(OpenFlags::CREATE);
    let open = Request::OpenAt { dir, flags, path: b"file" };
    let handle = Handle(u32::try_from(host.call(open, &mut reply).unwrap().value).unwrap());
    let own = File::options().read(true).write(true).create_new(true).open(root.join("own"))?;
    let write = Request::Write { handle, offset: 0, wait: false, data: &data };
    let read = Request::Read { handle, offset: 0, len: 64 << 10, wait: false };
    let host = std::cell::RefCell::new(host);
    let [theirs, ours, theirs_2, ours_2] = Samples::in_turns(
        ROUNDS,
        LIMIT,
        [
            &mut || timed(|| own.write_all_at(&data, 0).unwrap()),
            &mut || timed(|| call(&mut host.borrow_mut(), write, &mut reply)),
            &mut || timed(|| own.read_exact_at(&mut buffer, 0).unwrap()),
            &mut || timed(|| call(&mut host.borrow_mut(), read, &mut reply_2)),
        ],
    )?;
    report.add(Row::new("write 64 KiB to a file", "µs", &ours).over("pwrite", &theirs));
    report.add(Row::new("read 64 KiB of a file", "µs", &ours_2).over("pread", &theirs_2));
    Ok(())
}

/// Standard streams that are pipes.
fn pipes(report: &mut Report) -> Result<()> {
    let (mut reader, stdout) = std::io::pipe()?;
    let (stdin, mut writer) = std::io::pipe()?;
    let (mut own_reader, mut own_writer) = std::io::pipe()?;
    let host = std::cell::RefCell::new(host(stdin.into(), stdout.into()));
    let (mut reply, mut reply_2) = (vec![0; CALL_DATA_BYTES], vec![0; CALL_DATA_BYTES]);
    let (data, mut sink, mut sink_2) = (vec![b'x'; CHUNK], vec![0; CHUNK], vec![0; CHUNK]);
    let write = Request::Write { handle: Handle::STDOUT, offset: 0, wait: false, data: &data };
    let read = Request::Read { handle: Handle::STDIN, offset: 0, len: 64 << 10, wait: false };
    let (mut reads, mut own_reads) = (Vec::new(), Vec::new());
    let [theirs, ours] = Samples::in_turns(
        ROUNDS,
        LIMIT,
        [
            &mut || {
                let took = timed(|| own_writer.write_all(&data).unwrap())?;
                own_reads.push(timed(|| own_reader.read_exact(&mut sink).unwrap())?);
                Ok(took)
            },
            &mut || {
                let mut host = host.borrow_mut();
                let took = timed(|| call(&mut host, write, &mut reply))?;
                reader.read_exact(&mut sink_2)?;
                writer.write_all(&data)?;
                reads.push(timed(|| call(&mut host, read, &mut reply_2))?);
                Ok(took)
            },
        ],
    )?;
    let (reads, own_reads) = (Samples::new(reads)?, Samples::new(own_reads)?);
    report.add(Row::new("write 64 KiB to an empty pipe", "µs", &ours).over("write", &theirs));
    report.add(Row::new("read 64 KiB of a full pipe", "µs", &reads).over("read", &own_reads));
    Ok(())
}

/// Lists a large directory.
fn list(report: &mut Report, root: &Path, host: &mut Host, dir: Handle) -> Result<()> {
    for number in 0..ENTRIES {
        File::create(root.join(number.to_string()))?;
    }
    let mut reply = vec![0; CALL_DATA_BYTES];
    let [theirs, ours] = Samples::in_turns(
        15,
        LIMIT,
        [&mut || timed(|| assert!(fs::read_dir(root).unwrap().count() >= ENTRIES)), &mut || {
            timed(|| assert!(entries(host, dir, &mut reply) >= ENTRIES))
        }],
    )?;
    let row = Row::new("list 20 000 entries", "µs", &ours);
    report.add(row.over("readdir", &theirs));
    Ok(())
}

fn entries(host: &mut Host, dir: Handle, reply: &mut [u8]) -> usize {
    let (mut cookie, mut entries) = (0, 0);
    loop {
        let answer = host.call(Request::ReadDir { handle: dir, cookie }, reply).unwrap();
        let mut rest = &reply[..answer.data_bytes];
        if rest.is_empty() {
            return entries;
        }
        while let Some((entry, tail)) = DirEntry::split_first(rest) {
            (cookie, entries, rest) = (entry.header.next, entries + 1, tail);
        }
    }
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

fn host(stdin: OwnedFd, stdout: OwnedFd) -> Host {
    Host::new(Stdio { stdin, stdout, stderr: null() }).unwrap()
}

fn call(host: &mut Host, request: Request<'_>, reply: &mut [u8]) {
    host.call(request, reply).unwrap();
}

fn timed(operation: impl FnOnce()) -> Result<f64> {
    let start = Instant::now();
    operation();
    Ok(us(start))
}
