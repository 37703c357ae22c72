//! What host calls cost on the host's side, without the VM exit.
//!
//! `cargo bench -p vmm --bench host`. Each line is the best and the median of several runs on an otherwise
//! idle machine, in microseconds per operation. Files are in the page cache.
#![expect(clippy::unwrap_used, reason = "a measurement that fails ends by a panic")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Instant;

use abi::layout::CALL_DATA_BYTES;
use abi::{DirEntry, Handle, OpenFlags, Request};
use tempfile::TempDir;
use vmm::host::{DirAccess, Host, Stdio};

/// What programs read and write at a time.
const CHUNK: usize = 64 << 10;

/// Entries of the large directory.
const ENTRIES: usize = 100_000;

fn main() {
    let root = TempDir::new().unwrap();
    let mut host = host(null(), null());
    let dir = File::open(root.path()).unwrap().into();
    let dir = host.preopen(dir, "/", DirAccess::ReadWrite).unwrap();
    let mut reply = vec![0; CALL_DATA_BYTES];
    let data = vec![b'x'; CHUNK];
    let flags = OpenFlags::READ.with(OpenFlags::WRITE).with(OpenFlags::CREATE);
    let open = Request::OpenAt { dir, flags, path: b"file" };
    let handle = host.call(open, &mut reply).unwrap().value;
    let handle = Handle(u32::try_from(handle).unwrap());
    let len = u32::try_from(CHUNK).unwrap();

    let write = Request::Write { handle, offset: 0, wait: false, data: &data };
    report("write 64 KiB to a file", 1000, || call(&mut host, write, &mut reply));
    let read = Request::Read { handle, offset: 0, len, wait: false };
    report("read 64 KiB of a file", 1000, || call(&mut host, read, &mut reply));
    // What a micro-VM adds to either: the copy between the window and the host's buffer.
    report("copy 64 KiB", 1000, || {
        black_box(&mut reply[..CHUNK]).copy_from_slice(black_box(&data))
    });
    let small = Request::Read { handle, offset: 0, len: 1, wait: false };
    report("read 1 byte of a file", 10_000, || call(&mut host, small, &mut reply));
    report("clock", 10_000, || call(&mut host, Request::Clock, &mut reply));
    report("the time of an exit, taken twice", 10_000, || {
        black_box(Instant::now().elapsed());
    });
    pipes();
    list(root.path(), &mut host, dir);
}

/// Standard streams that are pipes, with a thread at the other end.
fn pipes() {
    let (mut reader, stdout) = std::io::pipe().unwrap();
    let (stdin, mut writer) = std::io::pipe().unwrap();
    let mut host = host(stdin.into(), stdout.into());
    let (mut reply, data) = (vec![0; CALL_DATA_BYTES], vec![b'x'; CHUNK]);
    let write = Request::Write { handle: Handle::STDOUT, offset: 0, wait: false, data: &data };
    let mut empty = vec![0; CHUNK];
    report_part("write 64 KiB to an empty pipe", 1000, || {
        let start = Instant::now();
        assert_eq!(host.call(write, &mut reply).unwrap().value, CHUNK as u64);
        let took = us(start);
        reader.read_exact(&mut empty).unwrap();
        took
    });
    let len = u32::try_from(CHUNK).unwrap();
    let read = Request::Read { handle: Handle::STDIN, offset: 0, len, wait: false };
    report_part("read 64 KiB of a full pipe", 1000, || {
        writer.write_all(&data).unwrap();
        let start = Instant::now();
        assert_eq!(host.call(read, &mut reply).unwrap().value, CHUNK as u64);
        us(start)
    });
    let line = Request::Write {
        handle: Handle::STDOUT,
        offset: 0,
        wait: false,
        data: b"a line of output\n",
    };
    let drain = thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
    report("write a line to a pipe that is read", 1000, || {
        let _ = host.call(line, &mut reply);
    });
    drop(host);
    drain.join().unwrap();
}

/// Lists a large directory, and parts of it, so that what a page costs can be told from where it is.
fn list(root: &std::path::Path, host: &mut Host, dir: Handle) {
    for number in 0..10 {
        File::create(root.join(number.to_string())).unwrap();
    }
    let mut reply = vec![0; CALL_DATA_BYTES];
    let first = Request::ReadDir { handle: dir, cookie: 0 };
    report("list 10 entries", 1000, || call(host, first, &mut reply));
    for number in 0..ENTRIES {
        File::create(root.join(number.to_string())).unwrap();
    }
    let mut pages = Vec::new();
    report_part("list 100 000 entries", 5, || {
        pages.clear();
        let (start, mut cookie, mut entries) = (Instant::now(), 0, 0);
        loop {
            let page = Instant::now();
            let request = Request::ReadDir { handle: dir, cookie };
            let answer = host.call(request, &mut reply).unwrap();
            let mut rest = &reply[..answer.data_bytes];
            pages.push(us(page));
            if rest.is_empty() {
                break;
            }
            while let Some((entry, tail)) = DirEntry::split_first(rest) {
                (cookie, entries, rest) = (entry.header.next, entries + 1, tail);
            }
        }
        assert_eq!(entries, ENTRIES + 1);
        us(start)
    });
    let tenth = (pages.len() / 10).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    println!(
        "{:50} {:10.2} {:10.2}",
        "a page of it: in the first tenth, in the last",
        mean(&pages[..tenth]),
        mean(&pages[pages.len() - tenth..])
    );
    fs::remove_dir_all(root).unwrap();
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

/// Prints best and median of ten measurements of `count` operations each.
fn report(name: &str, count: u32, mut operation: impl FnMut()) {
    let measure = || {
        let start = Instant::now();
        (0..count).for_each(|_| operation());
        us(start) / f64::from(count)
    };
    print(name, std::iter::repeat_with(measure).take(10).collect());
}

/// Prints best and median of `count` operations that measure themselves.
fn report_part(name: &str, count: usize, operation: impl FnMut() -> f64) {
    print(name, std::iter::repeat_with(operation).take(count).collect());
}

fn print(name: &str, mut results: Vec<f64>) {
    results.sort_by(f64::total_cmp);
    println!("{name:50} {:10.2} {:10.2}", results[0], results[results.len() / 2]);
}

fn us(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}
