//! Files and directories: each call with its right, without it, and with paths that lead nowhere or out.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use abi::layout::CALL_DATA_BYTES;
use abi::{
    APPEND, DirEntry, Errno, FOREVER, FileKind, Handle, OpenFlags, Request, TimesMask, poll_events,
};
use rustix::fs::{CWD, Mode, RenameFlags, mkfifoat, renameat_with};

use super::super::tests::{Guest, INSIDE, READ_ONLY};
use super::super::{Answer, DirAccess};

const READ: OpenFlags = OpenFlags::READ;
const WRITE: OpenFlags = OpenFlags::WRITE;
const CREATE: OpenFlags = OpenFlags::CREATE;
const FOLLOW: OpenFlags = OpenFlags::FOLLOW;

/// Calls without the boilerplate of a request.
impl Guest {
    fn mkdir(&mut self, path: &str) -> Result<u64, Errno> {
        self.call(Request::MkdirAt { dir: INSIDE, path: path.as_bytes() })
    }

    fn unlink(&mut self, path: &str) -> Result<u64, Errno> {
        self.call(Request::UnlinkAt { dir: INSIDE, directory: false, path: path.as_bytes() })
    }

    fn rmdir(&mut self, path: &str) -> Result<u64, Errno> {
        self.call(Request::UnlinkAt { dir: INSIDE, directory: true, path: path.as_bytes() })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<u64, Errno> {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        self.call(Request::RenameAt { from_dir: INSIDE, to_dir: INSIDE, from, to })
    }

    fn link(&mut self, from: &str, to: &str, follow: bool) -> Result<u64, Errno> {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        self.call(Request::LinkAt { from_dir: INSIDE, to_dir: INSIDE, follow, from, to })
    }

    fn symlink(&mut self, target: &str, path: &str) -> Result<u64, Errno> {
        let (target, path) = (target.as_bytes(), path.as_bytes());
        self.call(Request::SymlinkAt { dir: INSIDE, target, path })
    }

    fn read_link(&mut self, dir: Handle, path: &str) -> Result<Vec<u8>, Errno> {
        let (value, data) = self.ask(Request::ReadLinkAt { dir, path: path.as_bytes() })?;
        assert_eq!(value, data.len() as u64);
        Ok(data)
    }

    fn set_times_at(&mut self, path: &str, follow: bool, mtime_ns: u64) -> Result<u64, Errno> {
        let (dir, mask, path) = (INSIDE, TimesMask::MTIME, path.as_bytes());
        self.call(Request::SetTimesAt { dir, follow, mask, atime_ns: 0, mtime_ns, path })
    }

    /// One page of a listing: the names and the cookie after the last.
    fn page(
        &mut self,
        dir: Handle,
        cookie: u64,
        reply: &mut [u8],
    ) -> Result<Vec<(Vec<u8>, u64, FileKind)>, Errno> {
        let answer = self.host.call(Request::ReadDir { handle: dir, cookie }, reply)?;
        assert_eq!(answer.value, answer.data_bytes as u64);
        let mut rest = &reply[..answer.data_bytes];
        let mut entries = Vec::new();
        while let Some((entry, tail)) = DirEntry::split_first(rest) {
            let kind = FileKind::from_wire(entry.header.kind);
            entries.push((entry.name.to_vec(), entry.header.next, kind));
            rest = tail;
        }
        assert_eq!(rest, [], "whole entries");
        Ok(entries)
    }

    /// Lists a directory to its end, in pages of `page_bytes`.
    fn list(&mut self, dir: Handle, page_bytes: usize) -> Vec<(Vec<u8>, FileKind)> {
        let (mut all, mut cookie, mut reply) = (Vec::new(), 0, vec![0; page_bytes]);
        loop {
            let page = self.page(dir, cookie, &mut reply).expect("list");
            let Some((_, next, _)) = page.last() else { return all };
            cookie = *next;
            all.extend(page.into_iter().map(|(name, _, kind)| (name, kind)));
        }
    }

    fn write_inside(&self, path: &str, content: &str) {
        fs::write(self.inside(path), content).expect("write");
    }

    fn fifo(&self, path: &str) {
        mkfifoat(CWD, self.inside(path), Mode::from_raw_mode(0o600)).expect("make FIFO");
    }
}

// Paths.

/// Every call that takes a path, made with `path`.
fn every_path_call(path: &[u8]) -> Vec<Request<'_>> {
    let (dir, other) = (INSIDE, b"other".as_slice());
    let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 0);
    let mut requests = vec![
        Request::OpenAt { dir, flags: OpenFlags::default(), path },
        Request::OpenAt { dir, flags: READ, path },
        Request::OpenAt { dir, flags: READ.with(FOLLOW), path },
        Request::OpenAt { dir, flags: WRITE.with(CREATE), path },
        Request::OpenAt { dir, flags: WRITE.with(CREATE).with(FOLLOW), path },
        Request::MkdirAt { dir, path },
        Request::UnlinkAt { dir, directory: false, path },
        Request::UnlinkAt { dir, directory: true, path },
        Request::RenameAt { from_dir: dir, to_dir: dir, from: path, to: other },
        Request::RenameAt { from_dir: dir, to_dir: dir, from: b"file", to: path },
        Request::LinkAt { from_dir: dir, to_dir: dir, follow: false, from: b"file", to: path },
        Request::SymlinkAt { dir, target: b"target", path },
        Request::ReadLinkAt { dir, path },
    ];
    for follow in [false, true] {
        requests.extend([
            Request::StatAt { dir, follow, path },
            Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path },
            Request::LinkAt { from_dir: dir, to_dir: dir, follow, from: path, to: other },
        ]);
    }
    requests
}

#[test]
fn no_call_takes_an_absolute_path() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    for path in ["/", "//", "/file", "/etc/passwd", "/nowhere/at/all"] {
        for request in every_path_call(path.as_bytes()) {
            assert_eq!(guest.ask(request).err(), Some(Errno::NotPermitted), "{request:?}");
        }
    }
}

#[test]
fn no_call_takes_a_path_out_of_the_directory() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir").expect("mkdir");
    let paths =
        ["..", "../", "../sentinel", "../new", "dir/../..", "dir/../../outside/file", "./../.."];
    for path in paths {
        for request in every_path_call(path.as_bytes()) {
            assert_eq!(guest.ask(request).err(), Some(Errno::NotPermitted), "{request:?}");
        }
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn no_call_goes_through_a_link_that_leads_out() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    symlink(guest.root.path().join("outside"), guest.inside("absolute")).expect("symlink");
    symlink("../outside", guest.inside("relative")).expect("symlink");
    for path in ["absolute/file", "relative/file", "absolute/new", "relative/."] {
        for request in every_path_call(path.as_bytes()) {
            assert_eq!(guest.ask(request).err(), Some(Errno::NotPermitted), "{request:?}");
        }
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_trailing_slash_does_not_lead_out_through_a_link() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    symlink(guest.root.path().join("outside"), guest.inside("link")).expect("symlink");
    for request in every_path_call(b"link/") {
        let errno = guest.ask(request).expect_err("refused");
        // What is about the link itself says so; what would follow it is not permitted.
        let local = [Errno::NotDirectory, Errno::Exists, Errno::NotPermitted, Errno::IsDirectory];
        assert!(local.contains(&errno), "{request:?}: {errno:?}");
    }
    assert_eq!(guest.stat_at(INSIDE, "link/", false), Err(Errno::NotPermitted));
    assert_eq!(guest.read_link(INSIDE, "link/"), Err(Errno::NotPermitted));
    assert_eq!(guest.link("link/", "other", false), Err(Errno::NotPermitted));
    guest.assert_nothing_outside_changed();
}

#[test]
fn what_exists_outside_cannot_be_told_from_what_does_not() {
    let mut guest = Guest::new();
    symlink("../outside", guest.inside("existing")).expect("symlink");
    symlink("../nowhere", guest.inside("missing")).expect("symlink");
    for name in ["existing", "missing"] {
        let slash = format!("{name}/");
        assert_eq!(guest.stat_at(INSIDE, name, true), Err(Errno::NotPermitted));
        assert_eq!(guest.stat_at(INSIDE, &slash, false), Err(Errno::NotPermitted));
        assert_eq!(guest.set_times_at(&slash, false, 0), Err(Errno::NotPermitted));
        assert_eq!(guest.read_link(INSIDE, &slash), Err(Errno::NotPermitted));
        assert_eq!(guest.link(&slash, "other", false), Err(Errno::NotPermitted));
        assert_eq!(guest.link(name, "other", true), Err(Errno::NotPermitted));
        assert_eq!(guest.rename(&slash, "other"), Err(Errno::NotDirectory));
        assert_eq!(guest.rmdir(&slash), Err(Errno::NotDirectory));
        assert_eq!(guest.mkdir(&slash), Err(Errno::Exists));
    }
}

#[test]
fn open_at_dotdot_stays_beneath_the_directory() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    let dir = guest.open(INSIDE, "dir", READ).expect("open");
    assert_eq!(guest.open(dir, "..", READ), Err(Errno::NotPermitted));
    assert!(guest.open(INSIDE, "dir/..", READ).is_ok());
    assert_eq!(guest.open(INSIDE, "..", READ), Err(Errno::NotPermitted));
}

#[test]
fn a_symlink_to_an_absolute_path_is_refused() {
    let mut guest = Guest::new();
    symlink(guest.root.path().join("sentinel"), guest.inside("link")).expect("symlink");
    assert_eq!(guest.open(INSIDE, "link", READ.with(FOLLOW)), Err(Errno::NotPermitted));
    assert_eq!(guest.stat_at(INSIDE, "link", true), Err(Errno::NotPermitted));
    assert_eq!(guest.set_times_at("link", true, 0), Err(Errno::NotPermitted));
    assert_eq!(guest.link("link", "other", true), Err(Errno::NotPermitted));
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_link_within_the_directory_is_followed_if_asked() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("file", "text");
    guest.symlink("../file", "dir/link").expect("symlink");
    assert_eq!(guest.open(INSIDE, "dir/link", READ), Err(Errno::Loop));
    let file = guest.open(INSIDE, "dir/link", READ.with(FOLLOW)).expect("open");
    assert_eq!(guest.read(file, 0), Ok(b"text".to_vec()));
    let kind = |stat: abi::Stat| FileKind::from_wire(stat.kind);
    assert_eq!(guest.stat_at(INSIDE, "dir/link", true).map(kind), Ok(FileKind::RegularFile));
    assert_eq!(guest.stat_at(INSIDE, "dir/link", false).map(kind), Ok(FileKind::SymbolicLink));
}

#[test]
fn links_in_a_circle_are_a_loop() {
    let mut guest = Guest::new();
    guest.symlink("b", "a").expect("symlink");
    guest.symlink("a", "b").expect("symlink");
    assert_eq!(guest.stat_at(INSIDE, "a", true), Err(Errno::Loop));
    assert_eq!(guest.link("a", "c", true), Err(Errno::Loop));
}

#[test]
fn a_directory_swapped_for_a_link_never_leads_outside() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("dir/file", "inside");
    symlink("../outside", guest.inside("link")).expect("symlink");
    let (dir, link) = (guest.inside("dir"), guest.inside("link"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).expect("swap");
            }
        });
        let (mut seen_inside, mut refused) = (0, 0);
        for round in 0..5_000 {
            match guest.open(INSIDE, "dir/file", READ.with(FOLLOW)) {
                Ok(handle) => {
                    assert_eq!(guest.read(handle, 0), Ok(b"inside".to_vec()));
                    guest.call(Request::Close { handle }).expect("close");
                    seen_inside += 1;
                }
                Err(errno) => {
                    assert!(matches!(errno, Errno::NotPermitted | Errno::Busy), "{errno:?}");
                    refused += 1;
                }
            }
            // Whether these succeed is up to the race; that they stay inside is not.
            let name = format!("dir/new{round}");
            for request in [
                Request::MkdirAt { dir: INSIDE, path: name.as_bytes() },
                Request::RenameAt {
                    from_dir: INSIDE,
                    to_dir: INSIDE,
                    from: name.as_bytes(),
                    to: b"link/renamed",
                },
                Request::UnlinkAt { dir: INSIDE, directory: true, path: b"link/renamed" },
                Request::UnlinkAt { dir: INSIDE, directory: true, path: name.as_bytes() },
                Request::SetTimesAt {
                    dir: INSIDE,
                    follow: true,
                    mask: TimesMask::MTIME,
                    atime_ns: 0,
                    mtime_ns: 0,
                    path: b"dir/file",
                },
            ] {
                let errno = guest.call(request).err();
                assert!(errno != Some(Errno::Io), "{request:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(seen_inside > 0 && refused > 0, "{seen_inside} inside, {refused} refused");
    });
    guest.assert_nothing_outside_changed();
    assert!(fs::metadata(guest.root.path().join("outside/file")).expect("stat").mtime() > 0);
}

#[test]
fn a_dot_is_the_directory_itself() {
    let mut guest = Guest::new();
    let directory = guest.stat(INSIDE).expect("stat");
    for path in [".", "./", "./."] {
        assert_eq!(guest.stat_at(INSIDE, path, false), Ok(directory), "{path}");
        assert!(guest.open(INSIDE, path, READ).is_ok(), "{path}");
        assert_eq!(guest.mkdir(path), Err(Errno::Exists), "{path}");
        assert_eq!(guest.rmdir(path), Err(Errno::Invalid), "{path}");
        assert_eq!(guest.unlink(path), Err(Errno::IsDirectory), "{path}");
        assert_eq!(guest.rename(path, "other"), Err(Errno::Busy), "{path}");
        assert_eq!(guest.symlink("target", path), Err(Errno::Exists), "{path}");
        assert_eq!(guest.link(path, "other", false), Err(Errno::NotPermitted), "{path}");
        assert_eq!(guest.read_link(INSIDE, path), Err(Errno::Invalid), "{path}");
    }
}

#[test]
fn a_dotdot_at_the_end_names_no_entry() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    for path in ["dir/..", "dir/../"] {
        assert_eq!(guest.mkdir(path), Err(Errno::Exists), "{path}");
        assert_eq!(guest.rmdir(path), Err(Errno::NotEmpty), "{path}");
        assert_eq!(guest.unlink(path), Err(Errno::IsDirectory), "{path}");
        assert_eq!(guest.rename(path, "other"), Err(Errno::Busy), "{path}");
        assert_eq!(guest.link(path, "other", false), Err(Errno::NotPermitted), "{path}");
    }
    assert_eq!(guest.mkdir("nowhere/.."), Err(Errno::NotFound));
}

#[test]
fn a_trailing_slash_asks_for_a_directory() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir/").expect("mkdir");
    assert!(guest.stat_at(INSIDE, "dir//", false).is_ok());
    assert_eq!(guest.stat_at(INSIDE, "file/", false), Err(Errno::NotDirectory));
    assert_eq!(guest.open(INSIDE, "file/", READ), Err(Errno::NotDirectory));
    assert_eq!(guest.open(INSIDE, "new/", WRITE.with(CREATE)), Err(Errno::IsDirectory));
    assert_eq!(guest.unlink("file/"), Err(Errno::NotDirectory));
    assert_eq!(guest.rename("file/", "other"), Err(Errno::NotDirectory));
    assert_eq!(guest.link("file/", "other", false), Err(Errno::NotDirectory));
    assert_eq!(guest.symlink("target", "new/"), Err(Errno::NotFound));
    assert_eq!(guest.rename("dir/", "renamed/"), Ok(0));
    assert_eq!(guest.rmdir("renamed/"), Ok(0));
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let name = vec![b'a'; 256];
    for request in every_path_call(&name) {
        assert_eq!(guest.ask(request).err(), Some(Errno::NameTooLong), "{request:?}");
    }
}

#[test]
fn a_component_that_is_no_directory_is_told() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    for request in every_path_call(b"file/below") {
        assert_eq!(guest.ask(request).err(), Some(Errno::NotDirectory), "{request:?}");
    }
}

#[test]
fn a_parent_that_does_not_exist_is_not_found() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    for request in every_path_call(b"nowhere/below") {
        assert_eq!(guest.ask(request).err(), Some(Errno::NotFound), "{request:?}");
    }
}

#[test]
fn every_path_call_needs_a_directory() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let name_only = guest.open(INSIDE, ".", OpenFlags::default()).expect("open");
    for dir in [Handle::STDIN, file, name_only, Handle(4711)] {
        assert_eq!(guest.open(dir, "x", READ), Err(Errno::BadHandle));
        assert_eq!(guest.stat_at(dir, "x", true), Err(Errno::BadHandle));
        assert_eq!(guest.read_link(dir, "x"), Err(Errno::BadHandle));
        let (target, path, from, to) = (b"t", b"x", b"file", b"y");
        let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 0);
        for request in [
            Request::ReadDir { handle: dir, cookie: 0 },
            Request::SetTimesAt { dir, follow: true, mask, atime_ns, mtime_ns, path },
            Request::MkdirAt { dir, path },
            Request::UnlinkAt { dir, directory: false, path },
            Request::RenameAt { from_dir: dir, to_dir: INSIDE, from, to },
            Request::RenameAt { from_dir: INSIDE, to_dir: dir, from, to },
            Request::LinkAt { from_dir: dir, to_dir: INSIDE, follow: false, from, to },
            Request::LinkAt { from_dir: INSIDE, to_dir: dir, follow: false, from, to },
            Request::SymlinkAt { dir, target, path },
        ] {
            assert_eq!(guest.ask(request).err(), Some(Errno::BadHandle), "{request:?}");
        }
    }
}

#[test]
fn names_need_not_be_utf8() {
    let mut guest = Guest::new();
    let name = b"\xff\xfe";
    let file = guest.create(name);
    guest.write(file, 0, b"text").expect("write");
    let path = guest.root.path().join("inside").join(OsStr::from_bytes(name));
    assert_eq!(fs::read(path).expect("read"), b"text");
    assert_eq!(guest.list(INSIDE, 4096), [(name.to_vec(), FileKind::RegularFile)]);
    guest.call(Request::SymlinkAt { dir: INSIDE, target: name, path: b"link" }).expect("symlink");
    assert_eq!(guest.read_link(INSIDE, "link"), Ok(name.to_vec()));
}

// Read-only preopens.

#[test]
fn a_read_only_directory_can_be_read() {
    let mut guest = Guest::new();
    let file = guest.open(READ_ONLY, "file", READ).expect("open");
    assert_eq!(guest.read(file, 0), Ok(b"content".to_vec()));
    assert_eq!(guest.stat_at(READ_ONLY, "file", true), guest.stat(file));
    assert_eq!(guest.read_link(READ_ONLY, "link"), Ok(b"file".to_vec()));
    assert_eq!(guest.list(READ_ONLY, 4096).len(), 3);
    assert_eq!(guest.call(Request::Sync { handle: file, data_only: false }), Ok(0));
}

/// Every call that changes something in `dir`, which has a `file` in it.
fn every_change(dir: Handle) -> Vec<Request<'static>> {
    let (path, from, to) = (b"file", b"file", b"new");
    let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 0);
    let mut requests = vec![
        Request::SetTimes { handle: dir, mask, atime_ns, mtime_ns },
        Request::SetTimesAt { dir, follow: false, mask, atime_ns, mtime_ns, path },
        Request::SetTimesAt { dir, follow: true, mask, atime_ns, mtime_ns, path },
        Request::MkdirAt { dir, path: b"new" },
        Request::UnlinkAt { dir, directory: false, path },
        Request::UnlinkAt { dir, directory: true, path: b"dir" },
        Request::RenameAt { from_dir: dir, to_dir: dir, from, to },
        Request::RenameAt { from_dir: dir, to_dir: INSIDE, from, to },
        Request::RenameAt { from_dir: INSIDE, to_dir: dir, from, to },
        Request::LinkAt { from_dir: dir, to_dir: dir, follow: false, from, to },
        Request::LinkAt { from_dir: INSIDE, to_dir: dir, follow: false, from, to },
        Request::SymlinkAt { dir, target: b"target", path: b"new" },
    ];
    for flags in [WRITE, READ.with(WRITE), CREATE, READ.with(CREATE), OpenFlags::TRUNCATE] {
        requests.push(Request::OpenAt { dir, flags, path });
    }
    requests
}

#[test]
fn a_read_only_directory_refuses_each_change() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let below = guest.open(READ_ONLY, "dir", READ).expect("open");
    for dir in [READ_ONLY, below] {
        for request in every_change(dir) {
            assert_eq!(guest.ask(request).err(), Some(Errno::ReadOnly), "{request:?}");
        }
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_file_from_a_read_only_directory_refuses_each_change() {
    let mut guest = Guest::new();
    let handle = guest.open(READ_ONLY, "file", READ).expect("open");
    let name_only = guest.open(READ_ONLY, "file", OpenFlags::default()).expect("open");
    let (mask, atime_ns, mtime_ns) = (TimesMask::ATIME_NOW, 0, 0);
    for handle in [handle, name_only] {
        let times = Request::SetTimes { handle, mask, atime_ns, mtime_ns };
        assert_eq!(guest.call(times), Err(Errno::ReadOnly));
        assert_eq!(guest.call(Request::SetSize { handle, size: 0 }), Err(Errno::ReadOnly));
        assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::BadHandle));
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_hard_link_does_not_make_a_read_only_file_writable() {
    let mut guest = Guest::new();
    let (from_dir, to_dir, from, to) = (READ_ONLY, INSIDE, b"file", b"mine");
    for follow in [false, true] {
        let link = Request::LinkAt { from_dir, to_dir, follow, from, to };
        assert_eq!(guest.call(link), Err(Errno::CrossDevice));
    }
    assert!(!guest.inside("mine").exists());
}

// Opening.

#[test]
fn a_file_is_created_written_and_read_back() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    assert_eq!(guest.write(file, 0, b"hello world"), Ok(11));
    assert_eq!(guest.write(file, 6, b"there"), Ok(5));
    assert_eq!(guest.read(file, 0), Ok(b"hello there".to_vec()));
    assert_eq!(guest.read(file, 6), Ok(b"there".to_vec()));
    assert_eq!(guest.read(file, 11), Ok(vec![]));
    assert_eq!(fs::read(guest.inside("file")).expect("read"), b"hello there");
}

#[test]
fn a_name_that_does_not_exist_is_not_created_unless_asked() {
    let mut guest = Guest::new();
    assert_eq!(guest.open(INSIDE, "file", READ), Err(Errno::NotFound));
    assert_eq!(guest.open(INSIDE, "file", WRITE), Err(Errno::NotFound));
    assert_eq!(guest.open(INSIDE, "file", OpenFlags::default()), Err(Errno::NotFound));
}

#[test]
fn exclusive_creation_fails_if_the_name_exists() {
    let mut guest = Guest::new();
    let flags = WRITE.with(CREATE).with(OpenFlags::EXCLUSIVE);
    assert!(guest.open(INSIDE, "file", flags).is_ok());
    assert_eq!(guest.open(INSIDE, "file", flags), Err(Errno::Exists));
    assert!(guest.open(INSIDE, "file", WRITE.with(OpenFlags::EXCLUSIVE)).is_ok());
}

#[test]
fn truncation_empties_the_file() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.open(INSIDE, "file", WRITE.with(OpenFlags::TRUNCATE)).expect("open");
    assert_eq!(fs::read(guest.inside("file")).expect("read"), b"");
}

#[test]
fn rights_are_those_asked_for() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    let reader = guest.open(INSIDE, "file", READ).expect("open");
    let writer = guest.open(INSIDE, "file", WRITE).expect("open");
    let creator = guest.open(INSIDE, "file", CREATE).expect("open");
    assert_eq!(guest.write(reader, 0, b"x"), Err(Errno::BadHandle));
    assert_eq!(guest.read(writer, 0), Err(Errno::BadHandle));
    assert_eq!(guest.read(creator, 0), Err(Errno::BadHandle));
    assert_eq!(guest.write(creator, 0, b"x"), Err(Errno::BadHandle));
    let size = |handle| Request::SetSize { handle, size: 0 };
    assert_eq!(guest.call(size(reader)), Err(Errno::BadHandle));
    assert_eq!(guest.call(size(creator)), Err(Errno::BadHandle));
}

#[test]
fn a_handle_without_read_and_write_serves_to_describe_and_to_set_times() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.symlink("nowhere", "link").expect("symlink");
    guest.fifo("fifo");
    for name in ["file", "link", "fifo", "."] {
        let handle = guest.open(INSIDE, name, OpenFlags::default()).expect("open");
        let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 5_000_000_000);
        let times = Request::SetTimes { handle, mask, atime_ns, mtime_ns };
        assert_eq!(guest.call(times), Ok(0), "{name}");
        let stat = guest.stat(handle).expect("stat");
        assert_eq!(stat.mtime_ns, 5_000_000_000, "{name}");
        assert_eq!(guest.stat_at(INSIDE, name, false), Ok(stat), "{name}");
        assert_eq!(guest.read(handle, 0), Err(Errno::BadHandle), "{name}");
        assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::BadHandle), "{name}");
        let sync = Request::Sync { handle, data_only: false };
        assert_eq!(guest.call(sync), Err(Errno::BadHandle), "{name}");
        let list = Request::ReadDir { handle, cookie: 0 };
        assert_eq!(guest.ask(list), Err(Errno::BadHandle), "{name}");
    }
}

#[test]
fn a_directory_is_opened_for_reading_only() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("file", "");
    assert!(guest.open(INSIDE, "dir", READ).is_ok());
    assert!(guest.open(INSIDE, "dir", READ.with(OpenFlags::DIRECTORY)).is_ok());
    assert_eq!(guest.open(INSIDE, "dir", WRITE), Err(Errno::IsDirectory));
    assert_eq!(guest.open(INSIDE, "dir", READ.with(CREATE)), Err(Errno::IsDirectory));
    let not_a_directory = guest.open(INSIDE, "file", READ.with(OpenFlags::DIRECTORY));
    assert_eq!(not_a_directory, Err(Errno::NotDirectory));
    let create = guest.open(INSIDE, "new", READ.with(CREATE).with(OpenFlags::DIRECTORY));
    assert_eq!(create, Err(Errno::Invalid));
    assert!(!guest.inside("new").exists());
}

#[test]
fn a_directory_is_neither_read_nor_written_nor_resized() {
    let mut guest = Guest::new();
    assert_eq!(guest.read(INSIDE, 0), Err(Errno::BadHandle));
    assert_eq!(guest.write(INSIDE, 0, b"x"), Err(Errno::BadHandle));
    let size = Request::SetSize { handle: INSIDE, size: 0 };
    assert_eq!(guest.call(size), Err(Errno::BadHandle));
}

#[test]
fn opening_for_synchronous_writes_says_so_to_the_kernel() {
    let mut guest = Guest::new();
    let flags = |guest: &Guest, handle| {
        let object = guest.host.handles.get(handle).expect("open");
        rustix::fs::fcntl_getfl(object.fd()).expect("flags")
    };
    let (sync, dsync) = (rustix::fs::OFlags::SYNC, super::DSYNC);
    let open = WRITE.with(CREATE);
    let both = guest.open(INSIDE, "file", open.with(OpenFlags::SYNC)).expect("open");
    assert!(flags(&guest, both).contains(sync));
    let data = guest.open(INSIDE, "file", open.with(OpenFlags::DATA_SYNC)).expect("open");
    assert!(flags(&guest, data).contains(dsync) && !flags(&guest, data).contains(sync));
    assert_eq!(guest.write(both, 0, b"text"), Ok(4));
}

#[test]
fn a_regular_file_is_opened_to_block() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let object = guest.host.handles.get(file).expect("open");
    let flags = rustix::fs::fcntl_getfl(object.fd()).expect("flags");
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
}

// FIFOs and devices in a directory.

#[test]
fn a_fifo_gives_again_until_a_writer_writes() {
    let mut guest = Guest::new();
    guest.fifo("fifo");
    let reader = guest.open(INSIDE, "fifo", READ).expect("open without a writer");
    assert_eq!(guest.read(reader, 0), Err(Errno::Again));
    assert_eq!(guest.poll(&[(reader, poll_events::READ)], 0), Ok(vec![0]));
    let mut writer =
        fs::File::options().write(true).open(guest.inside("fifo")).expect("open to write");
    assert_eq!(guest.read(reader, 0), Err(Errno::Again));
    writer.write_all(b"data").expect("write");
    assert_eq!(guest.poll(&[(reader, poll_events::READ)], FOREVER), Ok(vec![poll_events::READ]));
    assert_eq!(guest.read(reader, u64::MAX), Ok(b"data".to_vec()));
    drop(writer);
    assert_eq!(guest.read(reader, 0), Ok(vec![]));
}

#[test]
fn a_fifo_opened_to_write_needs_a_reader() {
    let mut guest = Guest::new();
    guest.fifo("fifo");
    assert_eq!(guest.open(INSIDE, "fifo", WRITE), Err(Errno::NoDevice));
    let reader = guest.open(INSIDE, "fifo", READ).expect("open");
    let writer = guest.open(INSIDE, "fifo", WRITE).expect("open");
    assert_eq!(guest.write(writer, 0, b"data"), Ok(4));
    assert_eq!(guest.read(reader, 0), Ok(b"data".to_vec()));
    while guest.write(writer, 0, [0; CALL_DATA_BYTES]).is_ok() {}
    assert_eq!(guest.write(writer, 0, b"x"), Err(Errno::Again));
    guest.call(Request::Close { handle: reader }).expect("close");
    assert_eq!(guest.write(writer, 0, b"x"), Err(Errno::BrokenPipe));
}

#[test]
fn a_fifo_has_no_size() {
    let mut guest = Guest::new();
    guest.fifo("fifo");
    let handle = guest.open(INSIDE, "fifo", READ.with(WRITE)).expect("open");
    assert_eq!(guest.call(Request::SetSize { handle, size: 0 }), Err(Errno::Invalid));
}

#[test]
fn a_device_is_a_stream() {
    let mut guest = Guest::new();
    let dev = fs::File::open("/dev").expect("open /dev").into();
    let dev = guest.host.preopen(dev, "/dev", DirAccess::ReadWrite).expect("preopen");
    let zero = guest.open(dev, "zero", READ).expect("open");
    let request = Request::Read { handle: zero, offset: u64::MAX, len: 4 };
    assert_eq!(guest.ask(request), Ok((4, vec![0; 4])));
    let null = guest.open(dev, "null", WRITE).expect("open");
    assert_eq!(guest.write(null, 0, b"text"), Ok(4));
}

#[test]
fn a_socket_in_a_directory_cannot_be_opened() {
    let mut guest = Guest::new();
    let _listener = std::os::unix::net::UnixListener::bind(guest.inside("socket")).expect("bind");
    assert_eq!(guest.open(INSIDE, "socket", READ), Err(Errno::NoDevice));
    assert!(fs::metadata(guest.inside("socket")).expect("stat").file_type().is_socket());
}

#[test]
fn magic_links_are_not_followed() {
    let mut guest = Guest::new();
    let proc = fs::File::open("/proc/self/fd").expect("open /proc/self/fd").into();
    let proc = guest.host.preopen(proc, "/fd", DirAccess::ReadOnly).expect("preopen");
    assert_eq!(guest.open(proc, "0", READ.with(FOLLOW)), Err(Errno::Loop));
}

// Reading and writing.

#[test]
fn positions_beyond_the_range_are_invalid() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let beyond = i64::MAX.cast_unsigned() + 1;
    assert_eq!(guest.read(file, beyond), Err(Errno::Invalid));
    assert_eq!(guest.read(file, u64::MAX), Err(Errno::Invalid));
    assert_eq!(guest.write(file, beyond, b"x"), Err(Errno::Invalid));
    let size = Request::SetSize { handle: file, size: beyond };
    assert_eq!(guest.call(size), Err(Errno::Invalid));
}

#[test]
fn a_sparse_file_goes_beyond_4_gib() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let offset = (5 << 30) + 1;
    assert_eq!(guest.write(file, offset, b"far"), Ok(3));
    assert_eq!(guest.read(file, offset), Ok(b"far".to_vec()));
    assert_eq!(guest.stat(file).expect("stat").size, offset + 3);
    assert_eq!(guest.write(file, APPEND, b" off"), Ok(4));
    assert_eq!(guest.read(file, offset), Ok(b"far off".to_vec()));
}

#[test]
fn appends_of_two_guests_do_not_overwrite_each_other() {
    const LINES: usize = 2_000;
    let guest = Guest::new();
    let append = |byte: u8| {
        let mut other = Guest::new();
        let dir = fs::File::open(guest.inside(".")).expect("open").into();
        let dir = other.host.preopen(dir, "/data", DirAccess::ReadWrite).expect("preopen");
        let log = other.open(dir, "log", WRITE.with(CREATE)).expect("open");
        for _ in 0..LINES {
            assert_eq!(other.write(log, APPEND, [byte; 64]), Ok(64));
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| append(b'a'));
        scope.spawn(|| append(b'b'));
    });
    let log = fs::read(guest.inside("log")).expect("read");
    assert_eq!(log.len(), 2 * LINES * 64);
    assert!(log.chunks(64).all(|line| line.iter().all(|byte| *byte == line[0])));
}

#[test]
fn the_size_of_a_file_can_be_set() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    guest.write(file, 0, b"text").expect("write");
    assert_eq!(guest.call(Request::SetSize { handle: file, size: 2 }), Ok(0));
    assert_eq!(guest.call(Request::SetSize { handle: file, size: 4 }), Ok(0));
    assert_eq!(guest.read(file, 0), Ok(b"te\0\0".to_vec()));
    let unknown = Request::SetSize { handle: Handle(4711), size: 0 };
    assert_eq!(guest.call(unknown), Err(Errno::BadHandle));
}

#[test]
fn files_and_directories_can_be_synced() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    for handle in [file, INSIDE] {
        for data_only in [false, true] {
            assert_eq!(guest.call(Request::Sync { handle, data_only }), Ok(0));
        }
    }
    let unknown = Request::Sync { handle: Handle(4711), data_only: false };
    assert_eq!(guest.call(unknown), Err(Errno::BadHandle));
}

// Describing.

#[test]
fn a_description_is_what_the_host_sees() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.link("file", "second", false).expect("link");
    let stat = guest.stat_at(INSIDE, "file", false).expect("stat");
    let metadata = fs::metadata(guest.inside("file")).expect("stat");
    assert_eq!((stat.dev, stat.ino), (metadata.dev(), metadata.ino()));
    assert_eq!((stat.links, stat.size), (2, 4));
    let ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
    assert_eq!(stat.mtime_ns, ns.cast_unsigned());
    assert_eq!(FileKind::from_wire(stat.kind), FileKind::RegularFile);
    assert_eq!(guest.stat_at(INSIDE, "nowhere", false), Err(Errno::NotFound));
    assert_eq!(guest.stat(Handle(4711)), Err(Errno::BadHandle));
}

#[test]
fn a_time_before_1970_is_described_as_zero() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let file = fs::File::options().write(true).open(guest.inside("file")).expect("open");
    let day = std::time::Duration::from_secs(86_400);
    file.set_modified(std::time::UNIX_EPOCH - day).expect("set");
    assert_eq!(guest.stat_at(INSIDE, "file", false).expect("stat").mtime_ns, 0);
}

#[test]
fn a_description_that_does_not_fit_is_refused() {
    let mut guest = Guest::new();
    let request = Request::Stat { handle: INSIDE };
    assert_eq!(guest.host.call(request, &mut [0; 63]), Err(Errno::TooBig));
}

#[test]
fn times_are_set_as_the_mask_says() {
    let mut guest = Guest::new();
    let handle = guest.create("file");
    let mut set = |mask: TimesMask, atime_ns, mtime_ns| {
        guest.call(Request::SetTimes { handle, mask, atime_ns, mtime_ns })?;
        guest.stat(handle).map(|stat| (stat.atime_ns, stat.mtime_ns))
    };
    let both = TimesMask::ATIME.with(TimesMask::MTIME);
    assert_eq!(set(both, 1_000_000_001, 2_000_000_002), Ok((1_000_000_001, 2_000_000_002)));
    assert_eq!(set(TimesMask::ATIME, 3_000_000_000, 9), Ok((3_000_000_000, 2_000_000_002)));
    assert_eq!(set(TimesMask::MTIME, 9, 4_000_000_000), Ok((3_000_000_000, 4_000_000_000)));
    assert_eq!(set(TimesMask::default(), 9, 9), Ok((3_000_000_000, 4_000_000_000)));
    let (atime_ns, mtime_ns) = set(TimesMask::MTIME_NOW, 9, 9).expect("set");
    assert_eq!(atime_ns, 3_000_000_000);
    assert!(mtime_ns > 1_000_000_000_000_000_000);
    let contradiction = TimesMask::ATIME.with(TimesMask::ATIME_NOW);
    assert_eq!(set(contradiction, 9, 9), Err(Errno::Invalid));
    let contradiction = TimesMask::MTIME.with(TimesMask::MTIME_NOW);
    assert_eq!(set(contradiction, 9, 9), Err(Errno::Invalid));
}

#[test]
fn the_times_of_a_link_or_of_its_target_are_set() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.symlink("file", "link").expect("symlink");
    assert_eq!(guest.set_times_at("link", false, 1_000_000_000), Ok(0));
    assert_eq!(guest.set_times_at("link", true, 2_000_000_000), Ok(0));
    let mut mtime = |path| guest.stat_at(INSIDE, path, false).expect("stat").mtime_ns;
    assert_eq!((mtime("link"), mtime("file")), (1_000_000_000, 2_000_000_000));
    assert_eq!(guest.set_times_at("nowhere", true, 0), Err(Errno::NotFound));
}

// Names.

#[test]
fn a_directory_is_made_and_removed() {
    let mut guest = Guest::new();
    assert_eq!(guest.mkdir("dir"), Ok(0));
    assert!(guest.inside("dir").is_dir());
    assert_eq!(guest.mkdir("dir"), Err(Errno::Exists));
    assert_eq!(guest.mkdir("dir/below"), Ok(0));
    assert_eq!(guest.rmdir("dir"), Err(Errno::NotEmpty));
    assert_eq!(guest.rmdir("dir/below"), Ok(0));
    assert_eq!(guest.rmdir("dir"), Ok(0));
    assert_eq!(guest.rmdir("dir"), Err(Errno::NotFound));
}

#[test]
fn removing_a_name_tells_files_from_directories() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir").expect("mkdir");
    assert_eq!(guest.unlink("dir"), Err(Errno::IsDirectory));
    assert_eq!(guest.rmdir("file"), Err(Errno::NotDirectory));
    assert_eq!(guest.unlink("file"), Ok(0));
    assert_eq!(guest.unlink("file"), Err(Errno::NotFound));
}

#[test]
fn removing_a_link_leaves_its_target() {
    let mut guest = Guest::new();
    symlink("../sentinel", guest.inside("link")).expect("symlink");
    assert_eq!(guest.unlink("link"), Ok(0));
    assert!(fs::symlink_metadata(guest.inside("link")).is_err());
    guest.assert_nothing_outside_changed();
}

#[test]
fn renaming_moves_and_replaces() {
    let mut guest = Guest::new();
    guest.write_inside("a", "a");
    guest.write_inside("b", "b");
    guest.mkdir("dir").expect("mkdir");
    assert_eq!(guest.rename("a", "dir/c"), Ok(0));
    assert_eq!(guest.rename("dir/c", "b"), Ok(0));
    assert_eq!(fs::read(guest.inside("b")).expect("read"), b"a");
    assert_eq!(guest.rename("a", "c"), Err(Errno::NotFound));
    assert_eq!(guest.rename("b", "dir"), Err(Errno::IsDirectory));
    assert_eq!(guest.rename("dir", "dir/below"), Err(Errno::Invalid));
}

#[test]
fn names_move_and_link_between_two_preopens() {
    let mut guest = Guest::new();
    fs::create_dir(guest.root.path().join("inside/second")).expect("mkdir");
    let second = fs::File::open(guest.inside("second")).expect("open").into();
    let to_dir = guest.host.preopen(second, "/second", DirAccess::ReadWrite).expect("preopen");
    guest.write_inside("file", "text");
    let (from_dir, from, to) = (INSIDE, b"file", b"linked");
    assert_eq!(guest.call(Request::LinkAt { from_dir, to_dir, follow: false, from, to }), Ok(0));
    let to = b"renamed";
    assert_eq!(guest.call(Request::RenameAt { from_dir, to_dir, from, to }), Ok(0));
    assert_eq!(fs::read(guest.inside("second/linked")).expect("read"), b"text");
    assert_eq!(fs::read(guest.inside("second/renamed")).expect("read"), b"text");
    assert!(!guest.inside("file").exists());
}

#[test]
fn names_on_different_volumes_are_told() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    let other = Path::new("/dev/shm");
    let volume = |path: &Path| fs::metadata(path).expect("stat").dev();
    assert_ne!(volume(other), volume(&guest.inside("file")), "TMPDIR must be another volume");
    let other = fs::File::open(other).expect("open").into();
    let to_dir = guest.host.preopen(other, "/other", DirAccess::ReadWrite).expect("preopen");
    let (from_dir, from, to) = (INSIDE, b"file", b"never-created");
    let rename = Request::RenameAt { from_dir, to_dir, from, to };
    assert_eq!(guest.call(rename), Err(Errno::CrossDevice));
    let link = Request::LinkAt { from_dir, to_dir, follow: false, from, to };
    assert_eq!(guest.call(link), Err(Errno::CrossDevice));
}

#[test]
fn a_hard_link_names_the_same_object() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.symlink("file", "link").expect("symlink");
    guest.mkdir("dir").expect("mkdir");
    assert_eq!(guest.link("file", "dir/second", false), Ok(0));
    assert_eq!(guest.link("link", "dir/of-link", false), Ok(0));
    let ino = |path: &str| fs::symlink_metadata(guest.inside(path)).expect("stat").ino();
    assert_eq!(ino("dir/second"), ino("file"));
    assert_eq!(ino("dir/of-link"), ino("link"));
    assert_eq!(guest.link("file", "dir/second", false), Err(Errno::Exists));
    assert_eq!(guest.link("nowhere", "x", false), Err(Errno::NotFound));
    assert_eq!(guest.link("dir", "x", false), Err(Errno::NotPermitted));
    assert_eq!(guest.link("dir/", "x", false), Err(Errno::NotPermitted));
}

#[test]
fn a_hard_link_follows_links_if_asked() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("file", "text");
    guest.symlink("../second", "dir/first").expect("symlink");
    guest.symlink("dir/../file", "second").expect("symlink");
    assert_eq!(guest.link("dir/first", "hard", true), Ok(0));
    let ino = |path: &str| fs::symlink_metadata(guest.inside(path)).expect("stat").ino();
    assert_eq!(ino("hard"), ino("file"));
    guest.symlink("dir/", "to-dir").expect("symlink");
    assert_eq!(guest.link("to-dir", "x", true), Err(Errno::NotPermitted));
    guest.symlink("nowhere", "dangling").expect("symlink");
    assert_eq!(guest.link("dangling", "x", true), Err(Errno::NotFound));
}

#[test]
fn a_symbolic_link_is_made_and_read() {
    let mut guest = Guest::new();
    assert_eq!(guest.symlink("some/../target", "link"), Ok(0));
    assert_eq!(guest.read_link(INSIDE, "link"), Ok(b"some/../target".to_vec()));
    assert_eq!(guest.symlink("x", "link"), Err(Errno::Exists));
    assert_eq!(guest.symlink("/etc", "absolute"), Err(Errno::NotPermitted));
    assert!(fs::symlink_metadata(guest.inside("absolute")).is_err());
}

#[test]
fn only_a_symbolic_link_can_be_read_as_one() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    assert_eq!(guest.read_link(INSIDE, "file"), Err(Errno::Invalid));
    assert_eq!(guest.read_link(INSIDE, "nowhere"), Err(Errno::NotFound));
}

#[test]
fn a_symbolic_link_as_long_as_they_get_is_read_whole_or_not_at_all() {
    let mut guest = Guest::new();
    let target = "t/".repeat(2047);
    guest.symlink(&target, "link").expect("symlink");
    assert_eq!(guest.read_link(INSIDE, "link"), Ok(target.clone().into_bytes()));
    let request = Request::ReadLinkAt { dir: INSIDE, path: b"link" };
    let mut reply = vec![0; target.len() - 1];
    assert_eq!(guest.host.call(request, &mut reply), Err(Errno::TooBig));
}

// Listing.

#[test]
fn a_listing_tells_names_and_kinds_without_the_dots() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir").expect("mkdir");
    guest.symlink("file", "link").expect("symlink");
    guest.fifo("fifo");
    let entries: BTreeSet<_> =
        guest.list(INSIDE, 4096).into_iter().map(|(name, kind)| (name, kind as u32)).collect();
    let expected = [
        (b"dir".to_vec(), FileKind::Directory as u32),
        (b"fifo".to_vec(), FileKind::Fifo as u32),
        (b"file".to_vec(), FileKind::RegularFile as u32),
        (b"link".to_vec(), FileKind::SymbolicLink as u32),
    ];
    assert_eq!(entries, BTreeSet::from(expected));
}

#[test]
fn an_empty_directory_lists_nothing() {
    let mut guest = Guest::new();
    assert_eq!(guest.list(INSIDE, 4096), []);
}

#[test]
fn a_removed_directory_lists_nothing() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    let dir = guest.open(INSIDE, "dir", READ).expect("open");
    guest.rmdir("dir").expect("rmdir");
    let listed = guest.page(dir, 0, &mut [0; 4096]);
    assert!(matches!(listed.as_deref(), Ok([]) | Err(Errno::NotFound)), "{listed:?}");
    let create = guest.open(dir, "file", WRITE.with(CREATE));
    assert_eq!(create, Err(Errno::NotFound));
}

#[test]
fn a_hundred_thousand_entries_are_listed_in_pages() {
    const ENTRIES: usize = 100_000;
    let mut guest = Guest::new();
    for number in 0..ENTRIES {
        fs::File::create(guest.inside(&format!("{number}"))).expect("create");
    }
    let entries = guest.list(INSIDE, CALL_DATA_BYTES);
    assert_eq!(entries.len(), ENTRIES);
    let names: BTreeSet<_> = entries.into_iter().map(|(name, _)| name).collect();
    let expected = (0..ENTRIES).map(|number| number.to_string().into_bytes());
    assert_eq!(names, expected.collect());
}

#[test]
fn the_smallest_pages_list_everything_once() {
    let mut guest = Guest::new();
    let names: BTreeSet<Vec<u8>> = (1..=64).map(|len| vec![b'n'; len]).collect();
    for name in &names {
        guest.create(name);
    }
    let entries = guest.list(INSIDE, DirEntry::wire_bytes(64));
    assert_eq!(entries.len(), names.len());
    assert_eq!(entries.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), names);
}

#[test]
fn a_name_too_long_for_the_reply_is_told() {
    let mut guest = Guest::new();
    let name = vec![b'n'; 255];
    guest.create(&name);
    let mut reply = vec![0; DirEntry::wire_bytes(name.len())];
    let too_small = reply.len() - 1;
    let request = Request::ReadDir { handle: INSIDE, cookie: 0 };
    assert_eq!(guest.host.call(request, &mut reply[..too_small]), Err(Errno::TooBig));
    let len = reply.len();
    let answer = guest.host.call(request, &mut reply);
    assert_eq!(answer, Ok(Answer { value: len as u64, data_bytes: len }));
}

#[test]
fn a_listing_goes_on_after_names_were_removed() {
    let mut guest = Guest::new();
    for number in 0..500 {
        guest.write_inside(&number.to_string(), "");
    }
    let mut reply = [0; 1024];
    let mut removed = 0;
    loop {
        let page = guest.page(INSIDE, 0, &mut reply).expect("list");
        if page.is_empty() {
            break;
        }
        for (name, _, _) in page {
            let path = name.as_slice();
            guest.call(Request::UnlinkAt { dir: INSIDE, directory: false, path }).expect("unlink");
            removed += 1;
        }
    }
    assert_eq!(removed, 500);
}

#[test]
fn a_cookie_that_was_never_given_is_answered_all_the_same() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let mut reply = [0; 4096];
    assert_eq!(guest.page(INSIDE, u64::MAX, &mut reply), Err(Errno::Invalid));
    for cookie in [1, 12_345, 1 << 31, 1 << 62, i64::MAX.cast_unsigned()] {
        match guest.page(INSIDE, cookie, &mut reply) {
            Ok(page) => assert!(page.len() <= 1, "{cookie}"),
            Err(errno) => assert_eq!(errno, Errno::Invalid, "{cookie}"),
        }
    }
}

#[test]
fn two_listings_of_one_handle_do_not_disturb_each_other() {
    let mut guest = Guest::new();
    for number in 0..100 {
        guest.write_inside(&number.to_string(), "");
    }
    let (mut at, mut seen, mut ended) = ([0, 0], [0, 0], [false, false]);
    while ended != [true, true] {
        for which in [0, 1] {
            let page = guest.page(INSIDE, at[which], &mut [0; 256]).expect("list");
            seen[which] += page.len();
            ended[which] = page.is_empty();
            at[which] = page.last().map_or(at[which], |(_, next, _)| *next);
        }
    }
    assert_eq!(seen, [100, 100]);
}
